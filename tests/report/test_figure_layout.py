"""Every figure at every size: words lie inside, never on each other, and are large enough."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from drawn_plans import demo, labels, outside, overlapping, plan_of, with_cascade, with_periods

from planner.profile.review import Chart
from planner.report.drawing.marks import Drawing
from planner.report.drawing.svg import to_svg
from planner.report.drawing.text import label
from planner.report.figure.axis import axes_of
from planner.report.figure.curves import curves
from planner.report.figure.day import day
from planner.report.figure.flow import flow
from planner.report.figure.front import front
from planner.report.figure.limits import limits
from planner.report.figure.utilisation import utilisation
from planner.report.figure.words import NARROW, WIDE

SIZES = [(1, 1), (1, 2), (2, 1), (3, 3), (12, 12), (40, 3), (3, 40), (40, 40)]


def chart(column="tpot_mean_ms", n=9, steep=1.0):
    loads = np.geomspace(0.7, 900.0, 40)
    value = 10.0 * (1 + loads / 100) ** steep
    points = tuple((float(x), float(10 * (1 + x / 100) ** steep)) for x in np.geomspace(1, 600, n))
    return Chart(column, "closed", 1234.0, 567.0, loads, value, 0.8 * value, 1.3 * value, points)


def every_figure(plan, width):
    names = [row.pool for row in plan.deployment]
    ranges = dict.fromkeys(names, (0.2, 0.9))
    yield limits(plan, width)
    yield flow(plan, width)
    yield utilisation(plan, 0.1, ranges, width)
    yield utilisation(plan, width=width)
    yield day(with_periods(plan), width)
    yield day(with_periods(plan, 168), width)
    for x in axes_of(plan):
        for y in axes_of(plan):
            if x != y:
                yield front(plan, x, y, width)
    yield curves(names[-1], [chart("ttft_mean_ms", steep=4.0), chart()], width=width)
    yield curves(names[-1], [chart("output_tokens_per_s", n=1)], width=width)


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]} classes {s[1]} pools")
def test_words_lie_inside_and_never_on_each_other(size, width):
    n = 0
    for drawing in every_figure(plan_of(*size), width):
        assert drawing is not None and drawing.width == width
        assert overlapping(drawing) == [], drawing.title
        assert outside(drawing) == [], drawing.title
        assert min(label.size for label in labels(drawing)) >= 11
        assert labels(drawing)
        n += 1
    assert n >= 8


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("plan", [demo(), with_cascade(plan_of(12, 12))], ids=["demo", "cascade"])
def test_a_plan_is_drawn_the_same_each_time_as_sound_xml(plan, width):
    again = every_figure(plan, width)
    for drawing in every_figure(plan, width):
        text = to_svg(drawing)
        assert text == to_svg(next(again))
        root = ET.fromstring(text)
        assert root.get("viewBox") == f"0 0 {width:g} {drawing.height:g}" or "." in root.get(
            "viewBox", ""
        )
        assert not re.search(r"nan|inf|None|<script|http(?!://www.w3.org/2000/svg)", text)


def test_what_was_cut_is_said_in_full():
    drawing = limits(plan_of(12, 12), NARROW)
    cut = [label for label in labels(drawing) if "…" in label.text]
    assert cut
    assert all(label.full.startswith("p95 e2e of class-") for label in cut)
    assert f"<title>{cut[0].full}</title>" in to_svg(drawing)


def test_a_plan_without_what_a_figure_shows_has_none():
    plan = demo()
    empty = plan.predicted.model_copy(update={"latency": (), "pools": (), "class_rps": {}})
    bare = plan.model_copy(update={"predicted": empty, "front": plan.front[:1], "routing": ()})
    assert limits(bare) is None
    assert flow(bare) is None
    assert front(bare) is None
    assert utilisation(bare) is None
    assert day(bare) is None
    assert curves("pool", []) is None
    assert axes_of(bare) == ()
    assert axes_of(bare.model_copy(update={"front": ()})) == ()
    assert front(bare.model_copy(update={"front": ()})) is None


def test_the_probes_see_words_on_each_other_and_outside():
    here = label(10, 20, "a word")
    marks = (here, label(25, 24, "another"), label(90, 60, "leaves"))
    drawing = Drawing(100, 100, "t", "d", marks)
    assert overlapping(drawing) == [("a word", "another")]
    assert outside(drawing) == ["leaves"]
