"""The lines and words around a panel: ticks at round values, words that never lie on each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from planner.report.drawing.marks import Line, Mark
from planner.report.drawing.scales import Scale, tick_text
from planner.report.drawing.text import label, left_of, right_of, text_width

SIZE = 12.0
APART = 8.0  # px at least between two words
BELOW = 18.0  # from a panel to the baseline of the words under it
TITLE_BELOW = 36.0
BESIDE = 8.0
UNDER_MIDDLE = 4.0  # from the middle of a word to its baseline
PX_PER_TICK_ACROSS, PX_PER_TICK_UP = 64.0, 44.0

Say = Callable[[float, tuple[float, ...]], str]


@dataclass(frozen=True)
class Panel:
    """The rectangle in which data are drawn, in px."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Returns its width in px."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Returns its height in px."""
        return self.bottom - self.top


def ticks_across(scale: Scale) -> tuple[float, ...]:
    """Returns the ticks that a scale from left to right has room for."""
    return scale.ticks(max(int(abs(scale.end - scale.start) / PX_PER_TICK_ACROSS), 2))


def ticks_up(scale: Scale) -> tuple[float, ...]:
    """Returns the ticks that an upright scale has room for."""
    return scale.ticks(max(int(abs(scale.end - scale.start) / PX_PER_TICK_UP), 3))


def x_axis(
    panel: Panel,
    scale: Scale,
    title: str = "",
    say: Say = tick_text,
    ticks: Sequence[float] | None = None,
) -> list[Mark]:
    """Returns the axis below a panel; words that would lie on the one before them are left out."""
    shown = tuple(ticks) if ticks is not None else ticks_across(scale)
    marks: list[Mark] = []
    marks.append(Line(panel.left, panel.bottom, panel.right, panel.bottom, "muted"))
    last = -float("inf")
    for tick in shown:
        x = scale.at(tick)
        text = say(tick, shown)
        word = label(x, panel.bottom + BELOW, text, role="muted", size=SIZE, anchor="middle")
        if left_of(word) < last + APART:
            continue
        marks += [Line(x, panel.bottom, x, panel.bottom + 4, "muted"), word]
        last = right_of(word)
    if title:
        middle, y = (panel.left + panel.right) / 2, panel.bottom + TITLE_BELOW
        marks.append(label(middle, y, title, panel.width, "muted", SIZE, "middle"))
    return marks


def y_axis(
    panel: Panel,
    scale: Scale,
    title: str = "",
    say: Say = tick_text,
    title_left: float | None = None,
    ticks: Sequence[float] | None = None,
) -> list[Mark]:
    """Returns the grid of a panel, the words left of it, and its title above it.

    The title begins above the words, or where it is told, in px.
    """
    shown = tuple(ticks) if ticks is not None else ticks_up(scale)
    marks: list[Mark] = []
    for tick in shown:
        y = scale.at(tick)
        marks.append(Line(panel.left, y, panel.right, y, "grid"))
        text = say(tick, shown)
        marks.append(
            label(
                panel.left - BESIDE, y + UNDER_MIDDLE, text, role="muted", size=SIZE, anchor="end"
            )
        )
    if title:
        left = panel.left - y_axis_width(scale, say) if title_left is None else title_left
        marks.append(label(left, panel.top - 12, title, panel.right - left, "muted", SIZE))
    return marks


def y_axis_width(scale: Scale, say: Say = tick_text) -> float:
    """Returns the px that the words left of a panel take."""
    shown = ticks_up(scale)
    return max((text_width(say(t, shown), SIZE) for t in shown), default=0.0) + BESIDE
