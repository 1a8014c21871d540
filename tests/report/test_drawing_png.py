"""PNG: the same layout and colours as the drawing, the same bytes every time."""

from __future__ import annotations

import io
import struct
import sys
import warnings

import numpy as np
import pytest
from drawn_plans import demo

from planner.errors import MissingExtra
from planner.report.drawing.marks import (
    Area,
    Drawing,
    Group,
    Label,
    Line,
    Marker,
    Path,
    Rect,
    Ribbon,
)
from planner.report.drawing.palette import PALETTES
from planner.report.drawing.png import MARGIN, TITLE_HEIGHT, to_png
from planner.report.figure.flow import flow
from planner.report.figure.limits import limits

pytest.importorskip("matplotlib")

MARKS = (
    Rect(10, 20, 60, 30, "accent"),
    Area(((100, 20), (160, 20), (160, 50), (100, 50)), "bad"),
    Ribbon(10, 70, 160, 70, 20, "series-1"),
    Group((Marker(40, 120, "square", 24, "good"),), {"tip": "x"}),
    Marker(100, 120, "circle", 24, "warn"),
    Line(150, 105, 150, 135, "ink", 8.0),
    Path(((170, 105), (170, 135)), "muted", 8.0),
)


def pixels(drawing, dark=False, scale=1.0):
    """The colours of a PNG, and a function from a place of the drawing to its colour as hex."""
    from matplotlib.image import imread

    image = imread(io.BytesIO(to_png(drawing, dark, scale)), format="png")

    def at(x, y):
        row, column = (y + MARGIN + TITLE_HEIGHT) * scale, (x + MARGIN) * scale
        return "#" + "".join(f"{round(255 * c):02x}" for c in image[int(row), int(column), :3])

    return image, at


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_marks_have_their_places_and_colours(dark, scale):
    image, at = pixels(Drawing(200, 150, "t", "d", MARKS), dark, scale)
    colours = PALETTES["dark" if dark else "light"]
    height, width = 150 + 2 * MARGIN + TITLE_HEIGHT, 200 + 2 * MARGIN
    assert image.shape[:2] == (height * scale, width * scale)
    expected = {
        (12, 22): "accent", (68, 48): "accent", (72, 30): "surface", (130, 35): "bad",
        (12, 72): "series-1", (85, 88): "series-1", (85, 93): "surface", (40, 120): "good",
        (100, 120): "warn", (150, 120): "ink", (170, 120): "muted", (5, 5): "surface",
    }  # fmt: skip
    assert {place: at(*place) for place in expected} == {
        place: colours[role] for place, role in expected.items()
    }


def test_the_same_bytes_every_time():
    for drawing in (limits(demo()), flow(demo())):
        light = to_png(drawing, scale=1.0)
        assert light == to_png(drawing, scale=1.0) != to_png(drawing, dark=True, scale=1.0)


def test_its_size_is_that_of_the_drawing_times_the_scale():
    drawing = limits(demo())
    data = to_png(drawing, scale=2.0)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width == 2 * (drawing.width + 2 * MARGIN)
    assert height == pytest.approx(2 * (drawing.height + 2 * MARGIN + TITLE_HEIGHT), abs=2)


def test_words_are_drawn_as_they_are():
    """Money signs are no formulas, and letters that the font lacks are no warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image, _ = pixels(Drawing(200, 40, "$1 and $2", "d", (Label(5, 30, "$a_b$ 模型 é"),)))
    assert np.unique(image[:, :, 0]).size > 2


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"rb-planner\[figures\]"):
        to_png(limits(demo()))
