"""Limits of classes against a fine grid of all shares: 2 classes on 2 pools, truth by formula."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from routing_cases import limit, random_problem

from planner.routing.case import prepare
from planner.routing.limits import at_loads
from planner.routing.problem import Routing, RoutingProblem
from planner.routing.solve import solve
from planner.routing.tiers import (
    best_tiers,
    conservative_figures,
    optimistic_figures,
    tier_loads,
)

STEPS = 401
SEEDS = [seed if seed < 10 else pytest.param(seed, marks=pytest.mark.slow) for seed in range(20)]


@cache
def exact(seed: int) -> Routing:
    return solve(problem_of(seed), "exact")


def problem_of(seed: int) -> RoutingProblem:
    random = np.random.default_rng(seed)
    limits = [
        limit("c0", random.uniform(1200.0, 3000.0)),
        limit("c1", random.uniform(3500.0, 9000.0), "p95"),
    ]
    return random_problem(1000 + seed, 2, 2, limits, demand=0.45)


def best_on_grid(problem: RoutingProblem) -> float:
    """Returns the best quality of any grid routing that truly keeps loads and limits, else -inf."""
    w = problem.workload
    a, b = np.meshgrid(np.linspace(0, 1, STEPS), np.linspace(0, 1, STEPS), indexing="ij")
    shares = np.stack([np.stack([a, 1 - a]), np.stack([b, 1 - b])])  # (C, P, STEPS, STEPS)
    keeps = np.ones_like(a, dtype=bool)
    late = np.zeros((2, *a.shape))
    for p, table in enumerate(problem.tables):
        work = w.rate_rps * np.nan_to_num(table.work_s)
        load = np.tensordot(work, shares[:, p], axes=1) / problem.replicas[p]
        keeps &= load <= table.max_load * (1.0 - problem.headroom_ratio) + 1e-12
        mean_ms = table.mean_ms["e2e"]
        late[0] += shares[0, p] * np.interp(load, table.loads, mean_ms[0])
        exceeds = np.exp(-w.limits[1].limit.at_most_ms / mean_ms[1])
        late[1] += shares[1, p] * np.interp(load, table.loads, exceeds)
        for c in range(2):
            keeps &= bool(w.allowed[c, p]) | (shares[c, p] == 0)
    keeps &= (late[0] <= w.limits[0].limit.at_most_ms) & (late[1] <= 0.05)
    quality = np.einsum("c,cp,cpij->ij", w.weights, np.nan_to_num(w.quality), shares)
    return float(np.where(keeps, quality, -np.inf).max())


@pytest.mark.parametrize("seed", SEEDS)
def test_tiers_bracket_the_best_routing_of_the_grid(seed: int) -> None:
    problem = problem_of(seed)
    truth = best_on_grid(problem)
    case = prepare(problem)
    tiers = tier_loads(case)
    chosen, strict = best_tiers(case, conservative_figures(case, tiers), tiers, 1e-6, 10_000)
    _, relaxed = best_tiers(case, optimistic_figures(case, tiers), tiers, 1e-6, 10_000)
    routing = exact(seed)
    if truth == -np.inf:  # a grid misses a feasible set only when the set is thin
        assert not routing.feasible or routing.quality <= relaxed.bound + 1e-9
        return
    step = 2.0 / (STEPS - 1)
    assert strict.objective <= truth + step
    assert at_loads(case, chosen).value >= strict.objective - 1e-6
    assert relaxed.bound >= truth - 1e-9
    assert routing.feasible
    assert truth - 1e-3 <= routing.quality <= truth + step
    assert routing.bound is not None
    assert routing.bound >= truth - 1e-9
    assert routing.gap_ratio == pytest.approx((routing.bound - routing.quality) / routing.quality)


def test_some_grids_are_feasible_and_limits_matter() -> None:
    best = [best_on_grid(problem_of(seed)) for seed in range(20)]
    free = [solve(random_problem(1000 + s, 2, 2, demand=0.45)).quality for s in range(20)]
    assert sum(value > -np.inf for value in best) >= 10
    assert sum(-np.inf < b < f - 0.01 for b, f in zip(best, free, strict=True)) >= 5


def test_fast_is_close_to_exact() -> None:
    pairs = [(exact(seed), solve(problem_of(seed))) for seed in range(20)]
    lost = [e.quality - f.quality if f.feasible else 1.0 for e, f in pairs if e.feasible]
    assert len(lost) >= 10
    assert max(lost) < 0.01
    assert float(np.mean(lost)) < 0.001
