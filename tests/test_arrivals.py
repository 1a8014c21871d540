"""When requests arrive: the distribution of the gaps, rates that change, traces, how they end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from planner.arrivals import (
    RateCurve,
    along,
    diurnal_curve,
    gamma,
    poisson,
    repeated,
    round_s,
    square_curve,
    trace,
    weibull,
    weibull_shape,
)

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


@pytest.mark.parametrize("process", [gamma, weibull])
@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0, 4.0])
def test_gaps_have_the_mean_and_the_variation_asked_for(process, cv):
    gaps = gaps_s(process(5.0, cv, seed=1, n=200_000))
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0])
def test_gamma_gaps_are_gamma(cv):
    gaps = gaps_s(gamma(5.0, cv, seed=1, n=4000))
    assert stats.kstest(gaps, stats.gamma(cv**-2, scale=0.2 * cv**2).cdf).pvalue > 0.01


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0])
def test_weibull_gaps_are_weibull(cv):
    gaps = gaps_s(weibull(5.0, cv, seed=1, n=4000))
    shape = weibull_shape(cv)
    law = stats.weibull_min(shape, scale=0.2 / stats.weibull_min(shape).mean())
    assert stats.kstest(gaps, law.cdf).pvalue > 0.01


@pytest.mark.parametrize("cv", [0.05, 0.3, 0.7, 1.0, 1.5, 3.0, 10.0, 50.0])
def test_the_weibull_shape_has_the_variation_asked_for(cv):
    law = stats.weibull_min(weibull_shape(cv))
    assert law.std() / law.mean() == pytest.approx(cv, rel=1e-6)


def test_weibull_gaps_of_variation_one_are_exponential():
    assert weibull_shape(1.0) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("cv", [1e-9, 1e-3, 1e6])
def test_a_weibull_shape_is_found_for_any_variation(cv):
    times_s = weibull(1.0, cv, seed=0, n=10)
    assert np.isfinite(times_s).all() and (gaps_s(times_s) >= 0.0).all()


@EXAMPLES
@given(
    process=st.sampled_from([gamma, weibull]),
    rate_rps=RATES,
    seed=SEEDS,
    n=st.integers(1, 3000),
    cv=st.floats(0.2, 3.0),
)
def test_arrivals_end_with_the_last_request(process, rate_rps, seed, n, cv):
    times_s = process(rate_rps, cv, seed=seed, n=n)
    assert times_s.shape == (n,)
    assert (np.diff(times_s) >= 0.0).all() and times_s[0] >= 0.0


@EXAMPLES
@given(
    process=st.sampled_from([gamma, weibull]),
    rate_rps=RATES,
    seed=SEEDS,
    n_mean=st.floats(0.5, 3000.0),
    cv=st.floats(0.2, 3.0),
)
def test_arrivals_end_before_their_duration(process, rate_rps, seed, n_mean, cv):
    duration_s = n_mean / rate_rps
    times_s = process(rate_rps, cv, seed=seed, duration_s=duration_s)
    longer_s = process(rate_rps, cv, seed=seed, n=times_s.size + 1)
    assert (times_s < duration_s).all()
    assert longer_s[-1] >= duration_s  # and the next one would have been too late
    assert np.array_equal(longer_s[:-1], times_s)


def test_the_shorter_of_number_and_duration_counts():
    assert poisson(10.0, seed=0, n=5, duration_s=100.0).size == 5
    assert poisson(10.0, seed=0, n=500, duration_s=1.0).size < 30


def test_a_seed_gives_the_same_arrivals_and_another_seed_others():
    assert np.array_equal(poisson(1.0, seed=7, n=50), poisson(1.0, seed=7, n=50))
    assert not np.array_equal(poisson(1.0, seed=7, n=50), poisson(1.0, seed=8, n=50))


def test_twice_the_rate_is_the_same_arrivals_in_half_the_time():
    assert poisson(6.0, seed=2, n=100) * 2 == pytest.approx(poisson(3.0, seed=2, n=100))


# ---- A rate that changes -------------------------------------------------------------------------


def expected_until(curve, times_s):
    """The requests expected until times (n,) since the start, step by step and round by round."""
    found = np.zeros_like(times_s)
    edges = curve.edges_s - curve.edges_s[0]
    for k in range(int(times_s.max() // curve.period_s) + 1):
        for low, high, rate in zip(edges[:-1], edges[1:], curve.rate_rps, strict=True):
            start, end = low + k * curve.period_s, high + k * curve.period_s
            found += rate * (np.clip(times_s, start, end) - start)
    return found


STEPS = st.lists(
    st.tuples(st.floats(0.5, 50.0), st.one_of(st.just(0.0), st.floats(0.1, 40.0))),
    min_size=1,
    max_size=6,
).filter(lambda steps: any(rate for _, rate in steps))


@st.composite
def curves(draw):
    steps = draw(STEPS)
    begin = draw(st.floats(0.0, 1e4))
    lengths, rates = np.array([s for s, _ in steps]), np.array([r for _, r in steps])
    return RateCurve(begin + np.concatenate([[0.0], np.cumsum(lengths)]), rates)


@EXAMPLES
@given(curves(), SEEDS, st.floats(0.2, 3.0), st.floats(0.3, 3.0))
def test_arrivals_along_a_curve_are_those_of_rate_one_in_another_time(curve, seed, rounds, factor):
    """The integral of the rate until each arrival is an arrival of a Poisson process of rate 1."""
    times_s = along(curve, seed=seed, duration_s=rounds * curve.period_s, rate_factor=factor)
    if times_s.size:
        unit = poisson(1.0, seed=seed, n=times_s.size)
        assert factor * expected_until(curve, times_s) == pytest.approx(unit, rel=1e-6, abs=1e-6)
        assert (np.diff(times_s) >= 0.0).all() and times_s[-1] < rounds * curve.period_s


@EXAMPLES
@given(curves(), SEEDS, st.floats(0.1, 3.0), st.floats(0.1, 3.0))
def test_longer_arrivals_along_a_curve_begin_with_the_shorter_ones(curve, seed, rounds, more):
    short_s = along(curve, seed=seed, duration_s=rounds * curve.period_s)
    long_s = along(curve, seed=seed, duration_s=(rounds + more) * curve.period_s)
    assert np.array_equal(long_s[: short_s.size], short_s)


def test_counts_in_the_steps_of_a_curve_are_poisson_with_its_means():
    """Over 400 seeds, each step's count has the expected mean and a variance as large."""
    curve = RateCurve(np.array([5.0, 15.0, 20.0, 60.0]), np.array([3.0, 0.0, 8.0]))
    edges = np.array([0.0, 10.0, 15.0, 55.0, 65.0, 70.0, 110.0])  # two rounds
    counts = np.array(
        [np.histogram(along(curve, seed=seed, duration_s=110.0), edges)[0] for seed in range(400)]
    )
    expected = np.array([30.0, 0.0, 320.0] * 2)
    assert not counts[:, expected == 0.0].any()
    busy = counts[:, expected > 0.0]
    # Four standard errors of a mean, and of a variance of nearly normal counts.
    assert (abs(busy.mean(axis=0) - expected[expected > 0]) < 4 * np.sqrt(busy.mean(0) / 400)).all()
    assert busy.var(axis=0) / busy.mean(axis=0) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 400))
    assert abs(np.corrcoef(busy.T)[np.triu_indices(4, 1)]).max() < 4 / np.sqrt(400)


def test_a_curve_of_one_rate_is_a_poisson_process():
    curve = RateCurve(np.array([0.0, 7.0]), np.array([4.0]))
    found = along(curve, seed=3, duration_s=500.0)
    assert found == pytest.approx(poisson(4.0, seed=3, duration_s=500.0), rel=1e-9)


def test_the_last_rate_of_a_schedule_holds_as_long_as_the_one_before():
    curve = RateCurve.from_starts(np.array([10.0, 40.0, 60.0]), np.array([1.0, 2.0, 3.0]))
    assert curve.edges_s.tolist() == [10.0, 40.0, 60.0, 80.0]
    assert curve.period_s == 70.0
    assert curve.expected.tolist() == [0.0, 30.0, 70.0, 130.0]


def test_a_square_wave_begins_high():
    curve = square_curve(2.0, 10.0, 60.0)
    assert curve.edges_s.tolist() == [0.0, 30.0, 60.0]
    assert curve.rate_rps.tolist() == [10.0, 2.0]
    times_s = along(curve, seed=0, duration_s=6000.0)
    is_high = times_s % 60.0 < 30.0
    assert is_high.sum() == pytest.approx(30_000, abs=4 * np.sqrt(30_000))
    assert (~is_high).sum() == pytest.approx(6_000, abs=4 * np.sqrt(6_000))


def test_a_day_has_its_peak_and_its_base_twelve_hours_apart():
    curve = diurnal_curve(2.0, 10.0, 14.5)
    assert curve.period_s == 86_400.0
    middle_h = (curve.edges_s[:-1] + curve.edges_s[1:]) / 7200.0
    cosine = 2.0 + 8.0 * (1.0 + np.cos(2 * np.pi * (middle_h - 14.5) / 24.0)) / 2.0
    assert curve.rate_rps == pytest.approx(cosine, abs=1e-3)
    assert middle_h[curve.rate_rps.argmax()] == pytest.approx(14.5, abs=5 / 60)
    assert middle_h[curve.rate_rps.argmin()] == pytest.approx(2.5, abs=5 / 60)
    assert curve.expected[-1] == pytest.approx(6.0 * 86_400.0)


@pytest.mark.parametrize(
    ("edges_s", "rates"),
    [([0.0, 1.0], []), ([0.0], [1.0]), ([0.0, 1.0, 1.0], [1.0, 1.0]), ([0.0, np.inf], [1.0]),
     ([0.0, 1.0], [-1.0]), ([0.0, 1.0], [np.nan]), ([0.0, 1.0, 2.0], [0.0, 0.0])],
)  # fmt: skip
def test_a_curve_that_makes_no_sense_is_refused(edges_s, rates):
    with pytest.raises(ValueError, match=r"rate curve needs|rates of a curve"):
        RateCurve(np.array(edges_s), np.array(rates))


@pytest.mark.parametrize(("duration_s", "factor"), [(0.0, 1.0), (5.0, 0.0), (np.inf, 1.0)])
def test_no_duration_and_no_factor_are_refused(duration_s, factor):
    with pytest.raises(ValueError, match="duration and factor"):
        along(square_curve(1.0, 2.0, 10.0), seed=0, duration_s=duration_s, rate_factor=factor)


def test_nothing_arrives_while_the_rate_is_zero():
    curve = RateCurve(np.array([0.0, 10.0, 20.0]), np.array([0.0, 5.0]))
    assert along(curve, seed=0, duration_s=10.0).size == 0
    assert along(curve, seed=0, duration_s=20.0).min() > 10.0


# ---- Traces --------------------------------------------------------------------------------------


def test_a_trace_starts_at_once_and_keeps_its_gaps():
    assert trace(np.array([107.0, 103.0, 104.5])).tolist() == [0.0, 1.5, 4.0]
    assert trace(np.array([103.0, 104.5, 107.0]), 2.0).tolist() == [0.0, 0.75, 2.0]


@pytest.mark.parametrize(
    ("rate_rps", "cv", "n", "duration_s"),
    [(0.0, 1.0, 5, None), (-1.0, 1.0, 5, None), (np.nan, 1.0, 5, None), (np.inf, 1.0, 5, None),
     (1.0, 0.0, 5, None), (1.0, 1.0, 0, None), (1.0, 1.0, None, 0.0), (1.0, 1.0, None, None)],
)  # fmt: skip
def test_arrivals_that_make_no_sense_are_refused(rate_rps, cv, n, duration_s):
    with pytest.raises(ValueError, match=r"above zero|need a number"):
        gamma(rate_rps, cv, seed=0, n=n, duration_s=duration_s)
    with pytest.raises(ValueError, match=r"above zero|need a number"):
        weibull(rate_rps, cv, seed=0, n=n, duration_s=duration_s)


@pytest.mark.parametrize(
    ("times_s", "factor"), [([], 1.0), ([0.0, np.nan], 1.0), ([0.0, 1.0], 0.0), ([0.0], np.inf)]
)
def test_a_trace_that_makes_no_sense_is_refused(times_s, factor):
    with pytest.raises(ValueError, match=r"at least one time|above zero"):
        trace(np.array(times_s), factor)


def test_a_trace_is_repeated_one_mean_gap_after_its_end():
    times_s = np.array([0.0, 1.0, 4.0])
    assert round_s(times_s) == 6.0
    assert repeated(times_s, 6.0).tolist() == [0.0, 1.0, 4.0]
    assert repeated(times_s, 11.0).tolist() == [0.0, 1.0, 4.0, 6.0, 7.0, 10.0]
    assert repeated(times_s, 3.0).tolist() == [0.0, 1.0]


@EXAMPLES
@given(SEEDS, st.integers(2, 50), st.integers(1, 5))
def test_a_repeated_trace_keeps_its_rate(seed, n, rounds):
    times_s = trace(np.random.default_rng(seed).uniform(0.0, 100.0, n))
    found = repeated(times_s, rounds * round_s(times_s) * (1 - 1e-9))
    assert found.size == rounds * n
    assert (found.size - 1) / found[-1] == pytest.approx((n - 1) / times_s[-1])


@pytest.mark.parametrize("times_s", [[0.0], [0.0, 0.0]])
def test_a_trace_of_one_moment_is_not_repeated(times_s):
    with pytest.raises(ValueError, match="span some time"):
        repeated(np.array(times_s), 10.0)
