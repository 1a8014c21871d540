"""The front as drawn: every point where its figures are, and only what is proved is ruled out."""

from __future__ import annotations

import pytest
from drawn_plans import demo, labels, plan_of

from planner.report.drawing.marks import Area, Line, Marker, Path, Rect
from planner.report.figure.axis import axes_of
from planner.report.figure.front import LOG_FROM, front, tip
from planner.report.figure.reach import proof_stair
from planner.report.figure.words import NARROW, WIDE
from planner.spec.plan import Bound

BARE = {"best_possible": None, "gap_ratio": None}


def points(drawing):
    """The marker of each point, by its number in the plan's front."""
    return {
        int(g.data["point"]): next(m for m in g.marks if isinstance(m, Marker) and not m.is_hollow)
        for g in drawing.groups()
        if "point" in g.data
    }


def reader(pairs, is_log=False):
    """From place to value, by two known points of an axis."""
    (p, v), (q, w) = min(pairs), max(pairs)
    if is_log:
        return lambda place: v * (w / v) ** ((place - p) / (q - p))
    return lambda place: v + (w - v) * (place - p) / (q - p)


def axes(drawing, plan):
    found, front_ = points(drawing), plan.front
    costs = [p.cost_usd_per_h for p in front_]
    is_log = max(costs) > LOG_FROM * min(costs)
    x = reader([(found[k].x, cost) for k, cost in enumerate(costs)], is_log)
    y = reader([(found[k].y, p.quality) for k, p in enumerate(front_)])
    return x, y


def with_front(plan, *changes, bound=None):
    """A plan whose front's points are changed one by one."""
    front_ = [p.model_copy(update=change) for p, change in zip(plan.front, changes, strict=False)]
    return plan.model_copy(update={"front": tuple(front_), "bound": bound})


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("plan", [demo(), plan_of(3, 12), plan_of(3, 40)], ids=["12", "12b", "40"])
def test_points_lie_at_their_figures(plan, width):
    drawing = front(plan, "cost", "quality", width)
    found = points(drawing)
    assert sorted(found) == list(range(len(plan.front)))
    x, y = axes(drawing, plan)
    for k, point in enumerate(plan.front):
        assert x(found[k].x) == pytest.approx(point.cost_usd_per_h, abs=1e-6)
        assert y(found[k].y) == pytest.approx(point.quality, abs=1e-9)
    ticks = [w for w in labels(drawing) if w.anchor == "middle" and w.text[0].isdigit()]
    assert len(ticks) >= 3
    for label in ticks:
        assert x(label.x) == pytest.approx(float(label.text.replace(",", "")), abs=1e-6)


def test_better_is_up_and_left_whatever_the_axes():
    found = points(front(demo(), "latency", "quality"))
    a, b = demo().front[0], demo().front[9]
    assert a.quality < b.quality and found[0].y > found[9].y
    assert a.latency_ratio > b.latency_ratio and found[0].x > found[9].x


def test_the_plan_is_ringed_named_and_drawn_last():
    drawing = front(demo())
    groups = [g for g in drawing.groups() if "point" in g.data]
    assert groups[-1].data["point"] == "0"
    assert (
        groups[-1].data["tip"].startswith("This plan: $48.55/h, quality 0.7039, limits used 100%")
    )
    rings = [[m for m in g.marks if isinstance(m, Marker) and m.is_hollow] for g in groups]
    assert [len(r) for r in rings] == [0] * 11 + [1]
    assert [label.text for label in labels(drawing)].count("this plan") == 2  # key and point


def test_whiskers_end_at_what_is_proved_of_each_point():
    drawing = front(demo())
    found, (_, y) = points(drawing), axes(drawing, demo())
    for k, point in enumerate(demo().front):
        ends = [m.y2 for m in drawing.leaves()
                if isinstance(m, Line) and (m.x1, m.y1) == (found[k].x, found[k].y)]  # fmt: skip
        assert [y(end) for end in ends] == pytest.approx([point.best_possible])


def test_only_proofs_that_hold_within_all_limits_make_the_stair():
    assert proof_stair(demo()) == ((48.55, 0.721536), (60.35, 0.727819), (134.4, 0.764007))
    loose = with_front(demo(), {"latency_ratio": 0.9}, {"latency_ratio": 0.9})
    assert proof_stair(loose) == ()  # each holds for less latency than the limits allow
    free = with_front(demo(), *[{"latency_ratio": None}] * 2)
    assert proof_stair(free) == ((48.55, 0.721536), (60.35, 0.727819))
    timed = with_front(demo(), *[{"latency_ratio": None, "latency_ms": 5.0}] * 2)
    assert proof_stair(timed) == ()
    dearer_but_tighter = with_front(demo(), {"best_possible": 0.74}, {"best_possible": 0.73})
    assert proof_stair(dearer_but_tighter) == ((60.35, 0.73),)


def test_no_point_that_was_found_lies_in_what_is_out_of_reach():
    """Nor does any that could be: the area begins at the proofs themselves."""
    drawing = front(demo())
    area = [m for m in drawing.leaves() if isinstance(m, Area)][-1]  # the key has one, too
    x, y = axes(drawing, demo())
    corners = [(x(px), y(py)) for px, py in area.points]
    assert corners[1:-1][1::2] == [pytest.approx(step) for step in proof_stair(demo())]
    for point in demo().front:
        lowest = min((q for c, q in proof_stair(demo()) if point.cost_usd_per_h <= c), default=1.0)
        assert point.quality <= lowest
    wall = next(m for m in drawing.leaves() if isinstance(m, Rect) and m.role == "band")
    assert x(wall.x + wall.width) == pytest.approx(demo().bound.best_possible)


def test_the_best_found_is_a_stair_through_points_that_nothing_cheaper_beats():
    drawing = front(demo())
    stair = next(m for m in drawing.leaves() if isinstance(m, Path) and m.role == "accent")
    at = {(round(m.x, 6), round(m.y, 6)): k for k, m in points(drawing).items()}
    corners = [at[place] for x, y in stair.points if (place := (round(x, 6), round(y, 6))) in at]
    known = [(p.cost_usd_per_h, p.quality) for p in demo().front]
    best = [
        k
        for k, (cost, quality) in enumerate(known)
        if not any(c <= cost and q > quality for c, q in known)
    ]
    assert corners == best


def test_shapes_say_the_third_figure():
    drawing = front(demo())
    shapes = {k: m.shape for k, m in points(drawing).items()}
    for k, point in enumerate(demo().front):
        part = (point.latency_ratio - 0.5) / (0.999997 - 0.5)
        assert shapes[k] == (
            "circle" if part <= 1 / 3 else "square" if part <= 2 / 3 else "triangle"
        )
    said = [label.text for label in labels(drawing)]
    assert {"limits used 50% to 67%", "to 83%", "to 100%"} <= set(said)


def test_without_proofs_nothing_is_ruled_out():
    plan = with_front(demo(), *[BARE] * 5)
    drawing = front(plan)
    assert not any(isinstance(m, Area) for m in drawing.leaves())
    assert not any(isinstance(m, Rect) and m.role == "band" for m in drawing.leaves())
    assert not any("proved" in label.text for label in labels(drawing))


def test_axes_are_those_in_which_points_differ():
    assert axes_of(demo()) == ("cost", "quality", "latency")
    same = with_front(demo(), {"quality": 0.5, "latency_ratio": None}, {"quality": 0.5})
    assert axes_of(same) == ("cost",)
    assert front(same, "cost", "latency") is None
    carried = [{"rate_factor": f, "best_possible": f + 0.1} for f in (1.0, 1.5, 2.0)]
    assert axes_of(with_front(demo(), *carried)) == ("cost", "quality", "latency", "traffic")
    assert front(with_front(demo(), *carried), "cost", "traffic") is not None


def test_a_latency_objective_is_an_axis_in_its_unit():
    times = [{"latency_ratio": None, "latency_ms": ms} for ms in (5000.0, 20_000.0, 400_000.0)]
    drawing = front(with_front(demo(), *times), "cost", "latency")
    assert "latency (s)" in [label.text for label in labels(drawing)]
    assert "latency 20.0 s" in tip(with_front(demo(), *times).front[1])
    few = [{"latency_ratio": None, "latency_ms": ms} for ms in (5.0, 20.0)]
    drawing = front(with_front(demo(), *few), "cost", "latency")
    assert "latency (ms)" in [label.text for label in labels(drawing)]


def bound(objective, best, value=None, within=None):
    return Bound(objective=objective, value=best if value is None else value, best_possible=best,
                 gap_ratio=0.0, method="by hand", within_usd_per_h=within)  # fmt: skip


def test_a_proof_that_a_point_beats_is_not_drawn():
    """It is by other tables than the point: the picture would contradict itself."""
    beaten = with_front(demo(), {}, {"best_possible": 0.70})
    assert proof_stair(beaten) == ((48.55, 0.721536),)


def test_the_plans_own_proof_of_quality_reaches_as_far_as_its_money():
    bare = [BARE] * 3
    assert proof_stair(with_front(demo(), *bare, bound=bound("quality", 0.75))) == ((89.6, 0.75),)
    within = with_front(demo(), *bare, bound=bound("quality", 0.75, within=60.35))
    assert proof_stair(within) == ((60.35, 0.75),)
    assert any(isinstance(m, Area) and len(m.points) == 4 for m in front(within).leaves())
    beaten = with_front(demo(), *bare, bound=bound("quality", 0.73))
    assert proof_stair(beaten) == ()
    other = with_front(demo(), *bare, bound=bound("rate_factor", 2.0))
    assert proof_stair(other) == ()


@pytest.mark.parametrize(
    ("made", "least"),
    [
        (bound("cost_usd_per_h", 40.0, 48.55), 40.0),
        (bound("cost_usd_per_h", 50.0, 55.0), None),  # with the cost of changes
        (bound("cost_usd_per_h", 50.0, 48.55), None),  # a point is cheaper
        (bound("latency_ratio", 0.4, 0.999753), None),
    ],
)
def test_the_least_cost_is_a_wall_where_the_proof_is_about_the_plans_own_cost(made, least):
    plan = with_front(demo(), *[BARE] * 5, bound=made)
    drawing = front(plan)
    walls = [m for m in drawing.leaves() if isinstance(m, Rect) and m.role == "band"]
    x, _ = axes(drawing, plan)
    assert [x(m.x + m.width) for m in walls] == ([] if least is None else [pytest.approx(least)])


def test_the_least_latency_is_ground_below_the_points():
    plan = with_front(demo(), *[BARE] * 5, bound=bound("latency_ratio", 0.4, 0.999753))
    drawing = front(plan, "cost", "latency")
    (ground,) = (m for m in drawing.leaves() if isinstance(m, Rect) and m.role == "band")
    found = points(drawing)
    y = reader([(found[k].y, p.latency_ratio) for k, p in enumerate(plan.front)])
    assert y(ground.y) == pytest.approx(0.4)
    assert all(m.y < ground.y for m in found.values())
    across = front(plan, "latency", "quality")
    (wall,) = (m for m in across.leaves() if isinstance(m, Rect) and m.role == "band")
    found = points(across)
    x = reader([(found[k].x, p.latency_ratio) for k, p in enumerate(plan.front)])
    assert x(wall.x + wall.width) == pytest.approx(0.4)
