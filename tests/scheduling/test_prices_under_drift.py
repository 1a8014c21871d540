"""Per-prompt routing by prices per second of work: the plan's work is kept when the mix drifts."""

from typing import NamedTuple

import numpy as np
import pytest

from planner.scheduling.choice import best_model
from planner.scheduling.feedback import PriceKeeper

RATE_RPS, N_IN_WINDOW = 20.0, 2000
SIZE = np.array([1.0, 4.0, 16.0])  # work per token of three models
SHARES = (0.6, 0.3, 0.1)


class Mix(NamedTuple):
    """Requests in order of arrival, (n, 3) each."""

    quality: np.ndarray
    predicted: np.ndarray
    realised: np.ndarray


def mix(n, seed, *, hard_ratio):
    """Easy prompts that all models answer alike, and hard ones that want the largest."""
    random = np.random.default_rng(seed)
    gain = random.exponential(np.where(random.random(n) < hard_ratio, 0.35, 0.05))
    quality = 0.5 + gain[:, None] * np.array([0.0, 0.6, 1.0])
    tokens = random.lognormal(5.0, 0.5, (n, 1)) * np.where(gain > 0.2, 1.6, 1.0)[:, None]
    predicted = tokens * SIZE
    return Mix(quality, predicted, predicted * random.lognormal(-0.08, 0.4, (n, 3)))


def planned(asked):
    """Prices and work per second of a plan that gives fixed shares of the mix to each model."""
    low, high = np.zeros(3), np.full(3, 1.0)
    prices = np.zeros(3)
    for _ in range(60):  # coordinate by coordinate, each by bisection
        for m in (1, 2):
            low[m], high[m] = 0.0, 1.0
            for _ in range(30):
                prices[m] = (low[m] + high[m]) / 2
                share = (best_model(asked.quality, asked.predicted, prices) == m).mean()
                low[m], high[m] = (prices[m], high[m]) if share > SHARES[m] else (low[m], prices[m])
    chosen = best_model(asked.quality, asked.predicted, prices)
    work = np.where(np.arange(3) == chosen[:, None], asked.realised, 0.0)
    return prices, work.mean(axis=0) * RATE_RPS


PRICES, WORK_PER_S = planned(mix(4000, 0, hard_ratio=0.3))
CAPS = np.array([np.inf, *WORK_PER_S[1:]])


class Served(NamedTuple):
    """What became of requests in order of arrival, (n, 3) each."""

    work: np.ndarray  # realised, 0 on the models that it did not go to
    moved: np.ndarray  # how far the prices were above the plan's


def serve(keeper, asked, n_in_flight=20):
    chosen, work, moved = [], np.zeros(asked.quality.shape), []
    for i in range(len(work)):
        now = asked.quality[i : i + 1], asked.predicted[i : i + 1], keeper.price
        m = int(best_model(*now)[0])
        keeper.routed(m, float(asked.predicted[i, m]), 1.0 / RATE_RPS)
        chosen.append(m)
        moved.append(keeper.price - PRICES)
        work[i, m] = asked.realised[i, m]
        j = i - n_in_flight
        if j >= 0:
            m = chosen[j]
            keeper.finished(m, float(asked.predicted[j, m]), float(asked.realised[j, m]))
    return Served(work, np.array(moved))


def worst_ratio(work):
    """The largest work in a window over what the plan allows, models with a cap."""
    sums = np.vstack([np.zeros(3), work.cumsum(axis=0)])
    seconds = N_IN_WINDOW / RATE_RPS
    return float(((sums[N_IN_WINDOW:] - sums[:-N_IN_WINDOW]) / seconds / CAPS).max())


def new():
    return PriceKeeper(PRICES, CAPS, window=N_IN_WINDOW / RATE_RPS)


def test_the_mix_of_the_plan_is_served_as_planned():
    """Same kind of traffic, other requests: loads are the plan's, and prices stay about there."""
    keeper = new()
    work, moved = serve(keeper, mix(6000, 7, hard_ratio=0.3))
    ratio = work[2000:].mean(axis=0) * RATE_RPS / WORK_PER_S
    assert ratio == pytest.approx(1.0, abs=0.06)
    assert worst_ratio(work) <= 1.05
    assert np.abs(moved[2000:].mean(axis=0)[1:]) == pytest.approx(0.0, abs=0.35 * PRICES[2])


def test_a_mix_that_drifts_keeps_the_caps_and_moves_the_prices():
    keeper = new()
    for hard_ratio in (0.3, 0.45, 0.6):  # more and more want what there is little of
        work, moved = serve(keeper, mix(3000, int(100 * hard_ratio), hard_ratio=hard_ratio))
        assert worst_ratio(work) <= 1.05
    assert moved[1000:].mean(axis=0)[2] > 0.6 * PRICES[2]
    assert (work[1000:].mean(axis=0) * RATE_RPS / CAPS)[2] > 0.9  # and not by using less


def test_fixed_prices_break_the_caps_on_the_same_drift():
    """Else the test above would prove nothing."""
    asked = mix(3000, 60, hard_ratio=0.6)
    chosen = best_model(asked.quality, asked.predicted, PRICES)
    work = np.where(np.arange(3) == chosen[:, None], asked.realised, 0.0)
    assert worst_ratio(work) > 1.5


def test_prices_fall_when_fewer_want_the_dear_model_and_come_back():
    keeper = new()
    moved = serve(keeper, mix(4000, 3, hard_ratio=0.05)).moved
    assert moved[2000:].mean(axis=0)[2] < -0.25 * PRICES[2]
    moved = serve(keeper, mix(6000, 4, hard_ratio=0.3)).moved
    assert moved[3000:].mean(axis=0)[2] == pytest.approx(0.0, abs=0.35 * PRICES[2])
