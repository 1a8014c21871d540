"""The parameters of a prior that explain the trials best: what the world must be like.

Notation
    theta    parameters of the prior, 0 before anything was seen             (k,)
    s        their deviations before anything was seen                       (k,)
    y, g     values and margin of a trial;  f_y, f_g what the prior expects   (m,), scalar
    e, v     error of the prior itself (deviation), variance of the trial    (m + 1,)
    r        (f(theta) - (y, g)) / sqrt(e^2 + v), one for each figure seen   (N,)
    J        d r / d theta, by differences                                   (N, k)

Program
    minimise   sum huber(r) + 1/2 sum (theta / s)^2
    by Levenberg's and Marquardt's steps: (J'WJ + diag(1/s^2)) damped, W the weights of huber
A prior that learns, and a process for what it still gets wrong: Kennedy, O'Hagan, "Bayesian
calibration of computer models", JRSS B 63(3), 2001. Huber's loss keeps one trial at a kink of
the prior, where nothing fits, from dragging all parameters along.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from planner.search.problem import FloatMatrix, FloatVector, Prior, Trials

_STEP = 1e-2
"""Difference of a parameter for its derivative: wide enough not to see single kinks."""
_MOST_STEPS = 12
_STILL = 1e-3
"""Relative gain at which the search for parameters ends."""
_HUBER = 1.5

Residuals = Callable[[FloatVector], FloatVector]


def calibrated(prior: Prior, trials: Trials, start: FloatVector | None = None) -> FloatVector:
    """Returns the parameters (k,) under which a prior explains the trials best.

    Args:
        prior: what was expected of each point.
        trials: what was found; values of trials that missed are not held against the prior.
        start: parameters from which the search for better ones begins; None: zeros.
    """
    theta = np.zeros(prior.spreads.size) if start is None else start
    if theta.size == 0 or len(trials.points) == 0:
        return theta
    residuals = _residuals(prior, trials)
    seen, damping = residuals(theta), 1.0
    loss, slopes = _loss(seen, theta, prior.spreads), _slopes(residuals, theta, seen)
    for _ in range(_MOST_STEPS):
        tried = theta + _step(seen, slopes, theta, prior.spreads, damping)
        after = residuals(tried)
        gain = loss - _loss(after, tried, prior.spreads)
        if gain <= 0.0:
            damping *= 4.0
            continue
        theta, seen, loss, damping = tried, after, loss - gain, damping * 0.3
        if gain < _STILL * loss:
            break
        slopes = _slopes(residuals, theta, seen)
    return theta


def _residuals(prior: Prior, trials: Trials) -> Residuals:
    """What theta leaves unexplained: each value of an acceptable trial, and each margin, (N,)."""
    n_values = trials.values.shape[1]
    variances = np.zeros((len(trials.points), n_values + 1))
    variances = variances if trials.variances is None else trials.variances
    scales = np.sqrt(prior.errors**2 + variances)
    missing = np.full(len(trials.points), np.nan)
    margins = missing if trials.margins is None else trials.margins
    values = np.where(trials.acceptable()[:, None], trials.values, np.nan)
    found = np.column_stack([values, margins])
    expected = prior.expect(trials.points, np.zeros(prior.spreads.size))
    counted = ~np.isnan(found + np.column_stack([expected.values, expected.margins]))

    def residuals(theta: FloatVector) -> FloatVector:
        expected = prior.expect(trials.points, theta)
        off = np.column_stack([expected.values, expected.margins]) - found
        return np.asarray((off / scales)[counted], dtype=np.float64)

    return residuals


def _slopes(residuals: Residuals, theta: FloatVector, seen: FloatVector) -> FloatMatrix:
    """J at theta, (N, k); `seen` (N,) are the residuals there."""
    moved = theta + _STEP * np.eye(theta.size)
    return np.column_stack([(residuals(row) - seen) / _STEP for row in moved])


def _step(
    seen: FloatVector,
    slopes: FloatMatrix,
    theta: FloatVector,
    spreads: FloatVector,
    damping: float,
) -> FloatVector:
    weighted = slopes.T * (_HUBER / np.maximum(np.abs(seen), _HUBER))
    curvature = weighted @ slopes + np.diag(1.0 / spreads**2)
    downhill = -(weighted @ seen + theta / spreads**2)
    damped = curvature + damping * np.diag(np.diag(curvature))
    return np.asarray(np.linalg.solve(damped, downhill), dtype=np.float64)


def _loss(seen: FloatVector, theta: FloatVector, spreads: FloatVector) -> float:
    size = np.abs(seen)
    huber = np.where(size < _HUBER, 0.5 * size**2, _HUBER * (size - 0.5 * _HUBER))
    return float(huber.sum() + 0.5 * np.sum((theta / spreads) ** 2))
