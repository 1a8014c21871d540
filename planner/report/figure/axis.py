"""The figures of a front's points: what can go across, go up, or be said by shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from planner.report.drawing.scales import tick_text
from planner.report.figure.words import IN_SECONDS_MS, latency, money, percent
from planner.report.figures import number
from planner.report.figures import quality as score
from planner.spec.plan import FrontPoint, Plan

AxisName = Literal["cost", "quality", "latency", "traffic"]
NAMES: tuple[AxisName, ...] = ("cost", "quality", "latency", "traffic")


@dataclass(frozen=True)
class Axis:
    """One figure of the points of a front."""

    name: AxisName
    title: str
    more_is_better: bool
    values: tuple[float, ...]  # one per point
    word: Callable[[float], str]
    tick: Callable[[float, tuple[float, ...]], str]

    @property
    def span(self) -> tuple[float, float]:
        """Returns the least and the largest value."""
        return min(self.values), max(self.values)


def axes_of(plan: Plan) -> tuple[AxisName, ...]:
    """Returns the figures that every point of the front has and in which they differ."""
    if not plan.front:
        return ()
    return tuple(name for name in NAMES if (a := axis_of(plan, name)) and a.span[0] < a.span[1])


def axis_of(plan: Plan, name: AxisName) -> Axis | None:
    """Returns a figure of the front's points, None where not every point has it."""
    points = plan.front
    if name == "cost":
        values = [p.cost_usd_per_h for p in points]
        return Axis(name, "cost ($/h)", False, tuple(values), money, tick_text)
    if name == "quality":
        values = [p.quality for p in points]
        return Axis(name, "quality (mean score)", True, tuple(values), score, tick_text)
    if name == "traffic":
        factors = [p.rate_factor for p in points if p.rate_factor is not None]
        title = "traffic carried (times the stated)"
        made = Axis(name, title, True, tuple(factors), lambda v: f"{number(v)} times", tick_text)
        return made if points and len(factors) == len(points) else None
    return _latency_axis(points)


def _latency_axis(points: Sequence[FrontPoint]) -> Axis | None:
    """Returns the share of the tightest limit, or the latency that is optimised without limits."""
    ratios = [p.latency_ratio for p in points if p.latency_ratio is not None]
    if ratios and len(ratios) == len(points):
        tick = _percent_tick
        return Axis("latency", "tightest limit, share used", False, tuple(ratios), percent, tick)
    times = [p.latency_ms for p in points if p.latency_ms is not None]
    if not times or len(times) != len(points):
        return None
    in_seconds = max(times) >= IN_SECONDS_MS
    title = f"latency ({'s' if in_seconds else 'ms'})"
    tick = _second_tick if in_seconds else tick_text
    return Axis("latency", title, False, tuple(times), latency, tick)


def _percent_tick(value: float, ticks: tuple[float, ...]) -> str:
    return tick_text(100.0 * value, tuple(100.0 * t for t in ticks)) + "%"


def _second_tick(value: float, ticks: tuple[float, ...]) -> str:
    return tick_text(value / 1000.0, tuple(t / 1000.0 for t in ticks))
