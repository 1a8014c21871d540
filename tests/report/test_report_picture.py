"""Pictures of a profile: real PNG, one page that needs no other file, the same bytes each time."""

from __future__ import annotations

import struct
import sys
import xml.etree.ElementTree as ET

import pytest
from hand_plan import SMALL

from planner.errors import MissingExtra
from planner.latency.fit import fit
from planner.profile import review
from planner.profile.review import charts
from planner.report.picture import page, png

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def drawn(demo_inputs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(review, "N_CURVE", 12)
        return charts(fit(demo_inputs.profiles.by_name()[SMALL]))


def test_a_png_of_two_charts_a_row(drawn):
    data = png(drawn, SMALL)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    rows = -(-len(drawn) // 2)
    assert (width, height) == (1200, 408 * rows)
    assert data == png(drawn, SMALL)


def test_the_page_stands_alone_and_is_the_same_each_time(drawn):
    text = page(drawn, "a <pool>", "x < y")
    assert text == page(drawn, "a <pool>", "x < y")
    assert "<h1>a &lt;pool&gt;</h1>" in text and "<pre>x &lt; y</pre>" in text
    assert 'src="http' not in text and "<script" not in text
    drawing = text[text.index("<svg") : text.index("</svg>") + 6]
    words = {"".join(e.itertext()).strip() for e in ET.fromstring(drawing).iter()}
    assert {"output tokens/s", "requests in flight", "90 % band"} <= words


def test_without_anything_to_draw_the_page_has_its_text():
    assert "<svg" not in page((), "p", "text")


def test_without_matplotlib_it_says_what_to_install(drawn, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"rb-planner\[figures\]"):
        png(drawn, SMALL)
