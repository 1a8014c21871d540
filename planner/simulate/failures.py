"""What goes wrong with replicas, and when: as a user writes it, and as the cluster lives it.

POOL@600          a replica of the pool dies at 600 s and does not come back
POOL@600-900      it serves again, empty, from 900 s on: its cold start is over by then
POOL@600-900x2.5  everything takes it 2.5 times as long from 600 to 900 s
POOL@600x2.5      and so on to the end
POOL/3@600        the third replica of the pool; without a number, the first that is not taken
POOL/3@0-120      a replica that is started at 0 s and takes 120 s to serve: a cold start
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from planner.errors import Fault, InputError
from planner.simulate.units import PS_PER_S

OPTION = "--fail"
_NUMBER = r"\d+(?:\.\d+)?"
_FORM = re.compile(
    r"(?P<pool>[^/@]+)(?:/(?P<replica>\d+))?"
    rf"@(?P<at>{_NUMBER})(?:-(?P<until>{_NUMBER}))?(?:x(?P<ratio>{_NUMBER}))?"
)
_FORMS = "write POOL@600, POOL@600-900, POOL@600-900x2.5 or POOL/3@600; times in seconds"

Kind = Literal["die", "return", "slow", "restore", "drain"]


@dataclass(frozen=True)
class Failure:
    """A replica that is dead or slow for a while; the text is what the user wrote."""

    pool: str
    replica: int | None  # counted from 1; None is the first that no other failure takes
    at_s: float
    until_s: float | None = None  # None is the end of the run
    slow_ratio: float | None = None  # times as long; None is dead

    def __str__(self) -> str:
        name = self.pool if self.replica is None else f"{self.pool}/{self.replica}"
        until = "" if self.until_s is None else f"-{self.until_s:.15g}"
        return f"{name}@{self.at_s:.15g}{until}" + (
            f"x{self.slow_ratio:.15g}" if self.slow_ratio else ""
        )


@dataclass(frozen=True)
class Change:
    """One moment at which a replica dies, returns, slows down, is as fast as before, or drains."""

    at_ps: int
    pool_index: int
    replica_index: int  # from 0
    kind: Kind
    ratio: float = 1.0  # how many times as long everything takes from now on


def parse(texts: Sequence[str]) -> list[Failure]:
    """Returns the failures that a user asks for.

    Raises:
        InputError: texts of another form, spans that end before they begin, ratios not above 1.
    """
    failures, faults = [], []
    for text in texts:
        found = _FORM.fullmatch(text)
        if found is None:
            faults.append(Fault(OPTION, "", f"cannot be read, got {text}", _FORMS))
            continue
        replica, until, ratio = found["replica"], found["until"], found["ratio"]
        failure = Failure(
            found["pool"],
            None if replica is None else int(replica),
            float(found["at"]),
            None if until is None else float(until),
            None if ratio is None else float(ratio),
        )
        faults += _own_faults(failure, text)
        failures.append(failure)
    if faults:
        raise InputError(faults)
    return failures


def changes(
    failures: Sequence[Failure], pool_names: Sequence[str], n_replicas: Sequence[int]
) -> list[Change]:
    """Returns what happens to which replica, in order of time.

    At one moment replicas return before others fail, so that a rolling restart is one.

    Args:
        failures: in any order; one without a replica takes the lowest that no other one names or
            takes.
        pool_names: the pools that there are, (P,).
        n_replicas: how many replicas each has, (P,).

    Raises:
        InputError: a pool or replica that is not there, two failures of one replica at once, or
            one that `parse` would refuse.
    """
    faults = [fault for failure in failures for fault in _own_faults(failure, str(failure))]
    faults += [f for failure in failures for f in _missing(failure, pool_names, n_replicas)]
    if faults:
        raise InputError(faults)
    placed = _placed(failures, pool_names, n_replicas)
    _refuse_overlaps(placed)
    found = [c for failure, p, r in placed for c in _changes_of(failure, p, r)]
    is_end = ("return", "restore")
    return sorted(
        found, key=lambda c: (c.at_ps, c.kind not in is_end, c.pool_index, c.replica_index)
    )


def _own_faults(failure: Failure, text: str) -> list[Fault]:
    """Returns what is wrong with a failure, whatever the cluster."""
    faults = []
    if failure.replica == 0:
        what = f"replicas are counted from 1, got {text}"
        faults.append(Fault(OPTION, "", what, f"write {failure.pool}/1 for the first"))
    if failure.until_s is not None and failure.until_s <= failure.at_s:
        what = f"must end after it begins, got {text}"
        faults.append(Fault(OPTION, "", what, "give the later time second"))
    if failure.slow_ratio is not None and failure.slow_ratio <= 1.0:
        what = f"a slow replica takes more than 1 times as long, got {text}"
        faults.append(Fault(OPTION, "", what, "write x2 for half the speed"))
    return faults


def _missing(failure: Failure, pool_names: Sequence[str], n_replicas: Sequence[int]) -> list[Fault]:
    """Returns the fault of a failure whose pool or replica is not there."""
    there = [f"{name} ({n})" for name, n in zip(pool_names, n_replicas, strict=True) if n]
    n = dict(zip(pool_names, n_replicas, strict=True)).get(failure.pool, 0)
    if n >= (failure.replica or 1):
        return []
    what = f"no such replica: {failure}" if n else f"the plan has no replica of {failure.pool}"
    return [Fault(OPTION, "", what, f"the pools and their replicas: {', '.join(there)}")]


def _placed(
    failures: Sequence[Failure], pool_names: Sequence[str], n_replicas: Sequence[int]
) -> list[tuple[Failure, int, int]]:
    """Returns each failure with its pool and its replica, both from 0."""
    taken = {(f.pool, f.replica - 1) for f in failures if f.replica is not None}
    placed = []
    for failure in failures:
        p = pool_names.index(failure.pool)
        if failure.replica is not None:
            placed.append((failure, p, failure.replica - 1))
            continue
        free = [r for r in range(n_replicas[p]) if (failure.pool, r) not in taken]
        if not free:
            what = f"more failures than replicas of {failure.pool} ({n_replicas[p]})"
            fix = "name replicas that fail one time after the other: POOL/1@600-900"
            raise InputError.single(OPTION, "", what, fix)
        taken.add((failure.pool, free[0]))
        placed.append((failure, p, free[0]))
    return placed


def _refuse_overlaps(placed: Sequence[tuple[Failure, int, int]]) -> None:
    """Raises InputError when a replica fails again before it is well."""
    by_replica: dict[tuple[int, int], list[Failure]] = {}
    for failure, p, r in placed:
        by_replica.setdefault((p, r), []).append(failure)
    faults = []
    for ills in by_replica.values():
        for first, second in pairwise(sorted(ills, key=lambda f: f.at_s)):
            if first.until_s is None or first.until_s > second.at_s:
                what = f"{first} and {second} are one replica at the same time"
                faults.append(Fault(OPTION, "", what, "end the first, or name another replica"))
    if faults:
        raise InputError(faults)


def _changes_of(failure: Failure, p: int, r: int) -> list[Change]:
    is_slow = failure.slow_ratio is not None
    begin, end = round(failure.at_s * PS_PER_S), failure.until_s
    found = [Change(begin, p, r, "slow" if is_slow else "die", failure.slow_ratio or 1.0)]
    if end is not None:
        found.append(Change(round(end * PS_PER_S), p, r, "restore" if is_slow else "return"))
    return found
