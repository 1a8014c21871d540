"""From a settled deployment to the figures of plan.json: rounding, money, what is left out."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cases import (
    GPU_USD_PER_H,
    hosted_objectives,
    objectives_of,
    small,
    unlimited,
    z,
)
from questions import inputs_of

from planner import __version__
from planner.answer import deployed, make_answer, make_provenance, predicted
from planner.files.plans import need_plan, plan_text, write_plan
from planner.objectives import Objectives
from planner.plan import make_plan
from planner.settle import Settled, settle
from planner.spec.plan import Plan

HASHES = {"question.yaml": "0" * 64, "profiles/llama-3.1-8b-h100/points.csv": "f" * 64}
PROVENANCE = make_provenance("enumeration", 0, "quick", 36, HASHES)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    return objectives_of(tmp_path_factory.mktemp("base"), small())


@pytest.fixture(scope="module")
def settled(base: Objectives) -> Settled:
    return settle(base, z(1, 1))


@pytest.fixture(scope="module")
def plan(base: Objectives, settled: Settled) -> Plan:
    other = settle(base, z(2, 0))
    return make_answer(base.case, settled, [settled, other], ["because"], PROVENANCE, True)


def digits(value: float) -> int:
    """Decimals of a number as JSON writes it."""
    text = json.dumps(value)
    assert "e" not in text or abs(value) < 1e-4
    return len(text.partition(".")[2]) if "e" not in text else 0


def test_money_latency_and_shares_are_rounded(plan: Plan) -> None:
    money = [plan.predicted.cost_usd_per_h, *(d.usd_per_h for d in plan.deployment)]
    money += [point.cost_usd_per_h for point in plan.front]
    money += [p.usd_per_million_output_tokens or 0.0 for p in plan.predicted.pools]
    assert max(digits(v) for v in money) <= 4
    latency = [v for f in plan.predicted.latency for v in (f.ms, f.low_ms, f.high_ms)]
    assert max(digits(v) for v in latency) <= 1
    assert max(digits(r.share) for r in plan.routing) <= 6


def test_rounding_moves_no_figure_by_more_than_half_a_unit(plan: Plan, settled: Settled) -> None:
    for said, meant in zip(plan.predicted.latency, settled.score.figures, strict=True):
        assert said.ms == pytest.approx(meant.ms, abs=0.05 + 1e-9)
        assert said.at_most_ms == meant.at_most_ms
    assert plan.predicted.quality == pytest.approx(settled.score.quality, abs=5e-7)
    assert plan.predicted.cost_usd_per_h == pytest.approx(settled.cost_usd_per_h, abs=5e-5)


def test_routes_are_the_shares_largest_first(plan: Plan, settled: Settled) -> None:
    names = ("llama-3.1-70b-h100-tp4", "llama-3.1-8b-h100")
    for c, class_name in enumerate(("easy", "hard")):
        routes = [r for r in plan.routing if r.class_name == class_name]
        assert {r.pool: r.share for r in routes} == {
            name: settled.shares[c, p] for p, name in enumerate(names) if settled.shares[c, p] > 0
        }
        assert sum(round(r.share * 1e6) for r in routes) == 1_000_000
        assert [r.share for r in routes] == sorted((r.share for r in routes), reverse=True)


def test_the_rent_of_the_pools_adds_up(plan: Plan) -> None:
    rows = {d.pool: d for d in plan.deployment}
    assert rows["llama-3.1-70b-h100-tp4"].usd_per_h == pytest.approx(4 * GPU_USD_PER_H)
    assert rows["llama-3.1-8b-h100"].usd_per_h == pytest.approx(GPU_USD_PER_H)
    assert [rows[name].n_gpus for name in sorted(rows)] == [4, 1]
    total = sum(d.usd_per_h for d in plan.deployment)
    assert total == pytest.approx(plan.predicted.cost_usd_per_h, abs=1e-4)


def test_the_rent_adds_up_where_gpus_have_several_prices(tmp_path: Path) -> None:
    supply = [
        {"gpu": "h100-sxm-80g", "count": 3, "usd_per_h": 1.0, "kind": "reserved"},
        {"gpu": "h100-sxm-80g", "count": 5, "usd_per_h": 3.7, "kind": "on_demand"},
    ]
    objectives = objectives_of(tmp_path, small(stock=None, supply=supply))
    rows = deployed(objectives.case, z(1, 3))  # 7 GPUs: three for 1.0, four for 3.7
    assert sum(row.usd_per_h for row in rows) == pytest.approx(3 * 1.0 + 4 * 3.7, abs=1e-3)
    assert rows[0].usd_per_h == pytest.approx((3 * 1.0 + 4 * 3.7) * 4 / 7, abs=1e-4)


def test_pools_without_replicas_are_not_in_the_plan(base: Objectives) -> None:
    alone = make_answer(base.case, settle(base, z(2, 0)), [], [], PROVENANCE, True)
    assert [d.pool for d in alone.deployment] == ["llama-3.1-70b-h100-tp4"]
    assert [p.pool for p in alone.predicted.pools] == ["llama-3.1-70b-h100-tp4"]
    assert {r.pool for r in alone.routing} == {"llama-3.1-70b-h100-tp4"}


def tokens_per_h(objectives: Objectives, settled: Settled, rates: Any) -> Any:
    """Output tokens of each pool in an hour at given class rates, (P,)."""
    total = np.zeros(settled.shares.shape[1])
    for c, row in enumerate(objectives.case.workload.shapes):
        for p, shape in enumerate(row):
            if shape is not None:
                each = float(shape.output_tokens.mean())
                total[p] += 3600 * rates[c] * settled.shares[c, p] * each
    return total


def test_a_million_tokens_cost_the_rent_of_the_peak_over_the_mean_traffic(tmp_path: Path) -> None:
    arrivals = {"process": "square", "low_rps": 16.0, "high_rps": 32.0, "period_s": 3600.0}
    objectives = objectives_of(tmp_path, small(arrivals=arrivals))
    workload = objectives.case.workload
    assert workload.rate_rps == pytest.approx([24.0, 8.0])  # the peak, for which is planned
    settled = settle(objectives, z(1, 1))
    said = predicted(objectives.case, settled)
    tokens = tokens_per_h(objectives, settled, [18.0, 6.0])  # the mean, three quarters of it
    expected = 14.75 / tokens.sum() * 1e6
    assert said.usd_per_million_output_tokens == pytest.approx(expected, abs=1e-4)
    for p, rent in enumerate((11.80, 2.95)):
        expected = rent / tokens[p] * 1e6
        assert said.pools[p].usd_per_million_output_tokens == pytest.approx(expected, abs=1e-4)
    assert said.rate_rps == pytest.approx(32.0)


def test_hosted_requests_are_paid_on_average_and_budgeted_at_the_peak(tmp_path: Path) -> None:
    objectives = hosted_objectives(tmp_path, price=0.4)
    # The classes peak apart: easy requests halve on average, hard ones hardly change.
    mean = np.array([12.0, 7.0])
    workload = replace(objectives.case.workload, mean_rate_rps=mean)
    objectives = replace(objectives, case=replace(objectives.case, workload=workload))
    settled = settle(objectives, z(1, 0, 1))
    assert settled.shares[:, 0].min() == 0.0 and settled.shares[:, 0].max() == 1.0
    said = predicted(objectives.case, settled)
    each = workload.request_usd[1, 0]  # of a hard request
    assert said.cost_usd_per_h == pytest.approx(2.95 + 8.0 * each * 3600, abs=1e-3)
    tokens = tokens_per_h(objectives, settled, mean)
    paid = 2.95 + 7.0 * each * 3600
    assert said.usd_per_million_output_tokens == pytest.approx(paid / tokens.sum() * 1e6, rel=1e-4)
    hosted = said.pools[0].usd_per_million_output_tokens
    assert hosted == pytest.approx(7.0 * each * 3600 / tokens[0] * 1e6, rel=1e-4)


def test_a_pool_without_tokens_has_no_price_per_token(base: Objectives, settled: Settled) -> None:
    idle = replace(settled, shares=np.array([[1.0, 0.0], [1.0, 0.0]]))
    said = predicted(base.case, idle)
    assert said.pools[0].usd_per_million_output_tokens is not None
    assert said.pools[1].usd_per_million_output_tokens is None


def test_the_rate_factor_scales_what_is_carried(tmp_path: Path) -> None:
    objectives = objectives_of(tmp_path, unlimited(maximise="rate_factor"))
    settled = settle(objectives, z(1, 1))
    said = predicted(objectives.case, settled)
    assert said.rate_factor == settled.rate_factor
    assert said.rate_rps == pytest.approx(32.0 * settled.rate_factor, abs=1e-5)
    assert said.class_rps == pytest.approx(
        {"easy": 24 * settled.rate_factor, "hard": 8 * settled.rate_factor}, abs=1e-5
    )
    tokens = tokens_per_h(objectives, settled, np.array([24.0, 8.0]) * settled.rate_factor)
    expected = 14.75 / tokens.sum() * 1e6
    assert said.usd_per_million_output_tokens == pytest.approx(expected, abs=1e-4)


def test_a_question_about_the_plan_has_no_rate_factor(plan: Plan) -> None:
    assert plan.predicted.rate_factor is None
    assert all(point.rate_factor is None for point in plan.front)


def test_a_latency_beyond_the_tables_is_a_day(base: Objectives, settled: Settled) -> None:
    figures = tuple(replace(f, ms=np.inf, high_ms=np.inf) for f in settled.score.figures)
    endless = replace(settled, score=replace(settled.score, figures=figures))
    said = predicted(base.case, endless)
    assert all(f.ms == 86_400_000.0 for f in said.latency)


def test_exactly_the_chosen_point_is_marked(plan: Plan) -> None:
    assert [point.chosen for point in plan.front] == [True, False]
    assert plan.front[1].deployment == {"llama-3.1-70b-h100-tp4": 2}


def test_a_plan_is_read_back_as_it_was_written(plan: Plan, tmp_path: Path) -> None:
    write_plan(tmp_path, plan)
    assert need_plan(tmp_path) == plan
    text = (tmp_path / "plan.json").read_text()
    assert text == plan_text(plan)
    assert plan_text(need_plan(tmp_path)) == text


def test_no_path_and_no_time_is_in_the_text(plan: Plan, tmp_path: Path) -> None:
    text = plan_text(plan)
    assert str(tmp_path.parent) not in text
    values = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    assert not [v for v in values if v.startswith(("/", "~")) or re.match(r"[A-Za-z]:\\", v)]
    assert not re.search(r"\b20\d\d-\d\d-\d\d|\d\d:\d\d:\d\d", text)
    assert plan.provenance.rb_version == __version__
    assert plan.provenance.inputs == HASHES


def test_prices_keep_six_digits(plan: Plan) -> None:
    assert plan.prices
    for price in plan.prices:
        assert price.value == float(f"{price.value:.6g}")
        assert price.value > 0


def test_next_to_no_traffic_is_planned_without_a_price_per_token(tmp_path: Path) -> None:
    question = small()
    for cls in question["classes"]:
        cls["rate_rps"] = 1e-300
    plan = make_plan(inputs_of(tmp_path, question), "quick", "enumerate")
    assert plan.predicted.usd_per_million_output_tokens is None
    assert plan.predicted.cost_usd_per_h > 0
