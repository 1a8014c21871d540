"""Calibration, AUC, ranks and length errors against hand-made cases, pairs and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from planner.quality.calibration import (
    auc_of,
    calibration_of,
    length_fit_of,
    ranks,
    spearman,
)


def test_two_bins_by_hand():
    """Cells believed .2 are right in 1 of 4, cells believed .9 in 3 of 4: .5 * .05 + .5 * .15."""
    believed = np.array([[0.2, 0.9]] * 4)
    score = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    found = calibration_of(believed, score)
    assert found.ece == pytest.approx(0.10)
    assert [b.n_cells for b in found.bins] == [4, 4]
    assert [b.realised for b in found.bins] == [0.25, 0.75]
    assert found.brier == pytest.approx(((believed - score) ** 2).mean())


def test_the_truth_shows_about_what_luck_gives():
    random = np.random.default_rng(0)
    eces, by_luck = [], []
    for _ in range(200):
        truth = random.random((300, 2))
        score = (random.random(truth.shape) < truth).astype(float)
        found = calibration_of(truth, score)
        eces.append(found.ece)
        by_luck.append(found.ece_by_luck)
    assert np.mean(eces) == pytest.approx(np.mean(by_luck), rel=0.05)


def test_a_bias_is_seen_whole_and_the_ends_have_a_bin():
    truth = np.linspace(0.0, 0.7, 50_000)[:, None]
    score = (np.random.default_rng(1).random(truth.shape) < truth).astype(float)
    assert calibration_of(truth + 0.3, score).ece == pytest.approx(0.3, abs=0.01)
    sure = calibration_of(np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]]))
    assert sure.ece == 0.0 and len(sure.bins) == 2


def test_cells_that_are_not_scored_do_not_count():
    believed = np.array([[0.5, 0.1], [0.5, 0.9]])
    score = np.array([[1.0, np.nan], [0.0, np.nan]])
    assert calibration_of(believed, score) == calibration_of(believed[:, :1], score[:, :1])


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    values=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), min_size=2, max_size=30),
)
def test_auc_counts_pairs_and_ranks_are_scipys(values):
    estimate, score = np.array(values, dtype=float).T
    score = score / 4.0
    pairs = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, good in zip(estimate, score >= 0.5, strict=True)
        for b, other in zip(estimate, score >= 0.5, strict=True)
        if good and not other
    ]
    if pairs:
        assert auc_of(estimate, score) == pytest.approx(np.mean(pairs))
    else:
        assert np.isnan(auc_of(estimate, score))
    np.testing.assert_allclose(ranks(estimate), stats.rankdata(estimate))
    if np.ptp(estimate) and np.ptp(score):
        truth = stats.spearmanr(estimate, score).statistic
        assert spearman(estimate, score) == pytest.approx(truth)
    else:
        assert np.isnan(spearman(estimate, score))


def test_lengths_by_hand():
    found = length_fit_of(
        np.array([10.0, 20.0, 60.0, 7.0]),
        np.array([30.0, 30.0, 30.0, 7.0]),
        np.array([20.0, 30.0, 40.0, np.nan]),
    )
    assert found.total_ratio == pytest.approx(1.0)
    assert found.spearman == pytest.approx(1.0)
    assert found.mean_error_tokens == pytest.approx(40 / 3)
    assert found.class_mean_error_tokens == pytest.approx(20 / 3)
