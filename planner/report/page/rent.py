"""What to rent, and which GPUs the replicas lie on."""

from __future__ import annotations

from planner.report.figures import count, fine_usd, number, percent
from planner.report.page.markup import Html, joined
from planner.report.page.parts import Column, Section, note, table, unfolding
from planner.report.page.pictures import picture
from planner.report.page.subject import Subject
from planner.report.page.words import n_pools
from planner.spec.base import Origin, worst_origin
from planner.spec.plan import Plan


def rent_section(subject: Subject) -> Section:
    """Returns what runs, what it costs and how full it is."""
    plan = subject.plan
    when = f" in the busiest period, {plan.periods.busiest}" if plan.periods is not None else ""
    gpus = sum(d.n_gpus for d in plan.deployment)
    on = f" on {count(gpus, 'GPU')}" if gpus else ""
    lead = f"{n_pools(plan)}{on}{when}."
    lead = lead[0].upper() + lead[1:]
    body = joined(
        _table(plan),
        picture("utilisation", subject),
        _placement(plan),
    )
    return Section("rent", "What to rent", lead, body)


def _columns(plan: Plan) -> tuple[Column, ...]:
    return (
        Column("Pool", "text"),
        Column("GPU", "text"),
        Column("Replicas"),
        Column("GPUs"),
        Column("$/h", source="given"),
        Column("Load", source=load_origin(plan)),
        Column("Requests/s"),
        Column("$ per million output tokens"),
    )


def _table(plan: Plan) -> Html:
    figures = {f.pool: f for f in plan.predicted.pools}
    rows = []
    for row in plan.deployment:
        figure = figures.get(row.pool)
        words = percent(figure.utilisation_ratio if figure else None, 0)
        words += " (extrapolated)" if figure and figure.extrapolated else ""
        rows.append(
            (
                row.pool,
                row.gpu or "hosted",
                str(row.replicas),
                f"{row.n_gpus:g}",
                f"{row.usd_per_h:,.2f}",
                words,
                number(figure.rate_rps if figure else None),
                fine_usd(figure.usd_per_million_output_tokens if figure else None),
            )
        )
    gpus = sum(d.n_gpus for d in plan.deployment)
    cost = sum(d.usd_per_h for d in plan.deployment)
    replicas = sum(d.replicas for d in plan.deployment)
    rate = number(plan.predicted.rate_rps)
    total = ("together", "", str(replicas), f"{gpus:g}", f"{cost:,.2f}", "", rate, "")
    remark = "Load: of what the pool can carry by the fit of its measurements."
    hosted = plan.predicted.cost_usd_per_h - cost
    if hosted > 0.005:
        remark += f" Hosted requests cost {hosted:,.2f} $/h beside the rent."
    return joined(
        table(_columns(plan), rows, "Pools to run, their GPUs, price and load", total=total),
        note(remark),
    )


def load_origin(plan: Plan) -> Origin:
    """Returns how the load of the pools is known: by the fit, at best."""
    return worst_origin("estimated", *(f.origin for f in plan.predicted.latency))


def _placement(plan: Plan) -> Html | None:
    """Returns which GPUs each replica lies on, where that is not free."""
    if not plan.placement:
        return None
    kinds = {d.pool: d.gpu or "" for d in plan.deployment}
    columns = (Column("Replica", "text"), Column("Kind of GPU", "text"), Column("GPUs", "text"))
    rows = [
        (f"{p.pool} #{p.replica}", kinds.get(p.pool, ""), ", ".join(str(g) for g in p.gpus))
        for p in plan.placement
    ]
    made = table(columns, rows, "Which GPUs each replica lies on")
    remark = note("GPUs of a kind are numbered from 0, node by node.")
    return unfolding("Which GPUs each replica lies on", made, remark)
