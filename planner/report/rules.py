"""The rules of `rb check`: as a person reads them in a terminal, and as the manual shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from planner.gate.finding import Rule
from planner.report.console import RenderableType, heading, indented, line, show
from planner.report.review.escape import as_code, in_markdown

_TITLES = {
    "plan": "Rules of every plan",
    "policy": "Rules of a policy, judged where policy.yaml has a key for them",
}


def render_rules(rules: Sequence[Rule], console: Console) -> None:
    """Writes each rule: what it holds a plan to, why, and what to do where one breaks it."""
    show(_rules(rules), console)


def _rules(rules: Sequence[Rule]) -> Iterator[RenderableType]:
    for of, title in _TITLES.items():
        ours = [rule for rule in rules if rule.of == of]
        if ours:
            yield heading(f"{title} ({len(ours)})")
        for rule in ours:
            mild = "" if rule.severity == "error" else f" ({rule.severity})"
            yield line(f"{rule.id}{mild}: {rule.summary}", "yellow" if mild else "")
            yield indented(rule.why)
            yield indented(f"fix: {rule.fix}")


def rules_markdown(rules: Sequence[Rule]) -> str:
    """Returns the table of all rules, as documentation shows it."""
    names = ("rule", "severity", "asks that", "why it matters", "what to do")
    rows = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for rule in rules:
        texts = (in_markdown(text, 400) for text in (rule.summary, rule.why, rule.fix))
        rows.append(f"| {as_code(rule.id)} | {rule.severity} | {' | '.join(texts)} |")
    return "\n".join(rows) + "\n"
