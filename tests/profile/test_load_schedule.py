"""When an open loop sends: the distribution of the gaps, how a schedule ends, traces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from planner.profile.load.schedule import gamma, poisson, trace

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
RATES = st.floats(0.01, 1000.0)
SEEDS = st.integers(0, 2**32 - 1)


def gaps_s(times_s):
    return np.diff(times_s, prepend=0.0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_poisson_gaps_are_exponential(seed):
    gaps = gaps_s(poisson(4.0, seed=seed, n=5000))
    assert stats.kstest(gaps, stats.expon(scale=0.25).cdf).pvalue > 0.01


def test_poisson_counts_are_as_variable_as_their_mean():
    times_s = poisson(10.0, seed=3, duration_s=2000.0)
    counts = np.histogram(times_s, np.arange(0.0, 2001.0))[0]
    assert counts.mean() == pytest.approx(10.0, rel=0.03)
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0, 4.0])
def test_gamma_gaps_have_the_mean_and_the_variation_asked_for(cv):
    gaps = gaps_s(gamma(5.0, cv, seed=1, n=50_000))
    assert gaps.mean() == pytest.approx(0.2, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0])
def test_gamma_gaps_are_gamma(cv):
    gaps = gaps_s(gamma(5.0, cv, seed=1, n=4000))
    assert stats.kstest(gaps, stats.gamma(cv**-2, scale=0.2 * cv**2).cdf).pvalue > 0.01


@EXAMPLES
@given(rate_rps=RATES, seed=SEEDS, n=st.integers(1, 3000), cv=st.floats(0.2, 3.0))
def test_a_schedule_ends_with_its_last_request(rate_rps, seed, n, cv):
    times_s = gamma(rate_rps, cv, seed=seed, n=n)
    assert times_s.shape == (n,)
    assert (np.diff(times_s) >= 0.0).all() and times_s[0] >= 0.0


@EXAMPLES
@given(rate_rps=RATES, seed=SEEDS, n_mean=st.floats(0.5, 3000.0))
def test_a_schedule_ends_before_its_duration(rate_rps, seed, n_mean):
    duration_s = n_mean / rate_rps
    times_s = poisson(rate_rps, seed=seed, duration_s=duration_s)
    longer_s = poisson(rate_rps, seed=seed, n=times_s.size + 1)
    assert (times_s < duration_s).all()
    assert longer_s[-1] >= duration_s  # and the next one would have been too late
    assert np.array_equal(longer_s[:-1], times_s)


def test_the_shorter_of_number_and_duration_counts():
    assert poisson(10.0, seed=0, n=5, duration_s=100.0).size == 5
    assert poisson(10.0, seed=0, n=500, duration_s=1.0).size < 30


def test_a_seed_gives_one_schedule_and_another_seed_another():
    assert np.array_equal(poisson(1.0, seed=7, n=50), poisson(1.0, seed=7, n=50))
    assert not np.array_equal(poisson(1.0, seed=7, n=50), poisson(1.0, seed=8, n=50))


def test_twice_the_rate_is_the_same_schedule_in_half_the_time():
    assert poisson(6.0, seed=2, n=100) * 2 == pytest.approx(poisson(3.0, seed=2, n=100))


def test_a_trace_starts_at_once_and_keeps_its_gaps():
    assert trace(np.array([107.0, 103.0, 104.5])).tolist() == [0.0, 1.5, 4.0]
    assert trace(np.array([103.0, 104.5, 107.0]), 2.0).tolist() == [0.0, 0.75, 2.0]


@pytest.mark.parametrize(
    ("rate_rps", "cv", "n", "duration_s"),
    [(0.0, 1.0, 5, None), (-1.0, 1.0, 5, None), (np.nan, 1.0, 5, None), (np.inf, 1.0, 5, None),
     (1.0, 0.0, 5, None), (1.0, 1.0, 0, None), (1.0, 1.0, None, 0.0), (1.0, 1.0, None, None)],
)  # fmt: skip
def test_a_schedule_that_makes_no_sense_is_refused(rate_rps, cv, n, duration_s):
    with pytest.raises(ValueError, match=r"above zero|needs a number"):
        gamma(rate_rps, cv, seed=0, n=n, duration_s=duration_s)


@pytest.mark.parametrize(
    ("times_s", "factor"), [([], 1.0), ([0.0, np.nan], 1.0), ([0.0, 1.0], 0.0), ([0.0], np.inf)]
)
def test_a_trace_that_makes_no_sense_is_refused(times_s, factor):
    with pytest.raises(ValueError, match=r"at least one time|above zero"):
        trace(np.array(times_s), factor)
