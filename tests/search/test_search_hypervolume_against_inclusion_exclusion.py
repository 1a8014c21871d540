"""Hypervolume against inclusion-exclusion over all subsets, and against Monte Carlo."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from planner.search.hypervolume import (
    RunningHypervolume,
    contributions,
    exclusive,
    hypervolume,
)

REFERENCE = 5.0

sets = st.integers(1, 5).flatmap(
    lambda m: arrays(
        np.float64, st.tuples(st.integers(0, 6), st.just(m)), elements=st.integers(-1, 6)
    )
)


def inclusion_exclusion(values, reference):
    """Volume of a union of boxes: the sum over all subsets of +- their intersection."""
    total = 0.0
    for size in range(1, len(values) + 1):
        for subset in itertools.combinations(values, size):
            corner = np.max(subset, axis=0)
            total -= (-1) ** size * float(np.prod(np.maximum(reference - corner, 0.0)))
    return total


@settings(derandomize=True, max_examples=150, deadline=None)
@given(sets)
def test_equals_inclusion_exclusion(values):
    reference = np.full(values.shape[1], REFERENCE)
    assert hypervolume(values, reference) == pytest.approx(
        inclusion_exclusion(values, reference), abs=1e-9
    )


@pytest.mark.parametrize("n_objectives", [2, 3, 4, 5])
def test_agrees_with_monte_carlo(n_objectives):
    rng = np.random.default_rng(n_objectives)
    values = rng.random((30, n_objectives)) ** 0.5
    reference = np.full(n_objectives, 1.1)
    drawn = 1.1 * rng.random((40_000, n_objectives))
    share = np.any(np.all(drawn[:, None, :] >= values, axis=2), axis=1).mean()
    spread = np.sqrt(share * (1 - share) / len(drawn))
    exact = hypervolume(values, reference) / 1.1**n_objectives
    assert 0.0 < exact < 1.0
    assert abs(exact - share) < 4 * spread


def test_three_objectives_agree_with_the_general_recursion():
    rng = np.random.default_rng(7)
    values = rng.normal(size=(60, 3))
    # A fourth objective that all share multiplies the volume by its distance.
    four = np.hstack([values, np.full((60, 1), 1.0)])
    assert hypervolume(values, np.full(3, 1.5)) * 2.0 == pytest.approx(
        hypervolume(four, np.array([1.5, 1.5, 1.5, 3.0])), rel=1e-12
    )


def test_points_beyond_the_reference_and_empty_sets_add_nothing():
    reference = np.array([1.0, 1.0])
    assert hypervolume(np.empty((0, 2)), reference) == 0.0
    assert hypervolume(np.array([[0.0, 1.0], [2.0, -5.0]]), reference) == 0.0


@settings(derandomize=True, max_examples=80, deadline=None)
@given(sets)
def test_running_total_equals_the_volume_of_all(values):
    reference = np.full(values.shape[1], REFERENCE)
    running = RunningHypervolume(reference)
    for i, value in enumerate(values):
        before = running.total
        gain = running.add(value)
        assert gain >= 0.0
        assert running.total == pytest.approx(before + gain)
        assert running.total == pytest.approx(hypervolume(values[: i + 1], reference), abs=1e-9)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(sets)
def test_contribution_is_what_is_lost_without_a_point(values):
    reference = np.full(values.shape[1], REFERENCE)
    whole = hypervolume(values, reference)
    for i, lost in enumerate(contributions(values, reference)):
        rest = np.delete(values, i, axis=0)
        assert lost == pytest.approx(whole - hypervolume(rest, reference), abs=1e-9)
        assert exclusive(values[i], rest, reference) == lost
