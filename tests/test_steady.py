"""Where a series settles, how sure its mean is, and whether it drifts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from planner.steady import Interval, batches, drift_ratio, interval, settled_from, student_t

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)


@EXAMPLES
@given(st.lists(st.floats(-100, 100), max_size=60))
def test_mser_against_trying_every_cut(values):
    """The definition, written out: batches of five, at most half of them cut."""
    means = [sum(values[i : i + 5]) / 5 for i in range(0, len(values) - len(values) % 5, 5)]
    best, place = np.inf, 0
    for d in range(len(means) // 2 + 1):
        kept = means[d:]
        if not kept:
            break
        middle = sum(kept) / len(kept)
        score = sum((z - middle) ** 2 for z in kept) / len(kept) ** 2
        if score < best * (1 - 1e-9) - 1e-18:
            best, place = score, d
    found = settled_from(np.array(values))
    assert found % 5 == 0
    if found != place * 5:  # a tie, to rounding
        kept = np.array(means[found // 5 :])
        assert kept.var() / kept.size == pytest.approx(best, rel=1e-6, abs=1e-12)


def test_noise_without_a_start_is_kept_for_the_most_part():
    cuts = [settled_from(np.random.default_rng(k).normal(1.0, 0.1, 500)) for k in range(50)]
    assert np.median(cuts) <= 50


@pytest.mark.parametrize("n_freedom", [1, 2, 5, 10, 11, 12, 19, 49, 1000])
def test_student_t(n_freedom):
    assert student_t(n_freedom) == pytest.approx(stats.t.ppf(0.975, n_freedom), abs=2e-4)


def test_an_interval_is_that_of_students_t():
    means = np.array([3.0, 4.0, 5.0, 4.5, 3.5, 4.2, 3.8, 4.1, 4.4, 3.9])
    low, high = stats.t.interval(0.95, 9, loc=means.mean(), scale=stats.sem(means))
    found = interval(float(means.mean()), means)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-3)
    assert found.ratio == pytest.approx((high - low) / 2 / means.mean(), rel=1e-3)
    assert Interval(4.0, 1.0).ratio == 0.25


def test_a_drift_is_a_line_that_is_not_level():
    found = 0
    for seed in range(400):
        values = np.random.default_rng(seed).normal(1.0, 0.2, 10)
        line = stats.linregress(np.arange(10), values)
        expected = line.slope * 9 / values.mean() if line.pvalue < 0.01 else 0.0
        assert drift_ratio(values) == pytest.approx(expected, abs=1e-9)
        found += expected != 0.0
    assert 0 < found < 12
    assert drift_ratio(np.linspace(1.0, 2.0, 10)) == pytest.approx(2 / 3)
    assert drift_ratio(np.zeros(10)) == 0.0


def test_batches_need_two_entries_each():
    assert batches(np.arange(19.0)) is None
    assert batches(np.arange(20.0)).tolist() == [0.5 + 2 * k for k in range(10)]
