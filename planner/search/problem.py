"""What is searched, and what a search found.

Notation
    z        a point: integers, no unit                         (d,)
    A, b     rows and limits of the box                         (r, d), (r,)
    y(z)     objective values, all minimised                    (m,)
    v(z)     violation: 0 = acceptable, else how far it missed  scalar
    g(z)     margin: v on a scale that goes on below 0          scalar
    R        reference: the worst value of use per objective    (m,)
    theta    what a prior does not know of the world            (k,)

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
    `margin`: how far it missed or, below 0, how much room it left; None where only the
    violation is known. `variances` (m + 1,): of the error of each value, then of the margin,
    where an evaluation is a mean over replications; None where it is exact.
    """

    values: FloatVector
    violation: float
    margin: float | None = None
    variances: FloatVector | None = None


@dataclass(frozen=True, eq=False)
class Expected:
    """What a prior expects of points: `values` (n, m), NaN where it has no opinion, `margins` (n,).

    The margins are on the scale of the outcomes' margins.
    """

    values: FloatMatrix
    margins: FloatVector


@dataclass(frozen=True, eq=False)
class Prior:
    """A cheap, wrong idea of what evaluations would find, with parameters that they can teach.

    `expect` maps points (n, d) and parameters theta (k,) to what is expected of them.
    `spreads` (k,): theta has this deviation around 0 before anything was evaluated; (0,) for
    a prior that cannot learn.
    `errors` (m + 1,): how far values and margin may be off with the right theta, as deviations;
    inf for a figure that theta must not be learned from.
    """

    expect: Callable[[IntMatrix, FloatVector], Expected]
    spreads: FloatVector
    errors: FloatVector


@dataclass(frozen=True, eq=False)
class Problem:
    """A box, the expensive function over it, and what is known about it beforehand.

    `evaluate` maps a point (d,) to its Outcome.
    `reference` (m,): the worst value of use per objective.
    `known` maps points (n, d) to values (n, m) that need no evaluation; a column of NaN is
    an objective that must be learned. None: all must be learned.
    `features` maps points (n, d) to what a surrogate should see, (n, f). None: the integers.
    `prior`: a surrogate then learns only what evaluations say beyond it. None: no idea.
    `evaluate_many` yields the outcomes of points (n, d) in their order, for instance from
    several processes. None: they are evaluated one after the other.
    """

    box: Box
    n_objectives: int
    evaluate: Callable[[IntVector], Outcome]
    reference: FloatVector
    known: Callable[[IntMatrix], FloatMatrix] | None = None
    features: Callable[[IntMatrix], FloatMatrix] | None = None
    prior: Prior | None = None
    evaluate_many: Callable[[IntMatrix], Iterator[Outcome]] | None = None

    def outcomes(self, points: IntMatrix) -> Iterator[Outcome]:
        """Yields the outcome of each of `points` (n, d), in their order."""
        if self.evaluate_many is not None:
            yield from self.evaluate_many(points)
        else:
            yield from (self.evaluate(point.copy()) for point in points)

    def __post_init__(self) -> None:
        if self.reference.shape != (self.n_objectives,):
            raise ValueError("reference must have one value per objective")


@dataclass(frozen=True, eq=False)
class Trials:
    """All evaluations of one search, in the order in which they were made.

    `points` (n, d), `values` (n, m), `violations` (n,). `complete` is False where the
    search ended before it had done all it set out to do. `margins` (n,), NaN where an
    outcome had none; `variances` (n, m + 1), 0 where an outcome was exact; None: all so.
    """

    points: IntMatrix
    values: FloatMatrix
    violations: FloatVector
    complete: bool
    margins: FloatVector | None = None
    variances: FloatMatrix | None = None

    @property
    def has_margins(self) -> bool:
        """Returns whether every trial says how much room it left."""
        return self.margins is not None and not bool(np.isnan(self.margins).any())

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
