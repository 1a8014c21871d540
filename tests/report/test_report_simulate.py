"""What a person reads of a simulated plan: limits, pools, how it went, in 80 columns and in 60."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hand_plan import BIG, SMALL
from made_runs import records, usage

from planner.report.console import make_console
from planner.report.simulate import Simulation, missed_words, render_simulation, simulation_data
from planner.report.sparkline import BLOCKS, PLAIN, levels_for, sparkline
from planner.simulate.figures import every_figure
from planner.simulate.records import Outcome
from planner.simulate.series import time_series
from planner.simulate.summary import Conditions, Terms, summarise
from planner.simulate.units import PS_PER_S
from planner.simulate.warmup import Window
from planner.spec.plan import Plan
from planner.spec.question import LatencyObjective, Limit
from planner.spec.workload import ScopedLimit

CLASSES = ("gsm", "crux", "math-l5")
N, UNTIL_S = 2000, 600.0


def limit(scope, metric, statistic, at_most_ms) -> ScopedLimit:
    return ScopedLimit(
        scope, Limit(metric=metric, statistic=statistic, at_most_ms=float(at_most_ms))
    )


FINE = limit("crux", "tpot", "p95", 60)
MISSED = limit("gsm", "e2e", "p95", 8000)
CLOSE = limit("crux", "e2e", "p95", 9680)


def simulation(plan: Plan, *limits: ScopedLimit, **changes) -> Simulation:
    """Returns two runs of ten minutes whose answers take 0.5 to 10 s."""
    runs = []
    for seed in (0, 1):
        random = np.random.default_rng(seed)
        fields = {
            "class_index": np.arange(N) % 3,
            "pool_index": np.arange(N) % 2,
            "replica_index": np.arange(N) % 4 // 2,
            "output_tokens": random.integers(2, 480, N),
            "class_names": CLASSES,
            "pool_names": (BIG, SMALL),
        }
        runs.append(
            records(np.linspace(0, UNTIL_S, N), random.gamma(4, 0.1, N), 0.02, **fields | changes)
        )
    terms = Terms(
        limits=limits,
        objective=LatencyObjective(),
        quality=np.full((3, 2), 0.7),
        rent_usd_per_h=np.array([70.8, 2.95]),
        usd_per_million_input_tokens=np.zeros(2),
        usd_per_million_output_tokens=np.zeros(2),
    )
    window = Window(60 * PS_PER_S, round(UNTIL_S * PS_PER_S))
    made_of = Conditions((0, 1), "round_robin", 1.3, (f"{BIG}@300-400",))
    usages = [usage((2, 2), 500_000)] * 2
    return Simulation(
        plan,
        summarise(runs, usages, terms, window, made_of),
        every_figure(runs, window),
        time_series(runs[0], usages[0], window.end_ps),
    )


def text_of(made: Simulation, width: int = 80) -> str:
    stream = io.StringIO()
    render_simulation(made, make_console(stream, width))
    return stream.getvalue()


def row_of(text: str, start: str) -> str:
    return next(row.strip() for row in text.splitlines() if row.strip().startswith(start))


def words_of(text: str) -> str:
    return " ".join(text.split())


def test_limits_stand_against_what_was_predicted(demo_plan):
    text = text_of(simulation(demo_plan, MISSED, CLOSE, FINE))
    predicted = {(f.class_name, f.metric, f.statistic): f.ms for f in demo_plan.predicted.latency}
    missed = row_of(text, "p95 e2e of gsm").split()
    assert float(missed[4].replace(",", "")) == pytest.approx(predicted["gsm", "e2e", "p95"], abs=1)
    assert missed[-2:] == ["8,000", "MISSED"]
    assert row_of(text, "p95 e2e of crux").endswith("9,680  too close to call")
    assert row_of(text, "p95 tpot of crux").split()[-5:] == ["33.6", "20.0", "0.0", "60.0", "met"]


def test_the_conditions_say_what_was_simulated_and_what_counts(demo_plan):
    words = words_of(text_of(simulation(demo_plan)))
    assert "2 runs (seeds 0 to 1), 1.3 times the traffic, failure " in words
    assert f"failure {BIG}@300-400, round robin between replicas; 1,800 requests count" in words
    assert "those that arrive from 1.0 to 10.0 min, 3.333 per second" in words


def test_what_is_missed_is_said_in_words_with_the_distance(demo_plan):
    made = simulation(demo_plan, MISSED, CLOSE, FINE)
    words = words_of(text_of(made))
    ms = made.simulated.latency[0].ms
    said = f"p95 e2e of gsm is {ms / 1000:.2f} s, {100 * (ms / 8000 - 1):.0f}% above its limit"
    assert f"{said} of 8.00 s; the plan predicted 7.46 s at 78.8 requests/s" in words
    assert "p95 e2e of crux is too close to call (9." in words and "--seeds" in words
    assert "every limit is met" not in words
    [only] = missed_words(demo_plan, made.simulated)
    assert only.startswith(said)


def test_a_limit_that_is_missed_by_far_is_told_in_multiples(demo_plan):
    made = simulation(demo_plan, limit("gsm", "e2e", "p95", 500))
    ms = made.simulated.latency[0].ms
    [said] = missed_words(demo_plan, made.simulated)
    # That the plan itself was over this limit is nothing that the simulation found out.
    assert said == f"p95 e2e of gsm is {ms / 1000:.2f} s, {ms / 500:.1f} times its limit of 500 ms"


def test_limits_that_are_met_are_said_to_be(demo_plan):
    assert "- every limit is met" in text_of(simulation(demo_plan, FINE, FINE))
    assert "- the limit is met" in text_of(simulation(demo_plan, FINE))
    assert "limit is met" not in text_of(simulation(demo_plan))


def test_failed_requests_are_told_and_a_percentile_they_break_is_never_reached(demo_plan):
    lost = np.where(np.arange(N) % 10 == 0, Outcome.FAILED, Outcome.OK)
    lost[7] = lost[1007] = Outcome.REFUSED
    text = text_of(simulation(demo_plan, FINE, outcome=lost))
    words = words_of(text)
    assert "360 of 3,600 requests failed: to limits they are infinitely late" in words
    assert "2 of 3,600 requests fit into no replica's KV cache" in words
    assert row_of(text, "p95 tpot of crux").split()[-4:] == ["never", "-", "60.0", "MISSED"]
    assert "misses its limit of 60.0 ms whatever the others take" in words


def test_too_few_requests_leave_a_question_mark(demo_plan):
    few = limit("gsm", "ttft", "p99", 500)
    made = simulation(demo_plan, few, class_index=(np.arange(N) % 100 != 99).astype(int))
    text = text_of(made)
    assert row_of(text, "p99 ttft of gsm").split()[-6:] == [
        "?",
        "500",
        "too",
        "close",
        "to",
        "call",
    ]
    assert "too few requests" in words_of(text)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits(demo_plan, width):
    text = text_of(simulation(demo_plan, MISSED, CLOSE, FINE), width)
    assert max(len(row) for row in text.splitlines()) <= width
    assert "…" not in text


def test_a_series_with_large_figures_fits(demo_plan):
    hours = simulation(demo_plan)
    series = replace(hours.series, ttft_p95_ms=1e4 * np.arange(hours.series.ttft_p95_ms.size) + 1e5)
    text = text_of(replace(hours, series=series))
    assert max(len(row) for row in text.splitlines()) <= 80
    assert row_of(text, "TTFT p95 ms").split()[-3] == "100,000"


def test_pools_are_shown_with_their_load(demo_plan):
    row = row_of(text_of(simulation(demo_plan)), f"{BIG}  ").split()
    assert row[1] == "1.667" and row[2].endswith("%") and row[-1].startswith("$")
    assert "$/M tokens" not in text_of(simulation(demo_plan), 60)


def test_time_is_drawn_and_a_console_without_blocks_gets_letters(demo_plan):
    made = simulation(demo_plan)
    drawn = row_of(text_of(made), "waiting")
    assert set(drawn.split()[1]) <= set(BLOCKS)
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    render_simulation(made, make_console(stream, 80))
    stream.flush()
    text = raw.getvalue().decode("ascii")
    assert set(row_of(text, "waiting").split()[1]) <= set(PLAIN)
    assert "?" not in row_of(text, "waiting")
    assert "10.0 min" in text


def test_data_is_json_with_every_statistic(demo_plan):
    made = simulation(demo_plan, MISSED)
    data = json.loads(json.dumps(simulation_data(made), allow_nan=False))
    assert data["ok"] is False
    assert data["simulated"]["latency"][0]["verdict"] == "missed"
    assert len(data["statistics"]) == 4 * 3 * 5
    assert set(data["statistics"][0]) == {
        "class", "metric", "statistic", "ms", "low_ms", "high_ms",
    }  # fmt: skip
    assert len(data["series"]["edges_s"]) == len(data["series"]["n_waiting_mean"]) + 1
    assert simulation_data(simulation(demo_plan, FINE))["ok"] is True


# ---- Sparklines ----------------------------------------------------------------------------------


def test_a_line_rises_from_zero_to_its_top():
    assert sparkline(np.arange(8.0), 8) == BLOCKS
    assert sparkline(np.array([7.0, 0.0, 3.5]), 8) == "█▁▅"
    assert sparkline(np.zeros(3), 8) == "▁▁▁"
    assert sparkline(np.arange(8.0), 8, PLAIN) == PLAIN


def test_values_share_columns_by_mean_or_by_peak():
    values = np.array([0.0, 2.0, 4.0, 0.0])
    assert sparkline(values, 2) == "▅█" or sparkline(values, 2) == "▄█"
    assert sparkline(values, 2, peaks=True) == "▅█" or sparkline(values, 2, peaks=True) == "▄█"
    assert len(sparkline(np.ones(120), 50)) == 50
    assert len(sparkline(np.ones(7), 50)) == 7


def test_what_is_not_there_is_blank():
    assert sparkline(np.array([np.nan, 1.0, np.nan, np.nan]), 4) == " █  "
    assert sparkline(np.array([np.nan, 1.0, np.nan, np.nan]), 2) == "█ "
    assert sparkline(np.array([np.nan]), 4) == " "
    assert sparkline(np.empty(0), 4) == ""


@pytest.mark.parametrize(
    ("encoding", "levels"),
    [("utf-8", BLOCKS), ("ascii", PLAIN), ("latin-1", PLAIN), ("no-such", PLAIN)],
)
def test_levels_are_what_the_encoding_holds(encoding, levels):
    assert levels_for(encoding) == levels


def test_more_than_a_provider_allows_is_told(demo_plan: Plan) -> None:
    """A hosted pool answers everything here; its provider would not."""
    pools = tuple(
        f.model_copy(update={"rate_rps": 0.1, "utilisation_ratio": 0.5})
        for f in demo_plan.predicted.pools
    )
    predicted = demo_plan.predicted.model_copy(update={"pools": pools})
    hosted = tuple(entry.model_copy(update={"gpu": None}) for entry in demo_plan.deployment)
    asked = demo_plan.model_copy(update={"predicted": predicted, "deployment": hosted})
    text = " ".join(text_of(simulation(asked)).split())
    assert "its provider allows 0.2" in text
    assert "its provider allows" not in text_of(simulation(demo_plan))
