"""The limits as they are drawn are those of the plan: places are read back as ratios."""

from __future__ import annotations

import pytest
from drawn_plans import demo, labels, plan_of

from planner.report.drawing.marks import Line, Marker, Rect
from planner.report.figure.limits import MOST_SPAN, limits
from planner.report.figure.words import NARROW, WIDE
from planner.spec.base import FOREVER_MS


def rows(drawing):
    """The groups of rows, and the function from a place to the ratio of what is allowed."""
    words = {label.text: label for label in labels(drawing) if label.text.endswith("%")}
    zero, all_of_it = words["0%"].x, words["100%"].x
    return list(drawing.groups()), lambda x: (x - zero) / (all_of_it - zero)


def limited(plan):
    return [f for f in plan.predicted.latency if f.at_most_ms is not None]


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("plan", [demo(), plan_of(12, 3)], ids=["demo", "twelve"])
def test_marks_lie_at_the_plans_figures(plan, width):
    groups, ratio_at = rows(limits(plan, width))
    simulated = {(f.class_name, f.metric, f.statistic): f for f in plan.simulated.latency}
    assert len(groups) == len(limited(plan)) > 0
    for group, figure in zip(groups, limited(plan), strict=True):
        seen = simulated[figure.class_name, figure.metric, figure.statistic]
        allowed = figure.at_most_ms
        band = next(m for m in group.marks if isinstance(m, Rect) and m.role == "band")
        circle, diamond = (
            next(m for m in group.marks if isinstance(m, Marker) and m.shape == shape)
            for shape in ("circle", "diamond")
        )
        role = diamond.role
        ends = [
            m.x1 for m in group.marks if isinstance(m, Line) and m.role == role and m.x1 == m.x2
        ]
        assert ratio_at(circle.x) == pytest.approx(figure.ms / allowed)
        assert ratio_at(band.x) == pytest.approx(figure.low_ms / allowed)
        assert ratio_at(band.x + band.width) == pytest.approx(figure.high_ms / allowed)
        assert ratio_at(diamond.x) == pytest.approx(seen.ms / allowed)
        assert [ratio_at(x) for x in ends] == pytest.approx(
            [seen.low_ms / allowed, seen.high_ms / allowed]
        )


def changed(**update):
    """The demo with its first limit predicted and simulated otherwise."""
    plan = demo()
    first, *rest = plan.predicted.latency
    seen, *others = plan.simulated.latency
    figure = first.model_copy(update={k: v for k, v in update.items() if k != "seen"})
    tried = seen.model_copy(update=update.get("seen", {}))
    predicted = plan.predicted.model_copy(update={"latency": (figure, *rest)})
    simulated = plan.simulated.model_copy(update={"latency": (tried, *others)})
    return plan.model_copy(update={"predicted": predicted, "simulated": simulated})


def first_row(plan):
    drawing = limits(plan)
    return next(iter(drawing.groups())), labels(drawing)


def test_a_missed_limit_is_marked_by_colour_place_and_words():
    row, _ = first_row(changed(ms=11_000.0, low_ms=10_500.0, high_ms=11_500.0))
    circle = next(m for m in row.marks if isinstance(m, Marker) and m.shape == "circle")
    assert circle.role == "bad"
    words = next(m for m in row.marks if getattr(m, "text", "") == "predicted 11.0 s")
    assert words.role == "bad"
    assert "predicted 11.0 s (110%), between 10.5 s and 11.5 s" in row.data["tip"]


def test_what_lies_far_beyond_is_an_arrow_at_the_end():
    row, words = first_row(changed(ms=50_000.0, low_ms=40_000.0, high_ms=60_000.0))
    arrow = next(m for m in row.marks if isinstance(m, Marker) and m.shape == "right")
    span = max(float(w.text[:-1]) for w in words if w.text.endswith("%"))
    assert span <= 100 * MOST_SPAN
    assert arrow.x == pytest.approx(max(m.x for m in row.marks if isinstance(m, Marker)))
    assert any(w.text == "predicted 50.0 s" for w in words)


def test_answers_that_never_came_are_called_so():
    lost = {"ms": FOREVER_MS, "low_ms": FOREVER_MS, "high_ms": FOREVER_MS, "verdict": "missed"}
    row, words = first_row(changed(seen=lost))
    assert any(w.text == "simulated no answer" for w in words)
    arrow = next(m for m in row.marks if isinstance(m, Marker) and m.shape == "right")
    assert arrow.role == "bad"
    assert "100%" in {w.text for w in words}  # the axis is not stretched to a day


@pytest.mark.parametrize(
    ("verdict", "role"), [("met", "good"), ("missed", "bad"), ("too close to call", "warn")]
)
def test_verdicts_have_their_colours(verdict, role):
    row, _ = first_row(changed(seen={"verdict": verdict}))
    assert next(m for m in row.marks if getattr(m, "shape", "") == "diamond").role == role


def test_without_a_simulation_nothing_simulated_is_drawn_or_named():
    plan = demo().model_copy(update={"simulated": None})
    drawing = limits(plan)
    assert not any(isinstance(m, Marker) and m.shape == "diamond" for m in drawing.leaves())
    assert not any("simulated" in label.text for label in labels(drawing))
    assert "simulated" not in drawing.description
