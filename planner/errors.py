"""The errors of `rb`, and the exit code of each.

    PlannerError                 anything that is the user's to fix
    ├── InputError               one or more faults in files or options          exit 2
    │   └── MissingExtra         an optional dependency is not installed          exit 2
    ├── FitError                 a pool has too little data to fit a LatencyModel exit 2
    └── Infeasible               the question has no acceptable answer            exit 1

Exit codes: 0 clean, 1 judged and found wanting, 2 could not judge, 70 our bug.
Everything that is not a PlannerError is a bug of ours and is reported as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What a command tells its caller."""

    CLEAN = 0
    FOUND_WANTING = 1
    COULD_NOT_JUDGE = 2
    OUR_BUG = 70


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that is wrong in an input, where it is, and what to do about it."""

    file: str
    field: str
    what: str
    fix: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.field}" if self.field else self.file
        return f"{place}: {self.what}\n  fix: {self.fix}"


class PlannerError(Exception):
    """Base of every error that a user can cause and can fix."""

    exit_code: ExitCode = ExitCode.COULD_NOT_JUDGE

    def __reduce__(self) -> tuple[object, ...]:
        """Returns how another process is told of the error: as it is, not made anew."""
        return _received, (type(self), self.args), self.__dict__


def _received(kind: type[PlannerError], args: tuple[object, ...]) -> PlannerError:
    return kind.__new__(kind, *args)


class InputError(PlannerError):
    """Faults in the inputs, all of them at once."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        if not faults:
            raise ValueError("an InputError needs at least one fault")
        self.faults: tuple[Fault, ...] = tuple(dict.fromkeys(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))

    @classmethod
    def single(cls, file: str, field: str, what: str, fix: str) -> InputError:
        """Returns an InputError with exactly one fault."""
        return cls([Fault(file, field, what, fix)])


class MissingExtra(InputError):
    """An optional dependency that the chosen method needs is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        self.extra = extra
        super().__init__(
            [
                Fault(
                    needed_for,
                    "",
                    f"needs the optional '{extra}' extra, which is not installed",
                    f"pip install -c constraints.txt 'rb-planner[{extra}]'",
                )
            ]
        )


class FitError(PlannerError):
    """A pool whose measurements do not suffice; names the load to measure next."""

    def __init__(self, pool: str, what: str, measure_next: str) -> None:
        self.pool = pool
        self.what = what
        self.measure_next = measure_next
        super().__init__(f"profiles/{pool}/points.csv: {what}\n  fix: {measure_next}")


class Infeasible(PlannerError):
    """No deployment in the box is acceptable: the binding limit, the distance, the way out."""

    exit_code = ExitCode.FOUND_WANTING

    def __init__(
        self,
        binding: str,
        distance: str,
        relaxations: Sequence[str],
        conflict: Sequence[str] = (),
    ) -> None:
        self.binding = binding
        self.distance = distance
        self.relaxations: tuple[str, ...] = tuple(relaxations)
        self.conflict: tuple[str, ...] = tuple(conflict)  # proved: not all of it can be kept
        lines = [f"no deployment meets the question: {binding}", f"  {distance}"]
        if self.conflict:
            lines.append(f"  proved to conflict with this traffic: {'; '.join(self.conflict)}")
        lines += [f"  would work: {relaxation}" for relaxation in self.relaxations]
        super().__init__("\n".join(lines))
