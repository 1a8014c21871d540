"""What changes between two plans, as a person reads it in a review."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from planner.gate.diff import Change, LatencyChange, PeriodChange, PlanDiff, PoolChange
from planner.report.console import RenderableType, bullet, heading, line, show, table
from planner.report.figures import NONE, count, ms, number, percent, quality, share, signed_usd, usd


def render_diff(diff: PlanDiff, console: Console) -> None:
    """Writes what changes, most important first."""
    show(_sections(diff), console)


def _sections(diff: PlanDiff) -> Iterator[RenderableType]:
    yield line(_summary(diff), "bold")
    if diff.pools:
        yield heading("Deployment")
        yield _pools(diff.pools)
        yield from (bullet(f"{gpu.name}: {_step(gpu)} GPUs") for gpu in diff.gpus)
    if diff.shares:
        yield heading("Routing")
        yield _shares(diff)
        yield bullet(_moved(diff))
    if diff.periods:
        yield heading("Periods that differ (before -> after)")
        yield _periods(diff.periods)
    yield from (
        bullet(f"reserved for all hours: {c.old:g} -> {c.new:g} {c.name}") for c in diff.reserved
    )
    yield heading("Predicted" if diff.periods_usd is None else "Predicted of the busiest period")
    yield _figures(diff)
    if diff.latency:
        yield heading("Latency (ms)")
        yield _latency(diff.latency)
    if diff.survives:
        yield heading("What is survived (before -> after)")
        yield from (
            bullet(f"{c.scenario}: {_fate(c.old)} -> {_fate(c.new)}") for c in diff.survives
        )
    if diff.inputs:
        yield heading("Inputs that differ")
        yield from (bullet(f"{change.name}: {change.kind}") for change in diff.inputs)


def _periods(changes: tuple[PeriodChange, ...]) -> RenderableType:
    made = table(["period", "hours"], ["$/h"], ["replicas"])
    for c in changes:
        hours = " -> ".join(dict.fromkeys(_hours(h) for h in (c.old_hours, c.new_hours)))
        costs = (c.paid_usd_per_h.old, c.paid_usd_per_h.new)
        money = " -> ".join(NONE if cost is None else f"{cost:,.2f}" for cost in costs)
        moved = [p for p in c.pools if p.n_old != p.n_new]
        pools = ", ".join(f"{p.pool} {p.n_old} -> {p.n_new}" for p in moved)
        made.add_row("", c.name, hours, money, pools or "the same")
    return made


def _fate(survives: bool | None) -> str:
    return "not asked" if survives is None else ("survived" if survives else "not survived")


def _hours(hours: tuple[float, float] | None) -> str:
    return NONE if hours is None else f"{hours[0]:g}-{hours[1]:g}"


def _summary(diff: PlanDiff) -> str:
    if diff.empty:
        return "the plans order the same: same deployment, same routes"
    if diff.periods_usd is not None:
        step = diff.periods_usd.difference
        money = "" if step is None else f", {signed_usd(step)} over all hours"
        return f"differs: {count(len(diff.periods), 'period')}{money}"
    n_replicas = sum(c.n_new - c.n_old for c in diff.pools)
    pools = f"{count(len(diff.pools), 'pool')} of the deployment ({n_replicas:+d} replicas)"
    money = signed_usd(diff.cost_usd_per_h.difference or 0.0)
    return f"differs: {pools}, {count(len(diff.shares), 'share')}, {money} per hour"


def _pools(changes: tuple[PoolChange, ...]) -> RenderableType:
    made = table(["pool", "GPU"], ["replicas", "$/h"], [""])
    for c in changes:
        row = c.new or c.old
        old_usd, new_usd = (r.usd_per_h if r else 0.0 for r in (c.old, c.new))
        made.add_row(
            "",
            c.pool,
            (row.gpu if row else None) or "hosted",
            f"{c.n_old} -> {c.n_new}",
            f"{old_usd:,.2f} -> {new_usd:,.2f}",
            c.kind,
            style={"added": "green", "removed": "red", "changed": ""}[c.kind],
        )
    return made


def _shares(diff: PlanDiff) -> RenderableType:
    made = table(["class", "pool"], ["before", "after", "points"])
    for s in diff.shares:
        made.add_row("", s.class_name, s.pool, share(s.old), share(s.new), f"{s.points:+.2f}")
    return made


def _moved(diff: PlanDiff) -> str:
    return f"{percent(diff.moved_ratio, 2)} of all traffic goes to another pool"


def _figures(diff: PlanDiff) -> RenderableType:
    made = table([""], ["before", "after", "change"])
    if diff.periods_usd is not None:
        whole = diff.periods_usd
        step = NONE if whole.difference is None else signed_usd(whole.difference)
        made.add_row("", "cost of all periods", usd(whole.old), usd(whole.new), step)
    month = () if diff.periods_usd else (("cost per month (730 h)", diff.cost_usd_per_month),)
    for name, money in (
        ("cost per hour", diff.cost_usd_per_h),
        *month,
        ("per million output tokens", diff.usd_per_million_output_tokens),
    ):
        step = NONE if money.difference is None else signed_usd(money.difference)
        made.add_row("", name, usd(money.old), usd(money.new), step)
    for name, score in (
        ("quality", diff.quality),
        *((f"quality of {c.name}", c) for c in diff.class_quality),
    ):
        step = NONE if score.difference is None else f"{score.difference:+.4f}"
        made.add_row("", name, quality(score.old), quality(score.new), step)
    if diff.rate_rps.difference:
        rate = diff.rate_rps
        made.add_row("", "requests/s", number(rate.old), number(rate.new), _relative(rate))
    used = diff.latency_ratio
    if used.old is not None or used.new is not None:
        made.add_row("", "tightest limit used", percent(used.old), percent(used.new), "")
    return made


def _latency(changes: tuple[LatencyChange, ...]) -> RenderableType:
    made = table(["statistic"], ["before", "after", "change", "allowed"])
    for c in changes:
        change = _relative(Change(c.label, c.old_ms, c.new_ms))
        made.add_row("", c.label, ms(c.old_ms), ms(c.new_ms), change, _allowed(c))
    return made


def _allowed(change: LatencyChange) -> str:
    if change.old_at_most_ms == change.at_most_ms:
        return ms(change.at_most_ms)
    return f"{ms(change.old_at_most_ms)} -> {ms(change.at_most_ms)}"


def _step(change: Change) -> str:
    return f"{number(change.old)} -> {number(change.new)}"


def _relative(change: Change) -> str:
    if not change.old or change.new is None:
        return NONE
    return f"{100.0 * (change.new / change.old - 1.0):+.1f}%"
