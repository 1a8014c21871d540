"""`rb diff OLD NEW`: what changes between two plans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.options import Json, Quiet
from planner.errors import ExitCode, Fault, InputError


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Plan folder or plan.json.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Plan folder or plan.json.")],
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit 1 when the plans differ.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Shows what changes in replicas, shares, money, quality and latency.

    Example: rb diff plans/production plans/next --exit-code
    """
    from planner.files.plans import read_plan
    from planner.files.write import canonical_json
    from planner.gate.diff import diff as compare
    from planner.report.console import make_console
    from planner.report.data import diff_data
    from planner.report.diff import render_diff

    faults: list[Fault] = []
    before, after = read_plan(old, faults), read_plan(new, faults)
    if before is None or after is None:
        raise InputError(faults)
    change = compare(before, after)
    if json:
        typer.echo(canonical_json(diff_data(change)), nl=False)
    elif not quiet:
        render_diff(change, make_console())
    if exit_code and not change.empty:
        raise typer.Exit(int(ExitCode.FOUND_WANTING))
