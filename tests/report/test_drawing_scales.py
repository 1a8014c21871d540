"""Scales: there and back, and ticks at round values that fit."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.report.drawing.scales import Scale, linear, logarithmic, round_step, tick_text

values = st.floats(1e-6, 1e7)
spans = st.tuples(values, values).filter(lambda s: s[1] > s[0] * 1.001)
places = st.sampled_from([(0.0, 100.0), (300.0, 20.0)])


@given(spans, places, st.booleans(), st.floats(0, 1))
def test_a_place_has_the_value_that_lies_there(span, place, is_log, part):
    scale = Scale(*span, *place, is_log=is_log)
    value = span[0] + part * (span[1] - span[0])
    at = scale.at(value)
    assert min(place) - 1e-6 <= at <= max(place) + 1e-6
    assert scale.value(at) == pytest.approx(value, rel=1e-9)


def test_places_by_hand():
    assert Scale(0, 10, 100, 200).at(2.5) == 125
    assert Scale(0, 10, 200, 100).at(2.5) == 175  # upwards
    assert Scale(1, 1000, 0, 300, is_log=True).at(10) == pytest.approx(100)
    assert Scale(0, 10, 100, 200).clipped(12) == 200
    assert Scale(0, 10, 100, 200).clipped(-1) == 100


@given(st.floats(1e-9, 1e9))
def test_steps_are_round(least):
    step = round_step(least)
    lead = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert least * (1 - 1e-6) <= step <= least * 2.5 * (1 + 1e-6)
    assert min(abs(lead - r) for r in (1, 2, 2.5, 5)) < 1e-6


@given(spans, st.integers(2, 9))
def test_a_linear_scale_holds_its_values_between_round_ends(span, most):
    scale = linear(*span, 0, 500, most)
    slack = 1e-6 * (span[1] - span[0])
    assert scale.low <= span[0] + slack and span[1] <= scale.high + slack
    step = round_step((span[1] - span[0]) / (most - 1))
    for end in (scale.low, scale.high):
        assert end / step == pytest.approx(round(end / step), abs=1e-6)
    assert scale.high - scale.low <= span[1] - span[0] + 2 * step


@given(spans, st.booleans(), st.integers(3, 10))
def test_ticks_lie_inside_and_no_more_than_fit(span, is_log, most):
    scale = Scale(*span, 0, 500, is_log=is_log)
    ticks = scale.ticks(most)
    assert len(ticks) <= most + 1
    assert list(ticks) == sorted(set(ticks))
    slack = 1e-6 * (span[1] - span[0])
    assert all(span[0] - slack <= t <= span[1] + slack for t in ticks)
    if not is_log:
        gaps = [b - a for a, b in pairwise(ticks)]
        assert all(g == pytest.approx(gaps[0], rel=1e-6) for g in gaps)


@given(spans, st.booleans())
def test_ticks_read_as_what_they_are(span, is_log):
    ticks = Scale(*span, 0, 500, is_log=is_log).ticks(6)
    words = [tick_text(t, ticks) for t in ticks]
    assert len(set(words)) == len(words)
    for word, tick in zip(words, ticks, strict=True):
        assert float(word.replace(",", "")) == pytest.approx(tick, rel=1e-6, abs=1e-9)


def test_ticks_by_hand():
    assert Scale(0, 24, 0, 1).ticks(7) == (0, 5, 10, 15, 20)
    assert Scale(0.7, 0.78, 0, 1).ticks(5) == (0.7, 0.72, 0.74, 0.76, 0.78)
    assert logarithmic(8, 512, 0, 1).ticks(6) == (10, 20, 50, 100, 200, 500)
    assert logarithmic(8, 512, 0, 1).ticks(5) == (10, 30, 100, 300)
    assert logarithmic(1, 1e6, 0, 1).ticks(7) == (1, 10, 100, 1000, 1e4, 1e5, 1e6)
    assert [tick_text(t, (0.0, 2.5, 5.0)) for t in (0.0, 2.5, 5.0)] == ["0.0", "2.5", "5.0"]
    assert [tick_text(t, (0.1, 1.0, 10.0, 1e3)) for t in (0.1, 1.0, 1e3)] == ["0.1", "1", "1,000"]
    assert [tick_text(t, (0.0, 1e4)) for t in (0.0, 1e4)] == ["0", "10,000"]


def test_one_value_has_room_around_it():
    assert linear(5, 5, 0, 1).low < 5 < linear(5, 5, 0, 1).high
    assert linear(0, 0, 0, 1).low == 0
    assert logarithmic(3, 3, 0, 1).low < 3 < logarithmic(3, 3, 0, 1).high
