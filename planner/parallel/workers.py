"""Who evaluates: processes of this machine by default, those of a Ray cluster where one is named.

Evaluations are pure functions of their argument, and results come in the order of the arguments:
what comes back does not depend on who evaluates, nor on how many there are. What a lost process or
a lost machine had taken is evaluated again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, TypeVar

from planner.parallel.local import LocalWorkers

Argument = TypeVar("Argument")
Result = TypeVar("Result")


class Workers(Protocol):
    """Whoever calls one function with many arguments."""

    def run(
        self, function: Callable[[Argument], Result], arguments: Sequence[Argument]
    ) -> Iterator[Result]:
        """Yields function(argument) for each argument, in their order, as soon as it is known.

        The first exception in the order of the arguments is raised here. When it is, on Ctrl-C, and
        when nobody wants further results, calls that still run are broken off.
        """


def open_workers(
    n_processes: int | None = None, ray_address: str | None = None
) -> AbstractContextManager[Workers]:
    """Returns who evaluates, to be used in a `with` statement.

    Args:
        n_processes: of this machine; by default one for each core.
        ray_address: of a Ray cluster to evaluate on instead, or `auto` for the one that this
            machine belongs to.

    Raises:
        MissingExtra: a Ray cluster is named, and Ray is not installed.
        InputError: there is no such cluster, or its machines have another version of this package.
    """
    if ray_address is None:
        return LocalWorkers(n_processes)
    from planner.parallel.ray_cluster import RayWorkers

    return RayWorkers(ray_address)
