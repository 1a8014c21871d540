"""What a check finds: one thing that is wrong with a plan, where, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One judgement on a plan; `code` is short and stable, for scripts."""

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
