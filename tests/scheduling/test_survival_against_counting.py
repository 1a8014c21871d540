"""Predicted lengths against counting over the very answers that were seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.scheduling.survival import ExactMatch, Survival

NO_KEYS = np.empty(0, dtype=np.int64)
lengths_of = st.lists(st.integers(1, 400), max_size=60)


def counted_alive(lengths, age, horizon):
    """P(l > age + h | l > age) by counting, with one more request that never ends."""
    longer = [length for length in lengths if length > age]
    reach = [length for length in longer if length > age + horizon]
    return (len(reach) + 1) / (len(longer) + 1)


@given(lengths_of, st.lists(st.integers(0, 500), min_size=1, max_size=5))
def test_alive_against_counting(lengths, ages):
    horizons = np.array([0, 1, 7, 80, 1000])
    found = Survival(lengths).alive(np.array(ages), horizons, NO_KEYS)
    for i, age in enumerate(ages):
        for j, h in enumerate(horizons.tolist()):
            assert found[i, j] == pytest.approx(counted_alive(lengths, age, h), rel=1e-12)


@given(lengths_of.filter(bool), st.integers(0, 300), st.integers(1, 90))
def test_the_sum_over_horizons_is_the_prediction_of_balanceroute(lengths, age, n_steps):
    """(1 - p_fin) H + p_fin mu_rem = sum of alive over h < H, with the endless one counted."""
    alive = Survival(lengths).alive(np.array([age]), np.arange(n_steps + 1), NO_KEYS)[0]
    rest = [length - age for length in lengths if length > age] + [10**9]
    within = [r for r in rest if r <= n_steps]
    p_fin = len(within) / len(rest)
    mu_rem = np.mean(within) if within else 0.0
    assert 1 - alive[n_steps] == pytest.approx(p_fin)
    assert alive[:n_steps].sum() == pytest.approx((1 - p_fin) * n_steps + p_fin * mu_rem)


def test_before_anything_has_ended_all_stay():
    assert Survival().alive(np.array([0, 900]), np.array([0, 5]), NO_KEYS).tolist() == [[1, 1]] * 2


@given(lengths_of)
def test_learning_one_by_one_lags_by_a_twentieth(lengths):
    """It knows all answers but the last few, and all of them after the first twenty."""
    learning = Survival()
    for length in lengths:
        learning.observe(-1, length)
    ages, horizons = np.arange(0, 400, 37), np.arange(0, 400, 31)
    found = learning.alive(ages, horizons, NO_KEYS)
    known = [
        n for n in range(len(lengths) + 1)
        if np.allclose(found, Survival(lengths[:n]).alive(ages, horizons, NO_KEYS), rtol=1e-12)
    ]  # fmt: skip
    assert known and max(known) >= len(lengths) / 1.05 - 1


def test_it_learns_from_chance():
    """Geometric lengths have no memory: whatever the age, the same share ends within h."""
    lengths = np.random.default_rng(0).geometric(0.01, 20_000).tolist()
    found = Survival(lengths).alive(np.array([0, 50, 150]), np.array([20, 100]), NO_KEYS)
    assert found == pytest.approx(np.tile(0.99 ** np.array([20, 100]), (3, 1)), rel=0.03)


def test_an_exact_match_is_asked_first():
    survival = Survival([10, 10, 500])
    predictor = ExactMatch(survival)
    predictor.observe(7, 100)
    predictor.observe(7, 200)
    horizons = np.array([0, 49, 50, 120])
    ages, keys = np.array([50, 150, 250, 50]), np.array([7, 7, 7, 8])
    found = predictor.alive(ages, horizons, keys)
    assert found[0].tolist() == [1, 1, 0.5, 0.5]  # rests 50 and 150
    assert found[1].tolist() == [1, 1, 0, 0]  # only 200 is longer than 150
    others = survival.alive(ages, horizons, keys)  # has learnt the same answers
    assert found[2:].tolist() == others[2:].tolist()


def test_fed_in_advance_it_is_the_oracle():
    random = np.random.default_rng(1)
    lengths = random.integers(1, 300, 50)
    oracle = ExactMatch(Survival())
    for key, length in enumerate(lengths.tolist()):
        oracle.observe(key, length)
    ages, horizons = random.integers(0, lengths), np.arange(0, 300, 11)
    found = oracle.alive(ages, horizons, np.arange(50))
    assert (found == (lengths[:, None] > ages[:, None] + horizons)).all()
