"""The online correction of predicted tokens."""

import numpy as np
import pytest

from planner.quality.correction import RealisedRatio


def test_before_the_first_request_nothing_is_corrected():
    assert RealisedRatio(3).ratio().tolist() == [1.0, 1.0, 1.0]


def test_it_finds_each_models_ratio_of_totals():
    rng = np.random.default_rng(0)
    corrected = RealisedRatio(2)
    for _ in range(3000):
        model = int(rng.integers(2))
        predicted = float(rng.uniform(50, 500))
        corrected.observe(
            model, predicted, predicted * (1.3, 0.8)[model] * rng.lognormal(-0.18, 0.6)
        )
    assert corrected.ratio() == pytest.approx([1.3, 0.8], rel=0.06)


def test_what_is_old_is_forgotten():
    corrected = RealisedRatio(1, memory=100.0, prior=20.0)
    for _ in range(1000):
        corrected.observe(0, 100.0, 200.0)
    before = corrected.ratio()[0]
    for _ in range(500):
        corrected.observe(0, 100.0, 100.0)
    assert before > 1.7 and corrected.ratio()[0] < 1.02


def test_one_runaway_answer_moves_little_and_totals_decide():
    corrected = RealisedRatio(1)
    corrected.observe(0, 300.0, 4096.0)
    assert 1.0 < corrected.ratio()[0] < 1.7
    # the sums in closed form, with next to nothing forgotten
    exact = RealisedRatio(1, memory=1e12, prior=2.0)
    for predicted, realised in ((100.0, 150.0), (300.0, 350.0)):
        exact.observe(0, predicted, realised)
    assert exact.ratio()[0] == pytest.approx((500.0 + 2 * 200.0) / (400.0 + 2 * 200.0))


def test_a_ratio_stays_within_a_factor_of_four():
    corrected = RealisedRatio(2)
    for _ in range(2000):
        corrected.observe(0, 1.0, 1000.0)
        corrected.observe(1, 1000.0, 1.0)
    assert corrected.ratio().tolist() == [4.0, 0.25]
