"""Box: counting and listing against itertools.product, admission against its definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.search.problem import Box, Outcome, Problem, Trials

small = st.integers(-2, 3)


@st.composite
def boxes(draw):
    n_dims, n_rows = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    lower = np.array(draw(st.lists(small, min_size=n_dims, max_size=n_dims)), dtype=np.int64)
    width = draw(st.lists(st.integers(0, 3), min_size=n_dims, max_size=n_dims))
    rows = draw(st.lists(st.integers(-3, 4), min_size=n_dims * n_rows, max_size=n_dims * n_rows))
    limits = draw(st.lists(st.integers(-6, 9), min_size=n_rows, max_size=n_rows))
    return Box(
        lower,
        lower + np.array(width, dtype=np.int64),
        # 0.1 is not a binary number: equality with a limit is decided by the tolerance.
        0.1 * np.array(rows, dtype=np.float64).reshape(n_rows, n_dims),
        0.1 * np.array(limits, dtype=np.float64),
    )


def listed(box):
    """Every point by its definition, in lexicographic order."""
    ranges = [range(a, b + 1) for a, b in zip(box.lower, box.upper, strict=True)]
    return [
        list(z)
        for z in itertools.product(*ranges)
        if all(
            sum(round(10 * a) * x for a, x in zip(row, z, strict=True)) <= round(10 * limit)
            for row, limit in zip(box.rows, box.limits, strict=True)
        )
    ]


@settings(derandomize=True, max_examples=120, deadline=None)
@given(boxes())
def test_points_and_count_equal_the_filtered_product(box):
    truth = listed(box)
    assert box.points(at_most=1000).tolist() == truth
    assert box.count(at_most=1000) == len(truth)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(boxes())
def test_admits_exactly_the_points_of_the_box(box):
    truth = {tuple(z) for z in listed(box)}
    around = [range(a - 1, b + 2) for a, b in zip(box.lower, box.upper, strict=True)]
    candidates = np.array(list(itertools.product(*around)), dtype=np.int64)
    assert {tuple(z) for z in candidates[box.admits(candidates)].tolist()} == truth


def test_count_stops_one_above_what_was_asked():
    box = Box(np.zeros(40, np.int64), np.full(40, 9), np.ones((1, 40)), np.array([30.0]))
    assert box.count(at_most=1_234) == 1_235


def test_a_box_of_many_blocks_is_counted_exactly():
    box = Box(np.zeros(5, np.int64), np.full(5, 9), np.empty((0, 5)), np.empty(0))
    assert box.count(at_most=10**6) == 10**5
    assert len(np.unique(box.points(10**5), axis=0)) == 10**5


def test_listing_more_than_allowed_is_an_error():
    box = Box(np.zeros(2, np.int64), np.full(2, 9), np.empty((0, 2)), np.empty(0))
    with pytest.raises(ValueError, match="more than 99 points"):
        box.points(at_most=99)


def test_an_impossible_box_has_no_point():
    box = Box(np.zeros(3, np.int64), np.full(3, 2), np.array([[-1.0, -1, -1]]), np.array([-7.0]))
    assert box.count(10) == 0
    assert box.points(10).shape == (0, 3)


def test_shapes_that_do_not_fit_are_an_error():
    zero = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="one length"):
        Box(zero, np.zeros(3, np.int64), np.empty((0, 2)), np.empty(0))
    with pytest.raises(ValueError, match="one row per limit"):
        Box(zero, zero, np.ones((1, 3)), np.ones(1))
    box = Box(zero, zero, np.empty((0, 2)), np.empty(0))
    with pytest.raises(ValueError, match="one value per objective"):
        Problem(box, 2, lambda z: Outcome(np.zeros(2), 0.0), np.zeros(3))


def test_front_of_trials_is_acceptable_sorted_and_keeps_equal_values():
    trials = Trials(
        points=np.array([[5], [3], [2], [1], [0]]),
        values=np.array([[2.0, 1], [1, 2], [1, 2], [0, 0], [3, 3]]),
        violations=np.array([0.0, 1e-10, 0, 0.5, 0]),
        complete=True,
    )
    assert trials.front().tolist() == [2, 1, 0]
    assert trials.hypervolume(np.array([4.0, 4])) == 2 * 3 + 1 * 2 - 1 * 2 + 1 * 2
