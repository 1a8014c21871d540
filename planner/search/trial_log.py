"""The one loop that spends evaluations. A method only says which points come next.

Every method is `run(problem, ..., propose)`: the loop evaluates a start, then asks
`propose(log)` for points until the budget is spent or nothing is proposed. Here, once and
for all methods: a point is evaluated at most once, the budget is never exceeded, an
interrupt keeps what was found, and progress is reported after every evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from planner.search.hypervolume import RunningHypervolume
from planner.search.problem import (
    ACCEPTED_VIOLATION,
    IntMatrix,
    IntVector,
    Outcome,
    Problem,
    Progress,
    Trials,
)


class TrialLog:
    """The trials so far, the budget left, and which points are already known."""

    def __init__(self, problem: Problem, n_evaluations: int, on_trial: Progress | None) -> None:
        if n_evaluations < 0:
            raise ValueError("n_evaluations must not be negative")
        self.problem = problem
        self._n_evaluations = n_evaluations
        self._on_trial = on_trial
        self._volume = RunningHypervolume(problem.reference)
        # One list, so that an interrupt cannot leave a point without its outcome.
        self._rows: list[tuple[IntVector, Outcome]] = []
        self._seen: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def n_left(self) -> int:
        """Returns how many evaluations may still be made."""
        return self._n_evaluations - len(self._rows)

    def unseen(self, points: IntMatrix) -> IntMatrix:
        """Returns those of `points` (n, d) not yet evaluated, without repeats, order kept."""
        points = np.ascontiguousarray(points, dtype=np.int64)
        first: dict[bytes, int] = {}
        for i, point in enumerate(points):
            key = point.tobytes()
            if key not in self._seen:
                first.setdefault(key, i)
        return points[list(first.values())]

    def evaluate(self, points: IntMatrix) -> None:
        """Evaluates the unseen ones of `points` (n, d) in order, while the budget lasts."""
        left = self.unseen(points)[: self.n_left]
        for point, outcome in zip(left, self.problem.outcomes(left), strict=True):
            self._record(point, outcome)

    def trials(self, complete: bool = True) -> Trials:
        """Returns the trials so far as arrays."""
        n_dims, n_objectives = self.problem.box.n_dims, self.problem.n_objectives
        outcomes = [outcome for _, outcome in self._rows]
        exact = np.zeros(n_objectives + 1)
        variances = [exact if o.variances is None else o.variances for o in outcomes]
        return Trials(
            points=np.array([row[0] for row in self._rows], np.int64).reshape(-1, n_dims),
            values=np.array([o.values for o in outcomes], np.float64).reshape(-1, n_objectives),
            violations=np.array([o.violation for o in outcomes], np.float64),
            complete=complete,
            margins=np.array([_margin(o) for o in outcomes], np.float64),
            variances=np.array(variances, np.float64).reshape(-1, n_objectives + 1),
        )

    def _record(self, point: IntVector, outcome: Outcome) -> None:
        values = np.array(outcome.values, dtype=np.float64)
        if values.shape != (self.problem.n_objectives,) or not np.all(np.isfinite(values)):
            raise ValueError(f"evaluate must return finite values, got {values} at {point}")
        if not 0.0 <= outcome.violation < np.inf:
            raise ValueError(
                f"a violation must be finite and not negative, got {outcome.violation}"
            )
        self._seen.add(point.tobytes())
        self._rows.append((point, replace(outcome, values=values)))
        if self._on_trial is not None:
            if outcome.violation <= ACCEPTED_VIOLATION:
                self._volume.add(values)
            self._on_trial(len(self), self._n_evaluations, self._volume.total)


def _margin(outcome: Outcome) -> float:
    return np.nan if outcome.margin is None else outcome.margin


def run(
    problem: Problem,
    n_evaluations: int,
    start: IntMatrix | None,
    on_trial: Progress | None,
    propose: Callable[[TrialLog], IntMatrix],
) -> Trials:
    """Returns the trials of `start` and of what `propose` asks for, at most `n_evaluations`.

    Ends early where `propose` returns no unseen point. An interrupt from the keyboard
    returns the trials so far with `complete` False. Raises ValueError where a point of
    `start` lies outside the box, or an evaluation returns something that is not finite.
    """
    if start is not None and not problem.box.admits(np.asarray(start)).all():
        raise ValueError("every start point must lie in the box")
    log = TrialLog(problem, n_evaluations, on_trial)
    try:
        if start is not None:
            log.evaluate(start)
        while log.n_left > 0:
            points = log.unseen(propose(log))
            if not len(points):
                break
            log.evaluate(points)
    except KeyboardInterrupt:
        return log.trials(complete=False)
    return log.trials()
