"""Each latency limit: what is allowed, what is predicted with its band, what was simulated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from planner.report.drawing.axes import Panel, ticks_across, x_axis
from planner.report.drawing.legend import Entry, legend
from planner.report.drawing.marks import Drawing, Group, Line, Mark, Marker, Rect, Role
from planner.report.drawing.scales import Scale
from planner.report.drawing.text import label
from planner.report.figure.words import WIDE, is_roomy, latency, percent
from planner.spec.base import FOREVER_MS
from planner.spec.plan import LatencyFigure, Plan, SimulatedFigure, Verdict

LEAST_SPAN, MOST_SPAN = 1.15, 1.6  # of the axis, in what is allowed; beyond it an arrow
LEFT, RIGHT = 190.0, 150.0  # columns of words beside the panel
ROOMY_ROW, CLOSE_ROW = 46.0, 84.0
AXIS_HEIGHT = 44.0  # px of the axis and its words
NAME, VALUE = 13.0, 12.0  # font sizes
BAR = 14.0  # px of a band

_VERDICTS: dict[Verdict, Role] = {"met": "good", "missed": "bad", "too close to call": "warn"}


@dataclass(frozen=True)
class _Row:
    """One limit, in what it allows (1 is just met)."""

    figure: LatencyFigure
    allowed_ms: float
    seen: SimulatedFigure | None

    @property
    def name(self) -> str:
        return self.figure.short_label

    @property
    def used_ratio(self) -> float:
        return self.figure.ms / self.allowed_ms

    @property
    def reach_ratio(self) -> float:
        """Returns how far to the right its marks go; answers that never came do not count."""
        seen = self.seen.high_ms if self.seen and self.seen.high_ms < FOREVER_MS else 0.0
        return max(self.figure.high_ms, seen) / self.allowed_ms

    @property
    def predicted(self) -> str:
        return latency(self.figure.ms, self.allowed_ms)

    @property
    def simulated(self) -> str:
        return latency(self.seen.ms, self.allowed_ms) if self.seen else ""

    @property
    def tip(self) -> str:
        """Returns the row as a sentence."""
        low, high = (
            latency(ms, self.allowed_ms) for ms in (self.figure.low_ms, self.figure.high_ms)
        )
        text = f"{self.name}: at most {latency(self.allowed_ms)}; predicted {self.predicted} "
        text += f"({percent(self.used_ratio)}), between {low} and {high}"
        if self.seen is None:
            return text
        low, high = (latency(ms, self.allowed_ms) for ms in (self.seen.low_ms, self.seen.high_ms))
        verdict = f", {self.seen.verdict}" if self.seen.verdict else ""
        return f"{text}; simulated {self.simulated} ({low} to {high}{verdict})"


def limits(plan: Plan, width: float = WIDE) -> Drawing | None:
    """Returns the limits as rows on one axis in percent of what is allowed, None without limits."""
    rows = list(_rows(plan))
    if not rows:
        return None
    roomy = is_roomy(width)
    row_height = ROOMY_ROW if roomy else CLOSE_ROW
    key = legend(_entries(rows), 0.0, 0.0, width)
    top = key.height + 8.0
    bottom = top + row_height * len(rows)
    panel = Panel(LEFT if roomy else 12.0, top, width - RIGHT if roomy else width, bottom)
    span = min(max(LEAST_SPAN, 1.03 * max(row.reach_ratio for row in rows)), MOST_SPAN)
    scale = Scale(0.0, span, panel.left, panel.right)
    marks: list[Mark] = [*key.marks, *_axis(panel, scale)]
    for n, row in enumerate(rows):
        place = _row_marks if roomy else _close_row_marks
        drawn = place(row, scale, top + n * row_height, width)
        marks.append(Group(tuple(drawn), {"tip": row.tip}))
    words = "; ".join(row.tip for row in rows)
    return Drawing(width, bottom + AXIS_HEIGHT, "Latency limits", words, tuple(marks))


def _rows(plan: Plan) -> Iterator[_Row]:
    simulated = plan.simulated.latency if plan.simulated else ()
    seen = {(f.key, f.at_most_ms): f for f in simulated}
    for figure in plan.predicted.latency:
        if figure.at_most_ms is not None:
            yield _Row(figure, figure.at_most_ms, seen.get((figure.key, figure.at_most_ms)))


def _entries(rows: list[_Row]) -> list[Entry]:
    """Returns the key of what is drawn."""
    entries = [
        Entry("allowed", "ink", "line"),
        Entry("predicted", "accent", "marker"),
        Entry("its band", "band"),
    ]
    verdicts = [row.seen.verdict for row in rows if row.seen]
    if verdicts:
        role = _VERDICTS.get(verdicts[0] or "met", "ink") if len(set(verdicts)) == 1 else "ink"
        entries.append(
            Entry("simulated, 95 % interval", role, "line and marker", "diamond", is_hollow=True)
        )
    return entries


def _axis(panel: Panel, scale: Scale) -> list[Mark]:
    title = "of what is allowed"
    return x_axis(panel, scale, title, lambda tick, _: f"{100 * tick:.0f}%")


def _ground(scale: Scale, top: float, bottom: float) -> Iterator[Mark]:
    """Yields what lies under the bars: the grid, what is allowed, and where a limit is broken."""
    allowed = scale.at(1.0)
    yield Rect(allowed, top, scale.end - allowed, bottom - top, "bad", opacity=0.07)
    for tick in ticks_across(scale):
        yield Line(scale.at(tick), top, scale.at(tick), bottom, "grid")
    yield Line(allowed, top, allowed, bottom, "ink", 1.5)


def _row_marks(row: _Row, scale: Scale, top: float, width: float) -> Iterator[Mark]:
    """Yields a row with its words beside the panel."""
    upper, lower = top + 19.0, top + 36.0
    yield Rect(0.0, top, width, ROOMY_ROW, "surface", 0.0)  # all of the row can be pointed at
    yield label(0.0, upper, row.name, LEFT - 12, size=NAME)
    yield label(0.0, lower, f"at most {latency(row.allowed_ms)}", LEFT - 12, "muted", VALUE)
    yield from _ground(scale, top, top + ROOMY_ROW)
    yield from _bars(row, scale, top + ROOMY_ROW / 2)
    left = width - RIGHT + 14.0
    if row.seen is None:
        upper = top + 27.0
    yield label(left, upper, f"predicted {row.predicted}", RIGHT - 14, _ink(row), VALUE)
    if row.seen is not None:
        yield label(left, lower, f"simulated {row.simulated}", RIGHT - 14, "muted", VALUE)


def _close_row_marks(row: _Row, scale: Scale, top: float, width: float) -> Iterator[Mark]:
    """Yields a row with its words above and below its bars."""
    yield Rect(0.0, top, width, CLOSE_ROW, "surface", 0.0)
    yield label(0.0, top + 15.0, row.name, width - 142.0, size=NAME)
    allowed = f"at most {latency(row.allowed_ms)}"
    yield label(width, top + 15.0, allowed, 130.0, "muted", VALUE, "end")
    yield from _ground(scale, top + 22.0, top + 54.0)
    yield from _bars(row, scale, top + 38.0)
    text = f"predicted {row.predicted}"
    text += f" · simulated {row.simulated}" if row.seen else ""
    yield label(0.0, top + 70.0, text, width, _ink(row), VALUE)


def _ink(row: _Row) -> Role:
    return "bad" if row.figure.is_missed else "ink"


def _bars(row: _Row, scale: Scale, y: float) -> Iterator[Mark]:
    """Yields the band, the prediction and the simulated interval of a limit."""
    low, high = (
        scale.clipped(ms / row.allowed_ms) for ms in (row.figure.low_ms, row.figure.high_ms)
    )
    upper = y if row.seen is None else y - 6.0
    yield Rect(low, upper - BAR / 2, max(high - low, 1.0), BAR, "band", radius=3.0)
    if row.seen is not None:
        yield from _simulated(row.seen, row.allowed_ms, scale, y + 10.0)
    role: Role = "bad" if row.figure.is_missed else "accent"
    yield _marker(row.used_ratio, scale, upper, Marker(0.0, 0.0, "circle", 10.0, role))


def _simulated(seen: SimulatedFigure, allowed_ms: float, scale: Scale, y: float) -> Iterator[Mark]:
    role = _VERDICTS[seen.verdict] if seen.verdict else "ink"
    low, high = (scale.clipped(ms / allowed_ms) for ms in (seen.low_ms, seen.high_ms))
    yield Line(low, y, high, y, role, 2.0)
    for end in (low, high):
        yield Line(end, y - 4, end, y + 4, role, 2.0)
    yield _marker(
        seen.ms / allowed_ms, scale, y, Marker(0.0, 0.0, "diamond", 8.0, role, is_hollow=True)
    )


def _marker(ratio: float, scale: Scale, y: float, like: Marker) -> Marker:
    """Returns a marker at a ratio, an arrow at the end of the axis where it lies beyond."""
    if ratio > scale.high:
        return replace(like, x=scale.end, y=y, shape="right", is_hollow=False)
    return replace(like, x=scale.at(ratio), y=y)
