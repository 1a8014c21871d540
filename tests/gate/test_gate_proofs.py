"""A proof that contradicts the plan it is about is found; one that agrees is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hand_plan import BIG, ROOT, SMALL, hand_plan

from planner.files.plans import need_plan
from planner.gate.plan.proofs import proof_findings
from planner.spec.inputs import Inputs
from planner.spec.plan import Bound, FrontPoint, Plan


@pytest.fixture(scope="module")
def plan(demo_inputs: Inputs) -> Plan:
    two = tuple(p for p in demo_inputs.candidates if p.name in (BIG, SMALL))
    return hand_plan(replace(demo_inputs, candidates=two))


@pytest.fixture(scope="module")
def played() -> Plan:
    """Returns a plan with a front and a simulation, as rb plan makes it."""
    return need_plan(ROOT / "tests" / "demo_plan")


def found(plan: Plan) -> list[str]:
    """Where proofs are wrong."""
    findings = list(proof_findings(plan))
    assert {(f.severity, f.code) for f in findings} <= {("error", "proof")}
    return [f.where for f in findings]


def bounded(plan: Plan, **fields: Any) -> Plan:
    said = {"objective": "quality", "value": plan.predicted.quality, "method": "a program"}
    said |= {"best_possible": 1.01 * plan.predicted.quality, "gap_ratio": 0.01}
    return plan.model_copy(update={"bound": Bound.model_validate(said | fields)})


def with_point(plan: Plan, **fields: Any) -> Plan:
    said = {"deployment": {BIG: 1}, "cost_usd_per_h": 10.0, "quality": 0.5}
    said |= {"latency_ratio": 0.9, "latency_ms": None, "best_possible": 0.51, "gap_ratio": 0.02}
    front = (FrontPoint.model_validate(said | fields), *plan.front)
    return plan.model_copy(update={"front": front})


def test_a_plan_without_proofs_has_nothing_to_contradict(plan: Plan) -> None:
    assert found(plan) == []
    assert found(with_point(plan, best_possible=None, gap_ratio=None)) == []


def test_proofs_that_agree_are_clean(plan: Plan) -> None:
    assert found(bounded(plan)) == []
    assert found(with_point(plan)) == []
    assert found(with_point(plan, best_possible=0.5, gap_ratio=0.0)) == []
    assert found(with_point(plan, rate_factor=2.0, best_possible=2.5, gap_ratio=0.25)) == []
    cost = plan.predicted.cost_usd_per_h
    cheaper = {"objective": "cost_usd_per_h", "value": cost, "best_possible": 0.9 * cost}
    assert found(bounded(plan, **cheaper, gap_ratio=0.1)) == []
    # With the money that a change of deployment must save on top.
    more = {"objective": "cost_usd_per_h", "value": cost + 2.0, "best_possible": cost + 2.0}
    assert found(bounded(plan, **more, gap_ratio=0.0)) == []


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"value": 0.1, "best_possible": 0.1, "gap_ratio": 0.0}, "plan.json:bound.value"),
        ({"best_possible": 0.1}, "plan.json:bound.best_possible"),
        ({"gap_ratio": 0.2}, "plan.json:bound.gap_ratio"),
        ({"objective": "rate_factor"}, "plan.json:bound.value"),  # the plan maximises none
        ({"objective": "cost_usd_per_h"}, "plan.json:bound.value"),
    ],
)
def test_a_bound_that_contradicts_the_plan_is_found(
    plan: Plan, fields: dict[str, Any], where: str
) -> None:
    assert where in found(bounded(plan, **fields))


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"best_possible": 0.4}, "plan.json:front[0].best_possible"),
        ({"gap_ratio": 0.5}, "plan.json:front[0].gap_ratio"),
        ({"gap_ratio": 0.0}, "plan.json:front[0].gap_ratio"),
        ({"gap_ratio": None}, "plan.json:front[0]"),
        ({"rate_factor": 0.6}, "plan.json:front[0].best_possible"),
    ],
)
def test_a_point_of_the_front_that_beats_its_own_proof_is_found(
    plan: Plan, fields: dict[str, Any], where: str
) -> None:
    assert found(with_point(plan, **fields)) == [where]


@pytest.mark.parametrize(
    ("update", "where"),
    [
        ({"deployment": {BIG: 1}}, "plan.json:front[0].deployment"),
        ({"cost_usd_per_h": 1.0}, "plan.json:front[0].cost_usd_per_h"),
        ({"quality": 0.9}, "plan.json:front[0].quality"),
        ({"latency_ratio": None}, "plan.json:front[0].latency_ratio"),
        ({"chosen": False}, "plan.json:front"),
    ],
)
def test_the_chosen_point_of_the_front_is_the_plan(
    plan: Plan, update: dict[str, Any], where: str
) -> None:
    point = plan.front[0]
    assert found(plan.model_copy(update={"front": (point.model_copy(update=update),)})) == [where]
    assert found(plan.model_copy(update={"front": (point, point)})) == ["plan.json:front"]
    near = point.model_copy(update={"quality": point.quality + 1e-4})
    assert found(plan.model_copy(update={"front": (near,)})) == []


def test_what_the_quality_rests_on_is_the_plans_quality(played: Plan) -> None:
    def resting(**fields: Any) -> list[str]:
        said = {"by_class": {}} | fields
        basis = played.quality_basis
        assert basis is not None
        by_class = basis.by_class.model_copy(update=said.pop("by_class"))
        basis = basis.model_copy(update={"by_class": by_class, **said})
        return found(played.model_copy(update={"quality_basis": basis}))

    where = "plan.json:quality_basis.by_class"
    assert found(played) == resting() == []
    other = {"quality": played.predicted.quality - 0.01}
    assert resting(by_class=other) == [f"{where}.quality"]
    assert resting(by_class=other, held_out=True) == []  # judged on other prompts
    assert resting(by_class={"low": 0.99, "high": 1.0}) == [where]


def test_the_front_is_of_what_the_plan_was_made_with(played: Plan) -> None:
    k = next(k for k, p in enumerate(played.front) if not p.chosen)

    def with_front(at: int, **fields: Any) -> list[str]:
        front = list(played.front)
        front[at] = front[at].model_copy(update=fields)
        return found(played.model_copy(update={"front": tuple(front)}))

    assert with_front(k, deployment={"none": 1}) == [f"plan.json:front[{k}].deployment"]
    (own,) = (k for k, p in enumerate(played.front) if p.chosen)
    tried = f"plan.json:front[{own}].simulated_latency_ratio"
    assert with_front(own, simulated_latency_ratio=0.1) == [tried]
    assert with_front(own, simulated_latency_ratio=None) == []
    assert found(played.model_copy(update={"simulated": None})) == [tried]
