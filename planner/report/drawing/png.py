"""A drawing as PNG, with its title above it: for slides, the same bytes every time."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from planner.errors import MissingExtra
from planner.report.drawing.marks import (
    Area,
    Dash,
    Drawing,
    Group,
    Label,
    Line,
    Mark,
    Marker,
    Path,
    Rect,
    Ribbon,
    Role,
)
from planner.report.drawing.outline import outline
from planner.report.drawing.palette import PALETTES
from planner.report.drawing.text import label

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.path import Path as MplPath

PX_PER_IN = 100.0
POINTS_PER_PX = 72.0 / PX_PER_IN
MARGIN = 24.0  # px around the drawing
TITLE_SIZE = 16.0
TITLE_HEIGHT = 34.0
HALO = 3.0
HORIZONTAL = {"start": "left", "middle": "center", "end": "right"}


def to_png(drawing: Drawing, dark: bool = False, scale: float = 2.0) -> bytes:
    """Returns the drawing as a PNG of `scale` pixels per px.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("figures", "a picture as PNG") from None
    colours = PALETTES["dark" if dark else "light"]
    width, height = drawing.width + 2 * MARGIN, drawing.height + 2 * MARGIN + TITLE_HEIGHT
    buffer = io.BytesIO()
    with mpl.rc_context({"font.family": ["DejaVu Sans"], "path.simplify": False}):
        size = (width / PX_PER_IN, height / PX_PER_IN)
        figure = Figure(figsize=size, facecolor=colours["surface"])
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(-MARGIN, drawing.width + MARGIN)
        axes.set_ylim(drawing.height + MARGIN, -MARGIN - TITLE_HEIGHT)
        place = (0.0, TITLE_SIZE - TITLE_HEIGHT)
        heading = label(*place, drawing.title, drawing.width, size=TITLE_SIZE, is_bold=True)
        pen = _Pen(axes, colours)
        for mark in (heading, *drawing.leaves()):
            pen.draw(mark)
        with warnings.catch_warnings():  # a letter that the font lacks is drawn as a box
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(buffer, format="png", dpi=PX_PER_IN * scale, metadata={"Software": "rb"})
    return buffer.getvalue()


class _Pen:
    """Draws marks in the order in which they come, in the colours of a palette."""

    def __init__(self, axes: Axes, colours: Mapping[Role, str]) -> None:
        self._axes, self._colours = axes, colours
        self._n_drawn = 0

    def draw(self, mark: Mark) -> None:
        """Draws one mark on top of those before it."""
        from matplotlib.patches import PathPatch

        self._n_drawn += 1
        match mark:
            case Line():
                self._line((mark.x1, mark.x2), (mark.y1, mark.y2), mark)
            case Path():
                x, y = zip(*mark.points, strict=True)
                self._line(x, y, mark)
            case Area() | Rect() | Ribbon():
                colour = self._colours[mark.role]
                patch = PathPatch(_edge(mark), facecolor=colour, alpha=mark.opacity, linewidth=0)
                self._add(patch)
            case Marker():
                self._marker(mark)
            case Label():
                self._label(mark)
            case Group():
                for each in mark.marks:
                    self.draw(each)

    def _line(self, x: Sequence[float], y: Sequence[float], mark: Line | Path) -> None:
        from matplotlib.lines import Line2D

        self._add(
            Line2D(
                x,
                y,
                color=self._colours[mark.role],
                linewidth=mark.width * POINTS_PER_PX,
                linestyle=_dashes(mark.dash, mark.width),
                dash_capstyle="butt",
                solid_capstyle="butt",
                solid_joinstyle="round",
            )
        )

    def _marker(self, mark: Marker) -> None:
        from matplotlib.patches import Circle, Polygon

        own, surface = self._colours[mark.role], self._colours["surface"]
        fill, edge, width = (surface, own, 2.0) if mark.is_hollow else (own, surface, 1.0)
        style = {"facecolor": fill, "edgecolor": edge, "linewidth": width * POINTS_PER_PX}
        if mark.shape == "circle":
            self._add(Circle((mark.x, mark.y), mark.size / 2, **style))
        else:
            self._add(Polygon(outline(mark), closed=True, joinstyle="round", **style))

    def _label(self, mark: Label) -> None:
        from matplotlib.patheffects import withStroke

        text = self._axes.text(
            mark.x,
            mark.y,
            mark.text,
            color=self._colours[mark.role],
            fontsize=mark.size * POINTS_PER_PX,
            fontweight="bold" if mark.is_bold else "normal",
            ha=HORIZONTAL[mark.anchor],
            va="baseline",
            parse_math=False,  # a $ is money here
            zorder=self._n_drawn,
        )
        if mark.has_halo:
            edge = withStroke(linewidth=HALO * POINTS_PER_PX, foreground=self._colours["surface"])
            text.set_path_effects([edge])

    def _add(self, artist: Artist) -> None:
        artist.set_zorder(self._n_drawn)
        self._axes.add_artist(artist)


def _dashes(dash: Dash, width: float) -> Literal["solid"] | tuple[float, tuple[float, ...]]:
    """Returns a line style; matplotlib counts dashes in widths of the line."""
    return (0.0, tuple(length / width for length in dash)) if dash else "solid"


def _edge(mark: Area | Rect | Ribbon) -> MplPath:
    """Returns the closed outline of a filled mark; corners of rectangles are not rounded."""
    from matplotlib.path import Path as MplPath

    line, curve, start = MplPath.LINETO, MplPath.CURVE4, MplPath.MOVETO
    if isinstance(mark, Ribbon):
        middle, t = (mark.x1 + mark.x2) / 2, mark.thickness
        points = [(mark.x1, mark.top1), (middle, mark.top1), (middle, mark.top2)]
        points += [(mark.x2, mark.top2), (mark.x2, mark.top2 + t), (middle, mark.top2 + t)]
        points += [(middle, mark.top1 + t), (mark.x1, mark.top1 + t)]
        return MplPath(points, [start, curve, curve, curve, line, curve, curve, curve])
    if isinstance(mark, Rect):
        right, below = mark.x + mark.width, mark.y + mark.height
        corners = [(mark.x, mark.y), (right, mark.y), (right, below), (mark.x, below)]
    else:
        corners = list(mark.points)
    return MplPath(corners, [start, *[line] * (len(corners) - 1)])
