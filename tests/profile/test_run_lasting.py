"""When a level has lasted long enough, and the send times of its load."""

from __future__ import annotations

import numpy as np
import pytest

from planner.profile.load.driver import Progress
from planner.profile.load.prompts import Lengths
from planner.profile.load.runner import Load, Silence, has_lasted
from planner.spec.run import Step

STEP = Step(mode="closed", load=8.0, input_tokens=30.0, output_tokens=10.0)


@pytest.mark.parametrize(
    ("elapsed_s", "n_ok", "lasted"),
    [
        (1.0, 0, False),
        (10.0, 215, False),  # 200 answers after those of the warm-up
        (10.0, 216, True),
        (0.1, 1000, True),
    ],
)
def test_how_long_is_long_enough(elapsed_s, n_ok, lasted):
    assert has_lasted(Progress(elapsed_s, n_ok + 8, 8, n_ok, 0), STEP) is lasted


def test_slow_answers_take_longer():
    """Six answer times: 216 answers with 8 in flight are 27 of them, with 100 only 2."""
    assert has_lasted(Progress(60.0, 224, 8, 216, 0), STEP)
    assert not has_lasted(Progress(60.0, 516, 100, 416, 0), STEP)
    assert not has_lasted(Progress(10.0, 224, 8, 216, 0), STEP, longer=3.0)


def open_load(arrivals: str, trace_s=None) -> Load:
    step = STEP.model_copy(update={"mode": "open", "load": 5.0})
    return Load(step, Lengths.fixed(30, 10), arrivals, trace_s)


@pytest.mark.parametrize(("arrivals", "cv"), [("poisson", 1.0), ("gamma:2.5", 2.5)])
def test_arrivals_have_the_wanted_rate_and_burstiness(arrivals, cv):
    gaps = np.diff(open_load(arrivals).times_s(4000.0, seed=1))
    assert 1 / gaps.mean() == pytest.approx(5.0, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.1)


def test_a_trace_is_repeated_at_the_wanted_rate():
    recorded_s = np.array([7.0, 7.5, 9.0, 10.0])
    times_s = open_load("trace", recorded_s).times_s(8.0, seed=1)
    assert times_s[:4] == pytest.approx(np.array([0, 0.5, 2.0, 3.0]) * 0.2)
    assert times_s[4:8] - times_s[4] == pytest.approx(times_s[:4])
    assert np.all(np.diff(times_s) > 0) and times_s[-1] < 8.0
    assert times_s.size == 40  # 5 per second


def test_failures_alone_for_too_long_are_a_silence():
    silence = Silence(at_most_s=10.0)
    assert not silence.is_over(Progress(0.0, 8, 8, 0, 0))
    assert not silence.is_over(Progress(100.0, 8, 8, 0, 0))  # a long answer
    assert not silence.is_over(Progress(105.0, 9, 8, 0, 1))
    assert not silence.is_over(Progress(110.0, 10, 8, 0, 2))
    assert silence.is_over(Progress(110.5, 11, 8, 0, 3))
    assert not silence.is_over(Progress(111.0, 12, 8, 1, 3))  # an answer after all
