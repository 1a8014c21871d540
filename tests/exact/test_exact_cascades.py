"""The joint program with a cascade against every deployment of a small box, shares on a grid."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from cascade_options import SPLIT, with_cascade
from exact_cases import (
    HEADROOM_RATIO,
    LOADS,
    Joined,
    deployments,
    limit,
    make_box,
    make_workload,
    pool_table,
)

from planner.exact.bound import bound
from planner.exact.seeds import seeds
from planner.routing.problem import RoutingProblem
from planner.routing.solve import solve

STEPS = 61
SEEDS = range(9)
TAIL = 0.05


def joined_of(seed: int) -> Joined:
    """Returns one class on a cheap poor and a dear good pool, their cascade, a limit, a floor."""
    random = np.random.default_rng(seed)
    at_ms = float(random.uniform(6000.0, 20_000.0))
    limits = [limit("c0" if seed % 2 else None, at_ms, "p95" if seed % 3 else "mean")]
    work, base = random.uniform([0.3, 1.0], [0.6, 1.8]), random.uniform(500.0, 1300.0, 2)
    quality = np.array([[0.5, 0.8]]) + random.uniform(-0.05, 0.05, (1, 2))
    floor = float(quality[0, 0] + random.uniform(0.2, 0.9) * (quality[0, 1] - quality[0, 0]))
    w = make_workload(random.uniform(0.8, 2.5, 1), quality, limits, floor)
    e = float(random.uniform(0.15, 0.5))
    w = with_cascade(w, 0, [0], [1], e, float(quality[0, 1]) - 0.03)
    at = [ratio * at_ms for ratio in (1.0, SPLIT, 1.0 - SPLIT)]
    both = np.array([[1.0, np.nan], [1.0, np.nan], [np.nan, 1.0]])
    both[0, 1] = 1.0
    tables = tuple(pool_table(f"p{p}", work[p] * both[:, p], base[p], at) for p in range(2))
    box = make_box([float(random.uniform(1.0, 2.0)), float(random.uniform(2.5, 5.0))])
    return Joined(w, tables, box)


def best_quality(joined: Joined, replicas: np.ndarray) -> float:
    """Returns the best quality of any mix on a grid that keeps load and limit, else -inf."""
    w, cascade = joined.workload, joined.workload.cascades[0]
    steps, e = np.linspace(0.0, 1.0, STEPS), cascade.escalated_ratio
    small, whole = (a.ravel() for a in np.meshgrid(steps, steps))
    inside = small + whole <= 1.0 + 1e-12
    small, whole = small[inside], whole[inside]
    large = np.maximum(1.0 - small - whole, 0.0)
    sent = [small + whole, large + e * whole]
    keeps, at_load = np.ones_like(small, dtype=bool), []
    for p, table in enumerate(joined.tables):
        arriving = w.rate_rps[0] * table.work_s[0] * sent[p]
        load = arriving / max(int(replicas[p]), 1)
        at_load.append(load)
        keeps &= load <= table.max_load * (1.0 - HEADROOM_RATIO) + 1e-12
        keeps &= (arriving == 0) | (replicas[p] > 0)
    scoped = w.limits[0].limit

    def figure(p: int, time_ratio: float) -> np.ndarray:
        mean_ms = joined.tables[p].mean_ms["e2e"][0]
        late = np.exp(-time_ratio * scoped.at_most_ms / mean_ms)
        return np.interp(at_load[p], LOADS, mean_ms if scoped.tail_ratio is None else late)

    staged = (1.0 - e) * figure(0, 1.0) + e * (figure(0, SPLIT) + figure(1, 1.0 - SPLIT))
    used = small * figure(0, 1.0) + large * figure(1, 1.0) + whole * staged
    keeps &= used <= (scoped.tail_ratio or scoped.at_most_ms)
    quality = w.quality[0, 0] * small + w.quality[0, 1] * large + cascade.quality * whole
    return float(np.where(keeps, quality, -np.inf).max())


@cache
def least_cost(seed: int) -> float:
    joined = joined_of(seed)
    floor = joined.workload.quality_at_least or 0.0
    costs = [
        float(joined.space.cost_usd_per_h(n))
        for n in deployments(joined.space)
        if best_quality(joined, n) >= floor
    ]
    return min(costs, default=np.inf)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_deployment_with_a_cascade_beats_the_bound(seed: int) -> None:
    j = joined_of(seed)
    found = bound(j.workload, j.tables, j.space, HEADROOM_RATIO, "cost")
    if least_cost(seed) == np.inf:
        assert found.infeasible or found.best_possible is not None
        return
    assert found.best_possible is not None
    assert 0.5 * least_cost(seed) <= found.best_possible <= least_cost(seed) + 1e-9


def test_bounds_are_mostly_the_truth_and_cascades_often_what_makes_it() -> None:
    exact = cheaper = n = 0
    for seed in SEEDS:
        j = joined_of(seed)
        if least_cost(seed) == np.inf:
            continue
        n += 1
        found = bound(j.workload, j.tables, j.space, HEADROOM_RATIO, "cost").best_possible
        exact += found is not None and found > 0.999 * least_cost(seed)
        barred = replace(j.workload, allowed=j.workload.allowed & (np.arange(3) == 0)[:, None])
        without = bound(barred, j.tables, j.space, HEADROOM_RATIO, "cost")
        cheaper += without.infeasible or (without.best_possible or 0.0) > least_cost(seed) + 1e-6
    assert n >= 6
    assert exact == n
    assert cheaper >= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_seed_serves_everything_at_the_least_cost(seed: int) -> None:
    j = joined_of(seed)
    if least_cost(seed) == np.inf:
        return
    found = seeds(j.workload, j.tables, j.space, HEADROOM_RATIO, "cost", 2)
    costs = [
        float(j.space.cost_usd_per_h(n))
        for n in found
        if (routed := solve(RoutingProblem(j.workload, j.tables, n, HEADROOM_RATIO))).feasible
        and routed.quality >= (j.workload.quality_at_least or 0.0) - 1e-6
    ]
    assert min(costs) <= 1.3 * least_cost(seed)


def test_a_bound_on_the_rate_factor_counts_what_a_cascade_can_carry() -> None:
    j = joined_of(1)
    found = bound(j.workload, j.tables, j.space, HEADROOM_RATIO, "rate_factor")
    assert found.best_possible is not None
    most = 0.0
    for n in deployments(j.space):
        problem = RoutingProblem(j.workload, j.tables, n, HEADROOM_RATIO, "rate_factor")
        routing = solve(problem)
        most = max(most, routing.rate_factor if routing.feasible else 0.0)
    assert most <= found.best_possible * (1.0 + 1e-6)
    assert most >= 0.5 * found.best_possible


def test_hosted_requests_of_both_stages_are_paid() -> None:
    """With the deployment fixed, the least cost is the rent and what routing pays at least."""
    j = joined_of(4)
    usd = np.array([[0.001, 0.02], [0.001, 0.0], [0.0, 0.012]])
    w = replace(j.workload, request_usd=usd, limits=())
    n = np.array([3, 3])
    space = replace(j.space, lower=n, upper=n)
    found = bound(w, j.tables, space, HEADROOM_RATIO, "cost")
    problem = RoutingProblem(w, j.tables, n, HEADROOM_RATIO, "cost", unserved_usd=1.0)
    routing = solve(problem)
    assert routing.feasible
    assert routing.shares[1].any()
    paid = w.rate_rps[:, None] * routing.shares * usd
    assert routing.hosted_usd_per_h == pytest.approx(3600.0 * paid.sum())
    cost = float(space.cost_usd_per_h(n)) + routing.hosted_usd_per_h
    assert found.best_possible == pytest.approx(cost, rel=1e-4)


@pytest.mark.parametrize(("seed", "ratio"), [(2, 0.6), (4, 0.4), (7, 0.6), (3, 0.3)])
def test_a_bound_on_quality_is_close_to_what_a_fixed_deployment_reaches(
    seed: int, ratio: float
) -> None:
    """Under a limit that costs quality: what the grid reaches, and hardly more."""
    j, n = joined_of(seed), np.array([1, 2])
    free = replace(j.workload, quality_at_least=None).with_limits_scaled(1e3)
    w = replace(j.workload, quality_at_least=None).with_limits_scaled(ratio)
    best = best_quality(replace(j, workload=w), n)
    assert best < best_quality(replace(j, workload=free), n) - 0.03
    space = replace(j.space, lower=n, upper=n)
    found = bound(w, j.tables, space, HEADROOM_RATIO, "quality", n_rounds=5)
    assert found.best_possible is not None
    assert best - 1e-9 <= found.best_possible <= best + 0.015
