"""`rb diff OLD NEW`: what changes between two plans."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.options import Json, Quiet


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
    from planner.cli.diff_run import run_diff

    run_diff(old, new, exit_code=exit_code, as_json=json, quiet=quiet)
