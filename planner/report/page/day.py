"""The plan of a day or a week: what runs in which hours, and what all of them cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from planner.report.figures import money_words, number, percent, quality, usd
from planner.report.page.grades import scores_origin
from planner.report.page.markup import Html, element, joined
from planner.report.page.parts import Column, Section, bullets, note, table, unfolding
from planner.report.page.pictures import picture
from planner.report.page.rent import load_origin
from planner.report.page.subject import Subject
from planner.report.page.words import bound_sentence, replicas
from planner.spec.base import worst_origin
from planner.spec.plan import PeriodPlan, PeriodsPlan
from planner.spec.whole import HOURS_PER_MONTH

MOST_ROWS = 24


def day_section(subject: Subject) -> Section | None:
    """Returns what runs when; None of a plan without periods."""
    periods = subject.plan.periods
    if periods is None:
        return None
    again = ", over and over" if periods.repeats else ""
    changes = sum(p.n_changes for p in periods.each)
    lead = (
        f"{len(periods.each)} periods in {periods.n_hours:g} hours{again}: {changes} replicas "
        f"started or stopped, {usd(periods.total_usd)} in all. Below, all else is of the busiest, "
        f"{periods.busiest}."
    )
    runs = [list(run) for _, run in groupby(periods.each, key=_runs_what)]
    parts = [_folded(_table(subject, runs, "What runs when"), "What runs when", len(runs))]
    if len(runs) < len(periods.each):
        each = _table(subject, [[p] for p in periods.each], "What runs in each period")
        parts.append(unfolding(f"All {len(periods.each)} periods as a table", each))
    remark = (
        "Requests/s, $/h, limits: the most of these hours; quality: the least; changes: replicas "
        "started and stopped when they begin; $/h: with all reserved GPUs, used or not."
    )
    body = joined(picture("day", subject), *parts, note(remark), bullets(_money(periods)))
    return Section("day", "The plan by the hour", lead, body)


def _runs_what(period: PeriodPlan) -> dict[str, int]:
    return {d.pool: d.replicas for d in period.deployment}


def _folded(made: Html, title: str, n_rows: int) -> Html:
    """Returns a table, folded where it is longer than a screen: the drawing has said it."""
    return made if n_rows <= MOST_ROWS else unfolding(f"{title}, {n_rows} times", made)


def _table(subject: Subject, runs: Sequence[Sequence[PeriodPlan]], caption: str) -> Html:
    """Returns a row for each run of periods that follow each other with the same replicas."""
    periods = subject.plan.periods
    assert periods is not None
    pools = {d.pool for p in periods.each for d in p.deployment}
    by_fit = worst_origin(*(load_origin(subject.plan.in_period(p)) for p in periods.each))
    limited = any(p.predicted.latency_ratio is not None for p in periods.each)
    tried = any(p.simulated_latency_ratio is not None for p in periods.each)
    columns = [
        Column("Period", "text"),
        Column("Hours", "text"),
        Column("Requests/s", source="given"),
        Column("GPUs"),
        Column("$/h", source="given"),
        Column("Quality", source=scores_origin(subject, pools=pools)),
        *([Column("Limits used", source=by_fit)] if limited else []),
        *([Column("Simulated", source="simulated")] if tried else []),
        Column("Changes"),
        Column("Replicas", "text"),
    ]
    rows = [_row(run, limited, tried) for run in runs]
    busiest = [n for n, run in enumerate(runs) if periods.busiest in {p.name for p in run}]
    return table(columns, rows, caption, busiest)


def _row(run: Sequence[PeriodPlan], limited: bool, tried: bool) -> list[str]:
    first, last = run[0], run[-1]
    used = [p.predicted.latency_ratio for p in run if p.predicted.latency_ratio is not None]
    return [
        first.name if first is last else f"{first.name} to {last.name}",
        element("span", f"{first.start_h:g}–{last.end_h:g}", class_="whole"),
        number(max(p.predicted.rate_rps for p in run)),
        f"{sum(d.n_gpus for d in first.deployment):g}",
        f"{max(p.paid_usd_per_h for p in run):,.2f}",
        quality(min(p.predicted.quality for p in run)),
        *([percent(max(used, default=None), 0)] if limited else []),
        *([_tried(run)] if tried else []),
        str(first.n_changes) if first.n_changes else "-",
        replicas(_runs_what(first)),
    ]


def _tried(run: Sequence[PeriodPlan]) -> str:
    seen = [p.simulated_latency_ratio for p in run if p.simulated_latency_ratio is not None]
    ratio = percent(max(seen, default=None), 0)
    return f"{ratio}, MISSED" if any(p.missed for p in run) else ratio


def _money(periods: PeriodsPlan) -> Iterator[str]:
    text = money_words(periods)
    yield f"{periods.n_hours:g} hours cost {usd(periods.total_usd)}{f': {text}' if text else ''}."
    per_month = usd(periods.cost_usd_per_h * HOURS_PER_MONTH)
    yield f"{usd(periods.cost_usd_per_h)} per hour on average, {per_month} per month."
    for kept in periods.reserved:
        yield f"Reserved for all hours: {kept.n_gpus:g} {kept.gpu}, {usd(kept.usd_per_h)} per hour."
    if periods.held_usd and any(p.n_changes for p in periods.each):
        saved = percent(1.0 - periods.total_usd / periods.held_usd)
        yield (
            f"One deployment held for all hours would cost {usd(periods.held_usd)}: changing saves "
            f"{saved}."
        )
    if periods.bound is not None:
        yield bound_sentence(periods.bound, " on average")
    for period in periods.each:
        for text in period.missed:
            yield f"Simulation missed a limit in {period.name}: {text}."
