"""Largest remainder against trying every vector of weights, and by its properties."""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.export.fleet import MILLION
from planner.export.shares import split, weights

SHARES = st.lists(st.integers(0, MILLION), min_size=1, max_size=8).filter(lambda s: sum(s) > 0)


def _named(shares: list[int]) -> list[tuple[str, int]]:
    return [(f"p{i}", share) for i, share in enumerate(shares)]


def test_millionths_stay_as_they_are() -> None:
    shares = [("a", 622_487), ("b", 295_485), ("c", 82_028)]
    made = weights(shares)
    assert made.of == tuple(shares)
    assert made.is_exact


def test_a_small_total_says_how_far_off_it_is() -> None:
    made = weights([("a", 622_487), ("b", 295_485), ("c", 82_028)], total=100)
    assert made.of == (("a", 62), ("b", 30), ("c", 8))
    assert made.error_ratio == pytest.approx(0.30 - 0.295485, abs=1e-12)
    assert not made.is_exact


def test_equal_remainders_favour_the_first() -> None:
    assert weights([("a", 1), ("b", 1), ("c", 1)], total=10).of == (("a", 4), ("b", 3), ("c", 3))


@given(
    shares=st.lists(st.integers(0, 30), min_size=1, max_size=4).filter(lambda s: sum(s) > 0),
    total=st.integers(1, 7),
)
def test_no_other_weights_are_nearer(shares: list[int], total: int) -> None:
    """Largest remainder has the least sum of squared errors, and the least largest error."""
    whole = sum(shares)

    def errors(tried: tuple[int, ...]) -> list[Fraction]:
        return [
            abs(Fraction(n, total) - Fraction(s, whole)) for n, s in zip(tried, shares, strict=True)
        ]

    every = [t for t in product(range(total + 1), repeat=len(shares)) if sum(t) == total]
    made = weights(_named(shares), total)
    own = errors(tuple(n for _, n in made.of))
    assert max(own) == min(max(errors(t)) for t in every)
    assert sum(e * e for e in own) == min(sum(e * e for e in errors(t)) for t in every)
    assert made.error_ratio == pytest.approx(float(max(own)), abs=1e-15)


@given(shares=SHARES, total=st.integers(1, 2_000_000))
def test_the_sum_is_exact_and_each_is_rounded_down_or_up(shares: list[int], total: int) -> None:
    made = [n for _, n in weights(_named(shares), total).of]
    exact = [Fraction(s * total, sum(shares)) for s in shares]
    assert sum(made) == total
    assert all(-1 < n - e < 1 for n, e in zip(made, exact, strict=True))
    for a, b in product(range(len(shares)), repeat=2):
        assert shares[a] <= shares[b] or made[a] >= made[b]


@pytest.mark.parametrize("shares", [[], [0, 0], [-1, 2]])
def test_shares_of_nothing_are_refused(shares: list[int]) -> None:
    with pytest.raises(ValueError, match="sum to more"):
        weights(_named(shares))


@given(weight=st.integers(0, MILLION), n_parts=st.integers(1, 100))
def test_a_split_is_even_and_loses_nothing(weight: int, n_parts: int) -> None:
    parts = split(weight, n_parts)
    assert len(parts) == n_parts
    assert sum(parts) == weight
    assert max(parts) - min(parts) <= 1
