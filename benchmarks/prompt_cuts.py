"""Deployment and routing of all prompts together, by outer approximation: gap and time.

    python benchmarks/prompt_cuts.py

The realistic box (prompt_fleet.py) with the best quality of a budget for 20,000 prompts. Beside it
the usual way: the integer program on clusters of the prompts, whose deployment is then routed
exactly on all of them; it has no bound, and serves as a start. Process time on one thread.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray
from prompt_fleet import prompt_fleet

from planner.exact import cuts
from planner.exact.cuts import deploy_for_all
from planner.exact.fleet import Fleet
from planner.routing.policies import Prompts, prompts_of
from planner.routing.prices import route_all

N_PROMPTS = 20_000
N_CLUSTERS = 196
BUDGETS_USD_PER_H = 120.0, 80.0, 60.0, 40.0
N_ROUNDS = 10


def clustered(prompts: Prompts, n: int) -> Prompts:
    """The prompts as n means of those that are alike in their first two components."""
    features = np.concatenate([prompts.quality, np.log(prompts.work)])
    features = features - features.mean(axis=1, keepdims=True)
    features /= features.std(axis=1, keepdims=True)
    components = np.linalg.svd(features, full_matrices=False)[2][:2]
    side = int(np.sqrt(n))
    rank: NDArray[np.int64] = components[0].argsort().argsort() * side // prompts.n
    cluster = np.empty(prompts.n, dtype=np.int64)
    for stripe in range(side):
        mine = np.flatnonzero(rank == stripe)
        within = components[1][mine].argsort().argsort() * side // mine.size
        cluster[mine] = stripe * side + within
    weight = np.bincount(cluster, prompts.weight)
    work = prompts.work * prompts.unit[:, None]
    means = [
        np.stack([np.bincount(cluster, prompts.weight * row) / weight for row in rows], axis=1)
        for rows in (prompts.quality, work)
    ]
    return prompts_of(weight, *means)


def run(prompts: Prompts, fleet: Fleet, budget_usd_per_h: float) -> None:
    """Prints a row of the table."""
    begin = time.process_time()
    means = clustered(prompts, N_CLUSTERS)
    first = deploy_for_all(means, fleet, None, budget_usd_per_h, n_rounds=N_ROUNDS)
    routed = route_all(prompts, fleet.curves(first.replicas), gap=1e-5)
    clustered_s = time.process_time() - begin
    found = deploy_for_all(
        prompts, fleet, None, budget_usd_per_h, n_rounds=N_ROUNDS, start=first.replicas
    )
    took_s = time.process_time() - begin - clustered_s
    assert found.value is not None and found.best_possible is not None
    cells = [f"{budget_usd_per_h:.0f}", f"{first.value:.4f}", f"{routed.value:.4f}"]
    cells += [f"{clustered_s:.1f}", f"{found.value:.4f}", f"{found.best_possible:.4f}"]
    cells += [f"{found.gap_ratio:.2%}", str(found.n_rounds), str(found.n_cuts), f"{took_s:.1f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=N_PROMPTS)
    prompts, fleet = prompt_fleet(parser.parse_args().prompts)
    print(
        f"{prompts.n:,} prompts, {len(fleet.space.pool_names)} pools, {cuts.N_SPREAD} spread cuts"
    )
    print("| $/h | clusters: quality on them | on all prompts | s | all prompts: quality", end="")
    print(" | at most | gap | rounds | cuts | s |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for budget_usd_per_h in BUDGETS_USD_PER_H:
        run(prompts, fleet, budget_usd_per_h)


if __name__ == "__main__":
    main()
