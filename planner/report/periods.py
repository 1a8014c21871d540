"""The periods of a plan as a person reads them: a table, the GPUs hour by hour, the money."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from planner.report.console import (
    RenderableType,
    bullet,
    heading,
    indented,
    line,
    literal,
    table,
)
from planner.report.figures import count, letters, money_words, number, percent, quality, usd
from planner.spec.plan import PeriodPlan, PeriodsPlan
from planner.spec.whole import HOURS_PER_MONTH

FILLS = "█▓▒░"
MOST_ROWS = 10
MOST_COLUMNS = 60
LABEL_WIDTH = 6


def period_sections(periods: PeriodsPlan) -> Iterator[RenderableType]:
    """Yields what runs in which hours, the GPUs over them, and the money of all of them."""
    yield line(_summary(periods))
    yield heading(f"What to rent when ({count(len(periods.each), 'period')})")
    yield from _table(periods)
    yield heading("GPUs in use, hour by hour")
    yield from (literal(row) for row in gpu_plot(periods))
    yield heading(f"What {periods.n_hours:g} hours cost")
    yield from (bullet(text) for text in _money(periods))
    yield heading(f"The busiest period, {periods.busiest}")


def _summary(periods: PeriodsPlan) -> str:
    again = ", over and over" if periods.repeats else ""
    return (
        f"{periods.n_hours:g} hours{again}: {usd(periods.total_usd)}, "
        f"{usd(periods.cost_usd_per_h)} per hour on average"
    )


def _table(periods: PeriodsPlan) -> Iterator[RenderableType]:
    """Yields a row for every run of periods with the same replicas, and who the letters are."""
    names = {
        pool: letters(k)
        for k, pool in enumerate(sorted({d.pool for p in periods.each for d in p.deployment}))
    }
    limited = any(p.predicted.latency_ratio is not None for p in periods.each)
    numbers = ["to req/s", "GPUs", "$/h", "quality", *(["limits"] if limited else []), "changes"]
    # Periods of a rates file are named after their hours: no need to say them twice.
    named = any(p.name != f"{p.start_h:02g}-{p.end_h:02g}" for p in periods.each)
    made = table(["hours", *(["period"] if named else [])], numbers, ["replicas"])
    for run in _runs(periods.each):
        first, last = run[0], run[-1]
        name = [first.name if first is last else f"{first.name} to {last.name}"]
        used = [p.predicted.latency_ratio for p in run if p.predicted.latency_ratio is not None]
        cells = [
            number(max(p.predicted.rate_rps for p in run)),
            f"{_n_gpus(first):g}",
            f"{max(p.paid_usd_per_h for p in run):,.2f}",
            quality(min(p.predicted.quality for p in run)),
            *([percent(max(used, default=None), 0)] if limited else []),
            str(first.n_changes) if first.n_changes else "-",
        ]
        replicas = " ".join(
            f"{d.replicas}{names[d.pool]}" for d in sorted(first.deployment, key=lambda d: d.pool)
        )
        hours = f"{first.start_h:g}-{last.end_h:g}"
        made.add_row("", hours, *(name if named else []), *cells, replicas)
    yield made
    for pool, short in names.items():
        yield indented(pool, f"   {short}")
    yield indented(
        "to req/s, $/h, limits: the most of these hours; quality: the least; changes: replicas "
        "started and stopped when they begin"
    )
    if periods.reserved:
        yield indented(
            "$/h: with all reserved GPUs, used or not; below, the busiest period is priced by "
            "itself, at the cheapest GPUs on offer"
        )


def _runs(each: Sequence[PeriodPlan]) -> Iterator[list[PeriodPlan]]:
    """Yields periods that follow each other with the same replicas."""
    for _, run in groupby(each, key=lambda p: {d.pool: d.replicas for d in p.deployment}):
        yield list(run)


def _n_gpus(period: PeriodPlan) -> float:
    return sum(d.n_gpus for d in period.deployment)


def _money(periods: PeriodsPlan) -> Iterator[str]:
    text = money_words(periods)
    yield f"{usd(periods.total_usd)}: {text}" if text else usd(periods.total_usd)
    per_month = periods.cost_usd_per_h * HOURS_PER_MONTH
    yield f"{usd(periods.cost_usd_per_h)} per hour on average, {usd(per_month)} per month (730 h)"
    for kept in periods.reserved:
        yield f"reserved for all hours: {kept.n_gpus:g} {kept.gpu}, {usd(kept.usd_per_h)} per hour"
    if periods.held_usd is not None and any(p.n_changes for p in periods.each):
        saved = 1.0 - periods.total_usd / periods.held_usd if periods.held_usd else 0.0
        held = f"one deployment held for all hours costs {usd(periods.held_usd)}"
        yield f"{held}: changing saves {percent(saved)}"
    if periods.bound is not None:
        best = f"{number(periods.bound.best_possible)} $/h on average"
        yield f"the best possible is {best}: proved within {percent(periods.bound.gap_ratio)}"


def gpu_plot(periods: PeriodsPlan) -> list[str]:
    """Returns the lines of a plot of the GPUs in use over the hours, kinds of GPU stacked.

    Where periods share a column, that with the most GPUs is drawn.
    """
    kinds = sorted({d.gpu for p in periods.each for d in p.deployment if d.gpu is not None})
    if not kinds:
        return [" " * LABEL_WIDTH + "  no GPUs of one's own"]
    columns = [_by_kind(period, kinds) for period in _columns(periods)]
    most = max(sum(column) for column in columns)
    n_rows = max(1, min(MOST_ROWS, round(most)))
    body = []
    for row in reversed(range(n_rows)):
        level = most * (row + 0.5) / n_rows
        cells = "".join(_cell(column, level) for column in columns)
        label = number(most * (row + 1) / n_rows) if row in (n_rows - 1, (n_rows - 1) // 2) else ""
        body.append(f"{label:>{LABEL_WIDTH}} │{cells}".rstrip())
    legend = "  ".join(f"{FILLS[k % len(FILLS)]} {kind}" for k, kind in enumerate(kinds))
    return [*body, *_axis(periods.n_hours, len(columns)), f"{'':>{LABEL_WIDTH}}  {legend}"]


def _columns(periods: PeriodsPlan) -> list[PeriodPlan]:
    """Returns the period that each column of the plot shows."""
    hours = periods.n_hours
    whole = hours <= MOST_COLUMNS and hours == int(hours)
    n = int(hours) * (MOST_COLUMNS // int(hours)) if whole else MOST_COLUMNS
    shown = []
    for k in range(n):
        start, end = hours * k / n, hours * (k + 1) / n
        inside = [p for p in periods.each if p.start_h < end - 1e-9 and p.end_h > start + 1e-9]
        shown.append(max(inside, key=_n_gpus))
    return shown


def _by_kind(period: PeriodPlan, kinds: Sequence[str]) -> list[float]:
    return [sum(d.n_gpus for d in period.deployment if d.gpu == kind) for kind in kinds]


def _cell(column: Sequence[float], level: float) -> str:
    """Returns the fill of the kind of GPU that a stack has at a level; blank above it."""
    height = 0.0
    for k, n_gpus in enumerate(column):
        height += n_gpus
        if level < height:
            return FILLS[k % len(FILLS)]
    return " "


def _axis(hours: float, n_columns: int) -> list[str]:
    """Returns the axis and, below it, the hours at its ends and quarters."""
    cells = [" "] * (n_columns + LABEL_WIDTH)
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        text, at = number(hours * part), round(n_columns * part)
        cells[at : at + len(text)] = list(text)
    pad = " " * LABEL_WIDTH
    return [f"{pad} └{'─' * n_columns}", f"{pad}  {''.join(cells)}".rstrip() + " h"]
