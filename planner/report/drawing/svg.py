"""A drawing as SVG: classes for the roles of colour, so that the page around it has the say.

Classes
    fill-ROLE, stroke-ROLE   the colour of a mark, of palette.py unless the page says otherwise
    halo                     of a label with an edge in the colour of the surface
    bold                     of a label

STYLE maps them to the CSS variables --ROLE of palette.py; a page needs it once.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

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
    Points,
    Rect,
    Ribbon,
    Role,
)
from planner.report.drawing.outline import outline
from planner.report.drawing.palette import LIGHT

FONT = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'DejaVu Sans',sans-serif"

STYLE = "".join(
    [
        ".drawing text{font-family:" + FONT + ";font-variant-numeric:tabular-nums}",
        ".drawing .bold{font-weight:600}",
        ".drawing .halo{paint-order:stroke;stroke:var(--surface);stroke-width:3px;"
        "stroke-linejoin:round}",
        *(f".fill-{role}{{fill:var(--{role})}}" for role in LIGHT),
        *(f".stroke-{role}{{stroke:var(--{role})}}" for role in LIGHT),
    ]
)


def to_svg(drawing: Drawing, prefix: str = "") -> str:
    """Returns the drawing as an <svg> element to be put into a page, the same text every time.

    Args:
        drawing: what to show.
        prefix: begins the id of the description, for a page that holds the drawing more than once.
    """
    size = f"0 0 {_n(drawing.width)} {_n(drawing.height)}"
    described = f"{prefix}{_slug(drawing.title)}-words"
    body = "".join(_mark(mark) for mark in drawing.marks)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="{size}" role="img" '
        f'aria-label="{escape(drawing.title)}" aria-describedby="{described}">'
        f'<desc id="{described}">{escape(drawing.description)}</desc>{body}</svg>'
    )


def _slug(title: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in title.lower())


def _mark(mark: Mark) -> str:
    match mark:
        case Line():
            ends = f'x1="{_n(mark.x1)}" y1="{_n(mark.y1)}" x2="{_n(mark.x2)}" y2="{_n(mark.y2)}"'
            text = f"<line {ends}{_stroke(mark.role, mark.width, mark.dash)}/>"
        case Path():
            drawn = f'd="{_through(mark.points)}" fill="none" stroke-linejoin="round"'
            text = f"<path {drawn}{_stroke(mark.role, mark.width, mark.dash)}/>"
        case Area():
            text = f'<path d="{_through(mark.points)}Z"{_fill(mark.role, mark.opacity)}/>'
        case Ribbon():
            text = f'<path d="{_ribbon(mark)}"{_fill(mark.role, mark.opacity)}/>'
        case Rect():
            place = f'x="{_n(mark.x)}" y="{_n(mark.y)}"'
            place += f' width="{_n(mark.width)}" height="{_n(mark.height)}"'
            place += f' rx="{_n(mark.radius)}"' if mark.radius else ""
            text = f"<rect {place}{_fill(mark.role, mark.opacity)}/>"
        case Marker():
            text = _marker(mark)
        case Label():
            text = _label(mark)
        case Group():
            data = "".join(f' data-{name}="{escape(text)}"' for name, text in mark.data.items())
            text = f"<g{data}>{''.join(_mark(each) for each in mark.marks)}</g>"
    return text


def _marker(mark: Marker) -> str:
    fill: Role = "surface" if mark.is_hollow else mark.role
    stroke: Role = mark.role if mark.is_hollow else "surface"
    colours = (
        f' class="fill-{fill} stroke-{stroke}" stroke-width="{"2" if mark.is_hollow else "1"}"'
    )
    if mark.shape == "circle":
        place = f'cx="{_n(mark.x)}" cy="{_n(mark.y)}" r="{_n(mark.size / 2)}"'
        return f"<circle {place}{colours}/>"
    return f'<path d="{_through(outline(mark))}Z" stroke-linejoin="round"{colours}/>'


def _label(mark: Label) -> str:
    classes = [f"fill-{mark.role}"]
    classes += ["bold"] if mark.is_bold else []
    classes += ["halo"] if mark.has_halo else []
    anchor = "" if mark.anchor == "start" else f' text-anchor="{mark.anchor}"'
    whole = f"<title>{escape(mark.full)}</title>" if mark.full else ""
    return (
        f'<text x="{_n(mark.x)}" y="{_n(mark.y)}" font-size="{_n(mark.size)}"{anchor} '
        f'class="{" ".join(classes)}">{whole}{escape(mark.text)}</text>'
    )


def _ribbon(mark: Ribbon) -> str:
    middle = (mark.x1 + mark.x2) / 2
    below1, below2 = mark.top1 + mark.thickness, mark.top2 + mark.thickness
    there = f"C{_n(middle)} {_n(mark.top1)} {_n(middle)} {_n(mark.top2)} {_n(mark.x2)} "
    back = f"C{_n(middle)} {_n(below2)} {_n(middle)} {_n(below1)} {_n(mark.x1)} {_n(below1)}Z"
    return f"M{_n(mark.x1)} {_n(mark.top1)}{there}{_n(mark.top2)}L{_n(mark.x2)} {_n(below2)}{back}"


def _through(points: Points) -> str:
    return "M" + "L".join(_pairs(points))


def _pairs(points: Points) -> Iterator[str]:
    return (f"{_n(x)} {_n(y)}" for x, y in points)


def _stroke(role: Role, width: float, dash: Dash) -> str:
    dashes = f' stroke-dasharray="{" ".join(map(_n, dash))}"' if dash else ""
    return f' class="stroke-{role}" stroke-width="{_n(width)}"{dashes}'


def _fill(role: Role, opacity: float) -> str:
    return f' class="fill-{role}"' + (f' fill-opacity="{_n(opacity)}"' if opacity < 1 else "")


def _n(value: float) -> str:
    """Returns a number with at most two decimals, without trailing zeros or a negative zero."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
