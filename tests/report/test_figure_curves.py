"""A pool's latency as drawn: points, curve and band where the chart has them, the plan's load."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_plans import labels
from hand_plan import SMALL

from planner.latency.fit import fit
from planner.profile.review import Chart, charts
from planner.report.drawing.marks import Area, Label, Line, Marker, Path
from planner.report.figure.curves import curves
from planner.report.figure.operating import Operating
from planner.report.figure.words import NARROW, WIDE


def chart(column="tpot_mean_ms", mode="closed", top=40.0, measured=True):
    loads = np.geomspace(2.0, 512.0, 33)
    value = 10.0 + (top - 10.0) * (loads - 2.0) / 510.0
    points = tuple((float(loads[k]), float(value[k]) * 1.02) for k in (4, 12, 20, 28))
    return Chart(column, mode, 300.0, 352.0, loads, value, 0.9 * value, 1.2 * value,
                 points if measured else ())  # fmt: skip


def at(load=100.0, estimated=()):
    return Operating("pool", None, 3.5, load, (0.1, 1.0), estimated)


def linear_reader(drawing):
    """From places to loads and figures, by the words on the axes of the first panel."""
    words = [m for m in next(drawing.groups()).marks if isinstance(m, Label) and not m.is_bold]
    numbers = [(w, w.text.replace(",", "")) for w in words if w.anchor != "start"]
    across = [(w.x, float(n)) for w, n in numbers if w.anchor == "middle" and n.isdigit()]
    up = [(w.y - 4.0, float(n)) for w, n in numbers if w.anchor == "end"]
    (a, first), (b, last) = across[0], across[-1]
    (c, low), (d, high) = up[0], up[-1]
    return (
        lambda x: first * (last / first) ** ((x - a) / (b - a)),
        lambda y: low + (high - low) * (y - c) / (d - c),
    )


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_points_curve_and_band_lie_where_the_chart_has_them(width):
    made = chart()
    drawing = curves("pool", [made], at(), width)
    load_at, figure_at = linear_reader(drawing)
    dots = [m for m in drawing.leaves() if isinstance(m, Marker) and m.size == 7.0]
    read = [(load_at(m.x), figure_at(m.y)) for m in dots]
    assert read == [pytest.approx(point) for point in made.measured]
    band = [m for m in drawing.leaves() if isinstance(m, Area)][-1]
    lower, upper = band.points[:33], band.points[33:][::-1]
    assert [figure_at(y) for _, y in lower] == pytest.approx(made.low.tolist())
    assert [figure_at(y) for _, y in upper] == pytest.approx(made.high.tolist())
    lines = [m for m in drawing.leaves() if isinstance(m, Path)]
    assert [bool(m.dash) for m in lines] == [True, False, True]  # dashed where nobody measured
    drawn = [p for m in lines for p in m.points]
    for x, y in drawn:
        expected = np.interp(np.log(load_at(x)), np.log(made.loads), made.value)
        assert figure_at(y) == pytest.approx(expected, rel=0.01)
    inner = [load_at(x) for x, _ in lines[1].points]
    assert inner[0] == pytest.approx(made.measured[0][0])
    assert inner[-1] == pytest.approx(made.measured[-1][0])


def test_the_plans_load_is_an_upright_line():
    drawing = curves("pool", [chart()], at(100.0))
    load_at, _ = linear_reader(drawing)
    line = [m for m in drawing.leaves() if isinstance(m, Line) and m.role == "warn"][-1]
    assert line.x1 == line.x2 and load_at(line.x1) == pytest.approx(100.0)
    assert any(w.text == "100" and w.is_bold for w in labels(drawing))


def test_a_load_beyond_the_chart_widens_it():
    drawing = curves("pool", [chart()], at(5000.0))
    load_at, _ = linear_reader(drawing)
    line = [m for m in drawing.leaves() if isinstance(m, Line) and m.role == "warn"][-1]
    assert load_at(line.x1) == pytest.approx(5000.0)
    assert line.x1 <= WIDE


def test_an_open_loop_counts_requests_per_second():
    drawing = curves("pool", [chart(mode="open")], at(100.0))
    load_at, _ = linear_reader(drawing)
    line = [m for m in drawing.leaves() if isinstance(m, Line) and m.role == "warn"][-1]
    assert load_at(line.x1) == pytest.approx(3.5)
    assert any(w.text.startswith("requests/s (300 tokens in, 352 out)") for w in labels(drawing))


def test_what_nobody_measured_is_shown_as_the_plan_counts_on_it_and_called_so():
    ttft = chart("ttft_mean_ms", top=80.0, measured=False)
    tpot = chart("tpot_mean_ms", measured=False)
    drawing = curves("pool", [chart("itl_p50_ms"), chart("itl_p95_ms")], at(100.0, (ttft, tpot)))
    said = [w.text for w in labels(drawing)]
    assert "TTFT mean (ms), not measured" in said and "ITL p50 (ms)" in said
    assert not any("TPOT" in text or "p95" in text for text in said)
    load_at, figure_at = linear_reader(drawing)
    here = next(m for m in drawing.leaves() if isinstance(m, Marker) and m.shape == "diamond")
    assert load_at(here.x) == pytest.approx(100.0)
    assert figure_at(here.y) == pytest.approx(float(np.interp(100.0, ttft.loads, ttft.value)))


def test_only_one_way_of_measuring_is_shown_and_throughput_only_where_nothing_else_is():
    both = [chart("output_tokens_per_s"), chart("tpot_mean_ms"), chart("ttft_mean_ms", "open")]
    said = [w.text for w in labels(curves("pool", both))]
    assert "TPOT mean (ms)" in said and "TTFT mean (ms)" not in said
    only = [w.text for w in labels(curves("pool", both[:1]))]
    assert "output tokens/s" in only


def test_long_latencies_are_read_in_seconds():
    drawing = curves("pool", [chart(top=90_000.0)], at())
    assert "TPOT mean (s)" in [w.text for w in labels(drawing)]


def test_the_charts_of_a_profile_are_those_of_any_number_of_loads(demo_inputs):
    model = fit(demo_inputs.profiles.by_name()[SMALL])
    few, many = charts(model, 5), charts(model, 9)
    assert [c.column for c in few] == [c.column for c in many]
    for one, other in zip(few, many, strict=True):
        ends = {load for load, _ in one.measured}
        for chart, size in ((one, 5), (other, 9)):
            # The ends of what was measured are there, too: a dashed line begins there.
            assert chart.loads.size == size + 2
            assert {min(ends), max(ends)} < set(chart.loads)
        shared = np.isin(other.loads, one.loads)
        assert shared.sum() == one.loads.size
        assert one.value.tolist() == other.value[shared].tolist()
        assert one.measured == other.measured
