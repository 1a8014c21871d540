"""What a picture is made of: frozen marks at places in px, y downwards, colours as roles.

A picture says what it shows and leaves how that looks to its medium: a page maps the roles to its
light and its dark colours (svg.py), a PNG takes one of them (png.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal[
    "surface", "ink", "muted", "grid", "band", "accent", "good", "warn", "bad",
    "series-1", "series-2", "series-3", "series-4",
    "series-5", "series-6", "series-7", "series-8",
]  # fmt: skip
SERIES: tuple[Role, ...] = (
    "series-1", "series-2", "series-3", "series-4",
    "series-5", "series-6", "series-7", "series-8",
)  # fmt: skip
Anchor = Literal["start", "middle", "end"]
Shape = Literal["circle", "square", "diamond", "triangle", "right"]
Points = tuple[tuple[float, float], ...]
Dash = tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    role: Role = "ink"
    width: float = 1.0
    dash: Dash = ()


@dataclass(frozen=True)
class Path:
    """A line through points."""

    points: Points
    role: Role = "ink"
    width: float = 2.0
    dash: Dash = ()


@dataclass(frozen=True)
class Area:
    """A filled polygon."""

    points: Points
    role: Role = "band"
    opacity: float = 1.0


@dataclass(frozen=True)
class Ribbon:
    """A band from one upright edge to another, level where it leaves and where it arrives."""

    x1: float
    top1: float
    x2: float
    top2: float
    thickness: float
    role: Role
    opacity: float = 1.0


@dataclass(frozen=True)
class Rect:
    """A filled rectangle with its sides along the axes."""

    x: float
    y: float
    width: float
    height: float
    role: Role
    opacity: float = 1.0
    radius: float = 0.0


@dataclass(frozen=True)
class Marker:
    """A point that is meant: its shape says what colour alone would."""

    x: float
    y: float
    shape: Shape = "circle"
    size: float = 8.0  # from side to side
    role: Role = "ink"
    is_hollow: bool = False


@dataclass(frozen=True)
class Label:
    """A line of text; y is its baseline."""

    x: float
    y: float
    text: str
    role: Role = "ink"
    size: float = 12.0
    anchor: Anchor = "start"
    is_bold: bool = False
    has_halo: bool = False  # an edge in the colour of the surface, over other marks
    full: str = ""  # what the text was before it was cut to fit; empty: nothing is missing


@dataclass(frozen=True)
class Group:
    """Marks that belong to one thing, and what a page must know of it.

    `data` may name a "tip": one sentence that says what the thing is.
    """

    marks: tuple[Mark, ...]
    data: Mapping[str, str] = field(default_factory=dict)


Mark = Line | Path | Area | Ribbon | Rect | Marker | Label | Group


@dataclass(frozen=True)
class Drawing:
    """A picture of a width and height in px, with a title and a description in words."""

    width: float
    height: float
    title: str
    description: str
    marks: tuple[Mark, ...]

    def leaves(self) -> Iterator[Mark]:
        """Yields every mark that is no group, in the order in which they are drawn."""
        yield from _leaves(self.marks)

    def groups(self) -> Iterator[Group]:
        """Yields every group, outer ones first."""
        yield from _groups(self.marks)


def _leaves(marks: tuple[Mark, ...]) -> Iterator[Mark]:
    for mark in marks:
        if isinstance(mark, Group):
            yield from _leaves(mark.marks)
        else:
            yield mark


def _groups(marks: tuple[Mark, ...]) -> Iterator[Group]:
    for mark in marks:
        if isinstance(mark, Group):
            yield mark
            yield from _groups(mark.marks)
