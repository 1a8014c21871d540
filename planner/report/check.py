"""The findings of a check, as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console

from planner.gate.finding import Finding
from planner.report.console import RenderableType, indented, line, show
from planner.report.figures import count

_STYLES = {"error": "red", "warning": "yellow"}


def render_findings(findings: Sequence[Finding], console: Console, n_kept_back: int = 0) -> None:
    """Writes each finding with its fix, then how many there are.

    Args:
        findings: what was found.
        console: where to write.
        n_kept_back: findings of rules that a policy switches off.
    """
    show(_lines(findings, n_kept_back), console)


def _lines(findings: Sequence[Finding], n_kept_back: int) -> Iterator[RenderableType]:
    for finding in findings:
        yield line(f"{finding.severity} {finding.code}: {finding.where}", _STYLES[finding.severity])
        yield indented(finding.what)
        yield indented(f"fix: {finding.fix}")
    yield line(verdict(findings, n_kept_back), "bold")


def verdict(findings: Sequence[Finding], n_kept_back: int = 0) -> str:
    """Returns one line: clean, or how many errors and warnings there are."""
    off = f"; {count(n_kept_back, 'finding')} of rules switched off" if n_kept_back else ""
    if not findings:
        return f"clean: the plan meets its question with today's profiles{off}"
    n_errors = sum(f.severity == "error" for f in findings)
    parts = [count(n_errors, "error"), count(len(findings) - n_errors, "warning")]
    return ", ".join(parts) + off
