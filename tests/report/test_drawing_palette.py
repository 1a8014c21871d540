"""Colours that can be read and told apart: computed from the standards, not from the palette.

Contrast: WCAG 2.2, relative luminance and contrast ratio (1.4.3, 1.4.11). Colour blindness: the
matrices of Machado, Oliveira and Fernandes 2009 (IEEE TVCG 15) at severity 1, on linear RGB.
Differences: CIE 1976 in L*a*b* (2.3 is just noticeable).
"""

from __future__ import annotations

import typing
from itertools import combinations

import numpy as np
import pytest

from planner.report.drawing.marks import SERIES, Role
from planner.report.drawing.palette import PALETTES, css_variables
from planner.report.figure.flow import AGAIN_OPACITY, OPACITY
from planner.report.figure.front import GROUND

PROTANOPIA = [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
]
DEUTERANOPIA = [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.011820, 0.042940, 0.968881],
]
SIGHTS = [np.eye(3), np.array(PROTANOPIA), np.array(DEUTERANOPIA)]
THEMES = sorted(PALETTES)


def linear(colour: str) -> np.ndarray:
    channel = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (a, b))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ rgb / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(a: str, b: str) -> float:
    """How different two colours are to whoever tells them apart worst."""
    seen = [[lab(np.clip(sight @ linear(c), 0, 1)) for c in (a, b)] for sight in SIGHTS]
    return min(float(np.linalg.norm(one - other)) for one, other in seen)


def test_the_measures_know_the_standards_examples():
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert lab(linear("#ff0000")) == pytest.approx([53.24, 80.09, 67.20], abs=0.1)
    assert (
        apart("#d00000", "#307000")
        < 45
        < np.linalg.norm(lab(linear("#d00000")) - lab(linear("#307000")))
    )


@pytest.mark.parametrize("theme", THEMES)
def test_a_palette_has_every_role(theme):
    assert set(PALETTES[theme]) == set(typing.get_args(Role))
    assert all(
        f"--{role}:{colour};" in css_variables(theme) for role, colour in PALETTES[theme].items()
    )


@pytest.mark.parametrize("theme", THEMES)
def test_words_can_be_read(theme):
    colours = PALETTES[theme]
    for role in ("ink", "muted", "accent", "good", "warn", "bad"):
        assert contrast(colours[role], colours["surface"]) >= 4.5, role


@pytest.mark.parametrize("theme", THEMES)
def test_words_on_ribbons_and_bands_can_be_read(theme):
    colours = PALETTES[theme]

    def over(role: str, opacity: float) -> str:
        above, below = (
            np.array([int(colours[r][i : i + 2], 16) for i in (1, 3, 5)]) for r in (role, "surface")
        )
        return "#" + "".join(f"{round(c):02x}" for c in opacity * above + (1 - opacity) * below)

    for role in (*SERIES, "muted"):
        for opacity in (OPACITY, AGAIN_OPACITY):
            assert contrast(colours["ink"], over(role, opacity)) >= 4.5, role
    assert contrast(colours["ink"], over("band", GROUND)) >= 4.5
    assert contrast(colours["warn"], over("band", 0.75)) >= 4.5  # a load on a curve's band


@pytest.mark.parametrize("theme", THEMES)
def test_marks_stand_out(theme):
    colours = PALETTES[theme]
    for role in SERIES:
        assert contrast(colours[role], colours["surface"]) >= 3.0, role
    assert contrast(colours["accent"], colours["band"]) >= 3.0


@pytest.mark.parametrize("theme", THEMES)
def test_series_stay_apart_for_the_colour_blind(theme):
    colours = [PALETTES[theme][role] for role in SERIES]
    assert min(apart(a, b) for a, b in combinations(colours, 2)) >= 12
    assert min(apart(a, b) for a, b in combinations(colours[:5], 2)) >= 25


@pytest.mark.parametrize("theme", THEMES)
def test_good_and_bad_stay_apart_for_the_colour_blind(theme):
    colours = PALETTES[theme]
    assert apart(colours["good"], colours["bad"]) >= 20
    assert apart(colours["good"], colours["warn"]) >= 20
    assert apart(colours["accent"], colours["bad"]) >= 25
