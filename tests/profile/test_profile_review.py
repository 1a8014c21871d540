"""Each load predicted from the others, and the curves through all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hand_plan import SMALL

from planner.latency.fit import fit
from planner.latency.predict import Condition, figures
from planner.profile.review import charts, left_out


@pytest.fixture(scope="module")
def profile(demo_inputs):
    return demo_inputs.profiles.by_name()[SMALL]


def test_a_left_out_load_is_predicted_by_a_fit_that_has_not_seen_it(profile):
    found = left_out(profile)
    point = profile.points[2]
    others = tuple(p for p in profile.points if p is not point)
    model = fit(replace(profile, points=others))
    at = Condition("closed", point.input_tokens, point.output_tokens, point.concurrency)
    expected = figures(model, at)["output_tokens_per_s"]
    (mine,) = [
        f for f in found if f.load == point.concurrency and f.column == "output_tokens_per_s"
    ]
    assert mine.predicted == expected
    assert mine.measured == point.output_tokens_per_s
    assert mine.error_ratio == pytest.approx(expected.value / point.output_tokens_per_s - 1)


def test_nothing_is_left_out_of_one_load(profile):
    assert left_out(replace(profile, points=profile.points[:1])) == ()


def test_repeats_of_a_load_are_left_out_together(profile):
    twice = replace(profile, points=(*profile.points, profile.points[2]))
    alike = [f for f in left_out(twice) if f.load == profile.points[2].concurrency]
    once = [f for f in left_out(profile) if f.load == profile.points[2].concurrency]
    assert len(alike) == 2 * len(once)
    assert {f.predicted.value for f in alike} == {f.predicted.value for f in once}


def test_a_curve_goes_through_what_was_measured(profile):
    drawn = {c.column: c for c in charts(fit(profile))}
    chart = drawn["output_tokens_per_s"]
    assert len(chart.measured) == len(profile.points)
    for load, figure in chart.measured:
        assert np.interp(load, chart.loads, chart.value) == pytest.approx(figure, rel=0.02)
    assert (chart.low <= chart.value).all() and (chart.value <= chart.high).all()
