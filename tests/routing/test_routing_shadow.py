"""Prices against finite differences of the whole solve: shifted tables, limits and floors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from routing_cases import limit, random_problem

from planner.routing.problem import Objective, Routing, RoutingProblem
from planner.routing.solve import solve
from planner.spec.table import PoolTable

LIMITS = (limit("c0", 2500.0), limit("c1", 7000.0, "p95"), limit("c2", 3000.0))


def worth(problem: RoutingProblem, routing: Routing) -> float:
    """Returns the objective, larger is better."""
    if problem.objective == "quality":
        return routing.quality
    if problem.objective == "cost":
        return -routing.hosted_usd_per_h
    return routing.rate_factor


def with_other_load(table: PoolTable, load: float) -> PoolTable:
    """Returns the table of a pool whose replicas already carry a load of something else."""
    loads = np.append(0.0, table.loads[1:] - load)
    mean = table.mean_ms["e2e"].copy()
    survival = table.survival["e2e"].copy()
    mean[:, 0] = table.mean_at("e2e", load)
    survival[:, 0] = table.survival_at("e2e", load)
    return replace(table, loads=loads, mean_ms={"e2e": mean}, survival={"e2e": survival})


def gained(low: RoutingProblem, high: RoutingProblem) -> float:
    """Returns the change of the objective from one problem to another, both solved exactly."""
    return worth(high, solve(high, "exact")) - worth(low, solve(low, "exact"))


def price(routing: Routing, what: str) -> float:
    return next((p.value for p in routing.prices if p.what == what), 0.0)


@pytest.mark.parametrize("objective", ["quality", "cost", "rate_factor"])
def test_load_prices_without_limits(objective: Objective) -> None:
    seen = 0
    for seed in range(8):
        problem = random_problem(seed, 4, 3, objective=objective, demand=0.8)
        routing = solve(problem)
        if not routing.feasible:
            continue
        for p in range(3):
            step = 1e-5 / problem.replicas[p]
            cap = [
                tuple(
                    replace(t, loads=np.append(t.loads[:-1], t.loads[-1] + sign * step / 0.9))
                    if q == p
                    else t
                    for q, t in enumerate(problem.tables)
                )
                for sign in (-1, 1)
            ]
            sides = [replace(problem, tables=tables) for tables in cap]
            change = gained(*sides) / 2e-5
            assert price(routing, f"load:p{p}") == pytest.approx(change, rel=1e-3, abs=1e-4)
            seen += change > 1e-3
    assert seen >= 4


def moved(problem: RoutingProblem, number: int, by_ms: float) -> RoutingProblem:
    """Returns the problem with one of its limits moved."""
    limits = list(LIMITS)
    old = limits[number].limit
    limits[number] = limit(limits[number].class_name, old.at_most_ms + by_ms, old.statistic)
    return replace(problem, workload=replace(problem.workload, limits=tuple(limits)))


@pytest.mark.parametrize(
    ("objective", "seeds"),
    [
        ("quality", [2]),
        pytest.param("quality", [2, 7], marks=pytest.mark.slow),
        ("rate_factor", [3, 5]),
    ],
)
def test_prices_under_limits_of_classes(objective: Objective, seeds: list[int]) -> None:
    seen = {"load": 0, "mean": 0, "p95": 0}
    for seed in seeds:
        problem = random_problem(seed, 3, 2, LIMITS, objective, demand=0.3)
        routing = solve(problem, "exact")
        if not routing.feasible:
            continue
        for p in range(2):
            step = 1e-4
            tables = list(problem.tables)
            tables[p] = with_other_load(tables[p], step)
            loaded = replace(problem, tables=tuple(tables))
            lost = -gained(problem, loaded) / (step * problem.replicas[p])
            assert price(routing, f"load:p{p}") == pytest.approx(lost, rel=0.03, abs=2e-3)
            seen["load"] += lost > 1e-2
        for number, scoped in enumerate(LIMITS):
            if scoped.limit.tail_ratio is not None:
                seen["p95"] += price(routing, f"limit:{scoped.label}") > 0
                continue
            step = scoped.limit.at_most_ms * 2e-3
            low, high = sorted(
                [
                    gained(moved(problem, number, -step), problem) / step,
                    gained(problem, moved(problem, number, step)) / step,
                ]
            )
            found = price(routing, f"limit:{scoped.label}")
            assert low * 0.97 - 1e-6 <= found <= high * 1.03 + 1e-6
            seen["mean"] += low > 1e-5
    assert min(seen.values()) >= 1, seen


@pytest.mark.parametrize("objective", ["quality", "cost"])
def test_price_of_the_quality_floor(objective: Objective) -> None:
    seen = 0
    for seed in range(12):
        problem = random_problem(seed, 4, 3, objective="quality", demand=0.6)
        best = solve(problem).quality
        floor = best - 0.01
        asked = replace(
            problem,
            objective=objective,
            quality_floor_hard=True,
            workload=replace(problem.workload, quality_at_least=floor),
        )
        routing = solve(asked)
        sides = [
            replace(asked, workload=replace(asked.workload, quality_at_least=floor + sign * 1e-5))
            for sign in (1, -1)
        ]
        if not routing.feasible:
            continue
        change = gained(*sides) / 2e-5
        assert price(routing, "quality") == pytest.approx(change, rel=1e-3, abs=1e-3)
        seen += change > 1e-3
    assert seen >= 3 if objective == "cost" else seen == 0


def test_class_floor_has_a_price_with_its_unit() -> None:
    seen = 0
    for seed in range(10):
        problem = random_problem(seed, 3, 3, demand=0.7)
        free = solve(problem)
        by_class = (free.shares * np.nan_to_num(problem.workload.quality)).sum(axis=1)
        floors = np.array([by_class[0] + 0.01, np.nan, np.nan])

        def floored(by: float, floors: np.ndarray = floors) -> RoutingProblem:
            at_least = floors + np.array([by, 0.0, 0.0])
            return replace(
                problem,  # noqa: B023
                workload=replace(problem.workload, class_quality_at_least=at_least),  # noqa: B023
            )

        routing = solve(floored(0.0))
        found = [p for p in routing.prices if p.what == "quality:c0"]
        if not routing.feasible or not found:
            continue
        change = gained(floored(1e-5), floored(-1e-5)) / 2e-5
        assert found[0].unit == "quality per unit of quality"
        assert found[0].value == pytest.approx(change, rel=1e-3)
        seen += 1
    assert seen >= 2
