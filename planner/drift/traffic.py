"""What comes, against what was planned for: rates, mix, lengths, and where it went."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Literal

from planner.drift.finding import ALL, Finding
from planner.drift.flows import answers, escalations
from planner.drift.intervals import Interval, of_lengths, of_rate, of_share
from planner.drift.observed import UNKNOWN, Lengths, Observed
from planner.spec.plan import Routes
from planner.spec.sheet import ClassSheet, ServingSheet

Side = Literal["input_tokens", "output_tokens"]

RATE_RATIO = 0.1
"""A rate this much off the planned one is as planned."""

MIX = 0.02
"""Of all traffic: a class whose part is this much off is as planned."""

LENGTH_RATIO = 0.1
SHARE = 0.01
"""Of a class: within it the plan's shares are kept."""

ESCALATED = 0.02
"""Of a class: so much more or less that is asked again is as planned."""

UNKNOWN_RATIO = 0.01
FEWEST_LENGTHS = 30
"""Lengths that must be known for their mean to say something."""

FEWEST_ROUTED = 100
"""Requests of a class from which on it is believed how often its cascades escalate."""


def dispersion(sheet: ServingSheet) -> float:
    """Returns the variance of a count of arrivals over its mean; that of Poisson at least."""
    return max(1.0, sheet.arrival_cv**2)


def rate_findings(observed: Observed, sheet: ServingSheet) -> Iterator[Finding]:
    """Yields the rate of all traffic and of each class, refused requests among them.

    Where the question's rate varies, what is planned is its busiest minutes, and there are quiet
    ones: then only more than planned is drift.
    """
    every = [
        (name, observed.n_offered.get(name, 0.0), each.rate_rps, each.mean_rate_rps)
        for name, each in sheet.classes.items()
    ]
    planned, mean = sum(each[2] for each in every), sum(each[3] for each in every)
    every.insert(0, (ALL, observed.n_requests, planned, mean))
    for where, n, planned_rps, mean_rps in every:
        least = 0.0 if sheet.rate_varies else mean_rps * (1.0 - RATE_RATIO)
        seen = of_rate(n, observed.seconds, dispersion(sheet))
        means = "more than planned: see utilisation"
        if seen.value < planned_rps:
            means = "less than planned: fewer replicas may do"
        most = planned_rps * (1.0 + RATE_RATIO)
        yield Finding("rate", where, "", "req/s", planned_rps, seen, least, most, n, means)


def mix_findings(observed: Observed, sheet: ServingSheet) -> Iterator[Finding]:
    """Yields the part of each class in the requests whose class is known, and of the others."""
    n_all = observed.n_requests
    known = {name: observed.n_offered.get(name, 0.0) for name in sheet.classes}
    n_known, n_unknown = sum(known.values()), observed.n_offered.get(UNKNOWN, 0.0)
    peak = sum(each.rate_rps for each in sheet.classes.values())
    mean = sum(each.mean_rate_rps for each in sheet.classes.values())
    for name, each in sheet.classes.items():
        if len(known) == 1 or n_known == 0 or peak <= 0:
            break
        parts = each.rate_rps / peak, each.mean_rate_rps / mean
        seen = of_share(known[name], n_known, dispersion(sheet))
        means = "another mix than planned: see utilisation"
        least, most = min(parts) - MIX, max(parts) + MIX
        yield Finding("mix", name, "", "ratio", parts[0], seen, least, most, n_known, means)
    if n_unknown > 0:
        means = "nothing told their class: rb/auto routes them as the mixture of all"
        seen = of_share(n_unknown, n_all)
        where = "requests of no class"
        yield Finding("unknown", where, "", "ratio", 0.0, seen, 0.0, UNKNOWN_RATIO, n_all, means)


def length_findings(observed: Observed, sheet: ServingSheet) -> Iterator[Finding]:
    """Yields the mean prompt and answer of each class, planned for the pools that they went to."""
    sides: tuple[Side, ...] = "input_tokens", "output_tokens"
    for name, each in sheet.classes.items():
        for side in sides:
            planned, lengths = class_lengths(observed, each, name, side)
            few = lengths.n < FEWEST_LENGTHS
            seen = Interval(lengths.mean, 0.0, inf) if few else of_lengths(lengths)
            least, most = planned * (1.0 - LENGTH_RATIO), planned * (1.0 + LENGTH_RATIO)
            longer = "longer" if seen.value > planned else "shorter"
            means = f"{longer} than planned, and so is the work: see utilisation"
            if planned > 0:
                n = lengths.n
                yield Finding(side, name, "", "tokens", planned, seen, least, most, n, means)


def class_lengths(
    observed: Observed, planned: ClassSheet, name: str, side: Side
) -> tuple[float, Lengths]:
    """Returns the planned mean of a class's lengths in tokens, and the lengths that were seen.

    Models count and answer differently: what is planned is weighted by the answers that were seen.
    """
    cells = {p: c for p, c in observed.of_class(name).items() if p in planned.answers}
    seen = {pool: getattr(cell, side) for pool, cell in cells.items()}
    n = sum(lengths.n for lengths in seen.values())
    if n <= 0:
        return 0.0, Lengths(0.0, 0.0, 0.0)
    mean = sum(x.n * float(getattr(planned.answers[p], side)) for p, x in seen.items()) / n
    return mean, Lengths.of(seen.values())


def share_findings(observed: Observed, sheet: ServingSheet, routes: Routes) -> Iterator[Finding]:
    """Yields the share of each class that each pool answered; of a round of periods nothing.

    Shares change from period to period, and counters do not say in which one they counted.
    """
    for name in sheet.classes if sheet.period is None else ():
        cells, n = observed.of_class(name), observed.n_routed(name)
        planned = answers(routes, name, escalated_times(observed, routes, name))
        for pool in dict.fromkeys([*planned, *cells]) if n > 0 else ():
            share = planned.get(pool, 0.0)
            routed = cells[pool].n_routed if pool in cells else 0.0
            seen = of_share(routed, n)
            means = "not where the plan sends it: look at health, reloads, and who asks by name"
            where = f"{name} -> {pool}"
            yield Finding(
                "share", where, "", "ratio", share, seen, share - SHARE, share + SHARE, n, means
            )


def escalation_findings(
    observed: Observed, sheet: ServingSheet, routes: Routes
) -> Iterator[Finding]:
    """Yields the share of each class with cascades that a second model was asked for, too."""
    for name in sheet.classes if sheet.period is None else ():
        planned, n = escalations(routes, name), observed.n_routed(name)
        if planned > 0 and n > 0:
            seen = of_share(observed.n_escalated.get(name, 0.0), n)
            more = "more" if seen.value > planned else "less"
            means = f"the second model is asked {more} often than scored: see utilisation"
            least, most = planned - ESCALATED, planned + ESCALATED
            yield Finding("escalated", name, "", "ratio", planned, seen, least, most, n, means)


def escalated_times(observed: Observed, routes: Routes, name: str) -> float:
    """Returns how many times as often as planned the cascades of a class escalate."""
    planned, n = escalations(routes, name), observed.n_routed(name)
    if planned <= 0 or n < FEWEST_ROUTED:
        return 1.0
    return observed.n_escalated.get(name, 0.0) / n / planned
