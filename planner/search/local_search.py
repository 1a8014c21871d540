"""Pareto local search: try the neighbours of the front, the most valuable point first.

Notation
    F        one acceptable trial for each distinct value of the front so far
    c_i      volume that would be lost without point i of F   product of objective units
    t_i      neighbours of point i tried so far               count

Program
    start    the given points, or 16 sparse random ones
    repeat   the point i of F with the largest c_i / (1 + t_i) that has an untried neighbour:
             evaluate one of these, drawn at random
    every eighth time, and where nothing around F is left, one sparse random point instead
    while no trial is acceptable, F is the four that miss the least, and c_i = 1 / violation
    [after Paquete, Chiarandini, Stützle, "Pareto local optimum sets in the biobjective
     traveling salesman problem", 2004]
"""

from __future__ import annotations

import numpy as np

from planner.search import hypervolume, sampling, trial_log
from planner.search.problem import FloatVector, IntMatrix, IntVector, Problem, Progress, Trials

_N_INITIAL = 16
_RESTART_EVERY = 8
_LEAST_MISSED = 4
"""Trials expanded while none is acceptable."""


def search(
    problem: Problem,
    n_evaluations: int,
    seed: int,
    start: IntMatrix | None = None,
    on_trial: Progress | None = None,
) -> Trials:
    """Returns the trials of `start` (or of 16 sparse random points), then of neighbours.

    Raises what `trial_log.run` raises.
    """
    walk = _Walk(problem, np.random.default_rng(seed))
    return trial_log.run(problem, n_evaluations, start, on_trial, walk.propose)


class _Walk:
    """What the search remembers: the front with its worth, and what is left around it."""

    def __init__(self, problem: Problem, rng: np.random.Generator) -> None:
        self._problem = problem
        self._rng = rng
        self._n_proposed = 0
        self._n_tried: dict[int, int] = {}
        self._untried: dict[int, IntMatrix] = {}
        self._front: IntVector = np.empty(0, dtype=np.int64)
        self._worth: FloatVector = np.empty(0, dtype=np.float64)

    def propose(self, log: trial_log.TrialLog) -> IntMatrix:
        """Returns the next points to evaluate, (n, d); none where the box is exhausted."""
        if not len(log):
            return self._random(log, _N_INITIAL)
        self._n_proposed += 1
        if self._n_proposed % _RESTART_EVERY:
            self._look_at_front(log.trials())
            for i in self._by_worth():
                neighbour = self._neighbour_of(int(i), log)
                if len(neighbour):
                    return neighbour
        return self._random(log, 1)

    def _random(self, log: trial_log.TrialLog, n_points: int) -> IntMatrix:
        return sampling.unseen_points(self._problem.box, n_points, self._rng, log.unseen)

    def _by_worth(self) -> IntVector:
        n_tried = np.array([self._n_tried.get(int(i), 0) for i in self._front])
        return self._front[np.lexsort((n_tried, -self._worth / (1.0 + n_tried)))]

    def _look_at_front(self, trials: Trials) -> None:
        front = trials.front()
        if not len(front):
            front = np.argsort(trials.violations, kind="stable")[:_LEAST_MISSED]
            self._front, self._worth = front, 1.0 / trials.violations[front]
            return
        # Of trials with equal values each covers for the others: all would seem worthless.
        front = front[np.sort(np.unique(trials.values[front], axis=0, return_index=True)[1])]
        if not np.array_equal(front, self._front):
            values = trials.values[front]
            self._worth = hypervolume.contributions(values, self._problem.reference)
            self._front = front

    def _neighbour_of(self, i: int, log: trial_log.TrialLog) -> IntMatrix:
        """One untried neighbour of trial i, (1, d), or none, (0, d)."""
        if i not in self._untried:
            point = log.trials().points[i]
            self._untried[i] = self._rng.permutation(sampling.neighbours(point, self._problem.box))
        left = log.unseen(self._untried[i])
        self._untried[i] = left[1:]
        self._n_tried[i] = self._n_tried.get(i, 0) + 1
        return left[:1]
