"""Caps are met by what requests turn out to be, not by what they were predicted to be.

A made cluster of three sizes of model: the truth is known, and answers are longer than predicted
just where the router likes to send them.
"""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.scheduling.choice import best_model
from planner.scheduling.feedback import PriceKeeper

WINDOW = 2000
SIZE = np.array([8.0, 70.0, 405.0])
FREE = np.inf


class Traffic(NamedTuple):
    """Requests in order of arrival, (n, 3) each, and the caps, (3,)."""

    quality: np.ndarray
    predicted: np.ndarray
    expected: np.ndarray  # realised work, on average: known to nobody
    realised: np.ndarray
    caps: np.ndarray


def traffic(n, *, capped_share, bias, seed=0):
    """Four classes; prompts that a model is good at make it talk, as nobody predicted."""
    random = np.random.default_rng(seed)
    by_class = np.sort(random.uniform(0.1, 0.95, (4, 3)), axis=1)
    quality = by_class[random.integers(0, 4, n)] + random.normal(0.0, 0.05, (n, 3))
    length = np.exp(random.normal(5.5, 0.6, (n, 1)) + random.normal(0.0, 0.2, (n, 3)))
    predicted = length * SIZE
    liked = quality > np.median(quality, axis=0)
    expected = predicted * np.where(SIZE[0] < SIZE, 1.0 + bias * np.where(liked, 1, -1), 1.0)
    realised = expected * np.exp(random.normal(-0.18, 0.6, (n, 3)))
    caps = np.where(SIZE[0] < SIZE, capped_share * predicted.mean(axis=0), FREE)
    return Traffic(np.clip(quality, 0.0, 1.0), predicted, expected, realised, caps)


def serve(prices, asked, n_in_flight=0):
    """The models chosen, (n,), and the realised work, (n, 3), of a run."""
    keeper = PriceKeeper(prices, asked.caps)
    chosen, load = [], np.zeros(asked.quality.shape)
    for i in range(len(load)):
        m = int(best_model(asked.quality[i : i + 1], asked.predicted[i : i + 1], keeper.price)[0])
        keeper.routed(m, asked.predicted[i, m])
        chosen.append(m)
        load[i, m] = asked.realised[i, m]
        j = i - n_in_flight
        if j >= 0:
            ended = chosen[j]
            keeper.finished(ended, asked.predicted[j, ended], asked.realised[j, ended])
    return np.array(chosen), load


def worst_ratio(load, caps):
    """The largest realised work over cap, over all models and windows."""
    sums = np.vstack([np.zeros(len(caps)), load.cumsum(axis=0)])
    return float(((sums[WINDOW:] - sums[:-WINDOW]) / WINDOW / caps).max())


def optimum(asked):
    """The quality that is best with the true works known, by linear programming, and its prices."""
    optimize, sparse = (pytest.importorskip(f"scipy.{part}") for part in ("optimize", "sparse"))
    n, n_models = asked.quality.shape
    capped = np.flatnonzero(np.isfinite(asked.caps))
    rows = [np.where(np.arange(n_models) == m, asked.expected, 0.0).ravel() for m in capped]
    found = optimize.linprog(
        -asked.quality.ravel(),
        A_ub=np.array(rows),
        b_ub=n * asked.caps[capped],
        A_eq=sparse.kron(sparse.eye(n), np.ones((1, n_models))),
        b_eq=np.ones(n),
        method="highs",
    )
    prices = np.zeros(n_models)
    prices[capped] = -found.ineqlin.marginals
    return -found.fun / n, prices


@pytest.mark.parametrize("capped_share", [0.1, 0.25])
@pytest.mark.parametrize("start", [0.0, 1.0, 3.0], ids=["cold", "warm", "far too high"])
def test_caps_are_met_in_every_window_from_any_start(capped_share, start):
    asked = traffic(3 * WINDOW, capped_share=capped_share, bias=0.3)
    warm = np.array([0.0, 0.2, 0.3]) / np.where(np.isfinite(asked.caps), asked.caps, 1.0) / 10.0
    _, load = serve(start * warm, asked)
    assert worst_ratio(load, asked.caps) <= 1.05


def test_without_feedback_the_same_traffic_breaks_its_caps():
    """Else the test above would prove nothing."""
    asked = traffic(WINDOW, capped_share=0.1, bias=0.3)
    _, prices = optimum(asked._replace(expected=asked.predicted))
    chosen = best_model(asked.quality, asked.predicted, prices)
    load = np.where(np.arange(3) == chosen[:, None], asked.realised, 0.0)
    assert worst_ratio(load, asked.caps) > 1.2


@pytest.mark.parametrize(("bias", "lost"), [(0.0, 0.01), (0.3, 0.02)])
def test_little_quality_is_lost_against_all_knowledge(bias, lost):
    """The reference knows every request in advance, and its true work."""
    asked = traffic(WINDOW, capped_share=0.25, bias=bias)
    best, _ = optimum(asked)
    _, planned = optimum(asked._replace(expected=asked.predicted))
    chosen, load = serve(planned, asked)
    reached = asked.quality[np.arange(len(chosen)), chosen].mean()
    assert reached >= best - lost
    assert (load.mean(axis=0) / asked.caps)[1:].min() > 0.95  # and not by using less


def test_caps_are_met_when_the_mix_changes_and_nothing_is_reset():
    first = traffic(2 * WINDOW, capped_share=0.25, bias=0.3, seed=1)
    second = traffic(2 * WINDOW, capped_share=0.25, bias=-0.3, seed=2)
    joined = [np.concatenate(pair) for pair in zip(first[:4], second[:4], strict=True)]
    asked = Traffic(*joined, first.caps)
    _, load = serve(np.zeros(3), asked)
    assert worst_ratio(load, asked.caps) <= 1.05
    last = load[-WINDOW:].mean(axis=0) / asked.caps
    assert last[1:].min() > 0.9  # what is allowed is used again


def test_caps_are_met_while_many_requests_are_in_flight():
    asked = traffic(3 * WINDOW, capped_share=0.25, bias=0.3)
    _, load = serve(np.zeros(3), asked, n_in_flight=64)
    assert worst_ratio(load, asked.caps) <= 1.05


# ---- Bookkeeping ---------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.floats(0.0, 6.0), min_size=1, max_size=200))
def test_prices_are_bounded_whatever_happens(works):
    keeper = PriceKeeper(np.zeros(2), np.array([1.0, FREE]), window=20.0)
    most = np.sinh(4.5) / (0.5 * 0.05 * 20.0)  # half of it learned, half of it now
    for work in works:
        keeper.routed(0, work)
        assert 0.0 <= keeper.price[0] <= most * (1.0 + 1e-12)
        assert keeper.price[1] == 0.0


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.floats(0.0, 6.0), min_size=1, max_size=60), st.integers(0, 59))
def test_work_ahead_of_the_cap_is_in_the_queue(works, begin):
    """The bound: work in a window <= cap + queue at its end - queue at its begin."""
    keeper = PriceKeeper(np.zeros(1), np.array([1.0]), window=2000.0)
    room = 0.5 * 0.05 * 2000.0
    before = 0.0
    for i, work in enumerate(works):
        if i == begin:
            before = keeper._queue[0] * room
        keeper.routed(0, work)
    ahead = sum(works[begin:]) - len(works[begin:])
    if begin < len(works):
        assert ahead <= keeper._queue[0] * room - before + 1e-9


def test_an_overload_that_no_price_can_prevent_is_soon_forgotten():
    keeper = PriceKeeper(np.zeros(1), np.array([1.0]))
    for _ in range(10 * WINDOW):
        keeper.routed(0, 2.0)
    for _ in range(2 * WINDOW):
        keeper.routed(0, 0.0)
    assert keeper.price[0] == 0.0


def test_a_model_without_a_cap_keeps_its_price():
    keeper = PriceKeeper(np.array([0.5, 0.1]), np.array([FREE, 1.0]))
    for _ in range(50):
        keeper.routed(0, 1e9)
    assert keeper.price[0] == 0.5


def test_a_price_rises_with_work_above_the_cap_and_falls_to_zero_below():
    keeper = PriceKeeper(np.array([0.01]), np.array([1.0]))
    seen = [keeper.price[0]]
    for _ in range(30):
        keeper.routed(0, 3.0)
        seen.append(keeper.price[0])
    assert seen == sorted(seen)
    assert seen[-1] > 10 * seen[0]
    for _ in range(4000):
        keeper.routed(0, 0.0)
    assert keeper.price[0] == 0.0


def ask(keeper, n, worth=1.0):
    """The work that the first of two models gets while requests of work 1 want it at that price."""
    work = 0.0
    for _ in range(n):
        wanted = keeper.price[0] < worth
        keeper.routed(0 if wanted else 1, 1.0)
        work += wanted
    return work


def test_the_queue_comes_back_to_balance_at_any_price():
    """So the next window has its whole room again, whatever price the traffic needs."""
    for worth in (0.01, 0.05, 0.1):
        keeper, queue = PriceKeeper(np.zeros(2), np.array([0.5, FREE])), []
        ask(keeper, 2 * WINDOW, worth)
        for _ in range(WINDOW):
            ask(keeper, 1, worth)
            queue.append(keeper._queue[0])
        assert abs(np.mean(queue)) < 0.1
        assert keeper.price[0] == pytest.approx(worth, rel=0.2)


def test_a_long_rest_earns_no_right_to_a_burst():
    keeper = PriceKeeper(np.zeros(2), np.array([0.25, FREE]))
    for _ in range(5 * WINDOW):
        keeper.routed(1, 1.0)
    assert ask(keeper, WINDOW) <= 1.05 * 0.25 * WINDOW + 1.0


def test_one_huge_request_is_made_up_for():
    keeper = PriceKeeper(np.zeros(2), np.array([0.25, FREE]))
    room = 0.5 * 0.05 * WINDOW * 0.25
    keeper.routed(0, 6.0 * room)
    assert 6.0 * room + ask(keeper, WINDOW) <= 1.05 * 0.25 * WINDOW


def test_a_correction_makes_the_charge_what_was_realised():
    corrected, told = (PriceKeeper(np.array([0.1]), np.array([1.0])) for _ in range(2))
    corrected.routed(0, 2.0)
    corrected.finished(0, 2.0, 7.0)
    told.routed(0, 7.0)
    for keeper in (corrected, told):  # one more request each: prices follow with it
        keeper.routed(0, 1.0)
    assert corrected.price == pytest.approx(told.price, rel=1e-3)  # but for one step's learning
    assert corrected._queue.tolist() == pytest.approx(told._queue.tolist(), rel=1e-12)


def test_a_cap_per_second_is_a_cap_per_request_at_the_rate_of_requests():
    per_request = PriceKeeper(np.array([0.0]), np.array([2.0]), window=2000.0)
    per_second = PriceKeeper(np.array([0.0]), np.array([10.0]), window=400.0)
    for work in np.random.default_rng(0).exponential(3.0, 500):
        per_request.routed(0, work)
        per_second.routed(0, work, elapsed=0.2)  # 5 requests a second
    assert per_second.price == pytest.approx(per_request.price, rel=1e-9)


@pytest.mark.parametrize(
    ("prices", "caps", "said"),
    [
        ([-1.0], [1.0], "prices must be"),
        ([np.nan], [1.0], "prices must be"),
        ([0.0], [0.0], "caps must be above 0"),
        ([0.0], [np.nan], "caps must be above 0"),
    ],
)
def test_impossible_prices_and_caps_are_refused(prices, caps, said):
    with pytest.raises(ValueError, match=said):
        PriceKeeper(np.array(prices), np.array(caps))
