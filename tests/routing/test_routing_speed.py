"""Generous ceilings on CPU time, so that a slow-down by an order of magnitude cannot hide."""

from __future__ import annotations

import time

import pytest
from routing_cases import limit, random_problem

from planner.routing.solve import solve


@pytest.mark.parametrize(
    ("n_classes", "n_pools", "n_limited", "at_most_ms"),
    [(50, 10, 0, 60.0), (500, 10, 0, 600.0), (12, 7, 12, 250.0)],
)
def test_solve_stays_fast(n_classes: int, n_pools: int, n_limited: int, at_most_ms: float) -> None:
    limits = [limit(f"c{c}", 4000.0) for c in range(n_limited)]
    problem = random_problem(1, n_classes, n_pools, limits, demand=0.5)
    taken_ms = []
    for _ in range(3):
        start = time.process_time()
        routing = solve(problem)
        taken_ms.append((time.process_time() - start) * 1000.0)
    assert routing.feasible
    assert min(taken_ms) < at_most_ms
