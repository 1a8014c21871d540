"""`rb check DIR`: judges a plan without solving."""

from __future__ import annotations

import typer

from planner.cli.options import Json, PlanFolder, ProfilesFolder, Quiet
from planner.errors import ExitCode, Fault, InputError


def check(
    folder: PlanFolder,
    profiles: ProfilesFolder = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judges plan.json against its question and today's profiles, without solving anything.

    Shares, stock, budget, capacity, limits, staleness, extrapolation; and that routes.json and
    serving.json are of this plan.
    Exit 1: at least one finding of severity error.

    Example: rb check plans/demo
    """
    from planner.files.inputs import read_inputs
    from planner.files.plans import ROUTES_FILE, read_plan, read_routes
    from planner.files.sheets import SHEET_FILE, read_sheet
    from planner.files.text import is_folder, is_there
    from planner.files.write import canonical_json
    from planner.gate.check import check as judge
    from planner.report.check import render_findings, verdict
    from planner.report.console import make_console
    from planner.report.data import findings_data

    faults: list[Fault] = []
    inputs = None
    try:
        inputs = read_inputs(folder, profiles)
    except InputError as error:
        faults += error.faults
    # One fault says enough about a folder that is not there.
    plan = read_plan(folder, faults) if is_folder(folder) else None
    routes = read_routes(folder, faults) if is_there(folder / ROUTES_FILE) else None
    sheet = read_sheet(folder, faults) if is_there(folder / SHEET_FILE) else None
    if inputs is None or plan is None or faults:
        raise InputError(faults)
    if sheet is None and not quiet:
        what = "rb serve then knows no more than the routes; rb plan writes it"
        typer.echo(f"note: there is no {SHEET_FILE}: {what}", err=True)
    findings = judge(inputs, plan, routes, sheet=sheet)
    if json:
        typer.echo(canonical_json(findings_data(findings)), nl=False)
        if not quiet:
            typer.echo(verdict(findings), err=True)
    else:
        shown = [f for f in findings if f.severity == "error"] if quiet else findings
        if shown or not quiet:
            render_findings(shown, make_console())
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(int(ExitCode.FOUND_WANTING))
