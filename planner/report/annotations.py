"""Findings as GitHub shows them in a pull request: beside the line that they are about.

Workflow commands, one per line of a job's output:
`::error file=plans/x/plan.json,line=12,title=...::message`. `%`, line breaks and, in properties,
`:` and `,` are escaped; else what a file says could end the command and begin another.
"""

from __future__ import annotations

from collections.abc import Iterable

from planner.gate.diff import PlanDiff
from planner.gate.judgement import Judgement
from planner.report.console import plain
from planner.report.diff import summary
from planner.report.locate import Sources, place_of

N_SHOWN = 10  # of each severity: GitHub shows no more of one step


def github_annotations(judgement: Judgement, sources: Sources) -> str:
    """Returns one workflow command per finding, errors first; empty where nothing was found.

    A notice names the rules whose findings a policy keeps back.

    Args:
        judgement: what was found.
        sources: the files that the findings point into.
    """
    return "".join(_commands(judgement, sources))


def _commands(judgement: Judgement, sources: Sources) -> Iterable[str]:
    for severity in ("error", "warning"):
        found = [f for f in judgement.findings if f.severity == severity]
        kept = found if len(found) <= N_SHOWN else found[: N_SHOWN - 1]
        for finding in kept:
            place = place_of(finding.where, sources)
            message = f"{finding.where}: {finding.what}\nfix: {finding.fix}"
            yield _command(severity, message, place.path, place.line, f"rb {finding.code}")
        if len(found) > len(kept):
            more = f"and {len(found) - len(kept)} more of severity {severity}: rb check tells all"
            yield _command(severity, more, place_of("plan.json", sources).path, 1, "rb check")
    kept_back = [f"{rule} ({n})" for rule, n in judgement.switched_off if n]
    if kept_back:
        what = f"findings of rules that the policy switches off: {', '.join(kept_back)}"
        yield _command("notice", what, place_of("plan.json", sources).path, 1, "rb check")


def diff_annotations(diff: PlanDiff, path: str) -> str:
    """Returns one notice with what changes, beside the first line of the new plan.

    Args:
        diff: from the old plan to the new one.
        path: of the new plan.json, as the repository has it.
    """
    return _command("notice", summary(diff), path, 1, "rb diff")


def _command(kind: str, message: str, path: str, line: int, title: str) -> str:
    properties = f"file={_property(path)},line={line},title={_property(title)}"
    return f"::{kind} {properties}::{_data(message)}\n"


def _data(text: str) -> str:
    """Returns a message in which nothing ends the command; line breaks are kept."""
    rows = "\n".join(plain(row) for row in text.split("\n"))
    return rows.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
