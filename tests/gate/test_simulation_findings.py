"""What a plan says of its simulation: alike where it may be, found where it cannot be so."""

from __future__ import annotations

from typing import Any

import pytest
from hand_plan import ROOT

from planner.files.plans import need_plan
from planner.gate.plan.simulation import simulation_findings
from planner.spec.plan import Plan

PLAN = need_plan(ROOT / "tests" / "demo_plan")


def found(**update: Any) -> list[str]:
    """Returns the fields of the simulation in which something is wrong."""
    assert PLAN.simulated is not None
    said = PLAN.simulated.model_copy(update=update)
    findings = list(simulation_findings(PLAN.model_copy(update={"simulated": said})))
    assert {(f.severity, f.code) for f in findings} <= {("error", "simulation-differs")}
    return [f.where.removeprefix("plan.json:simulated.") for f in findings]


def with_first(**update: Any) -> list[str]:
    """Returns what is wrong where the first simulated latency, limited to 10 s, is another."""
    assert PLAN.simulated is not None
    first, *rest = PLAN.simulated.latency
    figures = (first.model_copy(update=update), *rest)
    ratio = max(f.ms / f.at_most_ms for f in figures if f.at_most_ms is not None)
    return found(latency=figures, latency_ratio=round(ratio, 6))


def test_what_was_played_is_clean() -> None:
    assert found() == []
    silent: Plan = PLAN.model_copy(update={"simulated": None})
    assert list(simulation_findings(silent)) == []


@pytest.mark.parametrize(
    ("low_ms", "high_ms", "possible"),
    [
        (9000.0, 9999.0, {"met"}),
        (9000.0, 10_000.0, {"met", "too close to call"}),  # rounding hides which
        (9000.0, 10_001.0, {"too close to call"}),
        (10_000.0, 11_000.0, {"too close to call", "missed"}),
        (10_001.0, 11_000.0, {"missed"}),
    ],
)
def test_a_verdict_follows_from_its_interval(
    low_ms: float, high_ms: float, possible: set[str]
) -> None:
    interval = {"low_ms": low_ms, "high_ms": high_ms, "ms": 0.5 * (low_ms + high_ms)}
    for verdict in ("met", "missed", "too close to call", None):
        wrong = [] if verdict in possible else ["latency[p95 e2e of gsm].verdict"]
        assert with_first(**interval, verdict=verdict) == wrong


def test_limits_are_those_of_the_plan() -> None:
    assert with_first(at_most_ms=20_000.0) == ["latency[p95 e2e of gsm].at_most_ms"]
    assert with_first(at_most_ms=None, verdict=None) == ["latency[p95 e2e of gsm].at_most_ms"]


def test_rates_money_and_requests_add_up() -> None:
    assert PLAN.simulated is not None
    n = PLAN.simulated.n_requests
    assert found(n_failed=n, n_refused=1) == ["n_requests", "goodput_rps"]
    assert found(rate_rps=PLAN.simulated.rate_rps * 1.01) == ["rate_rps", "n_requests"]
    assert found(n_requests=n + 1) == [] and found(n_requests=n + 200) == ["n_requests"]
    assert found(quality=PLAN.simulated.quality + 0.01) == ["quality"]
    assert found(cost_usd_per_h=PLAN.predicted.cost_usd_per_h + 1e-4) == []
    assert found(cost_usd_per_h=PLAN.predicted.cost_usd_per_h + 1e-2) == ["cost_usd_per_h"]
    assert found(latency_ratio=None) == ["latency_ratio"]


def test_good_answers_are_answers() -> None:
    said = PLAN.simulated
    assert said is not None
    n_good = round(said.n_requests * said.goodput_rps / said.rate_rps)
    assert found(n_failed=said.n_requests - n_good - 20) == []
    assert found(n_failed=said.n_requests - n_good + 200) == ["goodput_rps"]
    assert found(goodput_low_rps=said.goodput_rps + 0.1) == ["goodput_rps"]
    assert found(goodput_high_rps=said.goodput_rps - 0.1) == ["goodput_rps"]
    assert found(class_goodput_rps={"gsm": said.goodput_rps}) == ["class_goodput_rps"]
    assert found(goodput_rps=said.goodput_rps * 0.9, goodput_low_rps=0.0) == ["goodput_rps"]
    others = {name: value for name, value in said.class_quality.items() if name != "gsm"}
    assert found(class_quality=others) == ["quality", "class_quality"]


def test_the_traffic_is_that_of_the_plan_but_for_chance() -> None:
    said = PLAN.simulated
    assert said is not None

    def at(factor: float, n_requests: int) -> list[str]:
        fields = ("rate_rps", "goodput_rps", "goodput_low_rps", "goodput_high_rps")
        rates = {name: getattr(said, name) * factor for name in fields}
        by_class = {
            name: {key: value * factor for key, value in getattr(said, name).items()}
            for name in ("class_rps", "class_goodput_rps")
        }
        duration_s = n_requests / (rates["rate_rps"] * len(said.seeds))
        return found(**rates, **by_class, n_requests=n_requests, duration_s=duration_s)

    assert at(0.9, said.n_requests) == at(1.1, said.n_requests) == at(0.5, 900) == []
    assert at(0.75, said.n_requests) == at(1.25, said.n_requests) == at(2.5, 900) == ["rate_rps"]
    assert found(rate_factor=2.0) == ["rate_factor"]
    assert found(seeds=(0, 1, 1)) == ["seeds"]
