"""Pareto: the mask against comparing all pairs, the order and the knee against small truths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from planner.search import pareto

# Few distinct values, so that ties and equal rows are the rule.
matrices = st.integers(1, 4).flatmap(
    lambda m: arrays(
        np.float64, st.tuples(st.integers(0, 25), st.just(m)), elements=st.integers(0, 4)
    )
)


def dominates(a, b):
    return bool(np.all(a <= b) and np.any(a < b))


@settings(derandomize=True, max_examples=120, deadline=None)
@given(matrices)
def test_non_dominated_equals_all_pairs(values):
    truth = [not any(dominates(other, value) for other in values) for value in values]
    assert pareto.non_dominated(values).tolist() == truth


def test_a_large_front_is_found_whole():
    x = np.linspace(0.0, 1.0, 400)
    values = np.column_stack([x, (1 - x) ** 2])
    shifted = np.concatenate([values + 0.01, values])
    mask = pareto.non_dominated(shifted)
    assert mask[400:].all()
    assert not mask[:400].any()


@settings(derandomize=True, max_examples=100, deadline=None)
@given(matrices)
def test_front_order_sorts_by_values_then_points(values):
    points = np.arange(len(values), dtype=np.int64)[::-1].reshape(-1, 1) % 3
    order = pareto.front_order(values, points)
    rows = [(*value, *point) for value, point in zip(values.tolist(), points.tolist(), strict=True)]
    assert [rows[i] for i in order] == sorted(rows)
    assert sorted(order.tolist()) == list(range(len(values)))


def test_knee_is_farthest_above_the_chord():
    cost = np.array([10.0, 12, 20, 30])
    quality = np.array([0.5, 0.7, 0.75, 0.8])
    # Scaled: (0, 0) (0.1, 0.667) (0.5, 0.833) (1, 1); distances 0, 0.567, 0.333, 0 over sqrt 2.
    assert pareto.knee(cost, quality) == 1


def test_knee_of_a_straight_front_is_its_cheapest_point():
    assert pareto.knee(np.array([3.0, 2, 1]), np.array([0.9, 0.6, 0.3])) == 2


@pytest.mark.parametrize("n_points", [1, 3])
def test_knee_of_equal_points_is_the_first(n_points):
    assert pareto.knee(np.full(n_points, 5.0), np.full(n_points, 0.5)) == 0


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=10))
def test_knee_does_not_depend_on_the_units(pairs):
    cost, quality = np.array(pairs, dtype=np.float64).T
    at = pareto.knee(cost, quality)
    again = pareto.knee(64.0 * cost, quality / 4.0)
    assert (cost[at], quality[at]) == (cost[again], quality[again])


def test_no_point_has_no_knee():
    with pytest.raises(ValueError, match="no knee"):
        pareto.knee(np.empty(0), np.empty(0))
