"""Predicted delays against what a simulated engine then does, from random moments of its life.

    python benchmarks/predicted_delay.py [--seeds 25]

A replica serves Poisson arrivals of three kinds of lengths at four utilisations; one more request
comes at a random moment. Its time to the first token and to the end are predicted, and by how much
it delays the others; the truth is the same replica run with it and without it. Three engines: a
roomy one, one with few places, one with little cache (tests/scheduling/replica_states.py).

Beside it on the same moments: RouteBalance's law, the time per token of the instance as it stands
times the tokens, behind an equal part of all pending tokens where no place is free. "ledger": the
prediction from what a ledger knows that was told of the events before, of the lengths only their
mean. "later": requests go on coming behind the one that is predicted.

error: mean of |predicted - true| over the mean of the truth. r: correlation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "scheduling"))

from replica_states import ENGINES, MEAN_OUTPUT, Moment, moments

from planner.scheduling.delay import Delay, Load, predict_delay
from planner.scheduling.ledger import Ledger
from planner.scheduling.routebalance import Bid

KINDS = ("exponential", "lognormal", "even")
UTILISATIONS = (0.3, 0.7, 0.95, 1.3)
N_LATER = 300

Predict = Callable[[str, Moment], float]


def n_before(moment: Moment) -> int:
    """Returns the index of the request that is predicted."""
    return sum(what == 0 for _, what, _ in moment.events)


def ours(engine: str, moment: Moment, load: Load) -> Delay:
    """Returns our prediction from a load."""
    i = n_before(moment)
    prompt, output = moment.input_tokens[i], moment.output_tokens[i]
    return predict_delay(ENGINES[engine].curve, load, prompt, prompt, output)


def recorded(engine: str, moment: Moment, *, others_come: bool) -> Load:
    """Returns what a ledger knows at the moment."""
    ledger, tickets = Ledger([ENGINES[engine].curve], length_cv=1.0), {}
    for ms, what, i in moment.events:
        if what == 0:
            tickets[i] = ledger.sent(0, moment.input_tokens[i], MEAN_OUTPUT, ms / 1e3)
        elif what == 1:
            ledger.first_token(tickets[i], ms / 1e3)
        else:
            ledger.ended(tickets[i], ms / 1e3, moment.output_tokens[i])
    load = ledger.load(0, moment.at_ms / 1e3)
    if not others_come:
        load.usual_running = load.prefill_ratio = 0.0
    return load


def routebalance_ms(engine: str, moment: Moment) -> float:
    """Returns RouteBalance's law on the true load."""
    output = moment.output_tokens[n_before(moment)]
    curve = ENGINES[engine].curve
    bid = Bid.of(0, curve, moment.load, quality=0.0, usd=0.0, output_tokens=output)
    return bid.latency_ms


def row(name: str, figure: str, found: Sequence[tuple[str, Moment]], predict: Predict) -> None:
    """Prints how far predictions of one figure are from the truth."""
    guess = np.array([predict(engine, moment) for engine, moment in found])
    truth = np.array([getattr(moment, figure) for _, moment in found])
    off = np.abs(guess - truth)
    median = np.median(off / np.maximum(truth, 1e-9))
    r = np.corrcoef(guess, truth)[0, 1]
    error, bias = off.sum() / truth.sum(), guess.sum() / truth.sum() - 1.0
    print(
        f"| {name} | {len(found)} | {100 * median:.1f} % | {100 * error:.1f} % "
        f"| {100 * bias:+.1f} % | {r:.3f} |",
        flush=True,
    )


def drawn(
    seeds: int, engines: Sequence[str], utilisations: Sequence[float], n_later: int = 0
) -> list[tuple[str, Moment]]:
    """Returns moments of engines."""
    return [
        (engine, moment)
        for engine in engines
        for kind in KINDS
        for moment in moments(engine, kind, utilisations, seeds, n_later)
    ]


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=25, help="moments of each kind")
    seeds = parser.parse_args().seeds
    print("| prediction | moments | median error | error | bias | r |")
    print("| :-- | --: | --: | --: | --: | --: |")
    for engine in ENGINES:
        for label, utilisations in (("0.3, 0.7", (0.3, 0.7)), ("0.95, 1.3", (0.95, 1.3))):
            found = drawn(seeds, [engine], utilisations)
            name = f"E2E, {engine}, utilisation {label}"
            row(name, "e2e_ms", found, lambda e, m: ours(e, m, m.load).e2e_ms)
            row("the same by RouteBalance's law", "e2e_ms", found, routebalance_ms)
    found = drawn(seeds, list(ENGINES), UTILISATIONS)
    row("E2E, all", "e2e_ms", found, lambda e, m: ours(e, m, m.load).e2e_ms)
    row("the same by RouteBalance's law", "e2e_ms", found, routebalance_ms)
    row("TTFT, all", "ttft_ms", found, lambda e, m: ours(e, m, m.load).ttft_ms)
    row("added to others, all", "added_ms", found, lambda e, m: ours(e, m, m.load).added_ms)

    def by_ledger(engine: str, moment: Moment) -> float:
        return ours(engine, moment, recorded(engine, moment, others_come=False)).e2e_ms

    row("E2E, ledger, all", "e2e_ms", found, by_ledger)
    found = drawn(max(seeds // 3, 1), list(ENGINES), UTILISATIONS, N_LATER)

    def with_later(engine: str, moment: Moment) -> float:
        return ours(engine, moment, recorded(engine, moment, others_come=True)).e2e_ms

    row("E2E, ledger, later, all", "e2e_ms", found, with_later)
    row("the same as if nobody came", "e2e_ms", found, by_ledger)
    row("the same by RouteBalance's law", "e2e_ms", found, routebalance_ms)


if __name__ == "__main__":
    main()
