"""Every rule of `rb check`, in one table: what it is, why it is there, what to do about it.

The code of every finding is the id of a rule, and every rule is found by some code of this room: a
test walks both ways. `rb check --list` prints the table, and the manual's page is made of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from planner.gate.finding import Finding, Rule
from planner.gate.plan.rules import PLAN_RULES
from planner.gate.policy.rules import POLICY_RULES

__all__ = ["RULES", "Rule", "in_order", "rule"]

RULES: tuple[Rule, ...] = PLAN_RULES + POLICY_RULES
_PLACE = {each.id: place for place, each in enumerate(RULES)}


def rule(id: str) -> Rule:
    """Returns the rule of an id.

    Raises:
        KeyError: there is none.
    """
    return RULES[_PLACE[id]]


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns findings with errors first, each severity in the order of the rules.

    Findings of one rule stay in the order in which they were found.
    """
    return tuple(sorted(findings, key=lambda f: (f.severity != "error", _PLACE[f.code])))
