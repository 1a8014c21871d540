"""What is searched, and what a search found.

Notation
    z        a point: integers, no unit                         (d,)
    A, b     rows and limits of the box                         (r, d), (r,)
    y(z)     objective values, all minimised                    (m,)
    v(z)     violation: 0 = acceptable, else how far it missed  scalar
    R        reference: the worst value of use per objective    (m,)

Program
    minimise  y(z)      over integers z
    s.t.      lower <= z <= upper
              A z <= b + 1e-9
              v(z) <= 1e-9
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from planner.search import hypervolume as volume
from planner.search import pareto

IntVector = NDArray[np.int64]
IntMatrix = NDArray[np.int64]
FloatVector = NDArray[np.float64]
FloatMatrix = NDArray[np.float64]
BoolVector = NDArray[np.bool_]

ROW_TOLERANCE = 1e-9
ACCEPTED_VIOLATION = 1e-9
_BLOCK_SIZE = 4096
"""Prefixes expanded at once while a box is listed: bounds memory, keeps numpy busy."""

Progress = Callable[[int, int, float], None]
"""Called after each evaluation with (evaluations done, evaluations allowed, hypervolume)."""


@dataclass(frozen=True, eq=False)
class Box:
    """The integer points z with lower <= z <= upper and rows @ z <= limits + 1e-9.

    `lower`, `upper` (d,) integers; `rows` (r, d), entries may be negative; `limits` (r,).
    Raises ValueError where the shapes do not fit together.
    """

    lower: IntVector
    upper: IntVector
    rows: FloatMatrix
    limits: FloatVector

    def __post_init__(self) -> None:
        if self.lower.ndim != 1 or self.upper.shape != self.lower.shape:
            raise ValueError("lower and upper must be vectors of one length")
        if self.limits.ndim != 1 or self.rows.shape != (self.limits.size, self.lower.size):
            raise ValueError("rows must have one row per limit and one column per coordinate")

    @property
    def n_dims(self) -> int:
        """Returns d, the number of coordinates of a point."""
        return int(self.lower.size)

    def admits(self, points: IntMatrix) -> BoolVector:
        """Returns for each of `points` (n, d) whether it lies in the box, (n,)."""
        in_range = np.all((points >= self.lower) & (points <= self.upper), axis=1)
        in_rows = np.all(points @ self.rows.T <= self.limits + ROW_TOLERANCE, axis=1)
        return np.asarray(in_range & in_rows, dtype=np.bool_)

    def count(self, at_most: int) -> int:
        """Returns the exact number of points, or `at_most + 1` once there are more."""
        total = 0
        for block in self._blocks():
            total += len(block)
            if total > at_most:
                return at_most + 1
        return total

    def points(self, at_most: int) -> IntMatrix:
        """Returns every point in lexicographic order, (n, d).

        Raises ValueError where there are more than `at_most`.
        """
        blocks: list[IntMatrix] = [np.empty((0, self.n_dims), dtype=np.int64)]
        total = 0
        for block in self._blocks():
            total += len(block)
            if total > at_most:
                raise ValueError(f"the box has more than {at_most} points")
            blocks.append(block)
        return np.concatenate(blocks)

    def _blocks(self) -> Iterator[IntMatrix]:
        """Yields all points in lexicographic order, by depth-first expansion of prefixes.

        A prefix z[:j] lives while, in each row alone, the best completion still fits.
        """
        least = np.minimum(self.rows * self.lower, self.rows * self.upper)
        least_after = np.zeros((self.n_dims + 1, self.limits.size))
        least_after[:-1] = np.cumsum(least.T[::-1], axis=0)[::-1]
        # Looser than `admits`, which has the last word: sums here round differently.
        slack = self.limits + ROW_TOLERANCE + 1e-9 * np.abs(self.limits)
        stack: list[IntMatrix] = [np.zeros((1, 0), dtype=np.int64)]
        while stack:
            prefixes = stack.pop()
            depth = prefixes.shape[1]
            used = prefixes @ self.rows[:, :depth].T
            prefixes = prefixes[np.all(used + least_after[depth] <= slack, axis=1)]
            if depth == self.n_dims:
                yield prefixes[self.admits(prefixes)]
            elif len(prefixes):
                stack.extend(reversed(self._extended(prefixes, depth)))

    def _extended(self, prefixes: IntMatrix, depth: int) -> list[IntMatrix]:
        values = np.arange(self.lower[depth], self.upper[depth] + 1, dtype=np.int64)
        longer = np.column_stack(
            [np.repeat(prefixes, len(values), axis=0), np.tile(values, len(prefixes))]
        )
        return [longer[i : i + _BLOCK_SIZE] for i in range(0, len(longer), _BLOCK_SIZE)]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What one evaluation found.

    `values` (m,) finite, all to be minimised; `violation` >= 0, on any scale, 0 = acceptable.
    """

    values: FloatVector
    violation: float


@dataclass(frozen=True, eq=False)
class Problem:
    """A box, the expensive function over it, and what is known about it beforehand.

    `evaluate` maps a point (d,) to its Outcome.
    `reference` (m,): the worst value of use per objective.
    `known` maps points (n, d) to values (n, m) that need no evaluation; a column of NaN is
    an objective that must be learned. None: all must be learned.
    `features` maps points (n, d) to what a surrogate should see, (n, f). None: the integers.
    """

    box: Box
    n_objectives: int
    evaluate: Callable[[IntVector], Outcome]
    reference: FloatVector
    known: Callable[[IntMatrix], FloatMatrix] | None = None
    features: Callable[[IntMatrix], FloatMatrix] | None = None

    def __post_init__(self) -> None:
        if self.reference.shape != (self.n_objectives,):
            raise ValueError("reference must have one value per objective")


@dataclass(frozen=True, eq=False)
class Trials:
    """All evaluations of one search, in the order in which they were made.

    `points` (n, d), `values` (n, m), `violations` (n,). `complete` is False where the
    search ended before it had done all it set out to do.
    """

    points: IntMatrix
    values: FloatMatrix
    violations: FloatVector
    complete: bool

    def acceptable(self) -> BoolVector:
        """Returns for each trial whether its violation is at most 1e-9, (n,)."""
        return np.asarray(self.violations <= ACCEPTED_VIOLATION, dtype=np.bool_)

    def front(self) -> IntVector:
        """Returns the indices of the acceptable trials that no acceptable one dominates.

        Trials of equal values all stay. Sorted by values, then by point, lexicographically.
        """
        accepted = np.flatnonzero(self.acceptable())
        best = accepted[pareto.non_dominated(self.values[accepted])]
        order = pareto.front_order(self.values[best], self.points[best])
        return np.asarray(best[order], dtype=np.int64)

    def hypervolume(self, reference: FloatVector) -> float:
        """Returns the volume between `reference` (m,) and the acceptable trials."""
        return volume.hypervolume(self.values[self.acceptable()], reference)
