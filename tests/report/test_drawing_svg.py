"""SVG: sound XML, colours by role only, words escaped, nothing from elsewhere."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from planner.report.drawing.svg import STYLE, to_svg

SVG = "{http://www.w3.org/2000/svg}"
MARKS = (
    Line(0, 1, 2, 3, "grid", 1.5, (4, 3)),
    Path(((0, 0), (5, 5.125), (9, 1)), "accent"),
    Area(((0, 0), (5, 5), (9, 1)), "band", 0.5),
    Ribbon(10, 20, 110, 40, 8, "series-1", 0.4),
    Rect(1, 2, 3, 4, "bad", radius=2),
    Group((Marker(5, 6), Marker(7, 8, "square", is_hollow=True)), {"point": "3", "tip": 'a "tip"'}),
    Label(1, 12, "words", "muted", 13, "end", is_bold=True, has_halo=True, full="all the words"),
)


def drawn(*marks):
    return ET.fromstring(to_svg(Drawing(100, 50, "A title", "What it shows", marks)))


def test_the_picture_says_what_it_is():
    root = drawn(*MARKS)
    assert root.tag == f"{SVG}svg" and root.get("role") == "img"
    assert root.get("viewBox") == "0 0 100 50" and root.get("width") is None
    assert root.get("aria-label") == "A title"
    words = root.find(f"{SVG}desc")
    assert words.text == "What it shows" and words.get("id") == root.get("aria-describedby")


def test_marks_by_hand():
    found = {child.tag.removeprefix(SVG): child for child in drawn(*MARKS)}
    assert found["line"].attrib == {
        "x1": "0", "y1": "1", "x2": "2", "y2": "3", "class": "stroke-grid", "stroke-width": "1.5",
        "stroke-dasharray": "4 3",
    }  # fmt: skip
    assert found["rect"].get("class") == "fill-bad" and found["rect"].get("rx") == "2"
    assert found["g"].get("data-point") == "3" and found["g"].get("data-tip") == 'a "tip"'
    circle, square = found["g"]
    assert (circle.get("cx"), circle.get("cy"), circle.get("r")) == ("5", "6", "4")
    assert square.get("class") == "fill-surface stroke-ink"
    text = found["text"]
    assert text.get("class") == "fill-muted bold halo" and text.get("text-anchor") == "end"
    assert text.find(f"{SVG}title").text == "all the words"


def test_a_ribbon_is_level_at_its_ends_and_as_thick_as_it_says():
    (path,) = list(drawn(MARKS[3]))[1:]
    assert path.get("d") == "M10 20C60 20 60 40 110 40L110 48C60 48 60 28 10 28Z"


def test_every_class_has_its_rule_and_no_colour_is_written_down():
    text = to_svg(Drawing(100, 50, "t", "d", MARKS))
    classes = {c for found in re.findall(r'class="([^"]+)"', text) for c in found.split()}
    assert classes >= {"fill-bad", "stroke-grid", "halo", "bold", "drawing"}
    assert all(f".{name}" in STYLE for name in classes)
    assert not re.search(r"#[0-9a-f]{3,6}|rgb", text)


def test_two_drawings_of_a_page_share_no_id():
    drawing = Drawing(1, 1, "Same", "d", ())
    ids = [re.findall(r' id="([^"]+)"', to_svg(drawing, prefix)) for prefix in ("a-", "b-")]
    assert ids == [["a-same-words"], ["b-same-words"]]


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text of a run is slow
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])))
@pytest.mark.parametrize("where", ["title", "description", "text", "full", "data"])
def test_no_text_can_leave_its_place(where, words):
    given = {name: words if name == where else "x" for name in ("title", "description", "text")}
    full = words if where == "full" else ""
    data = {"tip": words} if where == "data" else {}
    mark = Group((Label(0, 0, given["text"], full=full),), data)
    root = ET.fromstring(to_svg(Drawing(9, 9, given["title"], given["description"], (mark,))))
    expected = {f"{SVG}svg", f"{SVG}desc", f"{SVG}g", f"{SVG}text"} | (
        {f"{SVG}title"} if full else set()
    )
    assert {element.tag for element in root.iter()} == expected
    text = next(root.iter(f"{SVG}text"))
    assert (root.find(f"{SVG}desc").text or "") == given["description"]
    if where == "data":
        assert root.find(f"{SVG}g").get("data-tip") == words
    if where == "text" and words:
        assert (text.text or "") == words


@given(st.floats(-1e5, 1e5))
def test_numbers_are_short_and_true(value):
    text = drawn(Line(value, 0, 0, 0))[1].get("x1")
    assert float(text) == pytest.approx(value, abs=0.005)
    assert re.fullmatch(r"-?\d+(\.\d{1,2})?", text) and text != "-0"
