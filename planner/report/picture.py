"""A profile as a picture (PNG) and as one self-contained page (HTML with the drawing inside)."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from planner.errors import MissingExtra
from planner.profile.review import Chart
from planner.report.titles import load_title, title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH_IN, HEIGHT_IN = 5.0, 3.4
DPI = 120
BLUE, INK = "#2563a8", "#1b1f24"


def png(charts: Sequence[Chart], heading: str) -> bytes:
    """Returns the charts side by side as a PNG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return _rendered(charts, heading, "png", {"Software": "rb"})


def page(charts: Sequence[Chart], heading: str, text: str) -> str:
    """Returns an HTML page that needs no other file: the charts, then a report as plain text.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    drawing = ""
    if charts:
        origin = {"Date": None, "Creator": "rb"}
        drawing = _rendered(charts, "", "svg", origin).decode("utf-8")
        drawing = drawing[drawing.index("<svg") :]
    name = html.escape(heading)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{name}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n{drawing}\n"
        f"<pre>{html.escape(text)}</pre>\n</body>\n</html>\n"
    )


_STYLE = (
    "body{font-family:system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;"
    "color:#1b1f24}svg{max-width:100%;height:auto}pre{overflow-x:auto;line-height:1.35}"
)


def _rendered(
    charts: Sequence[Chart], heading: str, kind: str, metadata: Mapping[str, str | None]
) -> bytes:
    """Returns the charts, two in a row, in a file format; the same bytes every time."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("figures", "a picture of a profile") from None
    columns = min(len(charts), 2) or 1
    rows = -(-len(charts) // columns) or 1
    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "rb", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(WIDTH_IN * columns, HEIGHT_IN * rows), layout="constrained")
        if heading:
            figure.suptitle(heading, color=INK)
        for place, chart in enumerate(charts, 1):
            _draw(figure.add_subplot(rows, columns, place), chart)
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=dict(metadata))
    return buffer.getvalue()


def _draw(axes: Axes, chart: Chart) -> None:
    axes.fill_between(chart.loads, chart.low, chart.high, color=BLUE, alpha=0.18, label="90 % band")
    axes.plot(chart.loads, chart.value, color=BLUE, label="fitted")
    loads, figures = zip(*chart.measured, strict=True)
    axes.plot(loads, figures, "o", color=INK, markersize=4, label="measured")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(bottom=0)
    axes.set_title(title(chart.column))
    axes.set_xlabel(load_title(chart.mode))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
