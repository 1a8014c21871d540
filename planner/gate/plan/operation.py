"""Judging one deployment with its routes against one set of rates: orders, resources, outcome.

The outcome needs a plan that can be scored at all: every pool and class in it known and allowed.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.case import Case
from planner.gate.finding import Finding
from planner.gate.plan.orders import order_findings
from planner.gate.plan.outcome import outcome_findings
from planner.gate.plan.placement import placement_findings
from planner.gate.plan.resources import resource_findings
from planner.ordered import Rescored, rescore
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan

UNSCORABLE = {"unknown-pool", "unknown-class", "unknown-cascade", "not-allowed"}
"""Findings on what is ordered that leave nothing to predict."""


@dataclass(frozen=True)
class Operation:
    """What is wrong with one deployment at one set of rates, and the score that says so."""

    findings: tuple[Finding, ...]
    again: Rescored | None  # None: a plan that cannot be scored


def judge_operation(case: Case, inputs: Inputs, plan: Plan, inputs_changed: bool) -> Operation:
    """Returns what is wrong with what a plan orders, takes and does to its users."""
    orders = order_findings(case, inputs, plan)
    found = (*orders, *resource_findings(case, plan), *placement_findings(case, plan))
    if any(f.code in UNSCORABLE for f in orders):
        return Operation(found, None)
    again = rescore(case, plan)
    return Operation((*found, *outcome_findings(case, plan, again, inputs_changed)), again)
