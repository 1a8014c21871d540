"""round_shares: largest remainder, 6 decimals, rows of exactly one million millionths."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from planner.routing.rounding import UNITS, round_shares

rows = arrays(np.float64, (3, 5), elements=st.floats(0.0, 1.0, width=32)).filter(
    lambda a: bool((a.sum(axis=1) > 1e-3).all())
)


@settings(derandomize=True, max_examples=200)
@given(rows)
def test_rows_sum_to_one_and_no_share_moves_by_a_millionth(shares: np.ndarray) -> None:
    rounded = round_shares(shares)
    millionths = np.rint(rounded * UNITS)
    assert (millionths.sum(axis=1) == UNITS).all()
    assert np.abs(rounded * UNITS - millionths).max() < 1e-6
    exact = shares / shares.sum(axis=1, keepdims=True)
    assert np.abs(rounded - exact).max() < 1.001e-6
    assert (rounded[shares == 0] == 0).all()


@settings(derandomize=True, max_examples=100)
@given(rows)
def test_rounding_twice_is_rounding_once(shares: np.ndarray) -> None:
    once = round_shares(shares)
    np.testing.assert_array_equal(round_shares(once), once)


def test_against_exact_fractions() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        raw = [Fraction(int(v), 1) for v in random.integers(1, 10**9, 7)]
        exact = [v / sum(raw) * UNITS for v in raw]
        whole = [int(v) for v in exact]
        by_remainder = sorted(range(7), key=lambda i: (whole[i] - exact[i], i))
        for i in by_remainder[: UNITS - sum(whole)]:
            whole[i] += 1
        shares = np.array([[float(v / sum(raw)) for v in raw]])
        assert np.rint(round_shares(shares) * UNITS).astype(int).tolist() == [whole]


def test_thirds_give_the_odd_millionth_to_the_first_pool() -> None:
    third = np.full((1, 3), 1.0 / 3.0)
    assert round_shares(third).tolist() == [[0.333334, 0.333333, 0.333333]]


@pytest.mark.parametrize("bad", [[[0.0, 0.0]], [[np.nan, 1.0]], [[-0.1, 1.1]], [[np.inf, 1.0]]])
def test_what_is_no_share_is_refused(bad: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="share"):
        round_shares(np.array(bad))
