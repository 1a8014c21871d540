"""BestMatch against trying every way to fill the free places."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.scheduling.batch import DecodeWorkers, largest_first
from planner.scheduling.matching import FEW, BestMatch

OVERSHOOT = 3.0


@st.composite
def scarce_places(draw):
    """(waiting, workers, window, n_overdue) with more waiting than places, of which there are few.

    Tokens are drawn from few values, so that there are ties.
    """
    free = draw(st.lists(st.integers(0, 2), min_size=1, max_size=3).filter(any))
    n_left_over = draw(st.integers(1, 7 - sum(free)))
    n_waiting = sum(free) + n_left_over
    waiting = draw(st.lists(st.integers(1, 30), min_size=n_waiting, max_size=n_waiting))
    loads = draw(st.lists(st.integers(0, 60), min_size=len(free), max_size=len(free)))
    window = draw(st.integers(0, n_left_over + 1))
    return waiting, DecodeWorkers(loads, free), window, draw(st.integers(0, n_waiting))


def enumerated(waiting, workers, window, n_overdue):
    """The least cost over all choices and orders that place the overdue ones."""
    n = sum(workers.free_slots)
    if n_overdue >= n:
        window, n_overdue = 0, n
    places = [g for g, free in enumerate(workers.free_slots) for _ in range(free)]
    must = set(range(n_overdue))
    return min(
        cost(list(zip(chosen, places, strict=True)), waiting, workers)
        for chosen in permutations(range(min(len(waiting), n + window)), n)
        if must <= set(chosen)
    )


def cost(placed, waiting, workers):
    n = len(placed)
    level = (sum(workers.load_tokens) + sum(waiting[:n])) / len(workers.load_tokens)
    total = 0.0
    for i, g in placed:
        above = waiting[i] - (level - workers.load_tokens[g]) / workers.free_slots[g]
        total += above * above * (OVERSHOOT if above > 0 else 1.0)
    return total


@given(scarce_places())
def test_no_other_way_is_better(case):
    waiting, workers, window, n_overdue = case
    placed = BestMatch(window, OVERSHOOT)(waiting, workers, n_overdue)
    assert cost(placed, waiting, workers) == pytest.approx(enumerated(*case), abs=1e-6)


@given(scarce_places())
def test_every_place_is_filled_once_and_the_overdue_go_first(case):
    waiting, workers, window, n_overdue = case
    placed = BestMatch(window, OVERSHOOT)(waiting, workers, n_overdue)
    chosen = [i for i, _ in placed]
    n = sum(workers.free_slots)
    assert chosen == sorted(set(chosen)) and len(chosen) == n
    assert [sum(g == h for _, h in placed) for g in range(len(workers.free_slots))] == list(
        workers.free_slots
    )
    assert chosen[: min(n_overdue, n)] == list(range(min(n_overdue, n)))


def test_by_hand():
    """The level is (10 + 40 + 5 + 30) / 2 = 42.5: 32.5 fit on worker 0 and 2.5 on worker 1."""
    workers = DecodeWorkers([10, 40], [1, 1])
    assert BestMatch(window=2)([5, 30, 1, 31], workers) == [(2, 1), (3, 0)]
    assert BestMatch(window=2)([5, 30, 1, 31], workers, n_overdue=1) == [(0, 1), (3, 0)]
    assert BestMatch(window=2)([5, 30, 1, 31], workers, n_overdue=4) == [(0, 1), (1, 0)]


@pytest.mark.parametrize(
    ("waiting", "free"), [([7, 9], [2, 1]), ([7, 9, 3], [2, 1]), ([1] * 20, [FEW + 1, 0])]
)
def test_where_places_abound_the_largest_go_first(waiting, free):
    workers = DecodeWorkers([3, 4], free)
    assert BestMatch()(waiting, workers) == largest_first(waiting, workers)


def test_nobody_waits_or_nothing_is_free():
    assert BestMatch()([], DecodeWorkers([3, 4], [1, 1])) == []
    assert BestMatch()([5, 6], DecodeWorkers([3, 4], [0, 0])) == []
