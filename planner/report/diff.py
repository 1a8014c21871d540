"""What changes between two plans, as a person reads it in a review."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from planner.gate.diff import (
    Change,
    FrontChange,
    LatencyChange,
    PeriodChange,
    PlanDiff,
    PoolChange,
    PriceChange,
)
from planner.report.console import RenderableType, bullet, heading, line, show, table
from planner.report.figures import NONE, count, ms, number, percent, quality, share, signed_usd, usd
from planner.report.transition import transition_sections

MOST_SHARES = 12
MOST_NAMES = 4
_INPUTS = ("changed", "added", "removed")
LEAST_USD = 0.005  # per hour
LEAST_QUALITY = 5e-5
"""What rounds to nothing did not move."""


def render_diff(diff: PlanDiff, console: Console) -> None:
    """Writes what changes, most important first."""
    show(_sections(diff), console)


def _sections(diff: PlanDiff) -> Iterator[RenderableType]:
    """Yields what a reviewer asks: what it costs and brings, what moves, how; then why."""
    yield line(summary(diff), "bold")
    yield heading("Predicted" if diff.periods_usd is None else "Predicted of the busiest period")
    yield _figures(diff)
    if limits := [c for c in diff.latency if c.at_most_ms or c.old_at_most_ms]:
        yield heading("Latency limits (ms)")
        yield _latency(limits)
    if diff.pools:
        yield heading("Deployment")
        yield _pools(diff.pools)
        if diff.transition is None or not diff.transition.steps:  # else the steps say it
            yield from (
                bullet(f"{gpu.name}: {number(gpu.old)} -> {number(gpu.new)} GPUs")
                for gpu in diff.gpus
            )
    if diff.shares:
        yield heading(f"Routing: {_moved(diff)}")
        yield from _shares(diff)
    if diff.periods:
        yield heading("Periods that differ (before -> after)")
        yield _periods(diff.periods)
    yield from (
        bullet(f"reserved for all hours: {c.old:g} -> {c.new:g} {c.name}") for c in diff.reserved
    )
    if diff.transition is not None:
        yield from transition_sections(diff.transition)
    if diff.survives:
        yield heading("What is survived (before -> after)")
        yield from (
            bullet(f"{c.scenario}: {_fate(c.old)} -> {_fate(c.new)}") for c in diff.survives
        )
    told = [*_made_of(diff), *_front(diff.front), *_prices(diff.prices)]
    if told:
        yield heading("Why")
        yield from map(bullet, told)


def _made_of(diff: PlanDiff) -> Iterator[str]:
    """Yields what the plans were made of, and how, where that differs."""
    kinds = {kind: [c.name for c in diff.inputs if c.kind == kind] for kind in _INPUTS}
    if diff.inputs:
        told = (f"{_few(names)} {kind}" for kind, names in kinds.items() if names)
        yield f"inputs: {'; '.join(told)}"
    if diff.provenance:
        told = (f"{c.name.replace('_', ' ')} {c.old} -> {c.new}" for c in diff.provenance)
        yield f"made with: {', '.join(told)}"


def _few(names: Sequence[str]) -> str:
    """Returns the first names, and how many more there are."""
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _front(change: FrontChange | None) -> Iterator[str]:
    """Yields what the fronts offer for what the old plan is and costs, where that moved."""
    if change is None:
        return
    told = []
    cost, best, traffic = change.cost_usd_per_h, change.quality, change.rate_factor
    good, money = quality(change.at_quality), usd(change.within_usd_per_h)
    if cost.new is None:
        told.append(f"no plan on the new front has a quality of {good} or better")
    elif cost.old is None or abs(cost.new - cost.old) >= LEAST_USD:
        was = "" if cost.old is None else f", where {usd(cost.old)} was enough"
        told.append(f"a quality of {good} or better costs {usd(cost.new)} per hour{was}")
    if best.new is None:
        least = usd(change.least_usd_per_h.new)
        told.append(f"nothing on the new front costs {money} or less: it begins at {least}")
    elif best.old is None or abs(best.new - best.old) >= LEAST_QUALITY:
        was = "" if best.old is None else f", where it bought {quality(best.old)}"
        told.append(f"{money} per hour buys a quality of {quality(best.new)}{was}")
    if traffic is not None and traffic.new is not None and traffic.difference != 0.0:
        was = "" if traffic.old is None else f", where it carried {number(traffic.old)} times"
        told.append(f"{money} per hour carries {number(traffic.new)} times the traffic{was}")
    if told and not change.same_question:
        told[-1] += " (each front has only what its own question allows, and the questions differ)"
    yield from told


def _prices(changes: Sequence[PriceChange]) -> Iterator[str]:
    """Yields what holds a plan back more or less than the other; numbers are in --format json."""
    moved: dict[str, list[str]] = {}
    for c in changes:
        was, now = c.old or 0.0, c.new or 0.0
        how = "new" if not was else "no longer" if not now else "less" if now < was else "more"
        moved.setdefault(how, []).append(_price_words(c.what))
    if moved:
        told = (
            f"{how}: {_few(moved[how])}"
            for how in ("new", "more", "less", "no longer")
            if how in moved
        )
        yield f"what holds the plan back (its prices in --format json): {'; '.join(told)}"


def _price_words(what: str) -> str:
    """Returns what has a price, e.g. 'the limit p95 e2e of gsm'."""
    kind, _, name = what.partition(":")
    return {"load": f"capacity of {name}", "limit": f"the limit {name}"}.get(kind, what)


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


def summary(diff: PlanDiff) -> str:
    """Returns in one line what changes: pools, shares, money."""
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


def _shares(diff: PlanDiff) -> Iterator[RenderableType]:
    made = table(["class", "pool"], ["before", "after", "points"])
    most = sorted(diff.shares, key=lambda s: -abs(s.points))[:MOST_SHARES]
    for s in (s for s in diff.shares if s in most):
        made.add_row("", s.class_name, s.pool, share(s.old), share(s.new), f"{s.points:+.2f}")
    yield made
    if len(diff.shares) > MOST_SHARES:
        yield bullet(f"{len(diff.shares) - MOST_SHARES} smaller changes: --format json")


def _moved(diff: PlanDiff) -> str:
    return f"{percent(diff.moved_ratio, 1)} of all traffic goes elsewhere"


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


def _latency(changes: Sequence[LatencyChange]) -> RenderableType:
    made = table(["statistic"], ["before", "after", "change", "allowed"])
    for c in changes:
        change = _relative(Change(c.label, c.old_ms, c.new_ms))
        made.add_row("", c.label, ms(c.old_ms), ms(c.new_ms), change, _allowed(c))
    return made


def _allowed(change: LatencyChange) -> str:
    if change.old_at_most_ms == change.at_most_ms:
        return ms(change.at_most_ms)
    return f"{ms(change.old_at_most_ms)} -> {ms(change.at_most_ms)}"


def _relative(change: Change) -> str:
    if not change.old or change.new is None:
        return NONE
    return f"{100.0 * (change.new / change.old - 1.0):+.1f}%"
