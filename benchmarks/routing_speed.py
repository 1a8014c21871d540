"""Speed of the routing program: CPU ms per solve against scipy's HiGHS, build and solve together.

    python benchmarks/routing_speed.py

Random problems, one thread (set OMP_NUM_THREADS=1); the best of several runs counts. scipy gets
the program without latency limits as a sparse matrix; the rows with limits of classes have no
counterpart there. They are solved both ways, fast and exact, with the quality that fast loses
against exact, and with what exact leaves between its routing and its bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import csr_matrix

from planner.routing.problem import RoutingProblem
from planner.routing.solve import solve
from planner.spec.question import Limit
from planner.spec.table import PoolTable
from planner.spec.workload import RequestShape, ScopedLimit, Workload

N_RUNS = 5


def problem_of(n_classes: int, n_pools: int, n_limited: int, seed: int = 0) -> RoutingProblem:
    """Returns a random problem at about half of its capacity, M/M/1-like tables of 11 loads."""
    random = np.random.default_rng(seed)
    loads = np.append(np.arange(0.0, 0.95, 0.1), 0.95)
    replicas = random.integers(1, 5, n_pools)
    speed = random.uniform(0.5, 2.0, n_pools)
    jitter = random.uniform(0.8, 1.25, (n_classes, n_pools))
    work = random.uniform(0.5, 2.0, n_classes)[:, None] * speed * jitter
    rates = random.uniform(0.2, 1.0, n_classes)
    rates *= 0.45 * replicas.sum() / float(rates @ work.mean(axis=1))
    quality = np.clip(0.3 + 0.3 * speed + random.normal(0, 0.15, work.shape), 0, 1)
    tables = []
    for p in range(n_pools):
        mean = 1000.0 * work[:, p, None] / (1.0 - loads)
        times = np.geomspace(20.0, 2e5, 48)
        survival = np.exp(-times / mean[:, :, None])
        flat, no_flag = np.full(loads.size, 0.1), np.zeros(loads.size, dtype=bool)
        e2e = "e2e"
        tables.append(
            PoolTable(f"p{p}", work[:, p], rates / rates.sum(), loads, {e2e: mean}, {e2e: times},
                      {e2e: survival}, {e2e: flat}, no_flag, {e2e: "measured"})
        )  # fmt: skip
    limits = [
        ScopedLimit(f"c{c}", Limit(metric="e2e", statistic="mean", at_most_ms=6000.0))
        for c in range(n_limited)
    ]
    shape = RequestShape(np.array([100.0]), np.array([100.0]))
    workload = Workload(
        class_names=tuple(f"c{c}" for c in range(n_classes)),
        pool_names=tuple(f"p{p}" for p in range(n_pools)),
        rate_rps=rates,
        mean_rate_rps=rates,
        quality=quality,
        allowed=np.ones(work.shape, dtype=bool),
        shapes=((shape,) * n_pools,) * n_classes,
        limits=tuple(limits),
        quality_at_least=None,
        class_quality_at_least=np.full(n_classes, np.nan),
        priority=np.ones(n_classes),
        request_usd=np.zeros(work.shape),
        origin="measured",
    )
    return RoutingProblem(workload, tuple(tables), replicas, 0.1)


def by_scipy(problem: RoutingProblem) -> float:
    """Returns the best quality without limits, by scipy."""
    w = problem.workload
    n, m = w.quality.shape
    work = np.stack([t.work_s for t in problem.tables], axis=1)
    cells = np.arange(n * m)
    load = w.rate_rps[:, None] * work / problem.replicas
    cap = np.array([t.max_load for t in problem.tables]) * (1.0 - problem.headroom_ratio)
    rows = csr_matrix((load.ravel(), (cells % m, cells)), shape=(m, n * m + n))
    ones = np.ones(n * m + n)
    serve = csr_matrix((ones, (np.append(cells // m, np.arange(n)), np.arange(n * m + n))))
    cost = np.concatenate([-(w.weights[:, None] * w.quality).ravel(), 1000.0 * w.weights])
    found = linprog(cost, A_ub=rows, b_ub=cap, A_eq=serve, b_eq=np.ones(n), method="highs")
    return -float(found.fun)


def cpu_ms(run: Callable[[], object]) -> float:
    """Returns the CPU time of the fastest of several runs in ms."""
    best = np.inf
    run()
    for _ in range(N_RUNS):
        start = time.process_time()
        run()
        best = min(best, time.process_time() - start)
    return best * 1000.0


def main() -> None:
    """Prints one line per size."""
    print("classes pools limits  rb ms  scipy ms  ratio")
    for n_classes, n_pools in ((5, 2), (50, 10), (500, 10)):
        problem = problem_of(n_classes, n_pools, 0)
        ours, theirs = cpu_ms(lambda p=problem: solve(p)), cpu_ms(lambda p=problem: by_scipy(p))
        gap = abs(solve(problem).quality - by_scipy(problem))
        assert gap < 1e-6, gap
        print(f"{n_classes:7} {n_pools:5} {0:6} {ours:6.2f} {theirs:9.2f} {theirs / ours:6.1f}")
    over_all = ScopedLimit(None, Limit(metric="e2e", statistic="mean", at_most_ms=6000.0))
    problem = problem_of(50, 10, 0)
    problem = replace(problem, workload=replace(problem.workload, limits=(over_all,)))
    print(f"{50:7} {10:5} {'all':>6} {cpu_ms(lambda: solve(problem)):6.2f}         -      -")
    print("classes pools limits  fast ms  exact ms  lost by fast  gap of exact")
    for n_classes, n_pools, n_limited in ((3, 4, 2), (12, 7, 12), (50, 10, 12)):
        problem = problem_of(n_classes, n_pools, n_limited)
        fast_ms = cpu_ms(lambda p=problem: solve(p))
        start = time.process_time()
        exact = solve(problem, "exact")
        exact_ms = (time.process_time() - start) * 1000.0
        lost, gap = exact.quality - solve(problem).quality, exact.gap_ratio or 0.0
        sizes = f"{n_classes:7} {n_pools:5} {n_limited:6}"
        print(f"{sizes} {fast_ms:8.1f} {exact_ms:9.0f} {lost:13.4f} {gap:13.4f}")


if __name__ == "__main__":
    main()
