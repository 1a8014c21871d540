"""When another deployment is better, as a person reads it and as the plan's file keeps it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hand_plan import BIG, SMALL, hand_plan

from planner.gate.plan.proofs import proof_findings
from planner.report.console import make_console
from planner.report.plan import render_plan
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.reasons import Reasons

TITLE = "When another deployment is better"
WORTH = {"what": "budget", "change": "a", "gain": 1.0, "at_most": 2.0, "unit": "usd_per_h"}
STAYS = {"what": "price of b200", "unit": "usd_per_gpu_h", "now": 5.5, "low": 5.0, "high": 7.25}


def with_reasons(plan: Plan, **fields: Any) -> Plan:
    return plan.model_copy(update={"reasons": Reasons.model_validate(fields)})


@pytest.fixture(scope="module")
def plan(demo_inputs: Inputs) -> Plan:
    return hand_plan(demo_inputs)


def text_of(plan: Plan) -> str:
    stream = io.StringIO()
    render_plan(plan, make_console(stream, 80))
    return stream.getvalue()


def test_each_end_at_which_another_takes_over_is_a_row(plan: Plan) -> None:
    text = text_of(with_reasons(plan, stays=[{**STAYS, "above": {BIG: 3, SMALL: 1}}]))
    (row,) = [line for line in text.split(TITLE, 1)[1].splitlines() if "price of b200" in line]
    assert row.split()[3:7] == ["($/h)", "5.50", "above", "7.25"]
    assert TITLE not in text_of(plan)
    assert TITLE not in text_of(with_reasons(plan, stays=[STAYS]))  # nobody is known to take over


def test_no_line_is_wider_than_the_screen(plan: Plan) -> None:
    many = {BIG: 12, SMALL: 34, "another-long-pool-name": 5}
    text = text_of(with_reasons(plan, stays=[{**STAYS, "above": many, "below": many}]))
    assert max(len(line) for line in text.splitlines()) <= 80


def test_a_plan_without_reasons_reads_as_before_and_back(plan: Plan) -> None:
    assert "reasons" not in json.loads(plan.model_dump_json())
    told = with_reasons(plan, worth=[{**WORTH, "cost_usd_per_h": 9.0}], stays=[STAYS])
    assert Plan.model_validate_json(told.model_dump_json(by_alias=True)) == told


def wrong(plan: Plan) -> list[str]:
    return [finding.where for finding in proof_findings(plan)]


def test_reasons_that_contradict_the_plan_are_found(plan: Plan) -> None:
    fine = {**WORTH, "cost_usd_per_h": 9.0}
    proved = {**STAYS, "proved_low": 5.0, "proved_high": 7.25}
    assert wrong(with_reasons(plan, worth=[fine], stays=[proved])) == []
    assert wrong(with_reasons(plan, worth=[fine, {**fine, "gain": 2.5}])) == [
        "plan.json:reasons.worth[1]"
    ]
    assert wrong(with_reasons(plan, stays=[{**proved, "proved_low": 6.0}])) == [
        "plan.json:reasons.stays[0]"
    ]
    own = {row.pool: row.replicas for row in plan.deployment}
    rival = {"cost_usd_per_h": 9.0, "quality": 0.5, "latency_ratio": None, "lost": "dearer"}
    assert wrong(with_reasons(plan, rival={**rival, "deployment": own})) == [
        "plan.json:reasons.rival"
    ]
    other = {**rival, "deployment": {BIG: 99}}
    assert wrong(with_reasons(plan, refused=other)) == []
