"""One period of a planned day by itself: its question, what the plan orders in it, its routes."""

from __future__ import annotations

from planner.errors import InputError
from planner.files.plans import routes_of
from planner.periods.cases import inputs_in, spans_of
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan, Routes


def single_period(
    inputs: Inputs, plan: Plan, name: str | None = None
) -> tuple[Inputs, Plan, Routes]:
    """Returns the inputs, the plan and the routing table of one period.

    Args:
        inputs: a question with periods, and the pools.
        plan: of that question.
        name: of the period; by default the busiest.

    Raises:
        InputError: the question or the plan has no such period.
    """
    name = name or (plan.periods.busiest if plan.periods else None)
    asked = inputs.question.periods is not None
    span = next((s for s in spans_of(inputs.files) if s.name == name), None) if asked else None
    each = plan.periods.each if plan.periods else ()
    period = next((p for p in each if p.name == name), None)
    if span is None or period is None:
        if not asked:
            raise InputError.single("--period", name or "", "the question has no periods",
                                    "leave --period out")  # fmt: skip
        known = ", ".join(p.name for p in each)
        fix = f"known: {known}" if known else "plan again: rb plan DIR"
        what = "is no period of both the question and its plan"
        raise InputError.single("--period", name or "", what, fix)
    alone = plan.in_period(period)
    return inputs_in(inputs, span), alone, routes_of(alone)
