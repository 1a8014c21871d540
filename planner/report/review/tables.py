"""The two tables of a review: what the plan costs and gives, and its latency limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from planner.gate.diff import HOURS_PER_MONTH, Change, PlanDiff
from planner.report.figures import NONE, ms, number, percent, quality, signed_usd, usd
from planner.report.review.blocks import Block
from planner.report.review.escape import as_code
from planner.report.review.verdict import BAD
from planner.spec.plan import LatencyFigure, Plan, SimulatedFigure

A_CENT, A_POINT = 0.01, 0.0001  # money in $ and scores, as fine as they are shown
N_GONE = 3  # limits that are gone, by name
_BUSIEST = "cost per hour, busiest period"
Key = tuple[str | None, str, str]
_VERDICTS = {"met": "met", "missed": f"{BAD} missed", "too close to call": "too close to call"}


def figures_block(new: Plan, old: Plan | None, diff: PlanDiff | None) -> Block:
    """Returns cost, quality and GPUs: of the plan alone, or before and after a change."""
    if diff is None or old is None:
        rows = tuple(f"| {name} | {value} |" for name, value in _alone(new))
        return Block(rows, ("| | planned |", "|---|--:|"), 3, "| and {n} more | |")
    rows = tuple(f"| {' | '.join(row)} |" for row in _changes(old, new, diff))
    head = ("| | before | after | change |", "|---|--:|--:|--:|")
    return Block(rows, head, 4, "| and {n} more | | | |")


def mean_cost(old: Plan, new: Plan) -> Change:
    """Returns the money of two plans in $/h."""
    return Change("cost_usd_per_h", per_hour(old), per_hour(new))


def per_hour(plan: Plan) -> float:
    """Returns the money of a plan in $/h: of one with periods the mean of all hours."""
    return plan.periods.cost_usd_per_h if plan.periods else plan.predicted.cost_usd_per_h


def _alone(plan: Plan) -> Iterator[tuple[str, str]]:
    p = plan.predicted
    hour = per_hour(plan)
    yield _cost_title(plan.periods is not None), _hour_and_month(hour)
    if plan.periods is not None:
        yield _BUSIEST, usd(p.cost_usd_per_h)
    yield "quality of all traffic", quality(p.quality)
    if len(p.class_quality) > 1:
        worst = min(p.class_quality, key=lambda name: p.class_quality[name])
        yield f"quality of the worst class, {as_code(worst)}", quality(p.class_quality[worst])
    gpus: dict[str, float] = {}
    for row in plan.deployment:
        if row.gpu is not None:
            gpus[row.gpu] = gpus.get(row.gpu, 0.0) + row.n_gpus
    yield from ((f"GPUs {as_code(gpu)}", f"{n:g}") for gpu, n in gpus.items())


def _changes(old: Plan, new: Plan, diff: PlanDiff) -> Iterator[tuple[str, str, str, str]]:
    mean = mean_cost(old, new)
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
    if (lost.difference or 0.0) < 0:
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
        step = f"{new - old:+g}" if new != old else "same"
        if peak is not None and peak.extra > 0:
            step += f", {peak.peak:g} on the way"
        if peak is not None and peak.stock is not None and peak.peak > peak.stock:
            step += f" of {peak.stock:g} that exist"
        yield f"GPUs {as_code(gpu)}", f"{old:g}", f"{new:g}", step


def _money(name: str, change: Change) -> tuple[str, str, str, str]:
    step = _step(change, signed_usd, A_CENT)
    if change.old and step != "same":
        step += f" ({relative(change)})"
    return name, usd(change.old), usd(change.new), step


def _cost_title(by_period: bool) -> str:
    mean = ", mean of all periods" if by_period else ""
    return f"cost per hour / month of 730 h{mean}"


def _hour_and_month(per_hour: float | None) -> str:
    return f"{usd(per_hour)} / {usd((per_hour or 0.0) * HOURS_PER_MONTH)}"


def _dearer(hour: Change) -> str:
    """Returns by how much an hour and a month are dearer."""
    if hour.difference is None or abs(hour.difference) < A_CENT / 2:
        return "same"
    month = signed_usd(hour.difference * HOURS_PER_MONTH)
    return f"{signed_usd(hour.difference)} / {month} ({relative(hour)})"


def _score(name: str, change: Change) -> tuple[str, str, str, str]:
    step = _step(change, "{:+.4f}".format, A_POINT)
    return name, quality(change.old), quality(change.new), step


def _step(change: Change, told: Callable[[float], str], least: float) -> str:
    """Returns a difference; one that is less than half of what is shown is none."""
    if change.difference is None:
        return NONE
    return told(change.difference) if abs(change.difference) >= least / 2 else "same"


def relative(change: Change) -> str:
    """Returns by how many per cent a figure changes."""
    if not change.old or change.new is None:
        return NONE
    return f"{100.0 * (change.new / change.old - 1.0):+.1f}%"


def limits_block(new: Plan, old: Plan | None) -> Block:
    """Returns each latency limit of the new plan, the tightest first, after those that are gone."""
    before = {_key(f): f for f in old.predicted.latency} if old else {}
    tried = {_key(f): f for f in new.simulated.latency} if new.simulated else {}
    now = {_key(f): f for f in new.predicted.latency}
    limited = [f for f in now.values() if f.at_most_ms is not None]
    rows = [
        _limit(f, before.get(_key(f)), tried.get(_key(f)), old is not None)
        for f in sorted(limited, key=lambda f: -_used(f, tried.get(_key(f))))
    ]
    gone = [f for k, f in before.items() if f.at_most_ms is not None and not _limits(now.get(k))]
    rows = [*_gone(gone), *rows]
    steps = ("before", "after") if old else ("predicted",)
    names = ("latency limit (ms)", "allowed", *steps, "simulated", "of allowed")
    head = f"| {' | '.join(names)} |", f"|---|{'--:|' * (len(names) - 1)}"
    least = 3 if gone else 2
    return Block(tuple(rows), head, least, "| and {n} more, used less" + " |" * len(names))


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
    was = [ms(before.ms if before else None)] if compares else []
    band = 0.5 * (now.high_ms - now.low_ms) / now.ms if now.ms else 0.0
    predicted = f"{ms(now.ms)} ±{percent(band, 0)}"
    used = now.ms / now.at_most_ms if now.at_most_ms else 0.0
    simulated = NONE
    if tried is not None:
        simulated = f"{ms(tried.low_ms)} to {ms(tried.high_ms)}"
        simulated += f", {_VERDICTS[tried.verdict]}" if tried.verdict else ""
    cells = (
        _name(now),
        allowed,
        *was,
        predicted,
        simulated,
        f"{percent(used)}{_broken(now)}",
    )
    return f"| {' | '.join(cells)} |"


def _broken(figure: LatencyFigure) -> str:
    is_broken = figure.at_most_ms is not None and figure.ms > figure.at_most_ms
    return f", {BAD} missed" if is_broken else ""


def _gone(before: Sequence[LatencyFigure]) -> Iterator[str]:
    """Yields one row for all limits that the new plan does not promise any more."""
    if before:
        names = [f"{_name(f)} (was {ms(f.at_most_ms)})" for f in before[:N_GONE]]
        more = f" and {len(before) - N_GONE} more" if len(before) > N_GONE else ""
        yield f"| no longer limited: {', '.join(names)}{more} | none | | | | |"


def _name(figure: LatencyFigure) -> str:
    whose = as_code(figure.class_name) if figure.class_name else "all traffic"
    return f"{figure.statistic} {figure.metric} of {whose}"


def _key(figure: LatencyFigure | SimulatedFigure) -> Key:
    return figure.class_name, figure.metric, figure.statistic
