"""Priors that learn: known parameters are found again, through noise and a trial that lies."""

import numpy as np
import pytest

from planner.search.calibration import calibrated
from planner.search.problem import Expected, Prior, Trials

POINTS = np.array([[a, b, c] for a in range(4) for b in range(4) for c in range(2)])
THETA = np.array([0.3, -0.2, 0.1])
ERRORS = np.array([0.02, 0.02])


def expect(points, theta):
    z = points * np.exp(theta)
    return Expected(-np.log1p(z @ [1.0, 2.0, 0.5])[:, None], 2.0 - z.sum(axis=1))


def trials_at(theta, noise=0.0, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    true = expect(POINTS, theta)
    values = true.values + rng.normal(0.0, noise, true.values.shape)
    margins = true.margins + rng.normal(0.0, noise, len(POINTS))
    variances = np.full((len(POINTS), 2), noise**2)
    violations = np.maximum(true.margins, 0.0)
    trials = Trials(POINTS, values, violations, True, margins, variances)
    return Prior(expect, np.full(3, spread), ERRORS), trials


def test_exact_trials_give_the_parameters_back():
    prior, trials = trials_at(THETA, spread=100.0)
    assert calibrated(prior, trials) == pytest.approx(THETA, abs=2e-3)


def test_what_was_believed_pulls_as_bayes_says():
    """A prior that is linear in one parameter has its posterior mean in closed form."""

    def linear(points, theta):
        margins = points[:, 0] * theta[0]
        return Expected(np.full((len(points), 1), np.nan), margins.astype(float))

    points = np.array([[1], [2], [3]])
    margins = np.array([0.11, 0.19, 0.28])
    error, variance, spread = 0.1, 0.03**2, 0.05
    variances = np.full((3, 2), variance)
    trials = Trials(points, np.zeros((3, 1)), np.maximum(margins, 0), True, margins, variances)
    found = calibrated(Prior(linear, np.array([spread]), np.array([1.0, error])), trials)
    weight = 1.0 / (error**2 + variance)
    x = points[:, 0]
    expected = weight * x @ margins / (weight * x @ x + 1.0 / spread**2)
    assert found == pytest.approx([expected], rel=1e-3)


def test_noise_is_averaged_out():
    prior, trials = trials_at(THETA, noise=0.05)
    assert calibrated(prior, trials) == pytest.approx(THETA, abs=0.06)


def test_one_trial_that_lies_moves_little():
    prior, trials = trials_at(THETA)
    assert trials.margins is not None
    trials.margins[5] += 3.0
    assert calibrated(prior, trials) == pytest.approx(THETA, abs=0.05)


def test_values_of_what_missed_do_not_count():
    prior, trials = trials_at(THETA)
    trials.values[trials.violations > 0] = 1e3
    assert calibrated(prior, trials) == pytest.approx(THETA, abs=0.02)


def test_nothing_to_learn_or_to_learn_from():
    prior, trials = trials_at(THETA)
    fixed = Prior(lambda points, _: expect(points, THETA), np.empty(0), ERRORS)
    assert calibrated(fixed, trials).size == 0
    none = Trials(POINTS[:0], trials.values[:0], trials.violations[:0], True)
    assert calibrated(prior, none).tolist() == [0.0, 0.0, 0.0]
