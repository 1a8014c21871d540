"""The two tables of a review: what the plan costs and gives, and its latency limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from planner.gate.diff import Change, PlanDiff
from planner.report.changed import (
    A_CENT,
    A_POINT,
    SAME,
    in_percent,
    moves,
    quality_step,
    relative,
    usd_step,
)
from planner.report.figures import NONE, ms, number, percent, quality, signed_usd, usd
from planner.report.review.blocks import Block
from planner.report.review.escape import as_code
from planner.report.review.verdict import BAD
from planner.report.transition import used_words
from planner.spec.base import FOREVER_MS
from planner.spec.plan import LatencyFigure, Plan, SimulatedFigure
from planner.spec.whole import HOURS_PER_MONTH, busiest_usd_per_h, gpus_of, mean_usd_per_h

N_GONE = 3  # limits that are gone, by name
_BUSIEST = "cost per hour, busiest period"
_VERDICTS = {"met": "met", "missed": f"{BAD} missed", "too close to call": "too close to call"}


def figures_block(new: Plan, old: Plan | None, diff: PlanDiff | None) -> Block:
    """Returns cost, quality and GPUs: of the plan alone, or before and after a change."""
    if diff is None or old is None:
        rows = tuple(f"| {name} | {value} |" for name, value in _alone(new))
        return Block(rows, ("| | planned |", "|---|--:|"), 3, "| and {n} more | |")
    rows = tuple(f"| {' | '.join(row)} |" for row in _changes(diff))
    head = ("| | before | after | change |", "|---|--:|--:|--:|")
    return Block(rows, head, 4, "| and {n} more | | | |")


def _alone(plan: Plan) -> Iterator[tuple[str, str]]:
    p = plan.predicted
    yield _cost_title(plan.periods is not None), _hour_and_month(mean_usd_per_h(plan))
    if plan.periods is not None:
        yield _BUSIEST, usd(busiest_usd_per_h(plan))
    yield "quality of all traffic", quality(p.quality)
    if len(p.class_quality) > 1:
        worst = min(p.class_quality, key=lambda name: p.class_quality[name])
        yield f"quality of the worst class, {as_code(worst)}", quality(p.class_quality[worst])
    gpus = gpus_of(plan.deployment)
    yield from ((f"GPUs {as_code(gpu)}", f"{n:g}") for gpu, n in gpus.items())


def _changes(diff: PlanDiff) -> Iterator[tuple[str, str, str, str]]:
    mean = diff.mean_usd_per_h
    by_period = diff.periods_usd is not None
    before, after = _hour_and_month(mean.old), _hour_and_month(mean.new)
    yield _cost_title(by_period), before, after, _dearer(mean)
    if by_period:
        yield _money(_BUSIEST, diff.cost_usd_per_h)
    yield _score("quality of all traffic", diff.quality)
    if len(diff.class_quality) > 1:
        yield _worst_class(diff.class_quality)
    yield from _gpus(diff)
    if diff.rate_rps.difference:
        rate = diff.rate_rps
        yield "requests/s planned for", number(rate.old), number(rate.new), relative(rate)


def _worst_class(scores: tuple[Change, ...]) -> tuple[str, str, str, str]:
    """Returns the class that loses most; where none loses, the one with the lowest quality."""
    lost = min(scores, key=lambda c: c.difference or 0.0)
    if moves(lost, A_POINT) and (lost.difference or 0.0) < 0:
        return _score(f"quality of {as_code(lost.name)}, which loses most", lost)
    low = min(scores, key=lambda c: (c.new is None, c.new or 0.0))
    return _score(f"quality of {as_code(low.name)}, the lowest", low)


def _gpus(diff: PlanDiff) -> Iterator[tuple[str, str, str, str]]:
    """Yields the GPUs of each kind, with what the change takes on its way where that is known."""
    changed = {c.name: c for c in diff.gpus}
    peaks = {p.gpu: p for p in diff.transition.peak_gpus} if diff.transition else {}
    for gpu in sorted({*changed, *(g for g, p in peaks.items() if p.extra > 0)}):
        change, peak = changed.get(gpu), peaks.get(gpu)
        old = (change.old if change else peak.old if peak else 0.0) or 0.0
        new = (change.new if change else peak.new if peak else 0.0) or 0.0
        step = f"{new - old:+g}" if new != old else SAME
        if peak is not None and peak.extra > 0:
            step += f", {peak.peak:g} on the way"
        if peak is not None and peak.stock is not None and peak.peak > peak.stock:
            step += f", only {peak.stock:g} exist"
        yield f"GPUs {as_code(gpu)}", f"{old:g}", f"{new:g}", step


def _money(name: str, change: Change) -> tuple[str, str, str, str]:
    return name, usd(change.old), usd(change.new), in_percent(usd_step(change), change)


def _cost_title(by_period: bool) -> str:
    mean = ", mean of all periods" if by_period else ""
    return f"cost per hour / month of 730 h{mean}"


def _hour_and_month(per_hour: float | None) -> str:
    return f"{usd(per_hour)} / {usd((per_hour or 0.0) * HOURS_PER_MONTH)}"


def _dearer(hour: Change) -> str:
    """Returns by how much an hour and a month are dearer."""
    if not moves(hour, A_CENT):
        return usd_step(hour)
    month = signed_usd((hour.difference or 0.0) * HOURS_PER_MONTH)
    return in_percent(f"{usd_step(hour)} / {month}", hour)


def _score(name: str, change: Change) -> tuple[str, str, str, str]:
    step = in_percent(quality_step(change), change)
    return name, quality(change.old), quality(change.new), step


def limits_block(new: Plan, old: Plan | None) -> Block:
    """Returns each latency limit of the new plan, the tightest first, after those that are gone."""
    before = {f.key: f for f in old.predicted.latency} if old else {}
    tried = {f.key: f for f in new.simulated.latency} if new.simulated else {}
    now = {f.key: f for f in new.predicted.latency}
    limited = [f for f in now.values() if f.at_most_ms is not None]
    rows = [
        _limit(f, before.get(f.key), tried.get(f.key), old is not None)
        for f in sorted(limited, key=lambda f: -_used(f, tried.get(f.key)))
    ]
    gone = [] if old is None else dropped_limits(new, old)
    rows = [*_gone(gone), *rows]
    steps = ("before", "after") if old else ("predicted",)
    names = ("latency limit (ms)", "allowed", *steps, "simulated", "of allowed")
    head = f"| {' | '.join(names)} |", f"|---|{'--:|' * (len(names) - 1)}"
    least = 3 if gone else 2
    return Block(tuple(rows), head, least, "| and {n} more, used no more" + " |" * len(names))


def dropped_limits(new: Plan, old: Plan) -> list[LatencyFigure]:
    """Returns the limits of the old plan on what the new one still serves, but does not limit."""
    limited = {f.key for f in new.predicted.latency if _limits(f)}
    served = {None, *new.predicted.class_quality}
    return [
        f
        for f in old.predicted.latency
        if _limits(f) and f.key not in limited and f.class_name in served
    ]


def loosened_limits(new: Plan, old: Plan) -> list[LatencyFigure]:
    """Returns the limits of the new plan that were tighter in the old one."""
    before = {f.key: f.at_most_ms for f in old.predicted.latency}
    return [
        f for f in new.predicted.latency if (f.at_most_ms or 0.0) > (before.get(f.key) or math.inf)
    ]


def _used(figure: LatencyFigure, tried: SimulatedFigure | None) -> float:
    """Returns how much of a limit is used, by the prediction or the simulation, whichever more."""
    worst_ms = max(figure.ms, tried.ms if tried else 0.0)
    return worst_ms / (figure.at_most_ms or 1.0)


def _limits(figure: LatencyFigure | None) -> bool:
    return figure is not None and figure.at_most_ms is not None


def _limit(
    now: LatencyFigure,
    before: LatencyFigure | None,
    tried: SimulatedFigure | None,
    compares: bool,
) -> str:
    allowed = ms(now.at_most_ms)
    if compares and (before is None or before.at_most_ms != now.at_most_ms):
        allowed = f"{ms(before.at_most_ms) if _limits(before) and before else 'new'} → {allowed}"
    was = [_ms(before.ms)] if before else [NONE]
    band = 0.5 * (now.high_ms - now.low_ms) / now.ms if now.ms else 0.0
    predicted = f"{_ms(now.ms)} ±{percent(band, 0)}" if now.ms < FOREVER_MS else _ms(now.ms)
    used = now.ms / now.at_most_ms if now.at_most_ms else 0.0
    simulated = NONE
    if tried is not None:
        simulated = _between(tried.low_ms, tried.high_ms)
        simulated += f", {_VERDICTS[tried.verdict]}" if tried.verdict else ""
    cells = (
        _name(now),
        allowed,
        *(was if compares else ()),
        predicted,
        simulated,
        f"{used_words(used, 1)}{f', {BAD} missed' if now.is_missed else ''}",
    )
    return f"| {' | '.join(cells)} |"


def _ms(value: float) -> str:
    return "never" if value >= FOREVER_MS else ms(value)


def _between(low_ms: float, high_ms: float) -> str:
    """Returns an interval; requests without an answer are answered never."""
    if high_ms < FOREVER_MS:
        return f"{ms(low_ms)} to {ms(high_ms)}"
    return "never" if low_ms >= FOREVER_MS else f"{ms(low_ms)} or more" if low_ms else "not known"


def _gone(before: Sequence[LatencyFigure]) -> Iterator[str]:
    """Yields one row for all limits that the new plan does not promise any more."""
    if before:
        names = [f"{_name(f)} (was {ms(f.at_most_ms)})" for f in before[:N_GONE]]
        more = f" and {len(before) - N_GONE} more" if len(before) > N_GONE else ""
        yield f"| no longer limited: {', '.join(names)}{more} | none | | | | |"


def _name(figure: LatencyFigure) -> str:
    whose = as_code(figure.class_name) if figure.class_name else "all traffic"
    return f"{figure.statistic} {figure.metric} of {whose}"
