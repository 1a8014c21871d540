"""What a check goes by, and what it finds: a rule, and one thing in a plan that breaks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]

PLAN_AGAIN = "rb plan DIR"
"""The fix of what only a new plan sets right."""


@dataclass(frozen=True)
class Rule:
    """One rule of `rb check`; its id is short and stable, for scripts and policies."""

    id: str
    severity: Severity  # unless a policy sets another
    of: Literal["plan", "policy"]  # a policy's rules are judged where the policy asks for them
    summary: str  # what is so where nothing is found
    why: str
    fix: str  # in general; a finding has its own


@dataclass(frozen=True)
class Finding:
    """One judgement on a plan; `code` is the id of the rule that it breaks."""

    severity: Severity
    code: str
    where: str
    what: str
    fix: str


def error(code: str, where: str, what: str, fix: str) -> Finding:
    """Returns a finding that makes the plan unacceptable."""
    return Finding("error", code, where, what, fix)


def warning(code: str, where: str, what: str, fix: str) -> Finding:
    """Returns a finding that a person should know of, and that does not fail the plan."""
    return Finding("warning", code, where, what, fix)
