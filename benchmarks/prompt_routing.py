"""Routing prompt by prompt within given loads: by prices, against one large linear program.

    python benchmarks/prompt_routing.py

Random qualities and log-normal works whose loads bind. Both sides solve the same problem to 1e-6 of
quality; the linear program is built as sparse arrays and solved by HiGHS' interior point method.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_matrix

from planner.routing.prompts import route_prompts

SIZES = [(500, 5), (2_000, 8), (5_000, 8), (20_000, 8)]
ALONE = (100_000, 8)  # by prices only
TIGHTNESS = 0.2


def instance(n: int, m: int):
    """Weights, qualities, works and rooms of n prompts and m models."""
    random = np.random.default_rng(n + m)
    quality = random.random((n, m))
    work = random.lognormal(0.0, 0.7, (n, m)) * 10.0 ** random.uniform(-3, 3, m)
    room = TIGHTNESS * work.mean(axis=0) * random.uniform(0.5, 1.0, m)
    return np.full(n, 1.0 / n), quality, work, room


def by_linear_program(weight, quality, work, room) -> float:
    """The optimal quality by scipy's HiGHS."""
    n, m = quality.shape
    j = np.arange(n * m)
    one = coo_matrix((np.ones(n * m), (j // m, j)), (n, n * m)).tocsr()
    # In units of the rooms: the works of the models differ by up to six orders of magnitude.
    load = coo_matrix(((weight[:, None] * work / room).ravel(), (j % m, j)), (m, n * m)).tocsr()
    gain = -(weight[:, None] * quality).ravel()
    found = linprog(gain, A_ub=load, b_ub=np.ones(m), A_eq=one, b_eq=np.ones(n), method="highs-ipm")
    return -float(found.fun)


def timed(solve):
    """The result of a call and its process time in s."""
    start = time.process_time()
    return solve(), time.process_time() - start


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    route_prompts(*instance(10, 2))  # loads the solver
    rows = []
    for n, m in SIZES:
        problem = instance(n, m)
        found, by_prices_s = timed(lambda problem=problem: route_prompts(*problem))
        truth, by_program_s = timed(lambda problem=problem: by_linear_program(*problem))
        times = f"{by_program_s / by_prices_s:.0f}"
        differ = f"{abs(found.quality - truth):.0e}"
        row = [f"{n:,} x {m}", f"{1e3 * by_prices_s:.0f}", f"{1e3 * by_program_s:,.0f}"]
        rows.append([*row, times, found.n_rounds, differ])
    n, m = ALONE
    problem = instance(n, m)
    found, by_prices_s = timed(lambda: route_prompts(*problem))
    gap = f"bound {found.bound - found.quality:.0e} off"
    rows.append([f"{n:,} x {m}", f"{1e3 * by_prices_s:.0f}", "", "", found.n_rounds, gap])
    print("| prompts x models | by prices, ms | linear program, ms | times | rounds | differ |")
    print("|---|--:|--:|--:|--:|--:|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


if __name__ == "__main__":
    main()
