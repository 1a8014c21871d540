"""The way from one plan to another, and how it was played, as text and as data."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.gate.diff import diff
from planner.gate.way.played import Played, PlayedStep
from planner.gate.way.steps import PeakGpus, PoolStep, Step, Transition
from planner.report.console import make_console, show
from planner.report.data import diff_data
from planner.report.diff import render_diff
from planner.report.played import missed_words, played_data, render_played
from planner.report.transition import MOST_STEPS, peak_words, step_words, transition_sections
from planner.spec.base import FOREVER_MS
from planner.spec.plan import Plan, SimulatedFigure

START = Step(
    "start", (PoolStep("big", "h100", 0, 2, 8.0), PoolStep("small", "h100", 1, 2, 1.0)), 0.0,
    {"h100": 14.0}, True, 0.62, 0.91, (),
)  # fmt: skip
SHIFT = Step("shift", (), 1.0, {"h100": 14.0}, True, 0.51, 0.88, ())
STOP = Step(
    "stop", (PoolStep("old", "h100", 5, 0, 5.0),), 1.0, {"h100": 14.0}, True, 0.51, 0.88, ()
)
PEAK = PeakGpus("h100", 6.0, 10.0, 14.0, 16.0)
SAFE = Transition((START, SHIFT, STOP), (PEAK,), "tables", True, (), ("cascades shift at once",))
LATE = Step("stop", STOP.pools, 1.0, STOP.gpus, False, 1.2, 1.4, ("p95 e2e is 12 s, limit 10 s",))
UNSAFE = Transition(
    (START, SHIFT, LATE), (PEAK,), "tables", False, ("2 more h100 for a while",), ()
)


def text_of(way: Transition, width: int = 80) -> str:
    stream = io.StringIO()
    show(transition_sections(way), make_console(stream, width))
    return stream.getvalue()


def test_what_a_reviewer_reads_of_a_safe_way() -> None:
    text = text_of(SAFE)
    rows = [" ".join(row.split()) for row in text.splitlines()]
    assert "The way there (judged by the fitted tables of every pool)" in text
    assert "1. start 2 big (0 -> 2), 1 small (1 -> 2) 14 62% 91% holds" in rows
    assert "2. shift the traffic to the new routes 14 51% 88% holds" in rows
    assert "  - h100: 6 -> 10 GPUs, 14 meanwhile, 16 in stock" in text
    assert "  - safe: capacity, headroom, limits and floors hold after every step" in text
    assert "  - cascades shift at once" in text


def test_what_a_reviewer_reads_of_one_that_is_not() -> None:
    text = text_of(UNSAFE)
    assert "DOES NOT HOLD" in text
    assert "  - NOT SAFE: after 1 of 3 steps something does not hold" in text
    assert "  - a safe way takes 2 more h100 for a while" in text
    assert "  - after step 3: p95 e2e is 12 s, limit 10 s" in text


def test_what_nobody_can_judge_is_not_called_safe() -> None:
    steps = tuple(
        Step(s.kind, s.pools, s.shifted_ratio, s.gpus, None, None, None, ()) for s in SAFE.steps
    )
    text = text_of(Transition(steps, (PEAK,), "nothing", None, ()))
    assert "not judged" in text and "safe:" not in text
    figures = text_of(Transition(SAFE.steps, (PEAK,), "figures", None, ()))
    assert "  - no pool is beyond its capacity on the way; whether limits and" in figures
    assert "safe" not in figures


def test_no_steps_no_section() -> None:
    assert text_of(Transition((), (PEAK,), "tables", True, ())) == ""
    worse = text_of(Transition((), (PEAK,), "tables", False, ("a new plan that holds",)))
    assert "NOT SAFE: it takes what is not there" in worse
    assert "a safe way takes a new plan that holds" in worse


def test_hundreds_of_steps_are_cut() -> None:
    way = Transition((START,) * 100, (PEAK,), "tables", True, ())
    text = text_of(way)
    assert f"{MOST_STEPS}. start" in text and f"{MOST_STEPS + 1}. start" not in text
    assert "70 more steps of the same kind" in text


def test_words_of_steps_and_peaks() -> None:
    part = Step("shift", (), 0.25, {}, True, None, None, ())
    assert step_words(part) == "shift 25% of the way to the new routes"
    assert step_words(STOP) == "drain, then stop 5 old (5 -> 0)"
    api = Step("start", (PoolStep("api", None, 0, 1, 0.0),), 0.0, {}, True, None, None, ())
    assert step_words(api) == "start 1 api (hosted, 0 -> 1)"
    assert peak_words(PeakGpus("h100", 6.0, 10.0, 10.0, None)) == "6 -> 10 GPUs"


@settings(max_examples=25)
@given(st.integers(60, 120), st.text("abcdefgh-.", min_size=1, max_size=70))
def test_long_names_fit_any_terminal(width: int, name: str) -> None:
    pools = (PoolStep(name, "gpu-" + name, 0, 12, 96.0),) * 3
    steps = (Step("start", pools, 0.0, {"gpu-" + name: 96.0}, True, 0.5, 0.9, (name,)), SHIFT)
    peak = PeakGpus("gpu-" + name, 0.0, 96.0, 96.0, 128.0)
    way = Transition(steps, (peak,), "tables", True, (), (name,))
    assert max(len(row) for row in text_of(way, width).splitlines()) <= width


def test_it_is_part_of_the_difference(demo_plan: Plan) -> None:
    stream = io.StringIO()
    change = diff(demo_plan, demo_plan, SAFE)
    render_diff(change, make_console(stream, 80))
    assert "The way there" in stream.getvalue()
    data = json.loads(json.dumps(diff_data(change), allow_nan=False))
    assert data["transition"]["steps"][0] == {
        "kind": "start",
        "pools": [
            {"pool": "big", "gpu": "h100", "n_before": 0, "n_after": 2, "n_gpus": 8.0},
            {"pool": "small", "gpu": "h100", "n_before": 1, "n_after": 2, "n_gpus": 1.0},
        ],
        "shifted_ratio": 0.0,
        "gpus": {"h100": 14.0},
        "holds": True,
        "utilisation_ratio": 0.62,
        "latency_ratio": 0.91,
        "problems": [],
    }
    assert data["transition"]["needs"] == [] and data["transition"]["is_safe"] is True
    assert diff_data(diff(demo_plan, demo_plan))["transition"] is None


# ---- Played --------------------------------------------------------------------------------------


def figure(ms: float, verdict: str, class_name: str | None = "math") -> SimulatedFigure:
    return SimulatedFigure.model_validate(
        {"class": class_name, "metric": "e2e", "statistic": "p95", "ms": ms, "low_ms": ms * 0.9,
         "high_ms": ms * 1.1, "at_most_ms": 10_000.0, "verdict": verdict}
    )  # fmt: skip


def played(*last: SimulatedFigure, n_unanswered: int = 0) -> Played:
    fine = (figure(5_000.0, "met"),)
    return Played(
        SAFE,
        (
            PlayedStep(None, 300.0, 600.0, 1_500, 0, fine),
            PlayedStep(START, 600.0, 720.0, 600, 0, fine),
            PlayedStep(SHIFT, 720.0, 840.0, 610, 0, fine),
            PlayedStep(STOP, 840.0, 1_560.0, 3_600, n_unanswered, last or fine),
        ),
        (0, 1),
        (),
    )


def played_text(what: Played, width: int = 80) -> str:
    stream = io.StringIO()
    render_played("A title", what, make_console(stream, width))
    return stream.getvalue()


def test_a_change_that_went_well() -> None:
    text = played_text(played())
    rows = [row.split() for row in text.splitlines()]
    assert text.startswith("A title\n2 runs of the change")
    assert ["before", "5.0", "min", "1,500", "50%", "met"] in rows
    assert ["1.", "start", "3", "replicas", "10.0", "min", "600", "50%", "met"] in rows
    assert "  - predicted: safe: capacity, headroom" in text
    assert (
        "1. start 2 big (0 -> 2), 1 small" in text and "  - no limit is missed on the way" in text
    )
    assert max(map(len, text.splitlines())) <= 80


def test_a_change_that_went_wrong() -> None:
    unsure = figure(10_100.0, "too close to call", None)
    what = played(figure(12_000.0, "missed"), unsure, n_unanswered=7)
    text = played_text(what)
    assert what.missed and "MISSED" in text
    assert "  - in step 3 p95 e2e of math is 12,000 ms, allowed 10,000 ms" in text
    assert "  - 7 of 6,310 requests have no answer" in text
    assert "too close to call: p95 e2e of all traffic in step 3; more --seeds tell" in text
    assert "no limit is missed" not in text
    assert list(missed_words(what)) == ["in step 3 p95 e2e of math is 12,000 ms, allowed 10,000 ms"]


def test_what_is_unsure_is_no_promise() -> None:
    text = played_text(played(figure(10_100.0, "too close to call")))
    assert "no limit is missed for certain" in text and "on the way" not in text


def test_what_never_comes() -> None:
    what = played(figure(FOREVER_MS, "missed"))
    assert "never" in played_text(what)
    assert list(missed_words(what)) == ["in step 3 p95 e2e of math never comes, allowed 10,000 ms"]


def test_nothing_to_change_is_said() -> None:
    nothing = Played(Transition((), (), "tables", True, ()), (), (0,), ())
    assert "there is nothing to change" in played_text(nothing)


def test_played_data_is_json() -> None:
    data = json.loads(json.dumps(played_data(played(figure(12_000.0, "missed"))), allow_nan=False))
    assert data["ok"] is False and data["seeds"] == [0, 1]
    assert [s["step"] for s in data["steps"]] == [None, 1, 2, 3]
    assert data["steps"][3]["latency"][0]["verdict"] == "missed"
    assert data["steps"][3]["latency_ratio"] == pytest.approx(1.2)
