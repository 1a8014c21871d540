"""Tiers: where they lie, and the loads to start from that a dive into them gives."""

from __future__ import annotations

import numpy as np
import pytest
from routing_cases import LOADS, limit, random_problem

from planner.routing.case import Case, prepare
from planner.routing.limits import at_loads, begin, go_on, improve
from planner.routing.tiers import DIVE_CELLS, start_loads, tier_loads

LIMITS = (limit("c0", 2500.0), limit("c1", 9000.0, "p95"))


def case_of(seed: int, n_classes: int = 3) -> Case:
    return prepare(random_problem(500 + seed, n_classes, 4, LIMITS, demand=0.5))


@pytest.mark.parametrize("n_tiers", [1, 2, 3, 5, 8, 100])
def test_tiers_rise_to_the_cap(n_tiers: int) -> None:
    for seed in range(5):
        case = case_of(seed)
        tiers = tier_loads(case, n_tiers)
        assert tiers.shape == (case.n_slots, min(n_tiers, tier_loads(case).shape[1]))
        np.testing.assert_array_equal(tiers[:, -1], case.cap)
        assert (np.diff(tiers, axis=1) >= 0).all()
        assert np.isin(tiers, np.concatenate([LOADS, case.cap])).all()
        assert (tiers > 0).all()


@pytest.mark.parametrize("n_classes", [3, 12])
def test_starts_are_mixed_loads_and_single_tiers(n_classes: int) -> None:
    moved = 0
    for seed in range(8):
        case = case_of(seed, n_classes)
        assert (case.work.size * 8 <= DIVE_CELLS) == (n_classes == 3)
        mixed, single = start_loads(case, 8)
        assert mixed.shape == single.shape == (case.n_slots,)
        for loads in (mixed, single):
            assert (loads >= 0).all()
            assert (loads <= case.cap * (1 + 1e-9)).all()
        moved += not np.allclose(mixed, single)
    assert moved >= 4


def test_a_search_in_two_parts_is_the_search_in_one() -> None:
    for seed in range(5):
        case = case_of(seed)
        start = at_loads(case, 0.6 * case.cap)
        parts = go_on(case, go_on(case, begin(case, start), 2), 3)
        whole = improve(case, start, 5)
        assert parts.value == whole.value >= start.value
        np.testing.assert_array_equal(parts.point.loads, whole.loads)


def test_a_search_that_is_over_stays_where_it_is() -> None:
    loose = (limit("c0", 50_000.0),)
    case = prepare(random_problem(1, 3, 4, loose, demand=0.05))  # every class has its best pool
    over = go_on(case, begin(case, at_loads(case, 0.6 * case.cap)), 5)
    assert over.over
    again = go_on(case, over, 5)
    assert again.over
    assert again.point is over.point
