"""How busy pools are, read back from the bars."""

from __future__ import annotations

import pytest
from drawn_plans import demo, labels, plan_of

from planner.report.drawing.marks import Line, Rect
from planner.report.figure.utilisation import utilisation
from planner.report.figure.words import NARROW, WIDE


def rows(drawing):
    """The group of each pool, and the function from a place to a utilisation."""
    words = {label.text: label.x for label in labels(drawing) if label.anchor == "middle"}
    zero, full = words["0%"], words["100%"]
    groups = {g.data["pool"]: g for g in drawing.groups()}
    return groups, lambda x: (x - zero) / (full - zero)


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("plan", [demo(), plan_of(3, 12)], ids=["demo", "twelve"])
def test_bars_end_at_what_the_plan_says(plan, width):
    ranges = {figure.pool: (0.1, 0.9) for figure in plan.predicted.pools[1:]}
    groups, ratio_at = rows(utilisation(plan, 0.1, ranges, width))
    assert list(groups) == [figure.pool for figure in plan.predicted.pools]
    for figure in plan.predicted.pools:
        marks = groups[figure.pool].marks
        bar = next(m for m in marks if isinstance(m, Rect) and m.opacity == 1)
        assert ratio_at(bar.x) == pytest.approx(0.0)
        assert ratio_at(bar.x + bar.width) == pytest.approx(figure.utilisation_ratio)
        assert bar.role == ("bad" if figure.utilisation_ratio > 0.9 else "accent")
        most = next(m for m in marks if isinstance(m, Line) and m.dash)
        assert ratio_at(most.x1) == pytest.approx(0.9)
        rails = [m for m in marks if isinstance(m, Line) and m.y1 == m.y2]
        spans = [(ratio_at(m.x1), ratio_at(m.x2)) for m in rails]
        assert spans == ([pytest.approx((0.1, 0.9))] if figure.pool in ranges else [])


def test_loads_that_nobody_measured_are_called_so():
    plan = plan_of(3, 12)
    groups, _ = rows(utilisation(plan))
    for figure in plan.predicted.pools:
        words = [m.text for m in groups[figure.pool].marks if hasattr(m, "text")]
        assert ("not measured" in words) == figure.extrapolated
        assert (
            "a load that nobody measured" in groups[figure.pool].data["tip"]
        ) == figure.extrapolated


def test_without_a_question_and_profiles_it_shows_what_the_plan_knows():
    drawing = utilisation(demo())
    assert not any(isinstance(m, Line) and m.dash for m in drawing.leaves())
    assert labels(drawing)[0].text == "used"
    assert not any(
        "measured" in label.text or "stay free" in label.text for label in labels(drawing)
    )
