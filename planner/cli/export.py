"""`rb export DIR --to TARGET`: a plan as the files of the tools that run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.offers import plans, targets
from planner.cli.options import Json, ProfilesFolder, Quiet
from planner.errors import ExitCode, Fault, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planner.export.fleet import Fleet
    from planner.export.fleet_of import Source
    from planner.export.targets import Target
    from planner.files.folder_out import Written
    from planner.spec.endpoints import Server
    from planner.spec.inputs import Inputs
    from planner.spec.plan import Plan, Routes
    from planner.spec.sheet import ServingSheet

Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="DIR",
        help="Plan folder with question.yaml and plan.json.",
        autocompletion=plans,
    ),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="TARGET", help="See --list.", autocompletion=targets),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FOLDER", help="Where to. Default: DIR/export/TARGET."),
]
Settings = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        help="Weights, images, labels, names of secrets. [DIR/export.yaml, if it is there]",
    ),
]
Endpoints = Annotated[
    Path | None,
    typer.Option(
        "--endpoints",
        metavar="FILE",
        help="Names of keys, where hosted models are, and for gateways where all are. "
        "[DIR/endpoints.yaml, if it is there]",
    ),
]
Period = Annotated[
    str | None,
    typer.Option("--period", metavar="NAME", help="Of a plan with periods. Default: the busiest."),
]
Names = Annotated[bool, typer.Option("--list", help="Say what there is to export to.")]


def export(
    folder: Folder = None,
    to: To = None,
    out: Out = None,
    settings: Settings = None,
    endpoints: Endpoints = None,
    period: Period = None,
    profiles: ProfilesFolder = None,
    names: Names = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Writes a plan as the files of what runs it: engines, gateways, clusters.

    Engine flags, replicas, GPUs, probes, and the plan's shares on every route; all files or none.
    What had to be guessed is said in the files and here: name it in export.yaml. Exit 1: rb check
    would not pass the plan, so nothing is written.

    Example: rb export plans/demo --to compose
    """
    if names:
        _list(json)
        return
    if folder is None or to is None:
        what = "needs a plan folder and --to TARGET"
        raise InputError.single("rb export", "", what, "see rb export --list")
    from planner.cli.progress import working
    from planner.export.targets import target_of
    from planner.files.folder_out import write_files

    target = target_of(to)
    place = out if out is not None else folder / "export" / to
    with working(not (quiet or json), "exporting") as say:
        say("judging the plan")
        source = _source(folder, profiles, settings, endpoints)
        say("writing the files")
        fleet = _fleet(source, to, period)
        texts = {file.path: file.text for file in target.files(fleet)}
        written = write_files(place, texts)
    _tell(place, written, target, fleet, json, quiet)


def _fleet(source: Source, to: str, period: str | None) -> Fleet:
    """Returns what is to run; the targets that are engines start every pool with theirs."""
    from planner.export.fleet_of import fleet_of

    if to == "vllm":
        return fleet_of(source, period, "vllm")
    return fleet_of(source, period, "sglang" if to == "sglang" else None)


def _source(
    folder: Path, profiles: Path | None, settings: Path | None, endpoints: Path | None
) -> Source:
    """Returns a plan that a check passes, and what it is deployed with.

    Raises:
        InputError: with every fault of every file.
        typer.Exit: the plan is found wanting.
    """
    from planner.export.fleet_of import Source
    from planner.files.export_settings import EXPORT_FILE, read_export_settings, unknown_settings
    from planner.files.text import shown

    faults: list[Fault] = []
    read = _plan(folder, profiles, faults)
    said = read_export_settings(folder, settings, faults)
    servers = _endpoints(folder, endpoints, faults)
    if said is not None and read is not None:
        inputs = read[0]
        known = {
            "models": [facts.name for facts in inputs.profiles.models],
            "pools": list(inputs.profiles.by_name()),
            "gpus": [gpu.name for gpu in inputs.profiles.gpus],
        }
        file = shown(settings if settings is not None else folder / EXPORT_FILE)
        faults += unknown_settings(said, file, known)
    if read is None or said is None or faults:
        raise InputError(faults)
    inputs, plan, routes, sheet = read
    _refuse_unsound(inputs, plan, routes, sheet)
    return Source(
        plan=plan,
        profiles=inputs.profiles.by_name(),
        files=inputs.files,
        sheet=sheet,
        settings=said,
        endpoints=servers,
    )


def _plan(
    folder: Path, profiles: Path | None, faults: list[Fault]
) -> tuple[Inputs, Plan, Routes, ServingSheet | None] | None:
    """Returns the question, the plan, its routes and its sheet; None after adding their faults."""
    from planner.files.inputs import read_inputs
    from planner.files.plans import read_plan, read_routes
    from planner.files.sheets import SHEET_FILE, read_sheet
    from planner.files.text import is_folder, is_there

    inputs = None
    try:
        inputs = read_inputs(folder, profiles)
    except InputError as error:
        faults += error.faults
    if not is_folder(folder):  # one fault says enough about a folder that is not there
        return None
    plan, routes = read_plan(folder, faults), read_routes(folder, faults)
    sheet = read_sheet(folder, faults) if is_there(folder / SHEET_FILE) else None
    if inputs is None or plan is None or routes is None:
        return None
    return inputs, plan, routes, sheet


def _endpoints(
    folder: Path, given: Path | None, faults: list[Fault]
) -> Mapping[str, tuple[Server, ...]]:
    """Returns where pools and models are served, as far as somebody has written it down."""
    from planner.files.endpoints import read_endpoints
    from planner.files.serving import ENDPOINTS_FILE
    from planner.files.text import is_link, is_there

    path = given if given is not None else folder / ENDPOINTS_FILE
    if given is None and not is_there(path) and not is_link(path):
        return {}
    return read_endpoints(path, faults)


def _refuse_unsound(inputs: Inputs, plan: Plan, routes: Routes, sheet: ServingSheet | None) -> None:
    """Returns where `rb check` finds no error; else says what it finds, and ends with exit 1."""
    from planner.gate.check import check
    from planner.report.console import plain

    errors = [f for f in check(inputs, plan, routes, sheet=sheet) if f.severity == "error"]
    if not errors:
        return
    for finding in errors:
        typer.echo(plain(f"error {finding.code}: {finding.where}: {finding.what}"), err=True)
        typer.echo(plain(f"  fix: {finding.fix}"), err=True)
    typer.echo("nothing was written: rb check does not pass this plan", err=True)
    raise typer.Exit(int(ExitCode.FOUND_WANTING))


# ---- What is told --------------------------------------------------------------------------------


def _tell(
    place: Path, written: Written, target: Target, fleet: Fleet, json: bool, quiet: bool
) -> None:
    """Says which files were written, and what a person must know of them."""
    from planner.files.text import shown
    from planner.files.write import canonical_json
    from planner.report.console import plain

    notes = [*fleet.notes, *target.limits()]
    notes += [
        f"{shown(place / name)} was not as rb export had written it: what was there is {kept} now"
        for name, kept in written.kept
    ]
    if written.left:
        listed = ", ".join(written.left[:5]) + (", ..." if len(written.left) > 5 else "")
        notes.append(f"in {shown(place)} lie files of an earlier export, not of this one: {listed}")
    if json:
        data = {
            "target": target.name,
            "plan_hash": fleet.plan_hash,
            "period": fleet.period,
            "folder": shown(place),
            "files": written.names,
            "notes": notes,
        }
        typer.echo(canonical_json(data), nl=False)
    if quiet:
        return
    for note in notes:
        typer.echo(f"note: {plain(note)}", err=True)
    if not json:
        for name in written.names:
            typer.echo(f"wrote {shown(place / name)}")


def _list(json: bool) -> None:
    """Says what there is to export to: a table for a person, or data."""
    from planner.export.targets import TARGETS

    if json:
        from dataclasses import asdict

        from planner.files.write import canonical_json

        typer.echo(canonical_json([asdict(target) for target in TARGETS]), nl=False)
        return
    from planner.report.console import indented, line, make_console, show

    console = make_console()
    for target in TARGETS:
        show([line(target.name, "bold"), indented(f"writes {target.writes}")], console)
        show([indented(f"by the plan's shares routes: {target.routes}")], console)
        show([indented(f"validated by: {target.validated}")], console)
