"""What `rb check` writes: one judgement in any of its formats, to stdout and to files."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from planner.gate.diff import PlanDiff
    from planner.gate.judgement import Judgement
    from planner.report.locate import Source
    from planner.spec.plan import Plan

DATA = (".yaml", ".yml", ".csv", ".jsonl", ".npz")  # in none of them a judgement is told
FORMATS = ("text", "markdown", "json", "junit", "sarif", "github")


@dataclass(frozen=True)
class Told:
    """Everything that some format tells."""

    judgement: Judgement
    plan: Plan
    old: Plan | None
    diff: PlanDiff | None  # from the plan before; None: there is none
    where: str  # the plan folder as the user named it
    sources: Callable[[], Mapping[str, Source]]  # the files that findings point into
    quiet: bool


@dataclass(frozen=True)
class Out:
    """A file that is written beside what stdout shows."""

    format: str
    path: Path


def outs_of(asked: Sequence[str], format: str) -> tuple[Out, ...]:
    """Returns the files of --out: FILE is in the format of stdout, FORMAT:FILE in its own."""
    found = []
    for text in asked:
        head, colon, tail = text.partition(":")
        own = bool(colon) and head in FORMATS
        name = tail if own else text
        if not name:
            raise typer.BadParameter(f"--out names no file, got {text}")
        found.append(Out(head if own else format, Path(name)))
    return tuple(found)


def refuse_inputs(outs: Sequence[Out], folder: Path) -> None:
    """Raises InputError where a file would be written over what is judged: it is no report."""
    from planner.errors import Fault, InputError
    from planner.files.text import is_there, shown

    own = [folder.resolve() / name for name in ("plan.json", "routes.json", "serving.json")]
    wrong = [
        each.path
        for each in outs
        if each.path.suffix in DATA or (each.path.resolve() in own and is_there(each.path))
    ]
    what, fix = "is data that is read, not a report", "name another file with --out"
    if wrong:
        raise InputError([Fault(shown(path), "", what, fix) for path in wrong])


def text_of(told: Told, format: str) -> str:
    """Returns the judgement in a format, as a file or a pipe gets it."""
    if format == "markdown":
        from planner.report.review.comment import review_markdown

        return review_markdown(told.plan, told.judgement, told.old, told.diff, where=told.where)
    if format == "json":
        from planner.files.write import canonical_json
        from planner.report.data import judgement_data

        return canonical_json(judgement_data(told.judgement, told.diff))
    if format == "junit":
        from planner.report.junit import junit_xml

        return junit_xml(told.judgement, told.where)
    if format == "sarif":
        from planner.report.sarif import sarif_text

        return sarif_text(told.judgement, told.sources())
    if format == "github":
        from planner.report.annotations import github_annotations

        return github_annotations(told.judgement, told.sources())
    buffer = io.StringIO()
    _show(told, buffer)
    return buffer.getvalue()


def show(told: Told, format: str) -> None:
    """Writes the judgement to stdout; talk goes to stderr where stdout holds data."""
    if format == "text":
        _show(told, None)
        return
    typer.echo(text_of(told, format), nl=False)
    if not told.quiet and format != "github":
        say(told)


def say(told: Told) -> None:
    """Writes how many errors and warnings there are to stderr."""
    from planner.report.check import verdict

    typer.echo(verdict(told.judgement.findings, told.judgement.n_kept_back), err=True)


def _show(told: Told, file: io.StringIO | None) -> None:
    if told.quiet and told.judgement.ok:
        return
    from planner.report.check import render_findings
    from planner.report.console import line, make_console
    from planner.report.console import show as write

    console = make_console(file, width=None if file is None else 80)
    findings = told.judgement.findings
    if told.quiet:
        render_findings([f for f in findings if f.severity == "error"], console)
        return
    if told.diff is not None:
        from planner.report.diff import summary

        write([line(f"against the plan before: {summary(told.diff)}")], console)
    render_findings(findings, console, told.judgement.n_kept_back)
    off = told.judgement.switched_off
    if off:
        names = ", ".join(f"{rule} ({n})" for rule, n in off)
        write([line(f"switched off by the policy: {names}")], console)
