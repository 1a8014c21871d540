"""Exact leave-one-group-out predictions against fits that really leave the group out."""

import numpy as np
import pytest

from planner.quality.ridge import PENALTIES_PER_ROW, Levels, fit_ridge


def design(seed: int, groups: np.ndarray, n_targets: int = 3, n_features: int = 4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups.size, n_features)) * [1.0, 2.0, 0.5, 1.0]
    truth = rng.normal(size=(n_features, n_targets)) * [2.0, 0.3, 0.0]
    return x, x @ truth + rng.normal(size=(groups.size, n_targets))


def refit(x, y, penalty, levels, rows):
    """Plain ridge on chosen rows: the normal equations with one column per level, target by target.

    Returns slopes (F, K), the common level (K,) and the class levels (C, K).
    """
    n_features, n_targets = x.shape[1], y.shape[1]
    columns, weights = x[rows], np.zeros(n_features)
    if levels is not None:
        classes = np.eye(levels.n_classes)[levels.code[rows]]
        columns = np.hstack([columns, np.ones((len(rows), 1)), classes])
        weights = np.concatenate([weights, [0.0], np.full(levels.n_classes, levels.strength)])
    found = np.empty((columns.shape[1], n_targets))
    for k in range(n_targets):
        diagonal = weights.copy()
        diagonal[:n_features] = penalty[k]
        found[:, k] = np.linalg.solve(
            columns.T @ columns + np.diag(diagonal), columns.T @ y[rows, k]
        )
    if levels is None:
        return found, np.zeros(n_targets), np.zeros((0, n_targets))
    common = found[n_features]
    return found[:n_features], common, common + found[n_features + 1 :]


def predictions_without(x, y, group, penalty, levels):
    predicted = np.empty_like(y)
    for g in np.unique(group):
        held = np.flatnonzero(group == g)
        slope, _, level = refit(x, y, penalty, levels, np.flatnonzero(group != g))
        predicted[held] = x[held] @ slope
        if levels is not None:
            predicted[held] += level[levels.code[held]]
    return predicted


SINGLES = np.arange(40)
DUPLICATES = np.concatenate([np.arange(25), [3, 3, 7, 7, 7, 9, 24, 24, 24, 24, 24, 24, 24, 24, 24]])


@pytest.mark.parametrize("group", [SINGLES, DUPLICATES], ids=["singles", "duplicates"])
@pytest.mark.parametrize("with_levels", [False, True])
def test_left_out_predictions_are_those_of_refits(group, with_levels):
    x, y = design(1, group)
    levels = Levels(np.arange(group.size) % 3, 4, 5.0) if with_levels else None  # class 3 is empty
    fitted = fit_ridge(x, y, group, levels)
    expected = predictions_without(x, y, group, fitted.penalty, levels)
    np.testing.assert_allclose(fitted.left_out, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("with_levels", [False, True])
def test_slopes_and_levels_are_those_of_the_normal_equations(with_levels):
    x, y = design(2, SINGLES)
    levels = Levels(np.arange(40) % 5, 6, 5.0) if with_levels else None
    fitted = fit_ridge(x, y, SINGLES, levels)
    slope, common, level = refit(x, y, fitted.penalty, levels, np.arange(40))
    np.testing.assert_allclose(fitted.slope, slope, atol=1e-9)
    np.testing.assert_allclose(fitted.common, common, atol=1e-9)
    np.testing.assert_allclose(fitted.level, level, atol=1e-9)


def test_no_other_penalty_leaves_smaller_left_out_residuals():
    x, y = design(3, DUPLICATES)
    fitted = fit_ridge(x, y, DUPLICATES)
    reached = ((y - fitted.left_out) ** 2).sum(axis=0)
    tried = [
        ((y - predictions_without(x, y, DUPLICATES, np.full(3, p), None)) ** 2).sum(axis=0)
        for p in PENALTIES_PER_ROW * DUPLICATES.size
    ]
    np.testing.assert_allclose(reached, np.min(tried, axis=0), rtol=1e-9)
    assert fitted.penalty[2] > fitted.penalty[0]  # the third target is noise


def test_duplicates_as_single_rows_would_be_known_beforehand():
    """Noise seems to be predictable when copies of a row stay in the fit."""
    rng = np.random.default_rng(4)
    x = np.repeat(rng.normal(size=(30, 30)), 3, axis=0)
    y = np.repeat(rng.normal(size=(30, 20)), 3, axis=0)
    careless = fit_ridge(x, y, np.arange(90))
    careful = fit_ridge(x, y, np.repeat(np.arange(30), 3))
    assert ((y - careless.left_out) ** 2).sum() < 0.2 * (y**2).sum()
    assert ((y - careful.left_out) ** 2).sum() > 0.9 * (y**2).sum()


def test_one_group_teaches_levels_only():
    x, y = design(5, np.zeros(12, dtype=np.int64))
    fitted = fit_ridge(x, y, np.zeros(12, dtype=np.int64), Levels(np.zeros(12, np.int64), 2, 5.0))
    assert not fitted.slope.any()
    np.testing.assert_allclose(fitted.common, y.mean(axis=0))
    np.testing.assert_allclose(fitted.left_out, np.tile(y.mean(axis=0), (12, 1)))
