"""Flows are as thick as their requests per second, and nothing is lost between the sides."""

from __future__ import annotations

from itertools import pairwise

import pytest
from drawn_plans import demo, plan_of, with_cascade

from planner.report.drawing.marks import SERIES, Rect, Ribbon
from planner.report.figure.flow import AGAIN_OPACITY, LEAST_BAR, MOST, flow, flows
from planner.report.figure.words import NARROW, WIDE

PLANS = [demo(), plan_of(3, 3), plan_of(12, 12), with_cascade(plan_of(3, 3))]
NAMES = ["demo", "three", "twelve", "cascade"]


def ribbons(drawing):
    """The ribbon of each flow with its group."""
    return [
        (group, mark)
        for group in drawing.groups()
        for mark in group.marks
        if isinstance(mark, Ribbon)
    ]


def bars(drawing, side):
    """The bar of each class or pool, by its name."""
    return {
        group.data[side]: next(m for m in group.marks if isinstance(m, Rect))
        for group in drawing.groups()
        if set(group.data) == {side, "tip"}
    }


def test_flows_add_up_to_what_the_plan_says_of_its_pools():
    """The demo's pool rates come from the planner's score, not from the shares drawn here."""
    into: dict[str, float] = {}
    for f in flows(demo()):
        into[f.target] = into.get(f.target, 0.0) + f.rate_rps
    stated = {p.pool: p.rate_rps for p in demo().predicted.pools}
    assert into == pytest.approx(stated, rel=1e-5)


def test_a_cascade_asks_its_second_pool_as_often_as_it_escalates():
    plan = with_cascade(plan_of(3, 3))
    cascade = plan.cascades[0]
    asked = 0.5 * plan.predicted.class_rps[cascade.class_name]
    again = [f for f in flows(plan) if f.again]
    assert [(f.target, f.rate_rps) for f in again] == [
        (cascade.second[0].pool, pytest.approx(0.4 * asked))
    ]
    whole = sum(f.rate_rps for f in flows(plan) if not f.again)
    assert whole == pytest.approx(plan.predicted.rate_rps)


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("plan", PLANS, ids=NAMES)
def test_ribbons_are_as_thick_as_their_requests(plan, width):
    drawing = flow(plan, width)
    known = {(f.source, f.target, f.again): f.rate_rps for f in flows(plan)}
    found = {
        (g.data["class"], g.data["pool"], m.opacity == AGAIN_OPACITY): m.thickness
        for g, m in ribbons(drawing)
    }
    assert found.keys() == known.keys()
    per_rps = max(found.values()) / max(known.values())
    classes = {name for name, bar in bars(drawing, "class").items() if bar.height > LEAST_BAR}
    assert classes
    for (source, *rest), rate_rps in known.items():
        if source in classes:  # smaller ones are drawn thicker, so that they are seen
            assert found[source, *rest] == pytest.approx(per_rps * rate_rps)


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("plan", PLANS, ids=NAMES)
def test_ribbons_fill_the_bars_on_both_sides_without_gaps(plan, width):
    drawing = flow(plan, width)
    found = ribbons(drawing)
    for side, top in (("class", "top1"), ("pool", "top2")):
        for name, bar in bars(drawing, side).items():
            mine = sorted((getattr(m, top), m.thickness) for g, m in found if g.data[side] == name)
            assert mine[0][0] == pytest.approx(bar.y)
            total = sum(thick for _, thick in mine)
            assert total == pytest.approx(bar.height, rel=0.05, abs=1.5)
            for (start, thick), (following, _) in pairwise(mine):
                assert following == pytest.approx(start + thick, abs=0.6)


def test_shares_are_those_of_the_plan():
    said = {g.data["tip"] for g, _ in ribbons(flow(demo()))}
    assert "62% of gsm (22.8 req/s) goes to llama-3.1-70b-h100-tp4" in said
    assert "100% of crux (22.2 req/s) goes to llama-3.1-70b-b200-tp2" in said


def test_the_smallest_are_drawn_as_one_where_there_are_too_many():
    plan = plan_of(40, 40)
    drawing = flow(plan)
    classes, pools = bars(drawing, "class"), bars(drawing, "pool")
    assert len(classes) == len(pools) == MOST
    assert "29 more classes" in classes and "29 more pools" in pools
    kept = sorted(plan.predicted.class_rps.values(), reverse=True)[: MOST - 1]
    per_rps = max(b.height for n, b in classes.items() if "more" not in n) / kept[0]
    rest = sum(plan.predicted.class_rps.values()) - sum(kept)
    assert classes["29 more classes"].height == pytest.approx(per_rps * rest, rel=0.01)
    thickness = sum(m.thickness for _, m in ribbons(drawing))
    assert thickness == pytest.approx(per_rps * plan.predicted.rate_rps, rel=0.02)


def test_what_is_drawn_as_one_has_no_class_s_colour():
    """It would else be taken for the one whose colour it shares."""
    merged = bars(flow(plan_of(MOST + 8, 2)), "class")
    rest = "9 more classes"
    assert merged[rest].role == "muted"
    assert all(bar.role in SERIES for name, bar in merged.items() if name != rest)
