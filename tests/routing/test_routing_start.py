"""Loads given to start from: what an exact routing has found, the fast method finds again."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from routing_cases import limit, random_problem

from planner.routing.problem import Routing, RoutingProblem
from planner.routing.solve import solve

SEEDS = range(12)
SOME = [seed if seed < 6 else pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS]


@cache
def problem_of(seed: int) -> RoutingProblem:
    """Three classes, two of them with tight limits, on four pools."""
    limits = (limit("c0", 2500.0), limit("c1", 9000.0, "p95"))
    return random_problem(500 + seed, 3, 4, limits, demand=0.5)


@cache
def exact(seed: int) -> Routing:
    return solve(problem_of(seed), "exact")


def reached(problem: RoutingProblem, routing: Routing) -> float:
    """Returns quality minus the penalty on unserved traffic."""
    return routing.quality - 1000.0 * float(problem.workload.weights @ routing.unserved)


@pytest.mark.parametrize("seed", SOME)
def test_fast_reaches_the_exact_quality_from_its_loads(seed: int) -> None:
    problem = problem_of(seed)
    again = solve(replace(problem, start_loads=exact(seed).loads))
    assert reached(problem, again) >= reached(problem, exact(seed)) - 1e-5
    assert again.feasible or not exact(seed).feasible


def test_fast_alone_does_not_always() -> None:
    lost = [exact(seed).quality - solve(problem_of(seed)).quality for seed in SEEDS]
    assert max(lost) > 1e-3


@pytest.mark.parametrize("work_ratio", [0.98, 1.01])
@pytest.mark.parametrize("seed", SOME)
def test_loads_of_slightly_different_tables_help_as_well(seed: int, work_ratio: float) -> None:
    problem = problem_of(seed)
    tables = tuple(replace(t, work_s=t.work_s * work_ratio) for t in problem.tables)
    other = replace(problem, tables=tables)
    alone, helped = solve(other), solve(replace(other, start_loads=exact(seed).loads))
    assert reached(other, helped) >= reached(other, alone) - 1e-9
    if exact(seed).feasible:  # 1 % more work costs little, 2 % less costs nothing
        assert helped.feasible
        assert helped.quality >= exact(seed).quality - (0.015 if work_ratio > 1 else 1e-3)


def test_bad_loads_to_start_from_do_no_harm() -> None:
    for seed in SEEDS:
        problem = problem_of(seed)
        alone = solve(problem)
        for loads in (np.zeros(4), np.full(4, 50.0)):
            helped = solve(replace(problem, start_loads=loads))
            assert reached(problem, helped) >= reached(problem, alone) - 1e-9


def test_a_missed_limit_over_all_traffic_is_repaired_from_them_too() -> None:
    used = 0
    for seed in range(20):
        problem = random_problem(seed, 4, 3, (limit(None, 2500.0),), demand=0.6)
        fast, best = solve(problem), solve(problem, "exact")
        again = solve(replace(problem, start_loads=best.loads))
        assert reached(problem, again) >= reached(problem, fast) - 1e-9
        used += reached(problem, again) > reached(problem, fast) + 1e-6
    assert used > 0


def test_loads_that_say_nothing_are_refused() -> None:
    problem = problem_of(0)
    for loads in (np.zeros(3), np.full(4, np.nan), np.array([0.1, 0.1, 0.1, -0.1])):
        with pytest.raises(ValueError, match="start_loads"):
            replace(problem, start_loads=loads)
