"""`rb profile show`: what was measured of a pool, the fit, and how far to trust it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.offers import pools
from planner.cli.options import Json
from planner.cli.progress import working
from planner.errors import ExitCode, Fault, InputError

Picture = Annotated[
    Path | None, typer.Option("--png", metavar="FILE", help="Also draw the curves, as a PNG.")
]
Page = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write one page with it all.")
]


def show(
    pool: Annotated[
        str, typer.Argument(autocompletion=pools, metavar="POOL", help="Name of the pool.")
    ],
    profiles: Annotated[
        Path, typer.Option("--profiles", metavar="DIR", help="Profiles folder.")
    ] = Path("profiles"),
    png: Picture = None,
    html: Page = None,
    json: Json = False,
    max_error_ratio: Annotated[
        float | None,
        typer.Option("--max-error-ratio", min=0.0, help="Exit 1 when the fit is worse."),
    ] = None,
) -> None:
    """Shows what was measured, the fit, its residuals and band, and capacity by length.

    Each load is also predicted from the others, so that you see how far to trust the rest.

    Exit 1: the fit is worse than --max-error-ratio.

    Example: rb profile show llama-3.1-8b-h100 --html llama.html
    """
    from planner.files.faults import unknown_name
    from planner.files.profiles import find_profiles, pool_names, read_profiles
    from planner.files.write import canonical_json, write_bytes, write_text
    from planner.latency.fit import fit
    from planner.report import picture
    from planner.report.console import make_console
    from planner.report.data import as_data
    from planner.report.profile import profile_text, render_profile, summarise

    faults: list[Fault] = []
    folder = find_profiles(profiles, profiles, faults)
    known = pool_names(folder) if folder is not None else ()
    if folder is not None and pool not in known:
        faults.append(unknown_name(profiles.as_posix(), "POOL", pool, known, "pool"))
    found = None
    if folder is not None and not faults:
        found = read_profiles(folder, faults, [pool], facts_needed=False)
    if found is None:
        raise InputError(faults)
    with working(not json, "fitting, and predicting each load from the others"):
        summary = summarise(fit(found.profiles[0]))
    if json:
        typer.echo(canonical_json(as_data(summary)), nl=False)
    else:
        render_profile(summary, make_console())
    if png is not None:
        write_bytes(png, picture.png(summary.charts, pool))
        typer.echo(f"wrote {png}", err=True)
    if html is not None:
        write_text(html, picture.page(summary.charts, pool, profile_text(summary)))
        typer.echo(f"wrote {html}", err=True)
    if max_error_ratio is not None and not summary.fit_error_ratio <= max_error_ratio:
        typer.echo(
            f"the fit is off by {summary.fit_error_ratio:.1%}, more than {max_error_ratio:.1%}",
            err=True,
        )
        raise typer.Exit(int(ExitCode.FOUND_WANTING))
