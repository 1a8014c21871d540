"""The colours of the roles, on a light and on a dark surface.

Text roles (ink, muted, good, warn, bad, accent) stand out from the surface by at least 4.5:1, the
series by at least 3:1 (WCAG 2.2, 1.4.3 and 1.4.11). The series stay apart for people who see no
red or no green (tests/report/test_drawing_palette.py computes both).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from planner.report.drawing.marks import Role

Theme = Literal["light", "dark"]

LIGHT: Mapping[Role, str] = {
    "surface": "#ffffff",
    "ink": "#1b1f24",
    "muted": "#5a6370",
    "grid": "#e4e7eb",
    "band": "#cfdcef",
    "accent": "#1d55a5",
    "good": "#007a6c",
    "warn": "#8a5a00",
    "bad": "#b3202c",
    "series-1": "#264ad0",
    "series-2": "#d28115",
    "series-3": "#1b8f7a",
    "series-4": "#9c419d",
    "series-5": "#a6112e",
    "series-6": "#5a93da",
    "series-7": "#777723",
    "series-8": "#7c5679",
}

DARK: Mapping[Role, str] = {
    "surface": "#12161b",
    "ink": "#e8ebef",
    "muted": "#9ba6b3",
    "grid": "#2a313a",
    "band": "#27405f",
    "accent": "#79b4f7",
    "good": "#3ddbb0",
    "warn": "#e0b04c",
    "bad": "#ff7b72",
    "series-1": "#5ac0ff",
    "series-2": "#ef7c3f",
    "series-3": "#37e8be",
    "series-4": "#a05ffa",
    "series-5": "#f36372",
    "series-6": "#a9d8ff",
    "series-7": "#d9c641",
    "series-8": "#9aa7b3",
}

PALETTES: Mapping[Theme, Mapping[Role, str]] = {"light": LIGHT, "dark": DARK}


def css_variables(theme: Theme) -> str:
    """Returns the CSS declarations of a theme's colours, e.g. '--ink:#1b1f24;--muted:...'."""
    return "".join(f"--{role}:{colour};" for role, colour in PALETTES[theme].items())
