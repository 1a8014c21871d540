"""`rb init DIR`: a commented question to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Plan folder to be made.")],
    scores: Annotated[
        Path | None,
        typer.Option("--scores", metavar="FILE", help="Your scores.csv: its classes are taken."),
    ] = None,
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="Your requests.csv: its rates are taken."),
    ] = None,
    rate_rps: Annotated[
        float, typer.Option("--rate-rps", min=0.001, help="Total rate without a trace, in req/s.")
    ] = 10.0,
) -> None:
    """Writes a commented question.yaml, from a template or from your scores and trace.

    Nothing that exists is overwritten.

    Example: rb init plans/support --scores scores.csv --trace requests.csv
    """
    from planner.files.starter import write_starter

    for path in write_starter(folder, scores, trace, rate_rps):
        typer.echo(f"wrote {path}")
    typer.echo(f"next: edit {folder / 'question.yaml'}, then: rb plan {folder}", err=True)
