"""A day of 24 hourly rates on the demo's pools: cost against one deployment held, gap, CPU time.

    python benchmarks/day_plan.py                  # change costs of $0, $2 and $20 per replica
    python benchmarks/day_plan.py --reserved 8     # with that many GPUs of each kind to reserve
    python benchmarks/day_plan.py --effort quick --hours 4

The rates follow a cosine with its peak at 16 h: at most the demo's busiest five minutes, at least a
quarter of that. The path is searched and proved as in `rb plan`, without simulation. The deployment
that is held is the cheapest one known that serves every hour, which the same search finds.

CPU seconds are those of this process, one thread. Beside them stands what the ordinary integer
program of every hour by itself takes once, so that the price of changes and reserves can be told
from that of 24 plans.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from planner.exact.periods import best_of_period, free_prices
from planner.files.inputs import read_inputs
from planner.periods.cases import Round, make_round
from planner.periods.search import FoundPath, find_path
from planner.periods.serving import make_servings
from planner.spec.inputs import Inputs
from planner.spec.periods import Periods, Span
from planner.spec.question import Poisson, Supply

ROOT = Path(__file__).resolve().parent.parent
PEAK_FACTOR = 14.4  # times the demo's stated 5.47 requests/s: 78.8, its busiest five minutes
LEAST = 0.25  # of the peak, at night
PEAK_HOUR = 16
DISCOUNT = 0.55  # what a reserved GPU costs of one by the hour


def day(n_periods: int, usd_per_change: float, reserved: int) -> Inputs:
    """The demo's question with periods of a cosine day, each planned at its busiest hour."""
    inputs = read_inputs(ROOT / "plans" / "demo")
    angle = 2 * np.pi * (np.arange(24) - PEAK_HOUR) / 24
    part = LEAST + (1 - LEAST) * (1 + np.cos(angle)) / 2
    width = 24 // n_periods
    spans = tuple(
        Span(
            name=f"{k * width:02d}-{(k + 1) * width:02d}",
            hours=(float(k * width), float((k + 1) * width)),
            rate_factor=round(float(part[k * width : (k + 1) * width].max()), 4),
        )
        for k in range(n_periods)
    )
    changes: dict[str, object] = {
        "arrivals": Poisson(rate_factor=PEAK_FACTOR),
        "periods": Periods(spans=spans, usd_per_replica_change=usd_per_change),
    }
    if reserved:
        prices = {gpu.name: gpu.usd_per_h or 0.0 for gpu in inputs.profiles.gpus}
        kinds = inputs.question.stock or {}
        supply = [Supply(gpu=g, count=n, usd_per_h=prices[g]) for g, n in kinds.items()]
        supply += [
            Supply(gpu=g, count=reserved, usd_per_h=DISCOUNT * prices[g], kind="reserved")
            for g in kinds
        ]
        changes |= {"stock": None, "supply": tuple(supply)}
    question = inputs.question.model_copy(update=changes)
    return replace(inputs, files=replace(inputs.files, question=question))


def alone_s(round_: Round) -> float:
    """CPU seconds of the integer program of every period by itself, once."""
    tiers = [serving.tiers("optimistic") for serving in make_servings(round_.sites)]
    free = free_prices(round_.schedule)
    start = time.process_time()
    for period, site in enumerate(round_.site_of):
        best_of_period(round_.schedule, period, tiers[site], free)
    return time.process_time() - start


def told(usd_per_change: float, round_: Round, path: FoundPath, cpu_s: float) -> str:
    """One line of the table."""
    gap = 1.0 - path.at_least_usd / path.bill.usd
    held = path.held_usd or float("nan")
    n_changes = path.bill.changes_usd / usd_per_change if usd_per_change else float("nan")
    single_s = alone_s(round_)
    kept = " ".join(f"{n:g} {gpu}" for gpu, n in path.reserved.items() if n) or "-"
    return (
        f"{usd_per_change:8.2f} {path.bill.usd:9.2f} {held:9.2f} {1 - path.bill.usd / held:7.1%} "
        f"{n_changes:8.0f} {gap:7.2%} {path.n_settled:8d} {cpu_s:7.1f} {cpu_s / single_s:7.1f}  "
        f"{kept}"
    )


def main() -> None:
    """Plans the day at several change costs and prints a line for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=int, default=1, help="of a period; divides 24")
    parser.add_argument("--change", type=float, nargs="*", default=[0.0, 2.0, 20.0])
    parser.add_argument("--reserved", type=int, default=0)
    parser.add_argument("--effort", default="standard", choices=("quick", "standard", "thorough"))
    given = parser.parse_args()
    print(
        "$/change     $/day  held $/d   saved  changes     gap  settled   CPU s  x single  reserved"
    )
    for usd_per_change in given.change:
        inputs = day(24 // given.hours, usd_per_change, given.reserved)
        start = time.process_time()
        round_ = make_round(inputs)
        path = find_path(round_, given.effort)
        print(told(usd_per_change, round_, path, time.process_time() - start))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
