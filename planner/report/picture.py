"""A profile as a picture (PNG) and as one self-contained page (HTML with the drawing inside)."""

from __future__ import annotations

import html
from collections.abc import Sequence

from planner.profile.review import Chart
from planner.report.drawing.marks import Drawing
from planner.report.drawing.palette import css_variables
from planner.report.drawing.png import to_png
from planner.report.drawing.svg import FONT, STYLE, to_svg
from planner.report.drawing.text import label
from planner.report.figure.curves import every_curve
from planner.report.figure.words import NARROW, WIDE

NOTHING = "no latency over a load is known of this pool"


def png(charts: Sequence[Chart], heading: str) -> bytes:
    """Returns the charts, two in a row, as a PNG.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    return to_png(every_curve(heading, charts) or _nothing(heading))


def page(charts: Sequence[Chart], heading: str, text: str) -> str:
    """Returns an HTML page that needs no other file: the charts, then a report as plain text."""
    drawn = "".join(
        f'<div class="{name}">{to_svg(drawing, f"{name}-")}</div>\n'
        for name, width in (("wide", WIDE), ("narrow", NARROW))
        if (drawing := every_curve(heading, charts, width)) is not None
    )
    name = html.escape(heading)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>{name}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n{drawn}"
        f"<pre>{html.escape(text)}</pre>\n</body>\n</html>\n"
    )


_STYLE = (
    f":root{{color-scheme:light dark;{css_variables('light')}}}"
    f"@media(prefers-color-scheme:dark){{:root{{{css_variables('dark')}}}}}"
    f"body{{font-family:{FONT};margin:2rem auto;max-width:60rem;padding:0 1rem;"
    "color:var(--ink);background:var(--surface)}"
    "svg{width:100%;height:auto}.wide{max-width:760px}.narrow{max-width:420px;display:none}"
    "@media(max-width:600px){.wide{display:none}.narrow{display:block}}"
    "pre{overflow-x:auto;line-height:1.35}" + STYLE
)


def _nothing(heading: str) -> Drawing:
    return Drawing(WIDE, 24.0, heading, NOTHING, (label(0.0, 16.0, NOTHING, WIDE, "muted"),))
