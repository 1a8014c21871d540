"""The key of a drawing: a sample of each mark with its words, in as many rows as the width asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from planner.report.drawing.marks import Area, Dash, Line, Mark, Marker, Rect, Role, Shape
from planner.report.drawing.text import cut, label, text_width

SIZE = 12.0
ROW = 20.0
SAMPLE = 18.0  # px that a sample takes
GAP = 6.0
BETWEEN = 18.0
BASELINE = 14.0  # of a row's text below its top
MIDDLE = 10.0


@dataclass(frozen=True)
class Entry:
    """One line of a key: words, and the mark that they explain."""

    text: str
    role: Role
    kind: Literal["area", "line", "marker", "line and marker"] = "area"
    shape: Shape = "circle"
    dash: Dash = ()
    is_hollow: bool = False
    opacity: float = 1.0


@dataclass(frozen=True)
class Legend:
    """The marks of a key, from its upper left corner, and how high it is."""

    marks: tuple[Mark, ...]
    height: float


def legend(entries: Sequence[Entry], x: float, y: float, width: float) -> Legend:
    """Returns the key of some marks within a width, in px; entries keep their order."""
    marks: list[Mark] = []
    at, top = x, y
    for entry in entries:
        room = width - SAMPLE - GAP
        need = SAMPLE + GAP + text_width(cut(entry.text, SIZE, room), SIZE)
        if at > x and at + need > x + width:
            at, top = x, top + ROW
        marks += _sample(entry, at, top + MIDDLE)
        marks.append(label(at + SAMPLE + GAP, top + BASELINE, entry.text, room, "muted", SIZE))
        at += need + BETWEEN
    return Legend(tuple(marks), top + ROW - y if entries else 0.0)


def _sample(entry: Entry, x: float, y: float) -> list[Mark]:
    """Returns a small picture of an entry's mark, SAMPLE px wide."""
    middle = x + SAMPLE / 2
    if entry.kind == "area":
        if entry.shape == "square":
            return [Rect(x + 3, y - 6, 12.0, 12.0, entry.role, entry.opacity, 2.0)]
        corners = ((x, y - 5), (x + SAMPLE, y - 5), (x + SAMPLE, y + 5), (x, y + 5))
        return [Area(corners, entry.role, entry.opacity)]
    marks: list[Mark] = []
    if "line" in entry.kind:
        marks.append(Line(x, y, x + SAMPLE, y, entry.role, 2.0, entry.dash))
    if "marker" in entry.kind:
        marks.append(Marker(middle, y, entry.shape, 9.0, entry.role, entry.is_hollow))
    return marks
