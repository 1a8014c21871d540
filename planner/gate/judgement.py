"""The judgement of `rb check`, as data: what was found, by which rules, and what is kept back.

A policy may set the severity of any rule. A rule that is switched off is judged all the same: its
findings are counted, so that nobody takes them for none.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.gate.finding import Finding, Rule


@dataclass(frozen=True)
class Judgement:
    """What a check has found, by which rules, and what a policy keeps back of it."""

    findings: tuple[Finding, ...]  # errors first, then in the order of the rules
    judged: tuple[Rule, ...]  # that had their say, with the severity that counted
    switched_off: tuple[tuple[str, int], ...] = ()  # rule id, findings kept back (may be none)

    @property
    def ok(self) -> bool:
        """Returns whether nothing was found that makes the plan unacceptable."""
        return not any(f.severity == "error" for f in self.findings)

    @property
    def n_kept_back(self) -> int:
        """Returns the findings of rules that are switched off."""
        return sum(n for _, n in self.switched_off)
