"""Multi-objective Bayesian optimisation over integer points: few, expensive evaluations.

Notation
    y, R     objective values and reference, minimised                  (m,)
    g        gain (R - y) / s, maximised; s = largest |R - y| accepted    (m,)
    front    evaluated acceptable points that no other dominates
    u        optimistic gain: mean + 1.5 deviations of the surrogate      (m,)

Program
    start        the given points, topped up to 24 sparse ones that lie far apart
    repeat       candidates  neighbours of at most 30 points of the front, and sparse points
                 shortlist   those with the largest chance * volume that u adds to the front
                 batch       4 of these by expected hypervolume improvement (surrogate.py)
                 evaluate    the batch
Objectives that the problem knows beforehand are not learned: they enter exactly.
"""

from __future__ import annotations

import numpy as np

from planner.search import hypervolume, sampling, surrogate, trial_log
from planner.search.problem import (
    FloatMatrix,
    FloatVector,
    IntMatrix,
    IntVector,
    Problem,
    Progress,
    Trials,
)
from planner.search.surrogate import Surrogate, View

_N_INITIAL = 24
_N_POOL = 512
"""Sparse points among which the start is chosen."""
_N_EXPANDED = 30
"""Points of the front whose neighbours become candidates."""
_N_SPARSE = 256
"""Sparse points among the candidates: the way out of a neighbourhood."""
_N_SCREENED = 2048
"""Candidates whose gains are forecast."""
_N_SHORTLIST = 200
"""Candidates whose expected improvement is computed."""
_N_BASELINE = 32
"""Points of the front that the expected improvement is measured against."""
_OPTIMISM = 1.5
_ALWAYS_REFIT = 200
"""Trials up to which every batch fits hyper-parameters anew; beyond, every fourth does."""
_REFIT_EVERY = 4


def search(
    problem: Problem,
    n_evaluations: int,
    seed: int,
    start: IntMatrix | None = None,
    on_trial: Progress | None = None,
    *,
    n_batch: int = 4,
) -> Trials:
    """Returns the trials of `start`, of a sparse design, then of batches of `n_batch` points.

    Raises MissingExtra where torch or botorch is not installed, and what `trial_log.run`
    raises.
    """
    surrogate.require()
    optimiser = _Optimiser(problem, seed, n_batch)
    return trial_log.run(problem, n_evaluations, start, on_trial, optimiser.propose)


class _Optimiser:
    """What is kept between batches: the random stream and the last surrogate."""

    def __init__(self, problem: Problem, seed: int, n_batch: int) -> None:
        self._problem = problem
        self._n_batch = n_batch
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._n_batches = 0
        self._surrogate: Surrogate | None = None

    def propose(self, log: trial_log.TrialLog) -> IntMatrix:
        """Returns the next points to evaluate, (n, d); none where the box is exhausted."""
        if len(log) < _N_INITIAL:
            return self._initial(log, _N_INITIAL - len(log))
        self._n_batches += 1
        # Another stream of numbers for each batch of each seed.
        batch_seed = self._seed * 100_003 + self._n_batches
        with surrogate.quiet(batch_seed):
            return self._next_batch(log, batch_seed)

    def _next_batch(self, log: trial_log.TrialLog, batch_seed: int) -> IntMatrix:
        trials = log.trials()
        scale = _gain_scale(trials, self._problem.reference)
        gains = self._gains(trials.values, scale)
        self._surrogate = self._fitted(trials, scale, gains)
        front = trials.front()
        points = self._candidates(trials.points[front], log)
        view = self._view(points, scale)
        rows = self._shortlist(self._surrogate, view, gains[front])
        if len(rows) > self._n_batch:
            known = self._baseline(trials, front, gains)
            chosen = self._surrogate.choose(
                self._view(trials.points[known], scale),
                view.take(rows),
                self._n_batch,
                batch_seed,
            )
            rows = rows[chosen]
        return points[rows]

    def _initial(self, log: trial_log.TrialLog, n_points: int) -> IntMatrix:
        """Sparse points within the reference, far from one another in their features."""
        pool = sampling.unseen_points(self._problem.box, _N_POOL, self._rng, log.unseen)
        view = self._view(pool, np.ones(self._problem.n_objectives))
        useful = np.flatnonzero(~np.any(view.gains <= 0.0, axis=1))
        if len(useful) >= n_points:
            pool, view = pool[useful], view.take(useful)
        return pool[_far_apart(view.features, n_points)]

    def _fitted(self, trials: Trials, scale: FloatVector, gains: FloatMatrix) -> Surrogate:
        refit = len(trials.points) <= _ALWAYS_REFIT or self._n_batches % _REFIT_EVERY == 0
        seen = self._view(trials.points, scale)
        return Surrogate.fit(seen, gains, trials, self._surrogate, refit)

    def _candidates(self, front: IntMatrix, log: trial_log.TrialLog) -> IntMatrix:
        """Unseen neighbours of the front and sparse points, at most 2,048, (n, d)."""
        box = self._problem.box
        spread = np.unique(np.linspace(0, len(front) - 1, _N_EXPANDED).round().astype(np.int64))
        near = [sampling.neighbours(front[i], box) for i in spread if len(front)]
        found = log.unseen(np.concatenate([np.empty((0, box.n_dims), np.int64), *near]))
        room = _N_SCREENED - _N_SPARSE
        if len(found) > room:
            found = self._rng.permutation(found)[:room]
        sparse = sampling.unseen_points(box, _N_SPARSE, self._rng, log.unseen)
        return log.unseen(np.concatenate([found, sparse]))

    def _baseline(self, trials: Trials, front: IntVector, gains: FloatMatrix) -> IntVector:
        """The trials whose volume is to be enlarged: those of the front that matter most."""
        if not len(front):
            return np.arange(len(trials.points), dtype=np.int64)
        worth = hypervolume.contributions(-gains[front], np.zeros(gains.shape[1]))
        return np.sort(front[np.argsort(-worth, kind="stable")[:_N_BASELINE]])

    def _shortlist(self, fitted: Surrogate, view: View, front: FloatMatrix) -> IntVector:
        """Rows of the most promising candidates, one for all that look the same, (k,)."""
        looks = np.hstack([view.features, np.nan_to_num(view.gains)])
        rows = np.unique(looks, axis=0, return_index=True)[1]
        forecast = fitted.forecast(view.take(rows))
        optimistic = forecast.mean + _OPTIMISM * forecast.deviation
        origin = np.zeros(front.shape[1])
        adds = [hypervolume.exclusive(-gain, -front, origin) for gain in optimistic]
        best = np.argsort(-forecast.chance * np.array(adds), kind="stable")[:_N_SHORTLIST]
        return np.asarray(rows[best], dtype=np.int64)

    def _view(self, points: IntMatrix, scale: FloatVector) -> View:
        problem = self._problem
        features = problem.features(points) if problem.features else points.astype(np.float64)
        unknown = np.full((len(points), problem.n_objectives), np.nan)
        known = problem.known(points) if problem.known else unknown
        return View(features, self._gains(known, scale))

    def _gains(self, values: FloatMatrix, scale: FloatVector) -> FloatMatrix:
        """Gains of `values` (n, m). A single objective gets a second gain that is always 1:
        volume is then gain, and one acquisition serves any number of objectives."""
        gains = (self._problem.reference - values) / scale
        if gains.shape[1] > 1:
            return np.asarray(gains, dtype=np.float64)
        return np.hstack([gains, np.ones_like(gains)])


def _gain_scale(trials: Trials, reference: FloatVector) -> FloatVector:
    """The largest distance to the reference per objective, (m,), so that gains are near 1."""
    use = trials.acceptable() if trials.acceptable().any() else np.ones(len(trials.points), bool)
    spread = np.max(np.abs(reference - trials.values[use]), axis=0)
    return np.where(spread > 0.0, spread, 1.0)


def _far_apart(features: FloatMatrix, n_points: int) -> IntVector:
    """Rows chosen one after the other, each the farthest from those chosen, (<= n_points,)."""
    span = np.ptp(features, axis=0)
    scaled = features / np.where(span > 0.0, span, 1.0)
    chosen = [0]
    distance = np.linalg.norm(scaled - scaled[0], axis=1)
    while len(chosen) < min(n_points, len(features)):
        farthest = int(np.argmax(distance))
        chosen.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[farthest], axis=1))
        distance[chosen] = -1.0
    return np.array(chosen, dtype=np.int64)
