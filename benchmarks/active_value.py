"""What few, well-chosen loads are worth: the plan from four loads a pool against that from all.

    python benchmarks/active_value.py [--loads 4] [--effort quick] [--plans demo a100]

For every pool of a question the lightest and the heaviest measured load are given, as a sweep to
saturation would find them. Each further load is the one that active profiling asks for
(`planner.latency.active.next_load`), taken from the measured ones at the nearest concurrency. The
rest is hidden. Both profiles then answer the same question with the same seed. As a reference the
same number of loads is also taken evenly spaced in log concurrency, which a person would do.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from planner.files.inputs import read_inputs
from planner.latency.active import next_load
from planner.plan import make_plan
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.pool import Point

ROOT = Path(__file__).resolve().parent.parent
Choose = Callable[[list[Point], int], list[Point]]


def actively(points: list[Point], n_loads: int) -> list[Point]:
    """The lightest and the heaviest load, then what active profiling asks for."""
    left = sorted(points, key=lambda p: p.concurrency or 0.0)
    low, high = left[0].concurrency or 1.0, left[-1].concurrency or 1.0
    kept = [left.pop(0), left.pop(-1)]
    while left and len(kept) < n_loads:
        wanted = np.log(next_load(kept, low, high).concurrency)
        nearest = min(left, key=lambda p: abs(float(np.log(p.concurrency or 1.0)) - wanted))
        left.remove(nearest)
        kept.append(nearest)
    return kept


def evenly(points: list[Point], n_loads: int) -> list[Point]:
    """Loads evenly spaced in the order of concurrency, both ends among them."""
    ordered = sorted(points, key=lambda p: p.concurrency or 0.0)
    places = np.unique(np.rint(np.linspace(0, len(ordered) - 1, n_loads)).astype(int))
    return [ordered[i] for i in places]


def thinned(inputs: Inputs, choose: Choose, n_loads: int) -> tuple[Inputs, int, int]:
    """The inputs with at most n_loads points a pool, and the points kept and there."""
    pools = []
    for pool in inputs.candidates:
        points = list(pool.points)
        kept = choose(points, n_loads) if len(points) > n_loads else points
        pools.append(replace(pool, points=tuple(p for p in pool.points if p in kept)))
    before = sum(len(pool.points) for pool in inputs.candidates)
    return replace(inputs, candidates=tuple(pools)), sum(len(p.points) for p in pools), before


def deployment(plan: Plan) -> str:
    return ", ".join(f"{d.replicas} x {d.pool}" for d in plan.deployment)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--loads", type=int, default=4)
    parser.add_argument("--effort", default="quick", choices=["quick", "standard", "thorough"])
    parser.add_argument("--plans", nargs="+", default=["demo", "a100"])
    options = parser.parse_args()
    print("| question | loads | measured points | deployment | $/h | against all |")
    print("|---|---|--:|---|--:|--:|")
    for name in options.plans:
        inputs = read_inputs(ROOT / "plans" / name, ROOT / "profiles")
        whole = make_plan(inputs, effort=options.effort)
        cost = whole.predicted.cost_usd_per_h
        n_all = sum(len(pool.points) for pool in inputs.candidates)
        print(f"| {name} | all | {n_all} | {deployment(whole)} | {cost:.2f} | |")
        for label, choose in (("active", actively), ("even", evenly)):
            few, n_kept, _ = thinned(inputs, choose, options.loads)
            plan = make_plan(few, effort=options.effort)
            ratio = plan.predicted.cost_usd_per_h / cost - 1.0
            same = "the same" if deployment(plan) == deployment(whole) else deployment(plan)
            print(
                f"| {name} | {options.loads} {label} | {n_kept} | {same} "
                f"| {plan.predicted.cost_usd_per_h:.2f} | {ratio:+.1%} |"
            )


if __name__ == "__main__":
    main()
