"""Multi-objective Bayesian optimisation over integer points: few, expensive evaluations.

Notation
    y, R     objective values and reference, minimised                  (m,)
    g        gain (R - y) / s, maximised; s = largest |R - y| accepted    (m,)
    front    evaluated acceptable points that no other dominates
    u        optimistic gain: mean + 1.5 deviations of the surrogate      (m,)

Program
    start        the given points, topped up to 12 sparse ones that lie far apart, to 4 where
                 the problem has a prior
    repeat       calibrate   the prior's parameters, where it has any (calibration.py)
                 candidates  neighbours of at most 30 points of the front, and sparse points;
                             then, three times, the neighbours of the most promising of all
                 shortlist   those with the largest chance * volume that u adds to the front
                 batch       4 of these by expected hypervolume improvement (acquisition.py)
                 evaluate    the batch
    until        two batches in a row promise less than a share of the front's volume
Objectives that the problem knows beforehand are not learned: they enter exactly. Of others,
and of the limits, a surrogate learns what trials say beyond the prior.
"""

from __future__ import annotations

import numpy as np

from planner.search import hypervolume, sampling, surrogate, trial_log
from planner.search.acquisition import best_batch
from planner.search.calibration import calibrated
from planner.search.lens import Lens
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

_N_INITIAL = 12
_N_INITIAL_WITH_PRIOR = 4
"""Trials before the first fit: a prior says already what the world is like at large."""
_N_POOL = 512
"""Sparse points among which the start is chosen."""
_N_EXPANDED = 30
"""Points of the front whose neighbours become candidates."""
_N_SPARSE = 256
"""Sparse points among the candidates: the way out of a neighbourhood."""
_N_SCREENED = 2048
"""Candidates whose gains are forecast at once."""
_N_DEEPER, _N_PARENTS = 3, 12
"""Times that the neighbours of the most promising candidates are looked at, and of how many."""
_N_SHORTLIST = 200
"""Candidates whose expected improvement is computed."""
_N_SAMPLES = 32
"""Samples of the surrogate behind each expectation."""
_OPTIMISM = 1.5
_ALWAYS_REFIT = 200
"""Trials up to which every batch fits hyper-parameters anew; beyond, every fourth does."""
_REFIT_EVERY = 4
_POOR_BATCHES = 2
"""Batches in a row that must promise too little before the search ends: one may err."""


def search(
    problem: Problem,
    n_evaluations: int,
    seed: int,
    start: IntMatrix | None = None,
    on_trial: Progress | None = None,
    *,
    n_batch: int = 4,
    least_gain_ratio: float = 0.0,
    among: IntMatrix | None = None,
) -> Trials:
    """Returns the trials of `start`, of a sparse design, then of batches of `n_batch` points.

    With `among` (n, d) only these points are evaluated, besides `start`. Ends early where two
    batches in a row promise less than `least_gain_ratio` times the volume of the front.
    Raises MissingExtra where torch or botorch is not installed, and what `trial_log.run`
    raises.
    """
    surrogate.require()
    optimiser = _Optimiser(problem, seed, n_batch, least_gain_ratio, among)
    return trial_log.run(problem, n_evaluations, start, on_trial, optimiser.propose)


class _Optimiser:
    """What is kept between batches: the random stream, the last surrogate, what was taught."""

    def __init__(
        self,
        problem: Problem,
        seed: int,
        n_batch: int,
        least_gain_ratio: float,
        among: IntMatrix | None,
    ) -> None:
        self._problem = problem
        self._n_batch = n_batch
        self._least_gain_ratio = least_gain_ratio
        self._among = among
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._n_batches = 0
        self._n_poor = 0
        self._surrogate: Surrogate | None = None
        self._theta = np.zeros(0 if problem.prior is None else problem.prior.spreads.size)

    def propose(self, log: trial_log.TrialLog) -> IntMatrix:
        """Returns the next points to evaluate, (n, d); none where the search is at its end."""
        n_initial = _N_INITIAL if self._problem.prior is None else _N_INITIAL_WITH_PRIOR
        if len(log) < n_initial:
            return self._initial(log, n_initial - len(log))
        self._n_batches += 1
        # Another stream of numbers for each batch of each seed.
        batch_seed = self._seed * 100_003 + self._n_batches
        with surrogate.quiet(batch_seed):
            return self._next_batch(log, batch_seed)

    def _next_batch(self, log: trial_log.TrialLog, batch_seed: int) -> IntMatrix:
        trials = log.trials()
        if self._problem.prior is not None:
            self._theta = calibrated(self._problem.prior, trials, self._theta)
        lens = Lens(self._problem, trials, self._theta)
        found, front = lens.found(trials), trials.front()
        refit = len(trials.points) <= _ALWAYS_REFIT or self._n_batches % _REFIT_EVERY == 0
        fitted = Surrogate.fit(lens.view(trials.points), found, self._surrogate, refit)
        self._surrogate = fitted
        screen = _Screen(fitted, lens, found.gains[front], self._problem.box.n_dims)
        shortlist = self._shortlist(screen, trials.points[front], log)
        if len(shortlist) <= self._n_batch:
            return shortlist
        known = trials.points[front]
        view = lens.view(np.concatenate([shortlist, known]))
        gains, missed = fitted.sample(view, _N_SAMPLES, batch_seed)
        fronts, n = gains[:, len(shortlist) :], len(shortlist)
        if not found.variances.any():
            fronts = np.repeat(found.gains[front][None], _N_SAMPLES, axis=0)
        chance = fitted.forecast(view.take(np.arange(n))).chance
        chosen, gain = best_batch(gains[:, :n], missed[:, :n] <= 0.0, chance, fronts, self._n_batch)
        self._n_poor = self._n_poor + 1 if gain < self._least_gain_ratio * screen.volume else 0
        return shortlist[chosen] if self._n_poor < _POOR_BATCHES else shortlist[:0]

    def _initial(self, log: trial_log.TrialLog, n_points: int) -> IntMatrix:
        """Sparse points within the reference, far from one another in their features."""
        pool = self._sparse(_N_POOL, log) if self._among is None else log.unseen(self._among)
        if not len(pool):
            return pool
        view = Lens(self._problem, None, self._theta).view(pool)
        useful = np.flatnonzero(~np.any(view.gains <= 0.0, axis=1))
        if len(useful) >= n_points:
            pool, view = pool[useful], view.take(useful)
        return pool[_far_apart(view.features, n_points)]

    def _shortlist(self, screen: _Screen, front: IntMatrix, log: trial_log.TrialLog) -> IntMatrix:
        """The most promising candidates, one for all that look the same, (n, d)."""
        if self._among is not None:
            screen.add(log.unseen(self._among))
            return screen.best(_N_SHORTLIST)
        spread = np.unique(np.linspace(0, len(front) - 1, _N_EXPANDED).round().astype(np.int64))
        parents = front[spread] if len(front) else front
        near = self._near(parents, log, _N_SCREENED - _N_SPARSE)
        screen.add(np.concatenate([near, self._sparse(_N_SPARSE, log)]))
        for _ in range(_N_DEEPER):
            screen.add(self._near(screen.best(_N_PARENTS), log, _N_SCREENED))
        return screen.best(_N_SHORTLIST)

    def _sparse(self, n_points: int, log: trial_log.TrialLog) -> IntMatrix:
        return sampling.unseen_points(self._problem.box, n_points, self._rng, log.unseen)

    def _near(self, parents: IntMatrix, log: trial_log.TrialLog, at_most: int) -> IntMatrix:
        """Unseen neighbours of points, a random part of them where there are too many, (n, d)."""
        box = self._problem.box
        none = np.empty((0, box.n_dims), dtype=np.int64)
        near = [sampling.neighbours(parent, box) for parent in parents]
        found = log.unseen(np.concatenate([none, *near]))
        return found if len(found) <= at_most else self._rng.permutation(found)[:at_most]


class _Screen:
    """Candidates in the order of their promise: chance * volume that u adds to the front."""

    def __init__(self, fitted: Surrogate, lens: Lens, front: FloatMatrix, n_dims: int) -> None:
        self._fitted = fitted
        self._lens = lens
        self._front = -front
        self.volume = hypervolume.hypervolume(-front, lens.origin)
        self._looks: set[bytes] = set()
        self._points: list[IntMatrix] = [np.empty((0, n_dims), dtype=np.int64)]
        self._promise: list[FloatVector] = [np.empty(0)]

    def add(self, points: IntMatrix) -> None:
        """Takes in those of `points` (n, d) that look unlike all before."""
        if not len(points):
            return
        view = self._lens.view(points)
        new = self._new(view)
        self._points.append(points[new])
        self._promise.append(self._promised(view.take(new)))

    def best(self, n: int) -> IntMatrix:
        """Returns the n most promising candidates so far, (n, d), the best first."""
        order = np.argsort(-np.concatenate(self._promise), kind="stable")[:n]
        return np.asarray(np.concatenate(self._points)[order], dtype=np.int64)

    def _new(self, view: View) -> IntVector:
        rows = []
        for row, look in enumerate(view.looks()):
            key = look.tobytes()
            if key not in self._looks:
                self._looks.add(key)
                rows.append(row)
        return np.array(rows, dtype=np.int64)

    def _promised(self, view: View) -> FloatVector:
        if not len(view.features):
            return np.empty(0)
        forecast = self._fitted.forecast(view)
        optimistic = forecast.mean + _OPTIMISM * forecast.deviation
        origin = self._lens.origin
        adds = [hypervolume.exclusive(-gain, self._front, origin) for gain in optimistic]
        return np.asarray(forecast.chance * np.array(adds), dtype=np.float64)


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
