"""Pictures of a profile: real PNG, one page that needs no other file, the same bytes each time."""

from __future__ import annotations

import re
import struct
import sys
import xml.etree.ElementTree as ET

import pytest
from drawn_plans import outside, overlapping
from hand_plan import SMALL

from planner.errors import MissingExtra
from planner.latency.fit import fit
from planner.profile.review import charts
from planner.report.figure.curves import every_curve
from planner.report.figure.words import NARROW, WIDE
from planner.report.picture import NOTHING, page, png


@pytest.fixture(scope="module")
def drawn(demo_inputs):
    return charts(fit(demo_inputs.profiles.by_name()[SMALL]), n_curve=12)


def test_a_png_of_two_charts_a_row(drawn):
    pytest.importorskip("matplotlib")
    data, one = png(drawn, SMALL), png(drawn[:1], SMALL)
    (width, height), (same, lower) = (struct.unpack(">II", d[16:24]) for d in (data, one))
    assert data.startswith(b"\x89PNG\r\n\x1a\n") and width == same
    assert len(drawn) == 3 and height > 1.5 * lower
    assert png(drawn[:2], SMALL)[16:24] == one[16:24]
    assert data == png(drawn, SMALL)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_chart_is_drawn(drawn, width):
    drawing = every_curve(SMALL, drawn, width)
    assert len(list(drawing.groups())) == len(drawn)
    assert overlapping(drawing) == outside(drawing) == []


def test_the_page_stands_alone_and_is_the_same_each_time(drawn):
    text = page(drawn, "a <pool>", "x < y")
    assert text == page(drawn, "a <pool>", "x < y")
    assert "<h1>a &lt;pool&gt;</h1>" in text and "<pre>x &lt; y</pre>" in text
    assert not re.search(r"(src|href)=|url\(|@import|<script", text)
    for drawing in re.findall(r"<svg.*?</svg>", text):
        words = {"".join(e.itertext()).strip() for e in ET.fromstring(drawing).iter()}
        assert {"output tokens/s", "measured", "fitted", "90 % band"} <= words
    assert text.count("<svg") == 2  # for screens and for phones
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(set(ids)) == len(ids) == 2


def test_the_page_needs_no_other_package(drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "<svg" in page(drawn, SMALL, "text")


def test_without_anything_to_draw_the_page_has_its_text_and_the_picture_says_so():
    pytest.importorskip("matplotlib")
    assert "<svg" not in page((), "p", "text")
    assert png((), "p") != png((), "q")
    assert NOTHING.startswith("no latency")


def test_without_matplotlib_it_says_what_to_install(drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"rb-planner\[figures\]"):
        png(drawn, SMALL)
