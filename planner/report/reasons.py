"""When another deployment would be better than a plan, for a person: at which price or traffic."""

from __future__ import annotations

from collections.abc import Iterator

from planner.report.console import RenderableType, heading, table
from planner.spec.plan import Plan
from planner.spec.reasons import RangeUnit, Stays

UNITS: dict[RangeUnit, str] = {
    "usd_per_gpu_h": "$/h",
    "price_factor": "x its prices",
    "rate_factor": "x the traffic",
}


def reasons_section(plan: Plan) -> Iterator[RenderableType]:
    """Yields where the plan's deployment stops being the best, and which one takes over."""
    rows = [row for each in (plan.reasons.stays if plan.reasons else ()) for row in _ends(each)]
    if not rows:
        return
    yield heading("When another deployment is better")
    made = table(["figure"], ["now", "then"], ["replicas"])
    for row in rows:
        made.add_row("", *row)
    yield made


def _ends(each: Stays) -> Iterator[tuple[str, str, str, str]]:
    """Yields a row for each end of a range at which a deployment is known to take over."""
    what = f"{each.what} ({UNITS[each.unit]})"
    ends = ((each.low, each.below, "below"), (each.high, each.above, "above"))
    for value, deployment, side in ends:
        if value is not None and deployment:
            named = ", ".join(f"{n} {pool}" for pool, n in deployment.items())
            yield what, f"{each.now:.2f}", f"{side} {value:.2f}", named
