"""Judging a plan by the rules of every plan, and by those of a policy where there is one."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from planner.gate.check import check
from planner.gate.finding import Finding
from planner.gate.judgement import Judgement
from planner.gate.plan.operation import UNSCORABLE
from planner.gate.rules import RULES, in_order
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan, Routes
from planner.spec.sheet import ServingSheet

if TYPE_CHECKING:
    from planner.gate.way.steps import Transition
    from planner.spec.policy import Policy

OUTCOME = (
    "capacity",
    "no-latency",
    "limit",
    "quality-floor",
    "not-survived",
    "survives-differ",
    "extrapolated",
    "mix-shift",
    "prediction-drift",
)
"""Rules about what users will see, which nobody knows of a plan that cannot be scored."""


@dataclass(frozen=True)
class Asked:
    """A policy, and what it is judged with beside the plan."""

    policy: Policy
    today: datetime.date  # handed in: prices grow old by it
    old: Plan | None = None  # the plan before
    transition: Transition | None = None  # from it


def judge(
    inputs: Inputs,
    plan: Plan,
    routes: Routes | None,
    sheet: ServingSheet | None = None,
    asked: Asked | None = None,
) -> Judgement:
    """Returns the judgement of a plan.

    Args:
        inputs: the question and the profiles as they are today.
        plan: what was planned.
        routes: what the runtime reads (routes.json); None when there is no such file.
        sheet: what the runtime knows beside (serving.json); a folder may do without.
        asked: the policy, if there is one.

    Raises:
        InputError: a pool cannot be fitted, so nothing can be judged.
    """
    found = list(check(inputs, plan, routes, sheet=sheet))
    judged = {rule.id for rule in RULES if rule.of == "plan"} - _unjudged(found, sheet)
    if asked is None:
        return Judgement(in_order(found), tuple(rule for rule in RULES if rule.id in judged))
    from planner.gate.policy.case import PolicyCase  # without a policy none of it is needed
    from planner.gate.policy.table import policy_findings

    case = PolicyCase(asked.policy, plan, inputs, asked.old, asked.transition, asked.today)
    of_policy, ids = policy_findings(case)
    return _as_set(asked.policy, [*found, *of_policy], judged | set(ids))


def _unjudged(found: Sequence[Finding], sheet: ServingSheet | None) -> set[str]:
    """Returns the plan's rules that had no say: what they are about is not there, or not known."""
    without_sheet = {"sheet-differs"} if sheet is None else set()
    codes = {finding.code for finding in found}
    return without_sheet | (set(OUTCOME) - codes if codes & UNSCORABLE else set())


def _as_set(policy: Policy, found: Sequence[Finding], judged: set[str]) -> Judgement:
    """Returns the judgement with the severities that a policy sets."""
    off = [rule.id for rule in RULES if policy.severity.get(rule.id) == "off"]
    n_kept_back = Counter(finding.code for finding in found if finding.code in off)
    findings, rules = [], []
    for finding in found:
        severity = policy.severity.get(finding.code, finding.severity)
        if severity != "off":
            findings.append(replace(finding, severity=severity))
    for rule in RULES:
        severity = policy.severity.get(rule.id, rule.severity)
        if rule.id in judged and severity != "off":
            rules.append(replace(rule, severity=severity))
    return Judgement(in_order(findings), tuple(rules), tuple((id, n_kept_back[id]) for id in off))
