"""Drift of a prediction as text and as data."""

from __future__ import annotations

import io
import json

import pytest

from planner.profile.against import Compared, ComparedLoad, MetricDrift, PlannedLoad, PoolDrift
from planner.report.against import drift_data, render_drift
from planner.report.console import make_console
from planner.spec.pool import Point

POINT = Point(input_tokens=100, output_tokens=50, mode="closed", concurrency=8, source="s")
LOAD = ComparedLoad(
    POINT,
    (
        Compared("ttft", "ttft_mean_ms", 123.4, 100, 90, 110, False),
        Compared("ttft", "ttft_p90_ms", 150, 150, 135, 165, True),
        Compared("ttft", "ttft_p95_ms", 222.2, 200, 180, 220, True),
    ),
)
DRIFT = PoolDrift(
    pool="a-pool",
    verdict="slower",
    advice="plan again",
    metrics=(MetricDrift("ttft", 3, 1, 1.125, "slower"),),
    loads=(LOAD,),
    n_not_judged=2,
    planned=PlannedLoad(3, 1.25, 62.5, 0.6, True, POINT),
)


def text_of(*drifts: PoolDrift, width: int = 80) -> str:
    stream = io.StringIO()
    render_drift(drifts, make_console(stream, width))
    return stream.getvalue()


def test_the_verdict_comes_first_and_what_to_do() -> None:
    lines = text_of(DRIFT).splitlines()
    assert lines[:2] == ["a-pool: slower than predicted", "  - plan again"]


def test_means_and_what_lies_outside_are_shown() -> None:
    rows = [" ".join(row.split()) for row in text_of(DRIFT).splitlines()]
    assert "TTFT 3 1 1.12 slower" in rows
    assert "8 in flight TTFT mean 123.4 100 1.23 0.90-1.10 slower" in rows
    assert "TTFT p95 222.2 200* 1.11 0.90-1.10 slower" in rows
    assert "p90" not in text_of(DRIFT)


def test_what_the_plan_said_and_what_was_not_judged() -> None:
    text = " ".join(text_of(DRIFT).split())
    assert "each of 3 replicas: 1.25 requests/s, 62.5 output tokens/s, 60% of what it can" in text
    assert "beyond what was measured" in text
    assert "the measured load nearest to that: 8 in flight" in text
    assert "2 load levels not judged" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits(width: int) -> None:
    text = text_of(DRIFT, DRIFT, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_data_has_every_figure() -> None:
    data = json.loads(json.dumps(drift_data([DRIFT], ["a note"])))
    assert (data["ok"], data["notes"]) == (False, ["a note"])
    (pool,) = data["pools"]
    figures = pool["loads"][0]["figures"]
    assert [f["verdict"] for f in figures] == ["slower", "within", "slower"]
    assert figures[0]["measured_ratio"] == pytest.approx(1.234)
    assert pool["planned"]["rate_rps"] == 1.25
    assert pool["metrics"][0]["n_within"] == 1
