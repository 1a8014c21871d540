"""The periods of a plan over their hours: the traffic, the replicas that carry it, the money."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from planner.report.drawing.axes import Panel, ticks_up, x_axis, y_axis, y_axis_width
from planner.report.drawing.legend import Entry, legend
from planner.report.drawing.marks import SERIES, Drawing, Group, Line, Mark, Path, Rect
from planner.report.drawing.scales import Scale, linear
from planner.report.drawing.text import label, text_width
from planner.report.figure.words import WIDE, money, rate
from planner.report.figures import count
from planner.spec.plan import PeriodPlan, PeriodsPlan, Plan

LOW, HIGH = 90.0, 180.0  # heights of the panels
BETWEEN, BELOW, ABOVE = 40.0, 44.0, 36.0
RIGHT = 14.0
SIZE = 12.0
MOST_POOLS = len(SERIES)
HOURS = (1.0, 2.0, 3.0, 6.0, 12.0, 24.0, 48.0, 168.0)
PX_PER_TICK = 46.0
REST = "other pools"
MOST_TOLD = 24  # periods that are put into words one by one
MOST_NAMED = 4  # pools of a period, those with the most replicas


@dataclass(frozen=True)
class _Day:
    """The three panels, one above the other, over the same hours."""

    periods: PeriodsPlan
    pools: tuple[str, ...]  # from the ground up; the last may stand for several
    x: Scale
    traffic: tuple[Panel, Scale]
    replicas: tuple[Panel, Scale]
    money: tuple[Panel, Scale]

    def across(self, period: PeriodPlan) -> tuple[float, float]:
        """Returns where a period begins and ends, in px."""
        return self.x.at(period.start_h), self.x.at(period.end_h)


def day(plan: Plan, width: float = WIDE) -> Drawing | None:
    """Returns the day plan, None of a plan without periods."""
    periods = plan.periods
    if periods is None:
        return None
    pools = _pools(periods)
    key = legend(_entries(periods, pools), 0.0, 0.0, width)
    view = _view(periods, pools, key.height + ABOVE, width)
    marks: list[Mark] = [*key.marks, *_traffic(view), *_replicas(view), *_money(view)]
    ticks = _hours(view.x)
    marks += x_axis(view.money[0], view.x, "hours", lambda tick, _: f"{tick:g}", ticks=ticks)
    top, bottom = view.traffic[0].top, view.money[0].bottom
    for period in periods.each:
        left, right = view.across(period)
        whole = Rect(left, top, right - left, bottom - top, "surface", 0.0)
        marks.append(Group((whole,), {"period": period.name, "tip": _tip(period)}))
    return Drawing(width, bottom + BELOW, "What runs when", _described(periods), tuple(marks))


def _pools(periods: PeriodsPlan) -> tuple[str, ...]:
    """Returns the pools from the ground up: those that run longest first, at most MOST_POOLS."""
    hours: dict[str, float] = {}
    for period in periods.each:
        for row in period.deployment:
            hours[row.pool] = hours.get(row.pool, 0.0) + row.replicas * period.n_hours
    order = sorted(hours, key=lambda pool: (-hours[pool], pool))
    return tuple(order) if len(order) <= MOST_POOLS else (*order[: MOST_POOLS - 1], REST)


def _counts(period: PeriodPlan, pools: Sequence[str]) -> list[int]:
    """Returns the replicas of each pool in a period."""
    counts = dict.fromkeys(pools, 0)
    for row in period.deployment:
        name = row.pool if row.pool in counts else REST
        counts[name] += row.replicas
    return list(counts.values())


def _view(periods: PeriodsPlan, pools: tuple[str, ...], top: float, width: float) -> _Day:
    each = periods.each
    tops = (top, top + LOW + BETWEEN, top + LOW + HIGH + 2 * BETWEEN)
    heights = (LOW, HIGH, LOW)
    most = (
        max(p.predicted.rate_rps for p in each),
        max(float(sum(_counts(p, pools))) for p in each),
        max(*(p.paid_usd_per_h for p in each), _held(periods) or 0.0),
    )
    ups = [
        linear(0.0, max(high, 1e-9), at + height, at, most=3 if height == LOW else 6)
        for at, height, high in zip(tops, heights, most, strict=True)
    ]
    left = max(y_axis_width(scale) for scale in ups)
    x = Scale(0.0, periods.n_hours, left, width - RIGHT)
    panels = [Panel(left, at, width - RIGHT, at + h) for at, h in zip(tops, heights, strict=True)]
    traffic, replicas, paid = zip(panels, ups, strict=True)
    return _Day(periods, pools, x, traffic, replicas, paid)


def _held(periods: PeriodsPlan) -> float | None:
    """Returns what one deployment for all hours would cost per hour."""
    return None if periods.held_usd is None else periods.held_usd / periods.n_hours


def _entries(periods: PeriodsPlan, pools: Sequence[str]) -> list[Entry]:
    entries = [Entry(pool, SERIES[k], shape="square") for k, pool in enumerate(pools)]
    if _held(periods) is not None:
        entries.append(Entry("one deployment for all hours", "muted", "line", dash=(4.0, 3.0)))
    return entries


def _traffic(view: _Day) -> Iterator[Mark]:
    panel, scale = view.traffic
    yield from y_axis(panel, scale, "traffic (req/s)", title_left=0.0)
    for period in view.periods.each:
        left, right = view.across(period)
        y = scale.at(period.predicted.rate_rps)
        yield Rect(left, y, right - left, panel.bottom - y, "band", 0.8)
    yield _steps(view, lambda period: scale.at(period.predicted.rate_rps))
    yield Line(panel.left, panel.bottom, panel.right, panel.bottom, "muted")


def _replicas(view: _Day) -> Iterator[Mark]:
    """Yields the replicas of the pools, stacked; how many, where there is room for it."""
    panel, scale = view.replicas
    whole = [tick for tick in ticks_up(scale) if tick == int(tick)]
    yield from y_axis(panel, scale, "replicas", title_left=0.0, ticks=whole)
    for run in _runs(view):
        left, right = view.x.at(run[0].start_h), view.x.at(run[-1].end_h)
        height = 0
        for k, n in enumerate(_counts(run[0], view.pools)):
            if n:
                low, high = scale.at(height), scale.at(height + n)
                yield Rect(left, high, right - left, low - high, SERIES[k], 0.75)
                yield Line(left, high, right, high, "surface", 1.0)
                text = str(n)
                roomy = right - left > text_width(text, SIZE) + 6 and low - high > SIZE + 4
                if roomy:
                    middle = (left + right) / 2
                    y = (low + high) / 2 + 4
                    yield label(middle, y, text, size=SIZE, anchor="middle", has_halo=True)
                height += n
    yield Line(panel.left, panel.bottom, panel.right, panel.bottom, "muted")


def _runs(view: _Day) -> Iterator[list[PeriodPlan]]:
    """Yields periods that follow each other with the same replicas."""
    run: list[PeriodPlan] = []
    for period in view.periods.each:
        if run and _counts(run[-1], view.pools) != _counts(period, view.pools):
            yield run
            run = []
        run.append(period)
    yield run


def _money(view: _Day) -> Iterator[Mark]:
    panel, scale = view.money
    yield from y_axis(panel, scale, "paid ($/h)", title_left=0.0)
    for period in view.periods.each:
        left, right = view.across(period)
        y = scale.at(period.paid_usd_per_h)
        yield Rect(left, y, right - left, panel.bottom - y, "band", 0.8)
    held = _held(view.periods)
    if held is not None:
        y = scale.at(held)
        yield Line(panel.left, y, panel.right, y, "muted", 1.5, (4.0, 3.0))
    yield _steps(view, lambda period: scale.at(period.paid_usd_per_h))


def _steps(view: _Day, height: Callable[[PeriodPlan], float]) -> Path:
    """Returns a line of steps over the periods."""
    points = [(x, height(period)) for period in view.periods.each for x in view.across(period)]
    same = [a == b for a, b in pairwise(points)]
    return Path(tuple(p for p, twice in zip(points, [*same, False], strict=True) if not twice),
                "accent", 2.0)  # fmt: skip


def _hours(x: Scale) -> list[float]:
    """Returns the hours at which ticks stand."""
    most = abs(x.end - x.start) / PX_PER_TICK
    step = next((h for h in HOURS if x.high / h <= most), x.high)
    return [k * step for k in range(int(x.high / step + 1e-9) + 1)]


def _described(periods: PeriodsPlan) -> str:
    """Returns the drawing in words: all of a few periods, the ends of many."""
    words = f"{money(periods.cost_usd_per_h)} on average. "
    if len(periods.each) <= MOST_TOLD:
        return words + "; ".join(_tip(period) for period in periods.each) + "."
    least, most = min(periods.each, key=_traffic_of), max(periods.each, key=_traffic_of)
    return words + (
        f"{len(periods.each)} periods. The least traffic: {_tip(least)}. The most: {_tip(most)}."
    )


def _traffic_of(period: PeriodPlan) -> float:
    return period.predicted.rate_rps


def _tip(period: PeriodPlan) -> str:
    each = sorted(period.deployment, key=lambda row: (-row.replicas, row.pool))
    runs = ", ".join(f"{row.replicas} x {row.pool}" for row in each[:MOST_NAMED])
    if rest := sum(row.replicas for row in each[MOST_NAMED:]):
        runs += f" and {count(rest, 'replica')} of other pools"
    hours = f"{period.start_h:g} to {period.end_h:g} h"
    named = f"{period.name} ({hours})"
    return f"{named}: {rate(period.predicted.rate_rps)} on {runs}, {money(period.paid_usd_per_h)}"
