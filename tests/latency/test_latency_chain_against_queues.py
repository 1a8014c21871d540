"""The birth-death chain against closed forms, a linear solve and an event simulation."""

from __future__ import annotations

from math import factorial

import numpy as np
import pytest
from latency_cases import simulate_sharing

from planner.latency.chain import envelope_gap, group_size, states, stationary

LOADS = np.array([0.0, 0.1, 0.5, 0.8, 0.95])


def test_one_place_is_the_mm1_queue():
    chain = stationary(states(1, 1.0), np.full((5, 1), 2.0), 2.0 * LOADS)
    np.testing.assert_allclose(chain.wait_ratio, LOADS, atol=1e-12)
    np.testing.assert_allclose(chain.wait_mean_ms, 1 / (2.0 * (1 - LOADS)))
    np.testing.assert_allclose(chain.running, LOADS, atol=1e-12)


@pytest.mark.parametrize("places", [2, 7, 40])
def test_constant_service_times_are_the_mmc_queue(places):
    n = states(places, 1.0)
    offered = LOADS[1:] * places
    chain = stationary(n, np.tile(n[1:], (4, 1)), offered)
    for k, a in enumerate(offered):
        terms = [a**i / factorial(i) for i in range(places)]
        full = a**places / factorial(places) * places / (places - a)
        assert chain.wait_ratio[k] == pytest.approx(full / (sum(terms) + full), rel=1e-10)
        assert chain.wait_mean_ms[k] == pytest.approx(1 / (places - a))
    np.testing.assert_allclose(chain.running, offered, rtol=1e-10)


def test_no_cap_is_poisson():
    n = states(4000, 1.0)
    mean = np.array([0.5, 30.0, 900.0])
    chain = stationary(n, np.tile(n[1:], (3, 1)), mean)
    np.testing.assert_allclose(chain.running, mean, rtol=1e-9)
    np.testing.assert_allclose(chain.running_variance, mean, rtol=1e-7)


def test_linear_step_is_negative_binomial():
    # g(n) = A + b n: n is negative binomial, its mean is lam o (A + b) / (1 - lam o b).
    fixed, each, tokens = 8.0, 0.5, 100.0
    n = states(6000, 1.0)
    lam = np.array([0.2, 0.6, 0.9]) / (each * tokens)
    departures = n[1:] / (tokens * (fixed + each * n[1:]))
    chain = stationary(n, np.tile(departures, (3, 1)), lam)
    rho = lam * tokens * each
    np.testing.assert_allclose(chain.running, lam * tokens * (fixed + each) / (1 - rho), rtol=1e-6)
    ratio = chain.running_variance / chain.running
    np.testing.assert_allclose(ratio, 1 / (1 - rho), rtol=1e-5)


def test_against_the_linear_solve_of_the_generator():
    rng = np.random.default_rng(3)
    rates = np.cumsum(rng.uniform(0.1, 1.0, 12))
    lam, beyond = 0.7 * rates[-1], 220
    up = np.full(12 + beyond, lam)
    down = np.concatenate([rates, np.full(beyond, rates[-1])])
    size = up.size + 1
    generator = np.diag(up, 1) + np.diag(down, -1)
    generator -= np.diag(generator.sum(axis=1))
    system = np.vstack([generator.T, np.ones(size)])
    exact = np.linalg.lstsq(system, np.append(np.zeros(size), 1.0), rcond=None)[0]
    chain = stationary(states(12, 1.0), rates[None, :], np.array([lam]))
    np.testing.assert_allclose(chain.probability[0, :12], exact[:12], atol=1e-10)
    assert chain.wait_ratio[0] == pytest.approx(exact[12:].sum(), abs=1e-10)


@pytest.mark.parametrize("cv", [0.5, 1.0])
def test_mean_stay_against_simulated_processor_sharing(cv):
    # Insensitivity: the chain must hold for lengths that are not exponential.
    rng = np.random.default_rng(11)
    tokens_mean, count = 80.0, 100_000

    def step_ms(n):
        return 8.0 + 0.35 * n + 0.8 * n**0.5

    sigma = np.sqrt(np.log1p(cv**2))
    tokens = rng.lognormal(np.log(tokens_mean) - sigma**2 / 2, sigma, count)
    lam = 0.65 / (0.35 * tokens_mean)
    arrivals = np.cumsum(rng.exponential(1 / lam, count))
    # The realised load is the nominal one, which removes most of the Monte Carlo error.
    tokens *= tokens_mean / tokens.mean()
    arrivals *= count / lam / arrivals[-1]
    stay = simulate_sharing(step_ms, arrivals, tokens)[5000:]
    n = states(3000, 1.0)
    departures = n[1:] / (tokens_mean * step_ms(n[1:]))
    chain = stationary(n, departures[None, :], np.array([lam]))
    # Monte Carlo error of the mean is about 1.3 %.
    assert chain.running[0] / lam == pytest.approx(stay.mean(), rel=0.03)
    # A request of length x stays x E[t(n+1)] on average, whatever its length.
    per_token = float(chain.probability[0] @ step_ms(n + 1))
    long = tokens[5000:] > 1.5 * tokens_mean
    assert (stay / tokens[5000:])[long].mean() == pytest.approx(per_token, rel=0.04)


def test_bursts_widen_but_keep_the_mean_of_infinite_servers():
    group = group_size(3.0)
    assert group == 5.0
    n = states(4000, group)
    mean = np.array([0.3, 50.0])
    chain = stationary(n, np.tile(n[1:], (2, 1)), mean)
    np.testing.assert_allclose(chain.running, mean, rtol=1e-9)
    np.testing.assert_allclose(chain.running_variance, group * mean, rtol=1e-6)


def test_gaps_more_regular_than_poisson_are_taken_as_poisson():
    assert group_size(0.2) == group_size(1.0) == 1.0


def test_the_number_of_sequences_is_convex_in_the_load():
    n = states(300, 1.0)
    for root in (0.0, 2.0):
        departures = n[1:] / (8.0 + 0.2 * n[1:] + root * n[1:] ** 0.5)
        loads = np.linspace(0.02, 0.97, 40)
        chain = stationary(n, np.tile(departures, (40, 1)), loads * departures[-1])
        waiting = loads * departures[-1] * chain.wait_ratio * chain.wait_mean_ms
        assert envelope_gap(loads, chain.running + waiting) < 1e-3


def test_envelope_gap_of_known_curves():
    x = np.linspace(0, 1, 11)
    assert envelope_gap(x, x**2) == pytest.approx(0.0, abs=1e-12)
    bent = np.array([0.0, 1.0, 1.0, 1.0])  # the chord from 0 to 3 passes 1/3 at x = 1
    assert envelope_gap(np.arange(4.0), bent) == pytest.approx(2 / 3)
