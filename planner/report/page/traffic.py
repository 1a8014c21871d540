"""Where traffic goes: the flow from classes to pools, the shares, the cascades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from planner.report.figures import letters, number, percent, quality, share
from planner.report.page.markup import Html, joined
from planner.report.page.parts import Column, Section, bullets, entries, note, table
from planner.report.page.pictures import picture
from planner.report.page.subject import Subject
from planner.spec.plan import CascadeRoute, Plan, WeightedPool

MOST_COLUMNS = 8
"""Classes that a screen, and a sheet of paper, has columns for."""

SHARES = "Share of each class by pool"
Shares = Mapping[tuple[str, str], float]


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
    """Returns the shares: a column per class, or a row where there are many of them."""
    cascades = {f"cascade {letters(n)}": c for n, c in enumerate(plan.cascades)}
    shares = {(r.class_name, r.pool): r.share for r in plan.routing}
    shares |= {(c.class_name, name): c.share for name, c in cascades.items()}
    classes = list(dict.fromkeys([*plan.predicted.class_rps, *(name for name, _ in shares)]))
    is_wide = len(classes) > MOST_COLUMNS
    made = _by_class(plan, shares, classes) if is_wide else _by_pool(plan, shares, classes)
    remark = None
    if cascades and not is_wide:
        remark = note("Requests/s of a pool: its own and those of its part in a cascade.")
    said = bullets(f"{way} ({c.class_name}): {described(c)}" for way, c in cascades.items())
    return joined(made, said, remark)


def _by_pool(plan: Plan, shares: Shares, classes: Sequence[str]) -> Html:
    """Returns a row per way to be answered, a column per class."""
    ways = list(dict.fromkeys([*(d.pool for d in plan.deployment), *(way for _, way in shares)]))
    asked = plan.predicted.class_rps
    rates = {
        way: sum(asked.get(name, 0.0) * ratio for (name, to), ratio in shares.items() if to == way)
        for way in ways
    }
    rates |= {f.pool: f.rate_rps for f in plan.predicted.pools}
    columns = [
        Column("Answered by", "text"),
        *(Column(name) for name in classes),
        Column("Requests/s"),
    ]
    rows = [
        [way, *(share(shares.get((name, way), 0.0)) for name in classes), number(rates[way])]
        for way in ways
    ]
    total = [
        "requests/s",
        *(number(asked.get(name)) for name in classes),
        number(plan.predicted.rate_rps),
    ]
    return table(columns, rows, SHARES, total=total)


def _by_class(plan: Plan, shares: Shares, classes: Sequence[str]) -> Html:
    """Returns a row per class: who answers it, the largest share first."""
    goes: dict[str, list[tuple[str, float]]] = {name: [] for name in classes}
    for (name, way), ratio in shares.items():
        goes[name].append((way, ratio))
    columns = [
        Column("Class", "text"),
        Column("Requests/s", source="given"),
        Column("Answered by", "text"),
    ]
    rows = [
        [
            name,
            number(plan.predicted.class_rps.get(name)),
            entries(
                f"{share(ratio)} {way}" for way, ratio in sorted(ways, key=lambda w: (-w[1], w[0]))
            ),
        ]
        for name, ways in goes.items()
    ]
    total = ["all traffic", number(plan.predicted.rate_rps), ""]
    return table(columns, rows, SHARES, total=total)


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
