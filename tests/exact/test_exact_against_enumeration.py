"""Bounds and seeds against every deployment of a small box, with shares on a grid."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from exact_cases import (
    HEADROOM_RATIO,
    Joined,
    best_quality_on_grid,
    cost_bound,
    deployments,
    least_cost_by_enumeration,
    random_joined,
)

from planner.exact.bound import bound
from planner.exact.seeds import seeds

SEEDS = range(24)


@cache
def truth(seed: int) -> float:
    return least_cost_by_enumeration(random_joined(seed))


def costs_of_seeds(joined: Joined) -> list[float]:
    """Returns the rent of every seed that a grid routing serves within limits and floor."""
    found = seeds(joined.workload, joined.tables, joined.space, HEADROOM_RATIO, "cost", 2)
    floor = joined.workload.quality_at_least or 0.0
    served = [n for n in found if best_quality_on_grid(joined, n) >= floor]
    return [float(joined.space.cost_usd_per_h(n)) for n in served]


@pytest.mark.parametrize("seed", SEEDS)
def test_no_deployment_costs_less_than_the_bound(seed: int) -> None:
    joined = random_joined(seed)
    found = bound(joined.workload, joined.tables, joined.space, HEADROOM_RATIO, "cost")
    if truth(seed) == np.inf:  # thin feasible sets fall between the points of a grid
        assert found.infeasible or found.best_possible is not None
        return
    assert found.best_possible is not None
    assert found.best_possible <= truth(seed) + 1e-9
    assert found.best_possible >= 0.5 * truth(seed)


def test_bounds_are_mostly_the_truth_itself() -> None:
    pairs = []
    for seed in SEEDS:
        j = random_joined(seed)
        least = cost_bound(j.workload, j.tables, j.space, HEADROOM_RATIO)
        if least is not None and truth(seed) < np.inf:
            pairs.append(least / truth(seed))
    assert len(pairs) >= 12
    assert sum(ratio > 0.999 for ratio in pairs) >= 0.6 * len(pairs)


def test_the_best_seed_is_mostly_the_cheapest_deployment() -> None:
    feasible = [seed for seed in SEEDS if truth(seed) < np.inf]
    hits = 0
    for seed in feasible:
        costs = costs_of_seeds(random_joined(seed))
        assert costs, f"case {seed}: no seed is feasible"
        hits += min(costs) <= truth(seed) + 1e-9
        assert min(costs) <= 1.6 * truth(seed)
    assert hits >= 0.8 * len(feasible)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_deployment_is_better_than_the_bound_on_quality(seed: int) -> None:
    joined = random_joined(seed, floor=False)
    space = replace(joined.space, upper=np.full(2, 2, dtype=np.int64))
    joined = replace(joined, space=space)
    best = max(best_quality_on_grid(joined, n) for n in deployments(space))
    found = bound(joined.workload, joined.tables, space, HEADROOM_RATIO, "quality")
    if best == -np.inf:
        assert found.infeasible or found.best_possible is not None
        return
    assert found.best_possible is not None
    assert best - 1e-9 <= found.best_possible <= best + 0.1


@pytest.mark.parametrize("seed", range(8))
def test_no_deployment_carries_more_than_the_bound_on_the_rate_factor(seed: int) -> None:
    joined = random_joined(seed, stock=2)
    floor = joined.workload.quality_at_least or 0.0
    found = bound(joined.workload, joined.tables, joined.space, HEADROOM_RATIO, "rate_factor")
    assert found.best_possible is not None
    full = joined.space.upper
    carried = [
        factor
        for factor in np.linspace(0.05, 3.0, 60)
        if best_quality_on_grid(joined, full, float(factor)) >= floor
    ]
    assert max(carried, default=0.0) <= found.best_possible + 1e-9
