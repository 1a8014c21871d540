"""What a policy is judged on: the plan, the one before it, and the parts that both have."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from planner.gate.way.steps import Transition
from planner.spec.inputs import Inputs
from planner.spec.plan import LatencyFigure, Plan, Predicted
from planner.spec.policy import Policy
from planner.spec.whole import mean_usd_per_h

ROUNDING = 1e-9
"""Relative: 50 * 1.1 is a little more than 55 to a computer."""


@dataclass(frozen=True)
class PolicyCase:
    """A plan with everything that its policy needs to be judged."""

    policy: Policy
    plan: Plan
    inputs: Inputs
    old: Plan | None  # the plan before; None: not told
    transition: Transition | None  # from it; None: not known
    today: datetime.date


@dataclass(frozen=True)
class Part:
    """A plan without periods, or one period of a plan, as a plan by itself."""

    at: str  # where it stands: 'plan.json:', or 'plan.json:periods[night].'
    of: str  # what it is of, for a sentence: '', or ' in period night'
    plan: Plan


def parts(plan: Plan) -> tuple[Part, ...]:
    """Returns the plan, or its periods one by one: the plan in front is the busiest of them."""
    if plan.periods is None:
        return (Part("plan.json:", "", plan),)
    return tuple(
        Part(f"plan.json:periods[{p.name}].", f" in period {p.name}", plan.in_period(p))
        for p in plan.periods.each
    )


def pairs(old: Plan, new: Plan) -> Iterator[tuple[Plan, Part]]:
    """Yields each part of the new plan with what it follows on in the old one.

    Periods belong together by name; one that the other plan does not have is held against its
    busiest hours.
    """
    before = {p.name: p for p in old.periods.each} if old.periods else {}
    for part in parts(new):
        name = part.of.removeprefix(" in period ")
        yield (old.in_period(before[name]) if name in before else old), part
    after = {p.name for p in new.periods.each} if new.periods else {""}
    for name, period in before.items():
        if name not in after:
            yield old.in_period(period), Part("plan.json:", f" since period {name}", new)


def cost_usd_per_h(plan: Plan) -> tuple[str, float]:
    """Returns where the money of a plan stands in it, and the money: the mean over all hours."""
    part = "predicted" if plan.periods is None else "periods"
    return f"plan.json:{part}.cost_usd_per_h", mean_usd_per_h(plan)


def reserved(plan: Plan) -> Mapping[str, float]:
    """Returns the GPUs of each kind that a plan pays for in all hours."""
    return {kept.gpu: kept.n_gpus for kept in plan.periods.reserved} if plan.periods else {}


def carries(predicted: Predicted, class_name: str) -> bool:
    """Returns whether a class has requests, so that its quality says something.

    A class that a plan is silent about is taken to have some.
    """
    return predicted.class_rps.get(class_name, 1.0) > 0.0


def limited(plan: Plan) -> Iterator[tuple[LatencyFigure, float]]:
    """Yields the predicted latencies that have a limit, with the limit in ms."""
    for figure in plan.predicted.latency:
        if figure.at_most_ms is not None:
            yield figure, figure.at_most_ms


def at_latency(part: Part, figure: LatencyFigure) -> str:
    """Returns where a predicted latency stands in the file."""
    return f"{part.at}predicted.latency[{figure.label}]"


def is_above(value: float, allowed: float) -> bool:
    """Returns whether a figure is above what is allowed, by more than rounding."""
    return value > allowed + ROUNDING * max(1.0, abs(allowed))


def ms(value: float) -> str:
    """Returns a latency for a sentence, in ms: finer where it is short."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}"


def usd(value: float) -> str:
    """Returns money for a sentence: in cents, finer where it has parts of a cent."""
    return f"${value:,.2f}" if round(value, 2) == round(value, 4) else f"${value:,.4f}"


def usd_change(value: float) -> str:
    """Returns a difference of money for a sentence, with its sign."""
    return f"{'-' if value < 0 else '+'}{usd(abs(value))}"


def ratio_change(old: float, new: float) -> str:
    """Returns a relative difference for a sentence, e.g. '+4.2%'."""
    return f"{new / old - 1.0:+.1%}" if old > 0 else "from nothing"
