"""The day as drawn: traffic, replicas and money of every period, read back from the steps."""

from __future__ import annotations

import pytest
from drawn_plans import demo, labels, plan_of, with_periods

from planner.report.drawing.marks import Line, Path, Rect
from planner.report.figure.day import MOST_POOLS, day
from planner.report.figure.words import NARROW, WIDE


def scales(drawing):
    """From places to hours, and from heights to figures in each of the three panels."""
    words = labels(drawing)
    ticks = [(w.x, float(w.text)) for w in words if w.anchor == "middle" and not w.has_halo
             and w.text.replace(".", "").isdigit()]  # fmt: skip
    (a, first), (b, last) = ticks[0], ticks[-1]
    up: list[list[tuple[float, float]]] = []
    for w in words:
        if w.anchor == "end":
            value = float(w.text.replace(",", ""))
            if value == 0:
                up.append([])
            up[-1].append((w.y - 4.0, value))

    def reader(panel):
        (c, low), (d, high) = panel[0], panel[-1]
        return lambda y: low + (high - low) * (y - c) / (d - c)

    return lambda x: first + (last - first) * (x - a) / (b - a), [reader(panel) for panel in up]


def steps(drawing):
    """The value at the middle of every hour of the two lines, traffic and money."""
    hour_at, (rate_at, _, paid_at) = scales(drawing)
    lines = [m for m in drawing.leaves() if isinstance(m, Path)]
    for line, value_at in zip(lines, (rate_at, paid_at), strict=True):
        points = [(hour_at(x), value_at(y)) for x, y in line.points]
        assert points == sorted(points, key=lambda p: p[0])
        yield lambda hour, points=points: [v for h, v in points if h <= hour + 1e-6][-1]


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("n_hours", [24, 168])
def test_every_hour_has_its_traffic_and_money(n_hours, width):
    plan = with_periods(demo(), n_hours)
    rate_in, paid_in = steps(day(plan, width))
    for period in plan.periods.each:
        middle = (period.start_h + period.end_h) / 2
        assert rate_in(middle) == pytest.approx(period.predicted.rate_rps)
        assert paid_in(middle) == pytest.approx(period.paid_usd_per_h)


def stacked(drawing):
    """The rectangles of replicas: hours they begin and end, role, and how many they are high."""
    hour_at, (_, n_at, _) = scales(drawing)
    found = [m for m in drawing.leaves() if isinstance(m, Rect) and m.opacity == 0.75]
    return [
        (hour_at(m.x), hour_at(m.x + m.width), m.role, n_at(m.y) - n_at(m.y + m.height))
        for m in found
    ]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_hour_has_its_replicas(width):
    plan = with_periods(demo())
    drawing = day(plan, width)
    rows = stacked(drawing)
    key = [label.text for label in labels(drawing)]
    roles = {f"series-{k + 1}": key[k] for k in range(3)}  # in the order of the key
    for period in plan.periods.each:
        middle = (period.start_h + period.end_h) / 2
        here = {roles[role]: n for start, end, role, n in rows if start < middle < end}
        assert here == pytest.approx({row.pool: row.replicas for row in period.deployment})


def test_replicas_stand_on_each_other():
    plan = with_periods(demo())
    drawing = day(plan)
    hour_at, (_, n_at, _) = scales(drawing)
    found = [m for m in drawing.leaves() if isinstance(m, Rect) and m.opacity == 0.75]
    for period in plan.periods.each:
        middle = (period.start_h + period.end_h) / 2
        here = [m for m in found if hour_at(m.x) < middle < hour_at(m.x + m.width)]
        tops = [n_at(m.y) for m in here]
        assert [n_at(m.y + m.height) for m in here] == pytest.approx([0.0, *tops[:-1]], abs=1e-9)
        assert tops[-1] == pytest.approx(sum(row.replicas for row in period.deployment))


def test_the_smallest_of_many_pools_are_drawn_as_one():
    plan = with_periods(plan_of(3, 40), 6)
    drawing = day(plan)
    rows = stacked(drawing)
    assert len({role for _, _, role, _ in rows}) == MOST_POOLS
    assert "other pools" in [label.text for label in labels(drawing)]
    for period in plan.periods.each:
        middle = (period.start_h + period.end_h) / 2
        whole = sum(n for start, end, _, n in rows if start < middle < end)
        assert whole == pytest.approx(sum(row.replicas for row in period.deployment))


def test_what_one_deployment_would_cost_is_a_line_where_it_is_known():
    plan = with_periods(demo())
    drawing = day(plan)
    _, (_, _, paid_at) = scales(drawing)
    line = [m for m in drawing.leaves() if isinstance(m, Line) and m.dash][-1]
    assert paid_at(line.y1) == pytest.approx(70.0)
    unknown = plan.periods.model_copy(update={"held_usd": None})
    bare = day(plan.model_copy(update={"periods": unknown}))
    assert not any(isinstance(m, Line) and m.dash for m in bare.leaves())


def test_a_period_can_be_pointed_at_and_says_what_it_is():
    groups = [g for g in day(with_periods(demo())).groups() if "period" in g.data]
    assert [g.data["period"] for g in groups] == [f"{h:02d}-{h + 1:02d}" for h in range(24)]
    assert (
        groups[15]
        .data["tip"]
        .startswith("15-16 (15 to 16 h): 78.8 req/s on 4 x llama-3.1-70b-b200")
    )


@pytest.mark.parametrize("n_pools", [1, 3, 40])
def test_replicas_are_counted_in_whole_numbers(n_pools):
    drawing = day(with_periods(plan_of(3, n_pools)))
    _, n_panels = scales(drawing)
    assert len(n_panels) == 3
    words = [w.text for w in labels(drawing) if w.anchor == "end"]
    starts = [k for k, text in enumerate(words) if text == "0"]
    assert all("." not in text for text in words[starts[1] : starts[2]])
    assert len(words[starts[1] : starts[2]]) >= 2


def test_many_pools_and_periods_are_told_of_in_few_words():
    """A tip names four pools and counts the rest; a week's description has its two ends."""
    plan = with_periods(plan_of(3, 12), 168)
    periods = plan.periods.each
    drawing = day(plan)
    tips = [group.data["tip"] for group in drawing.groups() if "period" in group.data]
    assert len(tips) == 168
    for period, tip in zip(periods, tips, strict=True):
        named = [int(word.split(" x ")[0]) for word in tip.split(" on ")[1].split(", ")[:4]]
        most = sorted((row.replicas for row in period.deployment), reverse=True)
        assert named == most[:4]
        if rest := sum(most[4:]):
            assert f" and {rest} replica" in tip
    rates = [period.predicted.rate_rps for period in periods]
    assert drawing.description.endswith(
        f"168 periods. The least traffic: {tips[rates.index(min(rates))]}. "
        f"The most: {tips[rates.index(max(rates))]}."
    )
    few = day(with_periods(demo()))
    tips = [group.data["tip"] for group in few.groups() if "period" in group.data]
    assert few.description.endswith("; ".join(tips) + ".")
