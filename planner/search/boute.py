"""BOute's Bayesian optimisation (arXiv 2602.10729): routing and deployment in one kernel.

The method as published, for side-by-side comparison with mobo.py: Gaussian processes with the
kernel of boute_kernel.py, outcome-constrained qNEHVI, and an end when nothing has improved for
more than 20 evaluations. Budget and stock are no constraints of it: only points within them are
ever proposed.

Notation
    z        a point; f(z), c(z), e(z): see boute_kernel.py
    y, R     objective values and reference, minimised                       (m,)
    u        ceilings: a point is acceptable where y <= u                    (m,)
    g        gain (R - y) / s, maximised; s = largest |R - y| so far           (m,)

Program
    start    the given points, or 12 drawn at random
    repeat   choices   160 drawn at random, and 96 near the front
             next      the choice with the largest expected improvement, evaluated
    until    the volume has not grown for more than 20 evaluations

Not published, and chosen here: the size of the start, one point at a time, the reference (the
problem's), how the improvement is maximised (over choices), and what stable means (the volume).
Where a problem has no ceilings, what is acceptable is learned from the violations (one more
process); objectives that the problem knows beforehand enter exactly. The paper has neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from planner.search import hypervolume, surrogate, trial_log
from planner.search.boute_kernel import BouteSurrogate, Seen
from planner.search.problem import (
    FloatMatrix,
    FloatVector,
    IntMatrix,
    IntVector,
    Problem,
    Progress,
    Trials,
)

N_INITIAL = 12
N_STABLE = 20
"""Evaluations without a larger volume after which the search ends (published)."""
_N_DRAWN = 160
_N_NEAR = 96
_N_BASELINE = 32
"""Points of the front that an improvement is measured against."""
_MOST_FITTED = 200
_GROWN = 1e-9


@dataclass(frozen=True, eq=False)
class Parts:
    """What the method knows of a point beside its integers, and where new points come from.

    `routing` maps points (n, d) to f (n, a), `deployment` to c (n, b), `preference` to e (n,).
    `draw(n, rng)` returns points of the search space, (<= n, d), which may repeat.
    `near(z, n, rng)` returns points of the search space near one, (<= n, d).
    `ceilings` (m,): values up to which a point is acceptable, inf where any is; None: learn it
    from the violations.
    """

    routing: Callable[[IntMatrix], FloatMatrix]
    deployment: Callable[[IntMatrix], FloatMatrix]
    preference: Callable[[IntMatrix], FloatVector]
    draw: Callable[[int, np.random.Generator], IntMatrix]
    near: Callable[[IntVector, int, np.random.Generator], IntMatrix]
    ceilings: FloatVector | None = None


def search(
    problem: Problem,
    n_evaluations: int,
    seed: int,
    start: IntMatrix | None = None,
    on_trial: Progress | None = None,
    *,
    parts: Parts,
    n_batch: int = 1,
    n_stable: int = N_STABLE,
) -> Trials:
    """Returns the trials of `start`, or of 12 drawn points, and of what the method proposes.

    Raises MissingExtra where torch or botorch is not installed, ValueError for a problem of one
    objective, and what `trial_log.run` raises.
    """
    surrogate.require("--method boute")
    if problem.n_objectives < 2:
        raise ValueError("the method needs two objectives or more")
    optimiser = _Boute(problem, parts, seed, n_batch, n_stable)
    return trial_log.run(problem, n_evaluations, start, on_trial, optimiser.propose)


class _Boute:
    """What is kept between evaluations."""

    def __init__(
        self, problem: Problem, parts: Parts, seed: int, n_batch: int, n_stable: int
    ) -> None:
        self._problem = problem
        self._parts = parts
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._n_batch = n_batch
        self._n_stable = n_stable
        self._n_proposed = 0
        self._volume = 0.0
        self._grown_at = 0
        self._surrogate: BouteSurrogate | None = None

    def propose(self, log: trial_log.TrialLog) -> IntMatrix:
        """Returns the next points to evaluate, (n, d); none where nothing has grown for long."""
        if len(log) < N_INITIAL:
            drawn = log.unseen(self._parts.draw(_N_DRAWN, self._rng))
            return drawn[: N_INITIAL - len(log)]
        trials = log.trials()
        if self._is_stable(trials):
            return np.empty((0, self._problem.box.n_dims), dtype=np.int64)
        choices = self._choices(trials, log)
        if len(choices) <= self._n_batch:
            return choices
        self._n_proposed += 1
        batch_seed = self._seed * 100_003 + self._n_proposed
        with surrogate.quiet(batch_seed):
            return choices[self._chosen(trials, choices, batch_seed)]

    def _is_stable(self, trials: Trials) -> bool:
        volume = trials.hypervolume(self._problem.reference)
        if volume > self._volume * (1.0 + _GROWN) or not self._grown_at:
            self._volume, self._grown_at = volume, len(trials.points)
        return volume > 0.0 and len(trials.points) - self._grown_at > self._n_stable

    def _choices(self, trials: Trials, log: trial_log.TrialLog) -> IntMatrix:
        """Unseen points of the search space, at random and near the front, (n, d)."""
        front = trials.front()
        if not len(front):
            front = np.argsort(trials.violations, kind="stable")[:4]
        each = -(-_N_NEAR // len(front))
        near = [self._parts.near(trials.points[i], each, self._rng) for i in front]
        drawn = self._parts.draw(_N_DRAWN, self._rng)
        return log.unseen(np.concatenate([drawn, *near]))

    def _chosen(self, trials: Trials, choices: IntMatrix, batch_seed: int) -> IntVector:
        reference = self._problem.reference
        spread = np.max(np.abs(reference - trials.values), axis=0)
        scale = np.where(spread > 0.0, spread, 1.0)
        recent = np.arange(len(trials.points))[-_MOST_FITTED:]
        ceilings = self._parts.ceilings
        least = np.full(reference.size, -np.inf)
        misses = None
        if ceilings is not None:
            least = (reference - ceilings) / scale
        elif not trials.acceptable().all():
            misses = surrogate.misses(trials.violations)[recent]
        view = self._view(np.concatenate([trials.points, choices]), scale)
        known, asked = view.take(np.arange(len(trials.points))), len(trials.points)
        gains = (reference - trials.values) / scale
        fitted = BouteSurrogate.fit(
            known.take(recent), gains[recent], least, misses, self._surrogate
        )
        self._surrogate = fitted
        rows = np.arange(asked, asked + len(choices))
        base = known.take(self._baseline(trials, gains))
        return fitted.choose(base, view.take(rows), self._n_batch, batch_seed)

    def _view(self, points: IntMatrix, scale: FloatVector) -> Seen:
        """The points (n, d) as the kernel sees them, each column scaled to 0 to 1."""
        problem, parts = self._problem, self._parts
        unknown = np.full((len(points), problem.n_objectives), np.nan)
        known = problem.known(points) if problem.known else unknown
        return Seen(
            _to_unit(parts.routing(points)),
            _to_unit(parts.deployment(points)),
            parts.preference(points),
            (problem.reference - known) / scale,
        )

    def _baseline(self, trials: Trials, gains: FloatMatrix) -> IntVector:
        """The trials whose volume is to grow: those of the front that matter most."""
        front = trials.front()
        if not len(front):
            return np.arange(len(trials.points), dtype=np.int64)[-_MOST_FITTED:]
        worth = hypervolume.contributions(-gains[front], np.zeros(gains.shape[1]))
        return np.sort(front[np.argsort(-worth, kind="stable")[:_N_BASELINE]])


def _to_unit(columns: FloatMatrix) -> FloatMatrix:
    """Returns columns (n, k) scaled to 0 to 1; a constant one becomes 0."""
    span = np.ptp(columns, axis=0)
    return np.asarray((columns - columns.min(axis=0)) / np.where(span > 0.0, span, 1.0))
