"""How much of the true front each search method finds in few evaluations.

    OMP_NUM_THREADS=1 python benchmarks/mobo_hypervolume.py

Claim: on the small instance, from a cold start, Bayesian optimisation holds at least 85 % of
the true hypervolume after 50 evaluations and 95 % after 150 (median of 5 seeds), more than
random and local search with the same number. Prints a markdown table; exit code 1 where the
claim does not hold. One evaluation is one (deployment, limit level). No method decides
anything by its budget, so the first 50 trials of a run with 150 are a run with 50.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np
from small_instance import Instance

from planner.search import local_search, mobo, random_search
from planner.search.hypervolume import hypervolume
from planner.search.problem import Problem, Trials

CHECKPOINTS = (50, 100, 150)
TARGETS = {50: 0.85, 150: 0.95}
METHODS: dict[str, Callable[..., Trials]] = {
    "random": random_search.search,
    "local": local_search.search,
    "mobo": mobo.search,
}


def fractions(trials: Trials, problem: Problem, whole: float) -> list[float]:
    """Returns the share of the true hypervolume after each checkpoint."""
    accepted = trials.acceptable()
    return [
        hypervolume(trials.values[:n][accepted[:n]], problem.reference) / whole for n in CHECKPOINTS
    ]


def measure(
    name: str, problem: Problem, whole: float, n_seeds: int
) -> tuple[np.ndarray, list[float]]:
    """Returns the shares (n_seeds, checkpoints) of one method, and its CPU seconds per run."""
    shares, seconds = [], []
    for seed in range(n_seeds):
        began = time.process_time()
        trials = METHODS[name](problem, max(CHECKPOINTS), seed)
        seconds.append(time.process_time() - began)
        shares.append(fractions(trials, problem, whole))
        print(f"  {name} seed {seed}: {shares[-1]} {seconds[-1]:.1f} s", file=sys.stderr)
    return np.array(shares), seconds


def main() -> int:
    """Returns 0 where the claim holds, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    args = parser.parse_args()
    instance = Instance()
    problem = instance.problem()
    began = time.process_time()
    points, values = instance.truth()
    whole = hypervolume(values, problem.reference)
    print(f"Truth: {len(points)} points, {time.process_time() - began:.1f} s CPU.\n")
    heads = "".join(f" {n}: median (all) |" for n in CHECKPOINTS)
    print(f"| method |{heads} CPU s per run |")
    print("|---|" + "---|" * (len(CHECKPOINTS) + 1))
    medians = {}
    for name in args.methods:
        shares, seconds = measure(name, problem, whole, args.seeds)
        medians[name] = dict(zip(CHECKPOINTS, np.median(shares, axis=0), strict=True))
        cells = [
            f" {100 * np.median(column):.1f} % ({' '.join(f'{100 * x:.1f}' for x in column)}) |"
            for column in shares.T
        ]
        print(f"| {name} |{''.join(cells)} {median(seconds):.1f} |", flush=True)
    if "mobo" not in medians:
        return 0
    reached = all(medians["mobo"][n] >= target for n, target in TARGETS.items())
    ahead = all(medians["mobo"][n] >= row[n] for row in medians.values() for n in CHECKPOINTS)
    return 0 if reached and ahead else 1


if __name__ == "__main__":
    sys.exit(main())
