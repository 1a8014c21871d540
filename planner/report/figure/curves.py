"""The latency of one pool over its load: measured, fitted with its band, and where the plan is.

What nobody measured of a pool, its time to the first token or its time per token, is shown as the
plan counts on it: of the requests that it sends there, without points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner.profile.review import Chart
from planner.report.drawing.axes import Panel, x_axis, y_axis, y_axis_width
from planner.report.drawing.legend import Entry, legend
from planner.report.drawing.marks import (
    Area,
    Drawing,
    Group,
    Label,
    Line,
    Mark,
    Marker,
    Path,
    Points,
)
from planner.report.drawing.scales import Scale, linear, logarithmic, tick_text
from planner.report.drawing.text import text_width
from planner.report.figure.operating import Operating
from planner.report.figure.words import IN_SECONDS_MS, WIDE, is_roomy
from planner.report.figures import count, number
from planner.report.titles import load_title
from planner.report.titles import title as column_title
from planner.spec.arrays import FloatArray

HEIGHT = 200.0
ABOVE, BELOW, BETWEEN = 34.0, 50.0, 36.0
RIGHT = 14.0
ALONE = 0.62  # of the width, for a chart without another beside it
LOG_FROM = 25.0  # largest over smallest latency
SIZE = 12.0
DASH = (5.0, 4.0)
MS, FIRST = "_ms", "ttft"


@dataclass(frozen=True)
class _View:
    """One chart in its panel."""

    chart: Chart
    panel: Panel
    x: Scale
    y: Scale
    unit: float  # the figure's unit in that of the axis: 1000 where ms are read in s
    load: float | None  # of the plan, on one replica

    def at(self, load: float, figure: float) -> tuple[float, float]:
        """Returns the place of a figure at a load, in px, at the edge where it leaves the panel."""
        return self.x.at(load), self.y.clipped(figure / self.unit)

    def line(self, loads: FloatArray, figures: FloatArray) -> Points:
        return tuple(self.at(float(x), float(y)) for x, y in zip(loads, figures, strict=True))


def curves(
    name: str, charts: Sequence[Chart], at: Operating | None = None, width: float = WIDE
) -> Drawing | None:
    """Returns the charts of a pool's latency side by side, None where there is none.

    Args:
        name: of the pool.
        charts: of planner/profile/review.py.
        at: how the plan loads the pool; None: it is not in the plan.
        width: of the drawing, in px.
    """
    shown = _chosen(charts, at)
    return _panels(f"Latency of {name}", name, shown, at, width) if shown else None


def every_curve(name: str, charts: Sequence[Chart], width: float = WIDE) -> Drawing | None:
    """Returns all charts of a pool, two in a row where there is room, None where there is none."""
    return _panels(name, name, charts, None, width) if charts else None


def _panels(
    title: str, name: str, charts: Sequence[Chart], at: Operating | None, width: float
) -> Drawing:
    """Returns charts in rows below their key."""
    key = legend(_entries(charts, at), 0.0, 0.0, width)
    columns = min(len(charts), 2) if is_roomy(width) else 1
    cell = (width - BETWEEN * (columns - 1)) / columns
    if columns == 1 and is_roomy(width):
        cell = ALONE * width
    marks: list[Mark] = [*key.marks]
    bottom = key.height
    for k, chart in enumerate(charts):
        row, column = divmod(k, columns)
        top = key.height + ABOVE + row * (HEIGHT + ABOVE + BELOW)
        left = column * (cell + BETWEEN)
        view = _view(chart, at, Panel(left, top, left + cell, top + HEIGHT))
        marks.append(Group(tuple(_panel_marks(view)), {"tip": _tip(view)}))
        bottom = top + HEIGHT + BELOW
    words = f"{name}. " + " ".join(_described(chart) for chart in charts)
    return Drawing(width, bottom, title, words, tuple(marks))


def _chosen(charts: Sequence[Chart], at: Operating | None) -> list[Chart]:
    """Returns the charts that are drawn: the first token, then the further ones; else throughput.

    Of what was measured in several ways, the first way; a mean before a tail.
    """
    times = [c for c in charts if c.column.endswith(MS)]
    alike = [c for c in times if c.mode == times[0].mode]
    estimated = at.estimated if at is not None else ()
    shown = []
    for is_first in (True, False):
        found = [c for c in (*alike, *estimated) if c.column.startswith(FIRST) == is_first]
        shown += found[:1]
    return shown or list(charts[:1])


def _entries(charts: Sequence[Chart], at: Operating | None) -> list[Entry]:
    """Returns the key of what is drawn."""
    entries = [Entry("fitted", "accent", "line"), Entry("90 % band", "band")]
    if any(chart.measured for chart in charts):
        entries.insert(0, Entry("measured", "ink", "marker"))
        beyond = Entry("beyond what was measured", "accent", "line", dash=DASH)
        entries.insert(2, beyond)
    if any(_load(chart, at) is not None for chart in charts):
        entries.append(Entry("load in this plan", "warn", "line"))
    return entries


def _view(chart: Chart, at: Operating | None, cell: Panel) -> _View:
    load = _load(chart, at)
    measured = np.array([figure for _, figure in chart.measured])
    every = np.concatenate([chart.low, chart.value, chart.high, measured])
    high = float(every.max())
    unit = 1000.0 if chart.column.endswith(MS) and high >= IN_SECONDS_MS else 1.0
    low, high = float(every.min()) / unit, high / unit
    if low > 0 and high / low > LOG_FROM:
        y = logarithmic(low, high, cell.bottom, cell.top)
    else:
        y = linear(0.0, high * 1.03, cell.bottom, cell.top, most=5)
    panel = Panel(cell.left + y_axis_width(y), cell.top, cell.right - RIGHT, cell.bottom)
    ends = [float(chart.loads[0]), float(chart.loads[-1]), *([] if load is None else [load])]
    x = logarithmic(min(ends), max(ends), panel.left, panel.right)
    return _View(chart, panel, x, y, unit, load)


def _load(chart: Chart, at: Operating | None) -> float | None:
    """Returns the load of the plan as the chart counts it: requests in flight, or per second."""
    if at is None:
        return None
    return at.rate_rps if chart.mode == "open" else at.n_in_flight


def _panel_marks(view: _View) -> Iterator[Mark]:
    chart = view.chart
    yield from y_axis(view.panel, view.y, _title(view))
    shape = f"{chart.input_tokens:,.0f} tokens in, {chart.output_tokens:,.0f} out"
    yield from x_axis(view.panel, view.x, f"{load_title(chart.mode)} ({shape})", tick_text)
    low, high = view.line(chart.loads, chart.low), view.line(chart.loads, chart.high)
    yield Area((*low, *reversed(high)), "band", 0.75)
    yield from _fitted(view)
    if view.load is not None:
        yield from _operating(view, view.load)
    for load, figure in chart.measured:
        x, y = view.at(load, figure)
        yield Marker(x, y, "circle", 7.0, "ink")


def _fitted(view: _View) -> Iterator[Mark]:
    """Yields the curve, dashed outside the measured loads."""
    chart = view.chart
    measured = [load for load, _ in chart.measured] or chart.loads.tolist()
    first, last = min(measured), max(measured)
    line = view.line(chart.loads, chart.value)
    inside = (chart.loads >= first * (1 - 1e-9)) & (chart.loads <= last * (1 + 1e-9))
    start, stop = int(np.argmax(inside)), int(inside.size - np.argmax(inside[::-1]))
    if not inside.any():
        start = stop = 0
    parts = (line[: start + 1], True), (line[start:stop], False), (line[max(stop - 1, 0) :], True)
    for part, is_beyond in parts:
        if len(part) > 1:
            yield Path(part, "accent", 2.0, DASH if is_beyond else ())


def _operating(view: _View, load: float) -> Iterator[Mark]:
    """Yields the plan's load as an upright line with its figure above the panel."""
    x, panel = view.x.at(load), view.panel
    yield Line(x, panel.top, x, panel.bottom, "warn", 2.0)
    if not view.chart.measured:  # the curve is about the plan's own requests: it is there
        figure = float(np.interp(load, view.chart.loads, view.chart.value))
        yield Marker(*view.at(load, figure), "diamond", 9.0, "warn")
    half = text_width(number_of(load), SIZE, is_bold=True) / 2
    middle = min(max(x, panel.left + half), panel.right - half)
    word = Label(middle, panel.top - 3, number_of(load), "warn", SIZE, "middle", True, True)
    yield word


def number_of(load: float) -> str:
    """Returns a load as words: whole from 10 on."""
    return f"{load:,.0f}" if load >= 10 else f"{load:.2g}"


def _title(view: _View) -> str:
    words = column_title(view.chart.column) + ("" if view.chart.measured else ", not measured")
    return words.replace("(ms)", "(s)") if view.unit > 1.0 else words


def _tip(view: _View) -> str:
    text = f"{_title(view)}: {count(len(view.chart.measured), 'measured load')}"
    if view.load is None:
        return text
    return f"{text}; this plan: {number_of(view.load)} {load_title(view.chart.mode)} per replica"


def _described(chart: Chart) -> str:
    what = f"{column_title(chart.column)} over {load_title(chart.mode)}"
    points = ", ".join(f"{number(y)} at {number(x)}" for x, y in sorted(chart.measured))
    if points:
        return f"{what}, measured: {points}."
    ends = " and ".join(f"{number(chart.value[k])} at {number(chart.loads[k])}" for k in (0, -1))
    return f"{what}, not measured but estimated: {ends}."
