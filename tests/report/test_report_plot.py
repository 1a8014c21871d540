"""A curve drawn with characters: points and curve stand where their figures are."""

from __future__ import annotations

import numpy as np
import pytest

from planner.profile.review import Chart
from planner.report.plot import BAND, CURVE, HEIGHT, POINT, plot


def chart(measured=((1.0, 10.0), (100.0, 100.0)), spread=0.2) -> Chart:
    """y = 10 sqrt(x) with a band."""
    loads = np.geomspace(1.0, 100.0, 50)
    value = 10.0 * np.sqrt(loads)
    return Chart(
        "tpot_mean_ms", "closed", 100.0, 50.0, loads, value,
        value * (1 - spread), value * (1 + spread), measured,
    )  # fmt: skip


@pytest.mark.parametrize("width", [30, 80, 200])
def test_it_is_as_wide_and_high_as_asked(width):
    lines = plot(chart(), width)
    assert len(lines) == HEIGHT + 2
    assert max(len(line) for line in lines) <= width


def test_points_stand_at_their_figures():
    lines = plot(chart(), 80)
    body = [line[11:] for line in lines[:HEIGHT]]  # the top row first
    places = [(r, c) for r, row in enumerate(body) for c, sign in enumerate(row) if sign == POINT]
    (first, last) = sorted(places, key=lambda p: p[1])
    assert first[1] == 0 and last[1] == 80 - 12
    # The rows go from 0 to 120 (the top of the band): 10 stands in the second lowest, 100 higher.
    assert first[0] == HEIGHT - 1 - round(10 / 120 * (HEIGHT - 1))
    assert last[0] == HEIGHT - 1 - round(100 / 120 * (HEIGHT - 1))


def test_every_column_has_the_curve_or_a_point_within_its_band():
    body = [f"{line[11:]:69}" for line in plot(chart(measured=((10.0, 31.6),)), 80)[:HEIGHT]]
    for column in range(69):
        signs = [row[column] for row in body]
        marked = [r for r, sign in enumerate(signs) if sign in (CURVE, POINT)]
        filled = [r for r, sign in enumerate(signs) if sign in (CURVE, POINT, BAND)]
        assert marked and set(marked) <= set(range(min(filled), max(filled) + 1))


def test_a_flat_curve_is_drawn_too():
    flat = Chart("e2e_mean_ms", "batch", 1.0, 2.0, np.array([1.0, 2.0]), *(np.ones(2),) * 3, ())
    assert len(plot(flat, 60)) == HEIGHT + 2
