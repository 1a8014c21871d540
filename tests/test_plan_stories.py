"""Stories: what a change of the question must, and must not, do to the plan (exhaustive search)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cases import enumerated, objectives_of
from questions import inputs_of, small

from planner.choose import choose
from planner.files.plans import plan_text
from planner.plan import make_plan
from planner.settle import Settled
from planner.spec.plan import Plan

GPU = "h100-sxm-80g"


def answer(folder: Path, question: dict[str, Any], method: str = "enumerate") -> Plan:
    return make_plan(inputs_of(folder, question), "quick", method, seed=0)  # type: ignore[arg-type]


def chosen(folder: Path, question: dict[str, Any]) -> Settled | None:
    """The choice among all deployments of the box, without what a plan says beside it."""
    objectives = objectives_of(folder, question)
    return choose(objectives, enumerated(objectives), None)[0]


def replicas(plan: Plan) -> dict[str, int]:
    return {entry.pool: entry.replicas for entry in plan.deployment}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return answer(tmp_path_factory.mktemp("base"), small())


def test_a_plan_keeps_every_promise(base: Plan) -> None:
    assert base.predicted.quality >= 0.75
    limited = [f for f in base.predicted.latency if f.at_most_ms is not None]
    assert len(limited) == 2
    assert all(f.ms <= f.at_most_ms * (1 + 1e-6) for f in limited if f.at_most_ms)
    assert sum(entry.n_gpus for entry in base.deployment) <= 8
    for name in ("easy", "hard"):
        assert sum(r.share for r in base.routing if r.class_name == name) == pytest.approx(
            1, abs=1e-9
        )


@pytest.mark.slow
def test_doubling_every_price_doubles_cost_and_moves_nothing(base: Plan, tmp_path: Path) -> None:
    doubled = answer(tmp_path, small(prices={GPU: 5.90}))
    assert doubled.predicted.cost_usd_per_h == pytest.approx(2 * base.predicted.cost_usd_per_h)
    assert replicas(doubled) == replicas(base)
    assert doubled.routing == base.routing


@pytest.mark.slow
def test_doubling_prices_and_budget_together_moves_nothing(tmp_path: Path) -> None:
    one = answer(tmp_path / "1", small(budget_usd_per_h=24.0, choose="best_quality"))
    two = answer(
        tmp_path / "2", small(budget_usd_per_h=48.0, choose="best_quality", prices={GPU: 5.90})
    )
    assert replicas(one) == replicas(two)
    assert one.routing == two.routing
    assert two.predicted.cost_usd_per_h == pytest.approx(2 * one.predicted.cost_usd_per_h)


def test_adding_a_pool_never_raises_cost(base: Plan, tmp_path: Path) -> None:
    pools = ["llama-3.1-8b-h100", "llama-3.1-70b-h100-tp4", "llama-3.1-405b-fp8-h100-tp8"]
    more = chosen(tmp_path, small(pools=pools))
    assert more is not None
    assert round(more.cost_usd_per_h, 4) <= base.predicted.cost_usd_per_h


@pytest.mark.slow
def test_tightening_a_limit_never_lowers_cost(tmp_path: Path) -> None:
    costs = []
    for at_most_ms in (30_000, 15_000, 8_000, 6_000):
        question = small()
        question["classes"][0]["limits"][0]["at_most_ms"] = at_most_ms
        costs.append(answer(tmp_path / str(at_most_ms), question).predicted.cost_usd_per_h)
    assert costs == sorted(costs)


@pytest.mark.slow
def test_raising_the_floor_never_lowers_cost(tmp_path: Path) -> None:
    floors = (0.66, 0.72, 0.78, 0.80)
    costs = [
        answer(tmp_path / str(q), small(quality_at_least=q)).predicted.cost_usd_per_h
        for q in floors
    ]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_a_model_that_nobody_needs_gets_no_gpu(tmp_path: Path) -> None:
    objectives = objectives_of(tmp_path, small(quality_at_least=0.4))
    settled, _ = choose(objectives, enumerated(objectives), None)
    assert settled is not None
    rented = {objectives.case.space.pool_names[p] for p in np.flatnonzero(settled.replicas)}
    assert rented == {"llama-3.1-8b-h100"}


def test_a_class_keeps_to_its_allowed_pools(tmp_path: Path) -> None:
    question = small()
    question["classes"][0]["pools"] = ["llama-3.1-70b-h100-tp4"]
    question["classes"][1]["not_pools"] = ["llama-3.1-8b-h100"]
    plan = answer(tmp_path, question)
    assert {r.pool for r in plan.routing} == {"llama-3.1-70b-h100-tp4"}


@pytest.mark.slow
def test_a_class_floor_binds_its_own_class(tmp_path: Path) -> None:
    question = small(quality_at_least=0.6)
    question["classes"][1]["quality_at_least"] = 0.55
    plan = answer(tmp_path, question)
    assert plan.predicted.class_quality["hard"] >= 0.55


def test_a_fixed_deployment_is_routed_as_it_stands(tmp_path: Path) -> None:
    fixed = {
        "llama-3.1-8b-h100": {"min": 2, "max": 2},
        "llama-3.1-70b-h100-tp4": {"min": 1, "max": 1},
    }
    plan = answer(tmp_path, small(replicas=fixed))
    assert replicas(plan) == {"llama-3.1-8b-h100": 2, "llama-3.1-70b-h100-tp4": 1}


@pytest.mark.slow
def test_the_rate_factor_grows_with_the_stock(tmp_path: Path) -> None:
    carried = []
    for stock in (4, 8):
        question = small(maximise="rate_factor", stock={GPU: stock})
        plan = answer(tmp_path / str(stock), question)
        assert plan.predicted.rate_factor is not None
        assert plan.predicted.rate_rps == pytest.approx(32.0 * plan.predicted.rate_factor)
        carried.append(plan.predicted.rate_factor)
    assert 0 < carried[0] < carried[1]


def test_the_rate_factor_of_a_fixed_deployment_is_what_it_can_carry(tmp_path: Path) -> None:
    fixed = {
        "llama-3.1-8b-h100": {"min": 2, "max": 2},
        "llama-3.1-70b-h100-tp4": {"min": 1, "max": 1},
    }
    most = answer(tmp_path / "most", small(replicas=fixed, maximise="rate_factor"))
    factor = most.predicted.rate_factor
    assert factor is not None
    for scale, works in ((0.97, True), (1.03, False)):
        question = small(replicas=fixed)
        for cls in question["classes"]:
            cls["rate_rps"] *= factor * scale
        assert (chosen(tmp_path / str(scale), question) is not None) == works


@pytest.mark.slow
def test_money_buys_quality_or_speed(tmp_path: Path) -> None:
    cheapest = answer(tmp_path / "c", small())
    best = answer(tmp_path / "q", small(choose="best_quality"))
    fastest = answer(tmp_path / "f", small(choose="fastest"))
    assert best.predicted.quality >= cheapest.predicted.quality
    assert best.predicted.cost_usd_per_h >= cheapest.predicted.cost_usd_per_h
    assert fastest.predicted.latency_ratio is not None
    assert cheapest.predicted.latency_ratio is not None
    assert fastest.predicted.latency_ratio < cheapest.predicted.latency_ratio


def test_without_limits_the_latency_objective_is_the_third_axis(tmp_path: Path) -> None:
    question = small(latency_objective={"metric": "tpot", "statistic": "mean"})
    for cls in question["classes"]:
        del cls["limits"]
    plan = answer(tmp_path, question)
    assert plan.predicted.latency_ratio is None
    assert all(point.latency_ms is not None for point in plan.front)


def test_same_question_same_bytes(base: Plan, tmp_path: Path) -> None:
    assert plan_text(answer(tmp_path, small())) == plan_text(base)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["enumerate", "local", "random"])
def test_same_seed_same_bytes(method: str, tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, small())
    texts = [plan_text(make_plan(inputs, "quick", method, seed=3)) for _ in range(2)]  # type: ignore[arg-type]
    assert texts[0] == texts[1]


def test_the_front_holds_the_plan_and_nothing_dominated(base: Plan) -> None:
    assert sum(point.chosen for point in base.front) == 1
    vectors = [(p.cost_usd_per_h, -p.quality, p.latency_ratio or 0.0) for p in base.front]
    for a in vectors:
        assert not any(b != a and all(x <= y for x, y in zip(b, a, strict=True)) for b in vectors)
