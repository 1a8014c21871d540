"""What changes between two plans, as a person reads it in a review."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from planner.gate.diff import (
    Change,
    LatencyChange,
    PeriodChange,
    PlanDiff,
    PoolChange,
    PriceChange,
)
from planner.report.changed import (
    A_CENT,
    classes_words,
    front_words,
    moves,
    quality_step,
    relative,
    usd_step,
)
from planner.report.console import RenderableType, bullet, heading, line, show, table
from planner.report.figures import NONE, count, ms, number, quality, share, usd
from planner.report.transition import transition_sections, used_words

MOST_SHARES = 12
MOST_NAMES = 4
_INPUTS = ("changed", "added", "removed")


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
    front = front_words(diff.front) if diff.front is not None else ()
    told = [*_made_of(diff), *front, *_prices(diff.prices)]
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
        same = "the plans order the same: same deployment, same routes"
        return f"{same}, on replicas that are started anew" if diff.restarts else same
    if diff.periods_usd is not None:
        told = [count(len(diff.periods), "period")] if diff.periods else []
        told += [f"reserved GPUs of {count(len(diff.reserved), 'kind')}"] if diff.reserved else []
        whole = diff.periods_usd
        told += [f"{usd_step(whole)} over all hours"] if moves(whole, A_CENT) else []
        return f"differs: {', '.join(told) or 'the periods'}"
    told = []
    ordered = [c for c in diff.pools if not c.is_repriced]
    if ordered:
        n_replicas = sum(c.n_new - c.n_old for c in ordered)
        how_many = f"{n_replicas:+d}" if n_replicas else "as many"
        told.append(f"{count(len(ordered), 'pool')} of the deployment ({how_many} replicas)")
    elif diff.pools:
        told.append(f"the rent of {count(len(diff.pools), 'pool')}")
    told += [count(len(diff.shares), "share")] if diff.shares else []
    is_dearer = moves(diff.cost_usd_per_h, A_CENT)
    told.append(f"{usd_step(diff.cost_usd_per_h)} per hour" if is_dearer else "the same cost")
    return f"differs: {', '.join(told)}"


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
            "new price" if c.is_repriced else c.kind,
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
    only_one = f"; {words}" if (words := classes_words(diff)) else ""
    moved = share(diff.moved_ratio) if diff.moved_ratio else "0%"
    return f"{moved} of the traffic goes elsewhere{only_one}"


def _figures(diff: PlanDiff) -> RenderableType:
    made = table([""], ["before", "after", "change"])
    if diff.periods_usd is not None:
        whole, step = diff.periods_usd, usd_step(diff.periods_usd)
        made.add_row("", "cost of all periods", usd(whole.old), usd(whole.new), step)
    month = () if diff.periods_usd else (("cost per month (730 h)", diff.cost_usd_per_month),)
    for name, money in (
        ("cost per hour", diff.cost_usd_per_h),
        *month,
        ("per million output tokens", diff.usd_per_million_output_tokens),
    ):
        made.add_row("", name, usd(money.old), usd(money.new), usd_step(money))
    for name, score in (
        ("quality", diff.quality),
        *((f"quality of {c.name}", c) for c in diff.class_quality),
    ):
        made.add_row("", name, quality(score.old), quality(score.new), quality_step(score))
    if diff.rate_rps.difference:
        rate = diff.rate_rps
        made.add_row("", "requests/s", number(rate.old), number(rate.new), relative(rate))
    used = diff.latency_ratio
    if used.old is not None or used.new is not None:
        made.add_row(
            "", "tightest limit used", used_words(used.old, 1), used_words(used.new, 1), ""
        )
    return made


def _latency(changes: Sequence[LatencyChange]) -> RenderableType:
    made = table(["statistic"], ["before", "after", "change", "allowed"])
    for c in changes:
        change = relative(Change(c.label, c.old_ms, c.new_ms))
        made.add_row("", c.label, ms(c.old_ms), ms(c.new_ms), change, _allowed(c))
    return made


def _allowed(change: LatencyChange) -> str:
    if change.old_at_most_ms == change.at_most_ms:
        return ms(change.at_most_ms)
    return f"{ms(change.old_at_most_ms)} -> {ms(change.at_most_ms)}"
