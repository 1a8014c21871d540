"""What few, well-chosen loads are worth: the plan from four loads a pool against that from all.

    python benchmarks/active_value.py [--loads 4] [--effort quick] [--plans demo a100]

For every pool of a question the lightest and the heaviest measured load are given, as a sweep to
saturation would find them; the rest is hidden. Then, load by load, the question is planned with
what is known, and every pool gets the hidden load nearest to the one at which the plan says to
measure it (`measure_first` in plan.json); a pool that the plan has no wish for gets the one where
its band is widest (`planner.latency.active.next_load`, what `rb profile run` does by itself). As
references the same number of loads is chosen by the band alone, and evenly spaced.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from planner.explore import Effort
from planner.files.inputs import read_inputs
from planner.latency.active import next_load
from planner.plan import make_plan
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.pool import Point

ROOT = Path(__file__).resolve().parent.parent
Wishes = dict[str, float]  # pool -> the requests in flight at which to measure it


def ordered(points: Iterable[Point]) -> list[Point]:
    return sorted(points, key=lambda p: p.concurrency or 0.0)


def nearest(points: Iterable[Point], concurrency: float) -> Point:
    return min(points, key=lambda p: abs(float(np.log((p.concurrency or 1.0) / concurrency))))


def ends(points: Iterable[Point]) -> list[Point]:
    found = ordered(points)
    return [found[0], found[-1]]


def one_more(points: Iterable[Point], kept: list[Point], wish: float | None) -> list[Point]:
    """The kept points and the hidden one that is wished for, or that narrows the band most."""
    left = [p for p in points if p not in kept]
    if not left:
        return kept
    low, high = (p.concurrency or 1.0 for p in ends(kept))
    wanted = next_load(kept, low, high).concurrency if wish is None else wish
    return [*kept, nearest(left, wanted)]


def evenly(points: Iterable[Point], n_loads: int) -> list[Point]:
    """Loads evenly spaced in the order of concurrency, both ends among them."""
    found = ordered(points)
    places = np.unique(np.rint(np.linspace(0, len(found) - 1, n_loads)).astype(int))
    return [found[i] for i in places]


def limited(inputs: Inputs, kept: dict[str, list[Point]]) -> Inputs:
    """The inputs with nothing but the kept points."""
    pools = [
        replace(p, points=tuple(q for q in p.points if q in kept[p.name]))
        for p in inputs.candidates
    ]
    return replace(inputs, candidates=tuple(pools))


def actively(inputs: Inputs, n_loads: int, wishes: Callable[[Inputs], Wishes]) -> Inputs:
    """The inputs with n_loads points a pool, each chosen with what the others say."""
    kept = {pool.name: ends(pool.points) for pool in inputs.candidates}
    for _ in range(2, n_loads):
        wish = wishes(limited(inputs, kept))
        for pool in inputs.candidates:
            kept[pool.name] = one_more(pool.points, kept[pool.name], wish.get(pool.name))
    return limited(inputs, kept)


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

        def wishes(known: Inputs) -> Wishes:
            first = make_plan(known, effort=options.effort).measure_first
            return {m.pool: m.concurrency for m in first if m.concurrency is not None}

        even = {pool.name: evenly(pool.points, options.loads) for pool in inputs.candidates}
        chosen = {
            "all": inputs,
            f"{options.loads}, as the plan asks": actively(inputs, options.loads, wishes),
            f"{options.loads}, widest band": actively(inputs, options.loads, lambda _: {}),
            f"{options.loads}, even": limited(inputs, even),
        }
        report(name, chosen, options.effort)


def report(name: str, chosen: dict[str, Inputs], effort: Effort) -> None:
    whole: Plan | None = None
    for label, inputs in chosen.items():
        plan = make_plan(inputs, effort=effort)
        whole = whole or plan
        n_points = sum(len(pool.points) for pool in inputs.candidates)
        cost = plan.predicted.cost_usd_per_h
        ratio = cost / whole.predicted.cost_usd_per_h - 1.0
        same = plan is not whole and deployment(plan) == deployment(whole)
        what = "the same" if same else deployment(plan)
        print(f"| {name} | {label} | {n_points} | {what} | {cost:.2f} | {ratio:+.1%} |")


if __name__ == "__main__":
    main()
