"""`rb diff OLD NEW`: what changes between two plans, and the way from one to the other."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.offers import among, plans
from planner.cli.options import Json, ProfilesFolder, Quiet, one_of
from planner.errors import ExitCode, Fault, InputError

if TYPE_CHECKING:
    from planner.files.planned import Planned
    from planner.gate.diff import PlanDiff

FORMATS = ("text", "markdown", "json", "github")
_PLACE = "Plan folder, plan.json, or either of a git revision: main:plans/prod."


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=_PLACE, autocompletion=plans)],
    new: Annotated[str, typer.Argument(metavar="NEW", help=_PLACE, autocompletion=plans)],
    format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="WORD",
            help=f"{', '.join(FORMATS)} (annotations of a pull request). Default: text.",
            callback=one_of(FORMATS),
            autocompletion=among(FORMATS),
        ),
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 1 when the plans differ.")
    ] = False,
    profiles: ProfilesFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Shows what changes from one plan to another, and the steps that lead there.

    Replicas, GPUs, shares, money, quality, latency; then the transition: what is started, shifted
    and stopped in which order, so that capacity and limits hold on the way, and the GPUs that this
    takes at most. It is judged by the questions and profiles beside the plans, where they are.

    Example: rb diff main:plans/production plans/production --exit-code
    """
    from planner.files.planned import read_planned
    from planner.gate.diff import diff as compare
    from planner.gate.way.transition import transition_of

    faults: list[Fault] = []
    before, after = (read_planned(text, profiles, faults) for text in (old, new))
    if before is None or after is None:
        raise InputError(faults)
    if not quiet:
        for text, planned in ((old, before), (new, after)):
            _say_unread(text, planned)
    way = transition_of(before.plan, after.plan, after.inputs, before.inputs)
    change = compare(before.plan, after.plan, way)
    asked = "json" if json else format or "text"
    if asked != "text" or not quiet:  # what was asked for as data, or to be posted, is no talk
        _tell(change, before, after, new, asked)
    if exit_code and (not change.empty or change.restarts):
        raise typer.Exit(int(ExitCode.FOUND_WANTING))


def _say_unread(text: str, planned: Planned) -> None:
    """Says why a plan is judged without its inputs, where they are there."""
    if planned.unread is not None:
        first = str(planned.unread).partition("\n")[0]
        what = "the transition is judged without its question, which cannot be read"
        typer.echo(f"note: {text}: {what} ({first})", err=True)


def _tell(change: PlanDiff, before: Planned, after: Planned, new: str, format: str) -> None:
    """Writes a difference in one of the formats."""
    if format == "text":
        from planner.report.console import make_console
        from planner.report.diff import render_diff

        render_diff(change, make_console())
        return
    if format == "json":
        from planner.files.write import canonical_json
        from planner.report.data import diff_data

        text = canonical_json(diff_data(change))
    elif format == "markdown":
        from planner.report.review.comment import review_markdown

        text = review_markdown(after.plan, None, before.plan, change, where=new)
    else:
        from planner.files.plans import PLAN_FILE
        from planner.report.annotations import diff_annotations

        path = new if new.endswith(".json") else str(PurePosixPath(new) / PLAN_FILE)
        text = diff_annotations(change, path.rpartition(":")[2])
    typer.echo(text, nl=not text.endswith("\n"))
