"""The largest of many lines against evaluating every line at every step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from planner.simulate.envelope import (
    Piece,
    largest,
    total_of_all,
    total_of_largest,
    total_of_smallest,
)

lines = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), min_size=1, max_size=6)
n_steps = st.integers(1, 40)


def evaluated(lines, n_steps):
    """Every line at every step, (n_steps, G)."""
    return np.array([[value + slope * j for value, slope in lines] for j in range(n_steps)])


@given(lines, n_steps)
def test_the_pieces_are_the_largest_line_at_every_step(lines, n_steps):
    values, slopes = zip(*lines, strict=True)
    pieces = list(largest(values, slopes, n_steps))
    steps = [piece.value + piece.slope * j for piece in pieces for j in range(piece.n_steps)]
    assert steps == evaluated(lines, n_steps).max(axis=1).tolist()
    assert all(a.slope < b.slope for a, b in pairwise(pieces))


@given(lines, n_steps)
def test_totals(lines, n_steps):
    values, slopes = zip(*lines, strict=True)
    every = evaluated(lines, n_steps)
    assert total_of_largest(values, slopes, n_steps) == every.max(axis=1).sum()
    assert total_of_smallest(values, slopes, n_steps) == every.min(axis=1).sum()
    assert total_of_all(values, slopes, n_steps) == every.sum()


@given(n_steps, st.integers(0, 50), st.integers(0, 9), st.integers(0, 3_000))
def test_steps_within_a_total_are_as_many_as_fit(n_steps, value, slope, most):
    piece = Piece(n_steps, value, slope)
    sums = np.cumsum([value + slope * j for j in range(n_steps)])
    assert piece.n_within(most) == np.count_nonzero(sums <= most)


def test_steps_of_picoseconds_over_days_are_exact():
    piece = Piece(10**9, 12_345_678_901, 7_654_321)
    n = 10**8 - 3
    total = piece.total(n)
    assert (piece.n_within(total - 1), piece.n_within(total)) == (n - 1, n)
