"""Realised load of online routing against its caps, with and without feedback, on public scores.

    python benchmarks/router_online.py --data DIR

One half of each set, by hash, trains a router and makes a plan: prices at which each model but the
cheapest keeps its cap, 10, 25 or 50 % of all requests in its own mean work. Then 2,000 requests are
drawn from the other half and routed one by one, in five orders. Work is output tokens times
parameters. No request's own answer is known when it is routed, and the prompts that are routed to a
model are not its average ones: that is where realised and predicted loads part.

The load is the work over all 2,000 requests relative to the cap, the largest over models and
orders; "in any 1,000" is the same over the windows of half that length, which nothing aims at.
Quality is the mean of the recorded scores, in points.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from router_quality_data import DataSet, data_sets

from planner.quality.folds import fold_of
from planner.quality.router import judge
from planner.quality.rules import Facts
from planner.quality.train import cross_fit, train_router
from planner.routing.prompts import route_prompts
from planner.scheduling.choice import best_model
from planner.scheduling.feedback import PriceKeeper
from planner.spec.arrays import FloatArray, IntArray

SHARES = (0.10, 0.25, 0.50)
N_REQUESTS, N_ORDERS, N_IN_FLIGHT = 2000, 5, 32
TARGET = 1.05


@dataclass(frozen=True)
class Way:
    """How prices are kept while requests come."""

    name: str
    charged: str  # "realised", "predicted" or "nothing"
    is_warm: bool = True  # starts from the prices of the plan, else from zero
    n_in_flight: int = 0  # requests after which an answer's work is known


WAYS = (
    Way("realised work", "realised"),
    Way("realised work, cold start", "realised", is_warm=False),
    Way(f"realised work, {N_IN_FLIGHT} in flight", "realised", n_in_flight=N_IN_FLIGHT),
    Way("predicted work", "predicted"),
    Way("no feedback", "nothing"),
)


@dataclass(frozen=True)
class Prompts:
    """The prompts that requests are drawn from, (N, M) each: what is believed and what happened."""

    quality: FloatArray
    predicted: FloatArray
    realised: FloatArray
    score: FloatArray


def halves(data: DataSet) -> tuple[Prompts, Prompts]:
    """Returns the half that the plan is made of, cross-fitted, and the half that it meets."""
    scores, unit = data.scores, data.unit_cost
    other = fold_of(scores, 2, seed=0) == 1
    known, met = scores.take(~other), scores.take(other)
    crossfit = cross_fit(known)
    router = train_router(known, data.usd_per_token, crossfit=crossfit)
    believed = crossfit.class_quality
    if router.contrast is not None and crossfit.prompt_quality is not None:
        believed = crossfit.prompt_quality
    facts = [Facts(declared=scores.class_names[c]) for c in met.class_code]
    judged = judge(router, met.text or (), facts)
    return (
        Prompts(believed, crossfit.output_tokens * unit, known.output_tokens * unit, known.score),
        Prompts(judged.quality, judged.output_tokens * unit, met.output_tokens * unit, met.score),
    )


def serve(prompts: Prompts, order: IntArray, prices: FloatArray, caps: FloatArray, way: Way):
    """Returns the quality of a run, in points, and the realised work by request, (n, M)."""
    keeper = PriceKeeper(prices if way.is_warm else np.zeros(caps.size), caps)
    chosen: list[int] = []
    work = np.zeros((order.size, caps.size))
    for i, row in enumerate(order.tolist()):
        offer = prompts.quality[row : row + 1], prompts.predicted[row : row + 1]
        m = int(best_model(*offer, prices if way.charged == "nothing" else keeper.price)[0])
        chosen.append(m)
        work[i, m] = prompts.realised[row, m]
        keeper.routed(m, prompts.predicted[row, m])
        ended = i - way.n_in_flight
        if way.charged == "realised" and ended >= 0:
            cell = order[ended], chosen[ended]
            keeper.finished(chosen[ended], prompts.predicted[cell], prompts.realised[cell])
    return 100.0 * float(prompts.score[order, chosen].mean()), work


def lines(data: DataSet, planned: Prompts, met: Prompts, share: float) -> Iterator[str]:
    """Yields the line of every way to keep prices."""
    caps = share * planned.realised.mean(axis=0)
    caps[np.argmin(data.unit_cost)] = np.inf
    n = len(planned.quality)
    room = np.where(np.isfinite(caps), caps, 10.0 * planned.predicted.max())
    routing = route_prompts(
        np.full(n, 1.0 / n), planned.quality, planned.predicted, room, planned.quality >= 0.0
    )
    for way in WAYS:
        load, short, quality = [], [], []
        for seed in range(N_ORDERS):
            order = np.random.default_rng(seed).integers(0, len(met.quality), N_REQUESTS)
            reached, work = serve(met, order, routing.prices, caps, way)
            sums = np.vstack([np.zeros(caps.size), work.cumsum(axis=0)])
            half = N_REQUESTS // 2
            load.append((work.mean(axis=0) / caps).max())
            short.append(((sums[half:] - sums[:-half]) / half / caps).max())
            quality.append(reached)
        verdict = ("met" if max(load) <= TARGET else "MISSED") if way is WAYS[0] else ""
        yield (
            f"{data.name:20} {share:4.0%}  {way.name:28} {max(load):6.3f}  {max(short):13.3f}"
            f"  {np.mean(quality):7.2f}  {verdict}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    data = parser.parse_args().data
    print(f"work over cap, at most {TARGET} over {N_REQUESTS:,} requests with realised work\n")
    print(f"{'data':20}  cap  {'prices follow':28}   load  in any 1,000  quality")
    for each in data_sets(data):
        if each.has_lengths:
            planned, met = halves(each)
            for share in SHARES:
                for line in lines(each, planned, met, share):
                    print(line, flush=True)


if __name__ == "__main__":
    main()
