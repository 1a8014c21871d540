"""Routing all prompts of a deployment by prices, against linear programs; and many deployments.

    python benchmarks/prompt_prices.py

First part: the whole program as one sparse linear program, solved by HiGHS (interior point and
dual simplex, through scipy) and by GLOP, beside the prices on the same problem to 1e-6: models with
three pools each, limits on two figures over all traffic. Second part: random deployments of a
realistic box one after the other with a shared pool of columns, to 1e-4, and sweeps over six
limits.
Times are process time on one thread, arrays built beforehand on both sides.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from prompt_fleet import prompt_fleet, random_deployment
from scipy.optimize import linprog
from scipy.sparse import coo_matrix, csr_matrix, hstack, vstack

from planner.routing.policies import ColumnPool, Prompts, prompts_of
from planner.routing.prices import Curves, route_all, route_sweep

SIZES = [(500, 5), (2_000, 8), (5_000, 8), (20_000, 8)]
GLOP_UP_TO = 40_000  # cells: beyond, it takes minutes
ALONE = (100_000, 8)  # by prices only
CANDIDATES = [(100, 300), (500, 300), (20_000, 100)]  # prompts, deployments
LEVELS = np.array([1.6, 1.3, 1.1, 1.0, 0.9, 0.8])  # of the limit, in a sweep
T = TypeVar("T")


def instance(n: int, m: int) -> tuple[Prompts, Curves]:
    """Random qualities and log-normal works; half of the load fits, with rising times."""
    random = np.random.default_rng(n + m)
    work = random.lognormal(0.0, 0.7, (n, m)) * random.uniform(0.5, 2.0, m)
    prompts = prompts_of(np.full(n, 1.0 / n), random.random((n, m)), work)
    option, size = np.repeat(np.arange(m), 3 * 8), 8
    width = np.repeat(work.mean(axis=0), 3 * size) * random.uniform(0.005, 0.02, option.size)
    steps = random.exponential(1.0, (2, 3 * m, size)).cumsum(axis=2)
    return prompts, Curves(option, width, steps.reshape(2, -1), np.array([0.9, 1.0]))


def as_program(prompts: Prompts, curves: Curves):
    """The whole program as arrays: costs, rows, what they may be at most, upper bounds."""
    n, m, s = prompts.n, prompts.n_options, curves.option.size
    j, a = np.arange(n * m), curves.option
    load = coo_matrix(((prompts.weight * prompts.work).T.ravel(), (j % m, j)), (m, n * m))
    carried = coo_matrix((-1.0 / prompts.unit[a], (a, np.arange(s))), (m, s))
    flow = hstack([csr_matrix((curves.limit.size, n * m)), csr_matrix(curves.slope)])
    one = hstack([coo_matrix((np.ones(n * m), (j // m, j))), csr_matrix((n, s))]).tocsr()
    rows = vstack([hstack([load, carried]), flow]).tocsr()
    most = np.concatenate([np.zeros(m), curves.limit])
    cost = np.concatenate([-(prompts.weight * prompts.gain).T.ravel(), np.zeros(s)])
    upper = np.concatenate([np.ones(n * m), curves.width])
    return cost, rows, most, one, upper


def by_highs(program, method: str) -> float:
    """The optimum by scipy's HiGHS."""
    cost, rows, most, one, upper = program
    bounds = np.stack([np.zeros(upper.size), upper], axis=1)
    found = linprog(cost, rows, most, one, np.ones(one.shape[0]), bounds, method)
    return -float(found.fun)


def by_glop(program) -> float:
    """The optimum by GLOP, filled from sparse arrays: the fastest way to build it in Python."""
    from ortools.linear_solver.python.model_builder_helper import (
        ModelBuilderHelper,
        ModelSolverHelper,
    )

    cost, rows, most, one, upper = program
    model, solver = ModelBuilderHelper(), ModelSolverHelper("glop")
    ones = np.ones(one.shape[0])
    low, high = np.concatenate([np.full(most.size, -np.inf), ones]), np.concatenate([most, ones])
    matrix = vstack([rows, one]).tocsr()
    model.fill_model_from_sparse_data(np.zeros(upper.size), upper, cost, low, high, matrix)
    solver.solve(model)
    return -float(solver.objective_value())


def timed(solve: Callable[..., T], *arguments: object, **named: object) -> tuple[T, float]:
    """The result of a call and its process time in ms."""
    start = time.process_time()
    return solve(*arguments, **named), 1e3 * (time.process_time() - start)


def row(*cells: object) -> None:
    """Prints a row of a table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def against_programs() -> None:
    """Prints one row per size."""
    row("prompts x models", "prices, ms", "rounds", "limits that bind", "HiGHS interior, ms",
        "HiGHS simplex, ms", "GLOP, ms", "best / prices", "differ by")  # fmt: skip
    row(*["--:"] * 9)
    for n, m in SIZES:
        prompts, curves = instance(n, m)
        program = as_program(prompts, curves)
        runs = [timed(route_all, prompts, curves) for _ in range(3)]
        found, prices_ms = min(runs, key=lambda run: run[1])
        truth, interior_ms = timed(by_highs, program, "highs-ipm")
        took = [interior_ms, timed(by_highs, program, "highs-ds")[1]]
        if n * m <= GLOP_UP_TO:
            took.append(timed(by_glop, program)[1])
        shown = [f"{each:,.0f}" for each in took] + [""] * (3 - len(took))
        size, n_binding = f"{n:,} x {m}", (found.limit_prices > 0).sum()
        times, differ = f"{min(took) / prices_ms:.0f}", f"{abs(found.value - truth):.0e}"
        row(size, f"{prices_ms:.1f}", found.n_rounds, n_binding, *shown, times, differ)
    n, m = ALONE
    found, prices_ms = timed(route_all, *instance(n, m))
    gap = f"gap {found.bound - found.value:.0e}"
    row(f"{n:,} x {m}", f"{prices_ms:.0f}", found.n_rounds, "", "", "", "", "", gap)


def many_deployments() -> None:
    """Prints the time per deployment, and per limit of a sweep."""
    row("prompts", "deployments", "feasible", "ms each: mean", "median",
        "without shared columns, mean", "per limit of a sweep of six, mean")  # fmt: skip
    row(*["--:"] * 7)
    for n, n_deployments in CANDIDATES:
        prompts, fleet = prompt_fleet(n)
        random = np.random.default_rng(1)
        deployments = [random_deployment(random, fleet.space) for _ in range(n_deployments)]
        curves = [fleet.curves(replicas) for replicas in deployments]
        pool, swept = ColumnPool(prompts), ColumnPool(prompts)
        warm = [timed(route_all, prompts, each, gap=1e-4, pool=pool) for each in curves]
        cold_ms = [timed(route_all, prompts, each, gap=1e-4)[1] for each in curves]
        sweep_ms = []
        for each in curves:
            limits = each.limit * LEVELS[:, None]
            sweep_ms.append(timed(route_sweep, prompts, each, limits, gap=1e-4, pool=swept)[1])
        took_ms = [each for _, each in warm]
        n_feasible = sum(found.feasible for found, _ in warm)
        means = [np.mean(took_ms), np.median(took_ms), np.mean(cold_ms)]
        means.append(np.mean(sweep_ms) / LEVELS.size)
        row(f"{n:,}", n_deployments, n_feasible, *[f"{each:.2f}" for each in means])


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    prompts, curves = instance(10, 2)
    route_all(prompts, curves)  # loads the solver
    against_programs()
    print()
    many_deployments()


if __name__ == "__main__":
    main()
