"""`rb drift DIR`: whether real traffic is still what the plan was made for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.options import Json, PlanFolder, Quiet
from planner.errors import ExitCode, Fault, InputError

if TYPE_CHECKING:
    from planner.drift.finding import DriftReport
    from planner.drift.observed import Observed
    from planner.drift.page import Page
    from planner.spec.plan import Routes
    from planner.spec.sheet import ServingSheet

Metrics = Annotated[
    str,
    typer.Option(
        "--metrics", metavar="URL|FILE", help="The /metrics page of rb serve, or a copy of it."
    ),
]
Since = Annotated[
    Path | None,
    typer.Option(
        "--since",
        metavar="FILE",
        help="An earlier page: what came since counts. Default: all since rb serve started.",
    ),
]
NewQuestion = Annotated[
    Path | None,
    typer.Option(
        "--write-question",
        metavar="FILE",
        help="Write the question with the rates and lengths seen, where they have drifted.",
    ),
]


def drift(
    folder: PlanFolder,
    metrics: Metrics,
    since: Since = None,
    write_question: NewQuestion = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judges real traffic against the plan that serves it: what has changed, and does it matter?

    Rates, mix, lengths, shares, latency, failures, quality samples. Drift is a figure whose whole
    95 % interval lies outside what counts as planned. Exit 1: the plan no longer fits: a pool
    would lose its headroom, or a latency limit, a quality floor or room for requests is missed.

    Example: rb drift plans/demo --metrics http://127.0.0.1:8000/metrics
    """
    from planner.drift.judge import judge
    from planner.drift.observed import observe

    sheet, routes = _plan(folder)
    earlier = None if since is None else _page(since.as_posix())
    observed = observe(_page(metrics), earlier)
    report = judge(observed, sheet, routes)
    _tell(report, json, quiet)
    if write_question is not None:
        _write_question(folder, write_question, observed, sheet, report, quiet)
    if report.fits == "no longer fits":
        raise typer.Exit(int(ExitCode.FOUND_WANTING))


def _plan(folder: Path) -> tuple[ServingSheet, Routes]:
    """Returns what the plan of a folder expects, and where it sends requests."""
    from planner.files.plans import read_routes
    from planner.files.sheets import read_sheet

    faults: list[Fault] = []
    routes, sheet = read_routes(folder, faults), read_sheet(folder, faults)
    if routes is None or sheet is None:
        raise InputError(faults)
    return sheet, routes


def _page(place: str) -> Page:
    """Returns the page at an address, or in a file."""
    from planner.drift.page import read_page
    from planner.files.text import MAX_CSV_BYTES, is_there, read_text, shown
    from planner.runtime.page_fetch import fetch_page, is_url

    if is_url(place):
        return read_page(fetch_page(place), place)
    if not is_there(Path(place)):
        fix = "correct the path, or give an address that begins with http://"
        raise InputError.single(place, "", "file not found", fix)
    faults: list[Fault] = []
    text = read_text(Path(place), MAX_CSV_BYTES, faults)
    if text is None:
        raise InputError(faults)
    return read_page(text, shown(Path(place)))


def _tell(report: DriftReport, json: bool, quiet: bool) -> None:
    """Shows what was found, as text or as data."""
    from planner.files.write import canonical_json
    from planner.report.console import make_console
    from planner.report.drift import render_drift

    if json:
        typer.echo(canonical_json(report.as_dict()), nl=False)
    elif not quiet:
        render_drift(report, make_console())


def _write_question(
    folder: Path,
    path: Path,
    observed: Observed,
    sheet: ServingSheet,
    report: DriftReport,
    quiet: bool,
) -> None:
    """Writes the question with what was seen, and says on stderr what it changes."""
    from planner.drift.question import update_of
    from planner.files.changed_question import write_changed
    from planner.files.question import read_question

    faults: list[Fault] = []
    files = read_question(folder, faults)
    if files is None:
        raise InputError(faults)
    update = update_of(files.question, observed, sheet, report)
    said = [f"  {why}" for why in dict.fromkeys(change.why for change in update.changes)]
    said += [f"  left as it is: {left}" for left in update.left]
    if not update.changes:
        what = "nothing that it states has drifted: no question was written"
    elif report.fits == "too early to tell":
        what = "too early to tell: no question was written"
    else:
        missing = write_changed(folder, path, [(c.path, c.value) for c in update.changes])
        what = f"wrote {path.as_posix()}:"
        said += [f"  copy beside it: {name}" for name in missing]
    if not quiet:
        typer.echo("\n".join([what, *said]), err=True)
