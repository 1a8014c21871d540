"""The findings of a check as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from planner.gate.finding import Finding
from planner.report.console import RenderableType, indented, line, show
from planner.report.figures import count


def render_findings(findings: Sequence[Finding], console: Console) -> None:
    """Writes each finding with its fix, then how many there are."""
    show(_lines(findings), console)


def _lines(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    for finding in findings:
        style = "red" if finding.severity == "error" else "yellow"
        yield line(f"{finding.severity} {finding.code}: {finding.where}", style)
        yield indented(finding.what)
        yield indented(f"fix: {finding.fix}")
    yield line(verdict(findings), "bold")


def verdict(findings: Sequence[Finding]) -> str:
    """Returns one line: clean, or how many errors and warnings there are."""
    if not findings:
        return "clean: the plan meets its question with today's profiles"
    n_errors = sum(f.severity == "error" for f in findings)
    parts = [count(n_errors, "error"), count(len(findings) - n_errors, "warning")]
    return ", ".join(parts)
