"""Where words find room beside a mark."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import hypot

from planner.report.drawing.axes import Panel
from planner.report.drawing.marks import Label, Points
from planner.report.drawing.text import left_of, right_of

SIZE = 12.0
STEP = 4.0
AROUND = 9.0  # px that other marks take around their middle


def free_label(
    text: str,
    x: float,
    y: float,
    away: float,
    taken: Sequence[tuple[float, float]],
    panel: Panel,
    lines: Points = (),
) -> Label:
    """Returns a label beside a mark: of the places around it that with the most room.

    Args:
        text: what it says.
        x: the middle of the mark, in px.
        y: the same.
        away: px between the middle of the mark and the words.
        taken: the middles of the marks that it should not cover.
        panel: where it has to stay.
        lines: corners of a line of upright and level parts that it should better not cover either.
    """
    along = _along(lines)
    diagonal = 0.7 * away
    found = [
        Label(x + away, y + 4, text, size=SIZE, anchor="start", is_bold=True, has_halo=True),
        Label(x - away, y + 4, text, size=SIZE, anchor="end", is_bold=True, has_halo=True),
        Label(x, y + away + 10, text, size=SIZE, anchor="middle", is_bold=True, has_halo=True),
        Label(x, y - away - 2, text, size=SIZE, anchor="middle", is_bold=True, has_halo=True),
        Label(x + diagonal, y + diagonal + 9, text, size=SIZE, is_bold=True, has_halo=True),
        Label(x - diagonal, y + diagonal + 9, text, "ink", SIZE, "end", True, True),
        Label(x + diagonal, y - diagonal - 1, text, size=SIZE, is_bold=True, has_halo=True),
    ]
    return min(found, key=lambda label: _covered(label, taken, along, panel))


def _covered(
    label: Label,
    taken: Sequence[tuple[float, float]],
    along: Sequence[tuple[float, float]],
    panel: Panel,
) -> tuple[bool, int, int]:
    """Returns what a label hides, worst first: itself outside the panel, marks, parts of lines."""
    left, right = left_of(label), right_of(label)
    top, bottom = label.y - SIZE, label.y + 3
    outside = left < panel.left or right > panel.right or top < panel.top or bottom > panel.bottom
    hidden = sum(
        left - AROUND < x < right + AROUND and top - AROUND < y < bottom + AROUND for x, y in taken
    )
    return outside, hidden, sum(left < x < right and top < y < bottom for x, y in along)


def _along(lines: Points) -> list[tuple[float, float]]:
    """Returns places along a line, STEP px apart."""
    places = []
    for (x1, y1), (x2, y2) in pairwise(lines):
        n = max(int(hypot(x2 - x1, y2 - y1) / STEP), 1)
        places += [(x1 + (x2 - x1) * k / n, y1 + (y2 - y1) * k / n) for k in range(n + 1)]
    return places
