"""Learned factors against the same rule over arrays, and against totals."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from planner.quality.correction import RealisedRatio
from planner.runtime.lengths import RunningRatio


@given(st.lists(st.tuples(st.floats(1, 1e4), st.floats(0, 1e4)), min_size=1, max_size=60))
def test_one_model_is_corrected_as_many_are(seen):
    one, many = RunningRatio(), RealisedRatio(1)
    for predicted, realised in seen:
        one.observe(predicted, realised)
        many.observe(0, predicted, realised)
        np.testing.assert_allclose(one.ratio, many.ratio()[0], rtol=1e-12)


def test_nothing_observed_nothing_corrected():
    assert RunningRatio().ratio == RealisedRatio(1).ratio()[0] == 1.0


def test_totals_come_out_right_after_a_change():
    ratio = RunningRatio()
    for n in range(4000):
        ratio.observe(50.0 + n % 7, 2.0 * (50.0 + n % 7))
    assert abs(ratio.ratio - 2.0) < 0.05
    for n in range(4000):
        ratio.observe(50.0 + n % 7, 0.5 * (50.0 + n % 7))
    assert abs(ratio.ratio - 0.5) < 0.05
