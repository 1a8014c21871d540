"""Judging one deployment with its routes against one set of rates: orders, resources, outcome.

The outcome needs a plan that can be scored at all: every pool and class in it known and allowed.
"""

from __future__ import annotations

from planner.case import Case
from planner.gate.finding import Finding
from planner.gate.orders import order_findings
from planner.gate.outcome import outcome_findings
from planner.gate.placement import placement_findings
from planner.gate.resources import resource_findings
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan

UNSCORABLE = {"unknown-pool", "unknown-class", "unknown-cascade", "not-allowed"}
"""Findings on what is ordered that leave nothing to predict."""


def operation_findings(
    case: Case, inputs: Inputs, plan: Plan, inputs_changed: bool
) -> list[Finding]:
    """Returns what is wrong with what a plan orders, takes and does to its users."""
    orders = order_findings(case, inputs, plan)
    found = [*orders, *resource_findings(case, plan), *placement_findings(case, plan)]
    if not any(f.code in UNSCORABLE for f in orders):
        found += outcome_findings(case, plan, inputs_changed)
    return found
