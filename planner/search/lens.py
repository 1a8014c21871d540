"""How a surrogate sees a problem: points as features and gains, trials as what they taught.

Notation
    y, R     objective values and reference, minimised                     (m,)
    s        largest |R - y| of an acceptable trial, so that gains are near 1   (m,)
    g        gain (R - y) / s, maximised                                   (m,)
    theta    what the trials taught the prior                              (k,)

A single objective gets a second gain that is always 1: volume is then gain, and one
acquisition serves any number of objectives.
"""

from __future__ import annotations

import numpy as np

from planner.search.problem import FloatMatrix, FloatVector, IntMatrix, Problem, Trials
from planner.search.surrogate import Found, View, misses


class Lens:
    """A problem as it looks after some trials."""

    def __init__(self, problem: Problem, trials: Trials | None, theta: FloatVector) -> None:
        self._problem = problem
        self._theta = theta
        # A margin is far from stationary; without a prior that says where it rises and falls,
        # a process does better on misses, which are flat where nothing is missed.
        self._by_margin = bool(problem.prior and trials is not None and trials.has_margins)
        n_objectives = problem.n_objectives
        self._scale = np.ones(n_objectives) if trials is None else _scale(trials, problem.reference)
        self.origin = np.zeros(max(n_objectives, 2))

    def view(self, points: IntMatrix) -> View:
        """Returns what a surrogate sees of points (n, d)."""
        problem = self._problem
        features = problem.features(points) if problem.features else points.astype(np.float64)
        unknown = np.full((len(points), problem.n_objectives), np.nan)
        known = self._gains(problem.known(points) if problem.known else unknown)
        hoped, expected = np.zeros_like(known), np.zeros(len(points))
        if problem.prior is not None:
            found = problem.prior.expect(points, self._theta)
            hoped = np.nan_to_num(self._gains(found.values), nan=0.0)
            expected = found.margins if self._by_margin else expected
        return View(features, known, hoped, expected)

    def found(self, trials: Trials) -> Found:
        """Returns what trials taught."""
        n_objectives = trials.values.shape[1]
        variances = np.zeros((len(trials.points), self.origin.size + 1))
        if trials.variances is not None:
            variances[:, :n_objectives] = trials.variances[:, :-1] / self._scale**2
            variances[:, -1] = trials.variances[:, -1] if self._by_margin else 0.0
        missed = misses(trials.violations)
        if self._by_margin and trials.margins is not None:
            missed = trials.margins
        return Found(self._gains(trials.values), missed, variances, trials.acceptable())

    def _gains(self, values: FloatMatrix) -> FloatMatrix:
        gains = (self._problem.reference - values) / self._scale
        if gains.shape[1] > 1:
            return np.asarray(gains, dtype=np.float64)
        return np.hstack([gains, np.ones_like(gains)])


def _scale(trials: Trials, reference: FloatVector) -> FloatVector:
    use = trials.acceptable() if trials.acceptable().any() else np.ones(len(trials.points), bool)
    spread = np.max(np.abs(reference - trials.values[use]), axis=0)
    return np.where(spread > 0.0, spread, 1.0)
