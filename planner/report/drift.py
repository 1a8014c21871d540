"""What has changed since a plan was made, as a person reads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import inf

from rich.console import Console

from planner.drift.finding import BREAKING, DriftReport, Finding, Unit
from planner.report.console import RenderableType, bullet, heading, line, show, table
from planner.report.figures import count, ms, number, percent, quality

MOST_ROWS = 14
MOST_NAMES = 4


def render_drift(report: DriftReport, console: Console) -> None:
    """Writes whether the plan fits, what has drifted, and what the plan promises."""
    show(_sections(report), console)


def _sections(report: DriftReport) -> Iterator[RenderableType]:
    yield line(verdict(report), "bold" if report.fits == "fits" else "bold red")
    yield from (bullet(note) for note in report.notes)
    if promised := [f for f in report.findings if f.kind in BREAKING]:
        yield heading("What the plan promises")
        yield _promised(promised)
    changed = [f for f in report.drifted if f.kind not in BREAKING]
    if changed := sorted(changed, key=lambda f: f.kind == "latency"):  # there are many of them
        yield heading("What has drifted")
        yield _changed(changed[:MOST_ROWS])
        if len(changed) > MOST_ROWS:
            yield bullet(f"{count(len(changed) - MOST_ROWS, 'more figure')}: see --json")
    if report.drifted:
        yield heading("What it means")
        by_meaning: dict[str, list[str]] = {}
        for finding in report.drifted:
            by_meaning.setdefault(finding.means, []).append(finding.label)
        yield from (bullet(f"{_listed(names)}: {what}") for what, names in by_meaning.items())
    yield line("")
    yield line(_rest(report))


def _listed(names: Sequence[str]) -> str:
    """Returns the first of some names, and how many more there are."""
    shown = ", ".join(names[:MOST_NAMES])
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown


def verdict(report: DriftReport) -> str:
    """Returns one line: whether the plan fits what was seen, and how much that was."""
    n = len(report.drifted)
    what = "nothing has drifted" if n == 0 else f"{count(n, 'figure')} drifted"
    seen = f"{report.n_requests:,.0f} requests in {_time(report.seconds)}"
    return f"{report.fits}: plan {report.plan_hash[:12]}, {what}, {seen}"


def _rest(report: DriftReport) -> str:
    """Returns how many figures are as planned, and how many nobody can tell yet."""
    n = Counter(finding.verdict for finding in report.findings)
    return (
        f"{count(n['as planned'], 'figure')} as planned, "
        f"{n['open']} open: their 95 % interval leaves it undecided"
    )


def _promised(findings: Sequence[Finding]) -> RenderableType:
    made = table(["figure", "of"], ["allowed", "seen", "95 % interval"], ["verdict"])
    for f in findings:
        allowed = f">= {figure(f.least, f.unit)}" if f.least > 0 else f"<= {figure(f.most, f.unit)}"
        style = "red" if f.breaks else ""
        made.add_row("", _name(f), f.where, allowed, *_seen(f), f.verdict, style=style)
    return made


def _changed(findings: Sequence[Finding]) -> RenderableType:
    made = table(["figure", "of"], ["planned", "seen", "95 % interval", "as planned"])
    for f in findings:
        between = f"{figure(f.least, f.unit)}..{figure(f.most, f.unit)}"
        made.add_row("", _name(f), f.where, figure(f.planned, f.unit), *_seen(f), between)
    return made


def _name(f: Finding) -> str:
    return f"{f.name} (ms)" if f.unit == "ms" else f.name


def _seen(f: Finding) -> tuple[str, str]:
    low, high = figure(f.seen.low, f.unit), figure(f.seen.high, f.unit)
    return figure(f.seen.value, f.unit), f"{low}..{high}"


def figure(value: float, unit: Unit) -> str:
    """Returns a figure with the digits that its unit deserves."""
    if value == inf:
        return "?"
    if unit == "ms":
        return ms(value)
    if unit == "ratio":
        return percent(value)
    return quality(value) if unit == "quality" else number(value)


def _time(seconds: float) -> str:
    for unit, size in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2.0 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
