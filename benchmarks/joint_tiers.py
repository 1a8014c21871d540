"""Joint programs with limits of every class: time to a solve gap, and what the tiers leave open.

    OMP_NUM_THREADS=1 python benchmarks/joint_tiers.py [--classes 5 12 50] [--instances 5]

Instances of realistic_instance.py: 6 models on 6 kinds of GPU, 64 GPUs, 96 pools, a limit on the
mean of every class. Of each the best quality within a budget, and the least cost of 97 % of that
quality. `gap` is how far the plan may be from the best plan of the box, all told; `solver` the part
that the solver left open, `tiers` the part between the readings of the tables. Times are CPU
seconds of one thread.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from realistic_instance import realistic_instance

from planner.exact.solve import Setting, Solved, Want, solve_joint

BUDGET_USD_PER_H = 120.0
FLOOR_RATIO = 0.97
GAP_RATIO = 5e-3
N_NODES = 2000


def timed(setting: Setting, want: Want) -> tuple[Solved, float]:
    """Returns what a solve found and its CPU seconds."""
    start = time.process_time()
    solved = solve_joint(setting, want)
    return solved, time.process_time() - start


def show(n_classes: int, seed: int, want: Want, solved: Solved, cpu_s: float) -> None:
    """Prints one row."""
    found = solved.value is not None and solved.best_possible is not None
    gap = solved.solve_gap_ratio + solved.tier_gap_ratio if found else np.nan
    value = np.nan if solved.value is None else solved.value
    best = np.nan if solved.best_possible is None else solved.best_possible
    print(
        f"| {n_classes} | {seed} | {want.objective} | {cpu_s:.1f} | {value:.4f} | {best:.4f} "
        f"| {gap:.2%} | {solved.solve_gap_ratio:.2%} | {solved.tier_gap_ratio:.2%} |",
        flush=True,
    )


def main() -> None:
    """Prints one row per instance and objective, and the medians."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--classes", type=int, nargs="+", default=[5, 12, 50])
    parser.add_argument("--instances", type=int, default=5)
    options = parser.parse_args()
    print(
        "| classes | instance | objective | CPU s | value | best possible | gap | solver | tiers |"
    )
    print("|--:|--:|---|--:|--:|--:|--:|--:|--:|")
    for n_classes in options.classes:
        times: dict[str, list[float]] = {"quality": [], "cost": []}
        for seed in range(options.instances):
            setting = realistic_instance(n_classes, seed, "class")
            want = Want(
                "quality",
                budget_usd_per_h=BUDGET_USD_PER_H,
                gap_ratio=GAP_RATIO,
                n_nodes=N_NODES,
            )
            best, cpu_s = timed(setting, want)
            times["quality"].append(cpu_s)
            show(n_classes, seed, want, best, cpu_s)
            if best.value is None:
                continue
            floor = FLOOR_RATIO * best.value
            want = Want("cost", floor, gap_ratio=GAP_RATIO, n_nodes=N_NODES)
            least, cpu_s = timed(setting, want)
            times["cost"].append(cpu_s)
            show(n_classes, seed, want, least, cpu_s)
        for objective, taken in times.items():
            text = f"median {np.median(taken):.1f}, most {max(taken):.1f} CPU s"
            print(f"\n{n_classes} classes, {objective}: {text}", flush=True)


if __name__ == "__main__":
    main()
