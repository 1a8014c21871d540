"""Whether the proposed steps of a change are as safe as they are said to be.

orders   random changes of two or three pools: is a safe order proposed exactly where there is one
         among all orders of single starts, stops and shifts, and are the GPUs that are said to be
         missing the fewest that will do?
swap     the demo's big model goes from H100 to B200, played request by request: the steps as they
         are proposed, and the same steps with the stop first

    python benchmarks/transitions.py orders --n 500
    python benchmarks/transitions.py swap --seeds 2
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "gate")]

import test_transition_against_enumeration as enumeration  # noqa: E402
from hand_plan import BIG, SHARES, SMALL, hand_plan  # noqa: E402

from planner.files.inputs import read_inputs  # noqa: E402
from planner.gate.way import transition as transition_module  # noqa: E402
from planner.gate.way.played import Options, Played, play  # noqa: E402
from planner.gate.way.terms import sides_of  # noqa: E402
from planner.gate.way.transition import transition_of  # noqa: E402

B200 = "llama-3.1-70b-b200-tp2"


def drawn(draw: random.Random) -> enumeration.Change:
    """Returns a change of two or three pools on one or two kinds of GPU."""
    pools = [f"p{k}" for k in range(draw.randint(2, 3))]
    kinds = draw.choice([["g"], ["g", "h"]])
    totals = [draw.randint(5, 25) for _ in range(2)]
    work, n = [], []
    for _ in range(2):
        parts = []
        for total in totals:
            ends = [0, *sorted(draw.randint(0, total) for _ in pools[1:]), total]
            parts.append([b - a for a, b in itertools.pairwise(ends)])
        side = {p: tuple(part[k] for part in parts) for k, p in enumerate(pools)}
        spare = {p: draw.choice([0, 0, 0, 1]) if sum(w) else 0 for p, w in side.items()}
        work.append(side)
        n.append({p: -(-sum(w) // enumeration.TENTHS) + spare[p] for p, w in side.items()})
    return enumeration.Change(
        work[0],
        work[1],
        n[0],
        n[1],
        {p: draw.choice([1, 1, 2]) for p in pools},
        {p: draw.choice(kinds) for p in pools},
    )


def orders(n: int, seed: int) -> None:
    """Prints in how many of n random changes what is said is what enumeration finds."""
    transition_module.N_PARTS = enumeration.N_PARTS
    draw = random.Random(seed)
    n_right = n_safe = n_least = 0
    spent_s = 0.0
    for _ in range(n):
        change = drawn(draw)
        stock = enumeration.stock_at_least(change, draw.choice([0, 0, 0, 1]))
        begun = time.perf_counter()
        way = change.way({gpu: float(k) for gpu, k in stock.items()})
        spent_s += time.perf_counter() - begun
        is_safe = enumeration.has_safe_order(change, stock)
        n_safe += is_safe
        n_right += (way.is_safe is not False) is is_safe
        needed = {text.split()[2]: int(text.split()[0]) for text in way.needs}
        more = {gpu: k + needed.get(gpu, 0) for gpu, k in stock.items()}
        n_least += enumeration.has_safe_order(change, more) and not any(
            enumeration.has_safe_order(change, {**more, gpu: more[gpu] - 1}) for gpu in needed
        )
    print(f"{n} changes, {n_safe} with a safe order: {n_right} judged right")
    print(f"fewest GPUs that will do: {n_least} of {n}; {1e3 * spent_s / n:.1f} ms per change")


def swap(n_seeds: int) -> None:
    """Prints the tightest limit in the time of each step, in both orders."""
    inputs = read_inputs(ROOT / "plans" / "demo", ROOT / "profiles")
    old = hand_plan(inputs)
    shares = {(c, B200 if p == BIG else p): share for (c, p), share in SHARES.items()}
    new = hand_plan(inputs, {B200: 6, SMALL: 2}, shares)
    way = transition_of(old, new, inputs, inputs)
    sides = sides_of(old, new, inputs, inputs)
    options = Options(seeds=tuple(range(n_seeds)))
    print(f"as proposed (safe: {way.is_safe})")
    tell(play(sides, way, options))
    start, shift, stop = way.steps
    wrong = (replace(stop, shifted_ratio=0.0), replace(start, shifted_ratio=0.0), shift)
    print("the stop first")
    tell(play(sides, replace(way, steps=wrong), options))


def tell(played: Played) -> None:
    """Prints what was seen in the time of each step."""
    for step in played.steps:
        kind = step.step.kind if step.step else "before"
        missed = "  MISSED" if step.missed else ""
        used = "no limits" if step.latency_ratio is None else f"{step.latency_ratio:8.0%}"
        print(f"  {kind:6s} {step.n_requests:8,} requests, tightest limit {used}{missed}")


def main() -> None:
    """Runs one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("orders", "swap"))
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=2)
    asked = parser.parse_args()
    if asked.what == "orders":
        orders(asked.n, asked.seed)
    else:
        swap(asked.seeds)


if __name__ == "__main__":
    main()
