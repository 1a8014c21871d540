"""How busy each pool is: of what it can carry, with the headroom, and what was measured of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from planner.report.drawing.axes import Panel, ticks_across, x_axis
from planner.report.drawing.legend import Entry, legend
from planner.report.drawing.marks import Drawing, Group, Line, Mark, Marker, Rect, Role
from planner.report.drawing.scales import Scale
from planner.report.drawing.text import label
from planner.report.figure.words import WIDE, is_roomy, percent
from planner.spec.plan import Plan, PoolFigure

LEFT, RIGHT = 220.0, 140.0  # columns of words beside the panel
ROOMY_ROW, CLOSE_ROW = 40.0, 60.0
AXIS_HEIGHT = 44.0  # px of the axis and its words
BAR, RAIL = 14.0, 3.0  # px of what is used, and of what was measured
NAME, VALUE = 13.0, 12.0  # font sizes
SPAN = 1.04  # of the axis, in what a replica can carry
TOLERANCE = 1e-6
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class _Row:
    """One pool."""

    figure: PoolFigure
    replicas: int
    most: float  # what it may be used to
    measured: tuple[float, float] | None

    @property
    def value(self) -> float:
        return self.figure.utilisation_ratio

    @property
    def role(self) -> Role:
        return "bad" if self.value > self.most + TOLERANCE else "accent"

    @property
    def words(self) -> str:
        """Returns what runs there."""
        return f"{self.replicas} replica{'s' if self.replicas != 1 else ''}"

    @property
    def tip(self) -> str:
        text = f"{self.figure.pool}: {self.words}, used to {percent(self.value)}"
        if self.figure.extrapolated:
            text += ", a load that nobody measured"
        if self.measured is not None:
            low, high = (percent(ratio) for ratio in self.measured)
            text += f" (measured from {low} to {high})"
        return text


def utilisation(
    plan: Plan,
    headroom_ratio: float | None = None,
    measured: Ranges | None = None,
    width: float = WIDE,
) -> Drawing | None:
    """Returns how busy the pools are, None where no pool has a figure.

    Args:
        plan: of a plan of periods, the busiest one is shown.
        headroom_ratio: what the question keeps free.
        measured: least and largest utilisation at loads that were measured, by pool.
        width: of the drawing, in px.
    """
    rows = list(_rows(plan, headroom_ratio or 0.0, measured or {}))
    if not rows:
        return None
    roomy = is_roomy(width)
    row_height = ROOMY_ROW if roomy else CLOSE_ROW
    key = legend(_entries(rows, headroom_ratio), 0.0, 0.0, width)
    top = key.height + 8.0
    bottom = top + row_height * len(rows)
    panel = Panel(LEFT if roomy else 12.0, top, width - RIGHT if roomy else width - 16.0, bottom)
    span = max(SPAN, 1.02 * max(min(row.value, 2.0) for row in rows))
    scale = Scale(0.0, span, panel.left, panel.right)
    title = "of the load that a replica can carry"
    marks: list[Mark] = [*key.marks, *x_axis(panel, scale, title, _percent)]
    for n, row in enumerate(rows):
        at = top + n * row_height
        drawn = _roomy_row(row, scale, at, width) if roomy else _close_row(row, scale, at, width)
        marks.append(Group(tuple(drawn), {"pool": row.figure.pool, "tip": row.tip}))
    words = "; ".join(row.tip for row in rows)
    return Drawing(width, bottom + AXIS_HEIGHT, "How busy each pool is", words, tuple(marks))


def _percent(tick: float, _: tuple[float, ...]) -> str:
    return f"{100 * tick:.0f}%"


def _rows(plan: Plan, headroom_ratio: float, measured: Ranges) -> Iterator[_Row]:
    replicas = {row.pool: row.replicas for row in plan.deployment}
    for figure in plan.predicted.pools:
        n, known = replicas.get(figure.pool, 0), measured.get(figure.pool)
        yield _Row(figure, n, 1.0 - headroom_ratio, known)


def _entries(rows: list[_Row], headroom_ratio: float | None) -> list[Entry]:
    entries = [Entry("used", "accent")]
    if any(row.measured for row in rows):
        entries.append(Entry("measured loads", "muted", "line"))
    if headroom_ratio:
        text = f"most that may be used: {percent(headroom_ratio)} stay free"
        entries.append(Entry(text, "ink", "line", dash=(4.0, 3.0)))
    return entries


def _roomy_row(row: _Row, scale: Scale, top: float, width: float) -> Iterator[Mark]:
    """Yields a pool with its words beside its bar."""
    yield Rect(0.0, top, width, ROOMY_ROW, "surface", 0.0)  # all of the row can be pointed at
    yield label(0.0, top + 17, row.figure.pool, LEFT - 14, size=NAME)
    yield label(0.0, top + 33, row.words, LEFT - 14, "muted", VALUE)
    yield from _bar(row, scale, top, top + ROOMY_ROW)
    left = width - RIGHT + 14.0
    upper = top + (17.0 if row.figure.extrapolated else 24.0)
    yield label(left, upper, percent(row.value), RIGHT - 14, _ink(row), NAME, is_bold=True)
    if row.figure.extrapolated:
        yield label(left, top + 33, "not measured", RIGHT - 14, "warn", VALUE)


def _close_row(row: _Row, scale: Scale, top: float, width: float) -> Iterator[Mark]:
    """Yields a pool with its words above its bar."""
    yield Rect(0.0, top, width, CLOSE_ROW, "surface", 0.0)
    yield label(0.0, top + 15, row.figure.pool, width - 130.0, size=NAME)
    text = percent(row.value) + (", not measured" if row.figure.extrapolated else "")
    role: Role = "warn" if row.figure.extrapolated else _ink(row)
    yield label(width, top + 15, text, 130.0, role, NAME, "end", is_bold=True)
    yield from _bar(row, scale, top + 22.0, top + 50.0)


def _ink(row: _Row) -> Role:
    return "bad" if row.role == "bad" else "ink"


def _bar(row: _Row, scale: Scale, top: float, bottom: float) -> Iterator[Mark]:
    """Yields the grid under a bar, the bar, what was measured, and what may be used."""
    middle = (top + bottom) / 2
    for tick in ticks_across(scale):
        yield Line(scale.at(tick), top, scale.at(tick), bottom, "grid")
    end = scale.clipped(row.value)
    yield Rect(scale.start, middle - BAR / 2, end - scale.start, BAR, row.role)
    if row.value > scale.high:
        yield Marker(scale.end, middle, "right", BAR, row.role)
    if row.measured is not None:
        low, high = (scale.clipped(ratio) for ratio in row.measured)
        rail = middle + BAR / 2 + 4.0
        yield Line(low, rail, high, rail, "muted", RAIL)
    if row.most < 1.0:
        yield Line(scale.at(row.most), top, scale.at(row.most), bottom, "ink", 1.5, (4.0, 3.0))
