"""The periods of a question, each as a question of its own, and what holds them together.

What a period is. Hours from `start` to `end`, counted from the first hour of a round (a day, a
week), in which traffic comes at one rate: the classes' rates times the period's rate_factor, or its
own class_rates; a rates file has a period for each of its hours. All the hours count with this
rate, so it is the one that the busiest minutes of the period need. Arrivals are random around it
as the question says. Every period keeps every limit, floor and headroom by itself.

What is free in a period. Replicas and shares. Pools, GPUs, prices and promises are the same in all
periods; a period may hold more replicas than its own traffic would keep busy, as a change may cost
more than keeping them.

What it costs, in $ per round:
    reserved GPUs     chosen once, from `supply` of kind reserved; paid in all hours, used or not
    GPUs by the hour  `stock`, and `supply` of kind on_demand or spot: paid in the hours of the
                      periods that use them, beyond what is reserved
    hosted requests   by the request, at the period's rate
    changes           usd_per_replica_change for every replica that is started, and for every one
                      that is stopped, when a period begins; a hosted pool starts for nothing
Where periods repeat, the first one follows the last one, so that what a day starts it also stops.
A deployment that changes is taken to change at once: start replicas early enough.

The budget is for the mean over all hours, changes counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from planner.case import Case, make_case
from planner.exact.periods import Schedule
from planner.latency.model import LatencyModel
from planner.quality.cascade import CascadeOption
from planner.spec.inputs import Inputs, QuestionFiles
from planner.spec.periods import Periods, Span
from planner.spec.plan import Learned


@dataclass(frozen=True)
class Site:
    """One set of rates as a question of its own; several periods may have the same."""

    inputs: Inputs
    case: Case


@dataclass(frozen=True)
class Round:
    """The periods of a question in their order, and the distinct sets of rates among them."""

    spans: tuple[Span, ...]
    sites: tuple[Site, ...]  # (S,) busiest first
    site_of: tuple[int, ...]  # (T,)
    schedule: Schedule

    @property
    def busiest(self) -> int:
        """Returns the period with the most requests per second, the first of them."""
        return self.site_of.index(0)

    def case_of(self, period: int) -> Case:
        """Returns the case of a period."""
        return self.sites[self.site_of[period]].case


def spans_of(files: QuestionFiles) -> tuple[Span, ...]:
    """Returns the periods of a question in their order; those of a rates file are its hours."""
    periods = _periods(files)
    if periods.spans:
        return periods.spans
    stated_rps = sum(c.rate_rps for c in files.question.classes)
    spans = []
    for hour, rows in groupby(files.hour_rates, key=lambda row: row.hour):
        rates = {row.class_name: row.rate_rps for row in rows}
        total = rates.pop(None, None)
        spans.append(
            Span(
                name=f"{hour:02d}-{hour + 1:02d}",
                hours=(float(hour), float(hour + 1)),
                rate_factor=None if total is None else total / stated_rps,
                class_rates={name: rate for name, rate in rates.items() if name is not None},
            )
        )
    return tuple(spans)


def inputs_in(inputs: Inputs, span: Span) -> Inputs:
    """Returns the question of one period alone, without the budget of all of them."""
    files, factor = inputs.files, span.rate_factor or 1.0
    classes = tuple(
        c.model_copy(update={"rate_rps": span.class_rates.get(c.name, c.rate_rps * factor)})
        for c in files.question.classes
    )
    alone = {"classes": classes, "periods": None, "budget_usd_per_h": None}
    inferred = files.inferred
    if inferred is not None:
        inferred = replace(inferred, rate_rps=inferred.rate_rps * factor)
    question = files.question.model_copy(update=alone)
    return replace(inputs, files=replace(files, question=question, inferred=inferred))


def make_round(
    inputs: Inputs,
    models: Sequence[LatencyModel] | None = None,
    learned: Sequence[Learned] = (),
    cascades: Sequence[CascadeOption] = (),
) -> Round:
    """Returns the computable form of a question with periods.

    Args:
        inputs: the question and the candidate pools, (P,).
        models: the pools' fitted models, (P,), where they are known already.
        learned: what simulations have taught about the pools.
        cascades: that may be used beside single pools.

    Raises:
        InputError: pools that cannot be fitted, or replica ranges that no stock fulfils.
    """
    spans = spans_of(inputs.files)
    rates: dict[tuple[float, ...], Inputs] = {}
    for span in spans:
        alone = inputs_in(inputs, span)
        rates.setdefault(_rates(alone), alone)
    busiest_first = sorted(rates, key=lambda key: (-sum(key), key))
    cases: list[Case] = []
    for key in busiest_first:
        known = cases[0].models if cases else models
        cases.append(make_case(rates[key], known, learned, cascades))
    # What is enough for the busiest may be kept in the others; all else of the boxes is the same.
    upper = np.max([case.space.upper for case in cases], axis=0)
    cases = [replace(case, space=replace(case.space, upper=upper)) for case in cases]
    return Round(
        spans,
        tuple(Site(rates[key], case) for key, case in zip(busiest_first, cases, strict=True)),
        tuple(busiest_first.index(_rates(inputs_in(inputs, span))) for span in spans),
        _schedule(_periods(inputs.files), spans, cases[0]),
    )


def _schedule(periods: Periods, spans: Sequence[Span], case: Case) -> Schedule:
    hosted = np.array([profile.pool.gpu is None for profile in case.pools])
    return Schedule(
        hours=np.array([span.n_hours for span in spans]),
        repeats=periods.repeats,
        space=case.space,
        change_usd=np.where(hosted, 0.0, periods.usd_per_replica_change),
    )


def _rates(inputs: Inputs) -> tuple[float, ...]:
    return tuple(c.rate_rps for c in inputs.question.classes)


def _periods(files: QuestionFiles) -> Periods:
    periods = files.question.periods
    assert periods is not None  # only questions with periods come here
    return periods
