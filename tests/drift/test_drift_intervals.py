"""Intervals against scipy's, and how often they hold what they should."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from planner.drift.intervals import (
    dispersion_of,
    of_lengths,
    of_mean_ms,
    of_percentile_ms,
    of_rate,
    of_share,
)
from planner.drift.observed import Latencies, Lengths


def latencies(values_ms: np.ndarray, bounds_ms: list[float]) -> Latencies:
    above = tuple(float((values_ms > bound).sum()) for bound in bounds_ms)
    return Latencies(tuple(bounds_ms), above, float(values_ms.size), float(values_ms.sum()))


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_share_is_as_scipy_has_it(k: int, n: int) -> None:
    k = min(k, n)
    theirs = binomtest(k, n).proportion_ci(0.95, method="wilson")
    ours = of_share(k, n)
    assert ours.value == k / n
    assert ours.low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, abs=1e-9)


def test_of_nothing_everything_is_possible() -> None:
    assert of_share(0.0, 0.0) == (0.0, 0.0, 1.0)
    assert of_lengths(Lengths(1.0, 50.0, 2500.0)).high == math.inf
    assert of_mean_ms(Latencies((), (), 0.0, 0.0)).high == math.inf


@given(st.integers(0, 5_000), st.floats(1.0, 9.0))
def test_the_ends_of_a_rate_are_what_chance_barely_gives(n: int, dispersion: float) -> None:
    """At either end the count is 1.96 standard errors off."""
    rate = of_rate(n, 10.0, dispersion)
    assert rate.value == n / 10.0
    for mean in (rate.low * 10.0, rate.high * 10.0):
        if mean > 1e-9:
            assert abs(n - mean) == pytest.approx(1.959964 * math.sqrt(dispersion * mean), rel=1e-6)


@pytest.mark.parametrize("cv", [1.0, 2.0])
def test_rates_of_bursty_arrivals_are_held_as_often_as_promised(cv: float) -> None:
    random, held, n_runs = np.random.default_rng(1), 0, 1000
    for _ in range(n_runs):
        gaps = random.gamma(1.0 / cv**2, cv**2, 700)  # mean 1
        rate = of_rate(float(np.searchsorted(gaps.cumsum(), 400.0)), 400.0, cv**2)
        held += rate.low <= 1.0 <= rate.high
    assert 0.93 <= held / n_runs <= 0.97


def test_mean_lengths_are_held_as_often_as_promised() -> None:
    random, held, n_runs = np.random.default_rng(2), 0, 1000
    mean = math.exp(0.5 * 0.64)
    for _ in range(n_runs):
        x = random.lognormal(0.0, 0.8, 300)
        seen = of_lengths(Lengths(300.0, float(x.sum()), float((x**2).sum())))
        held += seen.low <= mean <= seen.high
    assert 0.92 <= held / n_runs <= 0.97


@pytest.mark.parametrize(("ratio", "true_ms"), [(0.5, 693.147), (0.95, 2995.73)])
def test_percentiles_in_buckets_are_held_at_least_as_often(ratio: float, true_ms: float) -> None:
    random, n_runs = np.random.default_rng(3), 500
    bounds = [float(b) for b in np.geomspace(50.0, 20_000.0, 25)]
    held = 0
    for _ in range(n_runs):
        seen = of_percentile_ms(latencies(random.exponential(1000.0, 400), bounds), ratio)
        held += seen.low <= true_ms <= seen.high
        assert seen.low <= seen.value <= seen.high
    assert held / n_runs >= 0.95


def test_mean_latencies_in_buckets_are_held_at_least_as_often() -> None:
    random, n_runs = np.random.default_rng(4), 500
    bounds = [float(b) for b in np.geomspace(50.0, 50_000.0, 25)]
    held = 0
    for _ in range(n_runs):
        seen = of_mean_ms(latencies(random.exponential(1000.0, 400), bounds))
        held += seen.low <= 1000.0 <= seen.high
    assert held / n_runs >= 0.95


def test_beyond_the_last_bucket_no_percentile_is_known() -> None:
    few = latencies(np.array([10.0, 20.0, 9_000.0]), [50.0, 100.0])
    assert of_percentile_ms(few, 0.95).high == math.inf


@pytest.mark.parametrize("last_ms", [200.0, 1_500.0, 6_000.0])
def test_a_mean_is_held_however_many_lie_beyond_the_last_bucket(last_ms: float) -> None:
    random, held, wide, n_runs = np.random.default_rng(6), 0, 0.0, 400
    bounds = [float(b) for b in np.geomspace(50.0, last_ms, 12)]
    for _ in range(n_runs):
        seen = of_mean_ms(latencies(random.exponential(1000.0, 400), bounds))
        held += seen.low <= 1000.0 <= seen.high
        wide += (seen.high - seen.low) / n_runs
    assert held / n_runs >= 0.94
    assert wide <= 300.0  # 196 were every value known


def test_what_varies_together_is_known_less_well() -> None:
    """As if only every fourth had been seen."""
    assert of_share(12.0, 400.0, 4.0) == pytest.approx(of_share(3.0, 100.0))
    seen = latencies(np.arange(1.0, 4001.0), [float(b) for b in range(10, 4001, 10)])
    for interval in (of_mean_ms, lambda x, d=1.0: of_percentile_ms(x, 0.5, d)):
        one, four = interval(seen), interval(seen, 4.0)
        assert one.value == four.value
        ratio = (four.high - four.low) / (one.high - one.low)
        assert ratio == pytest.approx(2.0, abs=0.2)  # bounds are ten apart


def test_the_fuller_a_pool_the_more_its_latencies_vary_together() -> None:
    """How true the rules are: test_drift_intervals_against_simulation.py."""
    assert dispersion_of("e2e", -1.0, 9.0) == dispersion_of("e2e", 0.0, 0.0) == 1.5
    assert dispersion_of("e2e", 0.9, 9.0) == pytest.approx(15.0)
    assert dispersion_of("ttft", 0.9, 9.0) == pytest.approx(200.0)
    assert dispersion_of("ttft", 7.0, 9.0) == pytest.approx(800.0)
    assert [dispersion_of("tpot", 0.9, n) for n in (0.1, 50.0)] == [1.0, 150.0]
