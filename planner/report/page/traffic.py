"""Where traffic goes: the flow from classes to pools, the shares, the cascades."""

from __future__ import annotations

from planner.report.figures import letters, number, percent, quality, share
from planner.report.page.markup import Html, joined
from planner.report.page.parts import Column, Section, bullets, note, table
from planner.report.page.pictures import picture
from planner.report.page.subject import Subject
from planner.spec.plan import CascadeRoute, Plan, WeightedPool


def traffic_section(subject: Subject) -> Section:
    """Returns who answers what."""
    plan = subject.plan
    rate = number(plan.predicted.rate_rps)
    n = len(plan.predicted.class_rps)
    lead = (
        f"{rate} requests/s of {n} {'class' if n == 1 else 'classes'}; a share is a long-run "
        "fraction of its class, chosen without looking at the prompt."
    )
    return Section(
        "traffic", "Where traffic goes", lead, joined(picture("flow", subject), _shares(plan))
    )


def _shares(plan: Plan) -> Html:
    """Returns the shares: a row per way to be answered, a column per class."""
    cascades = {f"cascade {letters(n)}": c for n, c in enumerate(plan.cascades)}
    shares = {(r.class_name, r.pool): r.share for r in plan.routing}
    shares |= {(c.class_name, name): c.share for name, c in cascades.items()}
    classes = list(dict.fromkeys([*plan.predicted.class_rps, *(name for name, _ in shares)]))
    ways = list(dict.fromkeys([*(d.pool for d in plan.deployment), *(way for _, way in shares)]))
    rates = {f.pool: f.rate_rps for f in plan.predicted.pools}
    rates |= {
        way: c.share * plan.predicted.class_rps.get(c.class_name, 0.0)
        for way, c in cascades.items()
    }
    columns = [
        Column("Answered by", "text"),
        *(Column(name) for name in classes),
        Column("Requests/s"),
    ]
    rows = [
        [way, *(share(shares.get((name, way), 0.0)) for name in classes), number(rates.get(way))]
        for way in ways
    ]
    total = [
        "requests/s",
        *(number(plan.predicted.class_rps.get(name)) for name in classes),
        number(plan.predicted.rate_rps),
    ]
    remark = None
    if cascades:
        remark = note("Requests/s of a pool: its own and those of its part in a cascade.")
    said = bullets(f"{way} ({c.class_name}): {described(c)}" for way, c in cascades.items())
    return joined(table(columns, rows, "Share of each class by pool", total=total), said, remark)


def described(cascade: CascadeRoute) -> str:
    """Returns a cascade as a sentence."""
    return (
        f"{_stage(cascade.first)} answers first, then {_stage(cascade.second)} for "
        f"{percent(cascade.escalated_ratio, 0)} of them, where {cascade.signal} is below "
        f"{cascade.below:g}; quality {quality(cascade.quality)}"
    )


def _stage(stage: tuple[WeightedPool, ...]) -> str:
    if len(stage) == 1:
        return stage[0].pool
    return " and ".join(f"{entry.pool} ({share(entry.share)})" for entry in stage)
