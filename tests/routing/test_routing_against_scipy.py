"""Routing against an independent formulation: scipy's HiGHS and chords as rows."""

from __future__ import annotations

import numpy as np
import pytest
from routing_cases import PENALTY, limit, random_problem, value
from scipy.optimize import linprog

from planner.routing.problem import Objective, Routing, RoutingProblem
from planner.routing.solve import solve

OBJECTIVES: tuple[Objective, ...] = ("quality", "cost", "rate_factor")


def reference(problem: RoutingProblem) -> float:
    """Returns the optimal value: columns x (C, P), u, phi, a flow per limit and pool."""
    w, tables = problem.workload, problem.tables
    n, m, n_limits = w.n_classes, w.n_pools, len(w.limits)
    free = problem.objective == "rate_factor"
    size = n * m + n + 1 + n_limits * m
    cost, low, high = np.zeros(size), np.zeros(size), np.full(size, np.inf)
    x = np.arange(n * m).reshape(n, m)
    u, phi = n * m + np.arange(n), n * m + n
    flow = phi + 1 + np.arange(n_limits * m).reshape(n_limits, m)
    usable = w.allowed & (problem.replicas > 0)
    high[x[~usable]] = 0.0
    high[u] = 0.0 if free else 1.0
    low[phi], high[phi] = (0.0, np.inf) if free else (1.0, 1.0)
    if problem.objective == "quality":
        cost[x] = -w.weights[:, None] * np.nan_to_num(w.quality)
        cost[u] = PENALTY * w.weights
    elif problem.objective == "cost":
        cost[x] = 3600.0 * w.rate_rps[:, None] * w.request_usd
        cost[u] = 3600.0 * w.rate_rps * problem.unserved_usd
    else:
        cost[phi] = -1.0
    equal = np.zeros((n, size))
    rows: list[np.ndarray] = []
    upper: list[float] = []
    for c in range(n):
        equal[c, x[c]], equal[c, u[c]], equal[c, phi] = 1.0, 1.0, -1.0
    for p, table in enumerate(tables):
        load = np.zeros(size)
        load[x[:, p]] = w.rate_rps * np.nan_to_num(table.work_s) / max(problem.replicas[p], 1)
        cap = table.max_load * (1.0 - problem.headroom_ratio)
        known = np.flatnonzero(np.isfinite(table.work_s))
        mean_work = float(table.mix[known] @ table.work_s[known]) if known.size else 1.0
        for number, scoped in enumerate(w.limits):
            tail = scoped.limit.tail_ratio
            nodes = np.array([*[g for g in table.loads if g < cap - 1e-9], cap])
            if tail is None:
                by_class = table.mean_ms["e2e"]
            else:
                by_class = np.exp(-scoped.limit.at_most_ms / table.mean_ms["e2e"])
            figure = np.interp(nodes, table.loads, table.mix[known] @ by_class[known])
            if tail is not None:
                assert figure[0] <= 0.5, "the reference knows no pool that is late when idle"
                nodes, figure = nodes[figure <= 0.5], figure[figure <= 0.5]
                cap = min(cap, float(nodes[-1]))
            per_s = nodes * figure / mean_work
            slopes = np.diff(per_s) / np.diff(nodes)
            assert (np.diff(slopes) > -1e-9).all(), "the reference needs a convex flow"
            for k, slope in enumerate(slopes):
                chord = load * slope
                chord[flow[number, p]] = -1.0
                rows.append(chord)
                upper.append(slope * nodes[k] - per_s[k])
        rows.append(load)
        upper.append(cap)
    for number, scoped in enumerate(w.limits):
        row = np.zeros(size)
        row[flow[number]] = problem.replicas
        tail = scoped.limit.tail_ratio
        row[x] = -w.rate_rps[:, None] * (scoped.limit.at_most_ms if tail is None else tail)
        rows.append(row / 1000.0)
        upper.append(0.0)
    if w.quality_at_least is not None:
        row = np.zeros(size)
        row[x] = w.weights[:, None] * (w.quality_at_least - np.nan_to_num(w.quality))
        rows.append(row)
        upper.append(0.0)
    result = linprog(
        cost,
        A_ub=np.array(rows),
        b_ub=np.array(upper),
        A_eq=equal,
        b_eq=np.zeros(n),
        bounds=np.column_stack([low, high]),
        method="highs",
    )
    assert result.status == 0, result.message
    return float(result.fun)


def close(problem: RoutingProblem, routing: Routing) -> bool:
    expected = reference(problem)
    return abs(value(problem, routing) - expected) <= 1e-6 * max(1.0, abs(expected))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_without_limits_equals_scipy(objective: Objective) -> None:
    unserved = 0
    for seed in range(70):
        floor = 0.5 if seed % 3 == 0 and objective != "quality" else None
        demand = 1.6 if seed % 4 == 0 else 0.7
        problem = random_problem(seed, 5, 4, objective=objective, demand=demand, floor=floor)
        routing = solve(problem)
        assert close(problem, routing), seed
        assert routing.status == ("optimal" if routing.feasible else routing.status)
        unserved += not routing.feasible
    assert objective == "rate_factor" or 5 < unserved < 50


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_mean_limit_over_all_traffic_equals_scipy(objective: Objective) -> None:
    binding = 0
    for seed in range(30):
        limits = [limit(None, 2500.0 + 100.0 * seed)]
        problem = random_problem(seed, 5, 4, limits, objective, demand=0.6, by_class=True)
        routing = solve(problem)
        assert close(problem, routing), seed
        binding += any(price.what.startswith("limit:") for price in routing.prices)
    assert binding > 5


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_percentile_and_mean_limits_over_all_traffic_equal_scipy(objective: Objective) -> None:
    served = 0
    for seed in range(30):
        limits = [limit(None, 9000.0, "p95"), limit(None, 3500.0)]
        problem = random_problem(seed, 5, 4, limits, objective, demand=0.5, same_work=True)
        routing = solve(problem)
        assert close(problem, routing), seed
        served += routing.feasible
    assert served > 15
