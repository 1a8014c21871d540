"""`rb check DIR`: judges a plan without solving."""

from __future__ import annotations

import datetime
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.check_files import Checked, read_checked
from planner.cli.check_out import FORMATS, Told, outs_of, refuse_inputs, say, show, text_of
from planner.cli.offers import among, plans
from planner.cli.options import Json, ProfilesFolder, Quiet, one_of
from planner.errors import ExitCode

if TYPE_CHECKING:
    from planner.gate.diff import PlanDiff
    from planner.gate.judgement import Judgement
    from planner.report.locate import Source

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="DIR", help="Plan folder with question.yaml.", autocompletion=plans),
]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="OLD",
        autocompletion=plans,
        help="The plan before: a folder, a plan.json, or a git revision, e.g. main:plans/prod.",
    ),
]
PolicyFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="What the team allows (rb schema policy); also of a revision: main:policy.yaml.",
    ),
]
Format = Annotated[
    str,
    typer.Option(
        callback=one_of(FORMATS),
        autocompletion=among(FORMATS),
        help=f"One of: {', '.join(FORMATS)}.",
    ),
]
OutFiles = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Write to a file instead; FORMAT:FILE writes another format too. Repeatable.",
    ),
]
ListRules = Annotated[bool, typer.Option("--list", help="Print every rule, and why it is there.")]


def check(
    folder: Folder = None,
    against: Against = None,
    policy: PolicyFile = None,
    format: Format = "text",
    out: OutFiles = None,
    list_rules: ListRules = False,
    profiles: ProfilesFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judges plan.json against its question and today's profiles, without solving anything.

    Shares, stock, budget, capacity, limits, staleness, extrapolation; that routes.json and
    serving.json are of this plan; and what a policy allows, by itself and against the plan before.
    Exit 1: at least one finding of severity error.

    Example: rb check plans/demo --against main:plans/demo --policy policy.yaml
    """
    format = "json" if json else format
    if list_rules:
        _print_rules(format)
        return
    if folder is None:
        raise typer.BadParameter("Missing argument 'DIR': the plan folder.")
    outs = outs_of(out or [], format)
    refuse_inputs(outs, folder)
    with _no_collections():
        files = read_checked(folder, profiles, policy, against)
        change = _change(files)
        judgement = _judged(files, change)
    if not quiet:
        _note(folder, against, files)
    told = Told(
        judgement=judgement,
        plan=files.plan,
        old=files.before.plan if files.before else None,
        diff=change,
        where=_shown(folder),
        sources=partial(_sources, folder, profiles, policy),
        quiet=quiet,
    )
    for each in outs:
        from planner.files.write import write_text

        write_text(each.path, text_of(told, each.format))
    if all(each.format != format for each in outs):
        show(told, format)
    elif not quiet:
        say(told)
    if not told.judgement.ok:
        raise typer.Exit(int(ExitCode.FOUND_WANTING))


@contextmanager
def _no_collections() -> Iterator[None]:
    """Looks for no garbage meanwhile: all that is made is needed, and looking takes 60 ms."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _note(folder: Path, against: str | None, files: Checked) -> None:
    """Says on stderr what is not there, or there and not looked at."""
    from planner.files.policy import POLICY_FILE
    from planner.files.sheets import SHEET_FILE
    from planner.files.text import is_there

    if files.sheet is None:
        what = "rb serve then knows no more than the routes; rb plan writes it"
        typer.echo(f"note: there is no {SHEET_FILE}: {what}", err=True)
    path = folder / POLICY_FILE
    if files.policy is None and is_there(path):
        name = _shown(path)
        typer.echo(f"note: {name} is not looked at: give it with --policy {name}", err=True)
    if files.before is not None and files.before.unread is not None:
        first = str(files.before.unread).partition("\n")[0]
        what = "the way from it is judged without its question, which cannot be read"
        typer.echo(f"note: {against}: {what} ({first})", err=True)


def _change(files: Checked) -> PlanDiff | None:
    """Returns what changes from the plan before, with the way from it; None where there is none."""
    if files.before is None:
        return None
    from planner.gate.diff import diff
    from planner.gate.way.transition import transition_of

    old = files.before.plan
    return diff(old, files.plan, transition_of(old, files.plan, files.inputs, files.before.inputs))


def _judged(files: Checked, change: PlanDiff | None) -> Judgement:
    from planner.gate.judge import Asked, judge

    asked = None
    if files.policy is not None:
        old = files.before.plan if files.before else None
        way = change.transition if change else None
        asked = Asked(files.policy, datetime.date.today(), old, way)
    return judge(files.inputs, files.plan, files.routes, files.sheet, asked)


def _shown(path: Path) -> str:
    from planner.files.text import shown

    return shown(path)


def _sources(folder: Path, profiles: Path | None, policy: str | None) -> dict[str, Source]:
    """Returns the files of the check by their paths from the top of the repository."""
    from planner.cli.sources import finding_sources
    from planner.files.revisions import from_top, path_of, repository

    top = repository()
    found = finding_sources(folder, profiles, None if policy is None else path_of(policy, top))
    return {name: replace(each, path=from_top(each.path, top)) for name, each in found.items()}


def _print_rules(format: str) -> None:
    """Prints the table of rules: for a person, as data, or for the manual."""
    from planner.gate.rules import RULES

    if format == "json":
        from planner.files.write import canonical_json
        from planner.report.data import as_data

        typer.echo(canonical_json(as_data(RULES)), nl=False)
    elif format == "markdown":
        from planner.report.rules import rules_markdown

        typer.echo(rules_markdown(RULES), nl=False)
    elif format == "text":
        from planner.report.console import make_console
        from planner.report.rules import render_rules

        render_rules(RULES, make_console())
    else:
        raise typer.BadParameter(f"rules are told as text, markdown or json, got {format}")
