"""`rb profile ...`: what the hardware can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.options import Json, Quiet
from planner.errors import ExitCode, Fault, InputError

app = typer.Typer(help="Import and inspect measured profiles.", no_args_is_help=True)

ProfilesOut = Annotated[
    Path, typer.Option("--profiles", metavar="DIR", help="Profiles folder; made if missing.")
]


@app.command(name="import")
def import_(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Result files or folders of them.")
    ],
    pool: Annotated[str, typer.Option("--pool", metavar="NAME", help="Name of the pool.")],
    gpu: Annotated[str, typer.Option("--gpu", metavar="NAME", help="GPU id as in gpus.yaml.")],
    tensor_parallel: Annotated[
        int | None,
        typer.Option("--tensor-parallel", min=1, help="GPUs that one replica spreads over. [1]"),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option("--model-name", help="Default: the model id in the files.")
    ] = None,
    engine: Annotated[str | None, typer.Option("--engine", help="E.g. vllm.")] = None,
    engine_version: Annotated[str | None, typer.Option("--engine-version")] = None,
    max_num_seqs: Annotated[int | None, typer.Option("--max-num-seqs", min=1)] = None,
    profiles: ProfilesOut = Path("profiles"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what was understood; write nothing.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Reads `vllm bench serve` results or our points.csv and writes a pool's profile.

    Example: rb profile import results/*.json --pool llama-8b-h100 --gpu h100-sxm-80g
    """
    from planner.files.profile_out import profile_files, write_profile
    from planner.files.results import read_results
    from planner.files.write import canonical_json
    from planner.profile.formats.own_csv import render
    from planner.profile.importer import PoolSettings, import_points, make_pool
    from planner.report.console import make_console
    from planner.report.data import as_data
    from planner.report.profile import render_points

    settings = PoolSettings(
        pool, gpu, tensor_parallel or 1, model_name, engine, engine_version, max_num_seqs
    )
    options = {
        "gpu": gpu,
        "tensor_parallel": tensor_parallel,
        "model_name": model_name,
        "engine": engine,
        "engine_version": engine_version,
        "max_num_seqs": max_num_seqs,
    }
    given = [key for key, value in options.items() if value is not None]
    result = import_points(read_results(paths), settings)
    files = profile_files(profiles, make_pool(settings, result), given, render(result.points))
    notes = (*result.notes, *files.notes)
    written = () if dry_run else write_profile(files)
    if json:
        names = [path.as_posix() for path in written]
        data = {"pool": files.pool, "points": result.points, "notes": notes, "written": names}
        typer.echo(canonical_json(as_data(data)), nl=False)
    elif not quiet:
        render_points(result.points, make_console())
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if not quiet:
        for path in written:
            typer.echo(f"wrote {path}", err=True)


@app.command()
def show(
    pool: Annotated[str, typer.Argument(metavar="POOL", help="Name of the pool.")],
    profiles: ProfilesOut = Path("profiles"),
    json: Json = False,
    max_error_ratio: Annotated[
        float | None,
        typer.Option("--max-error-ratio", min=0.0, help="Exit 1 when the fit is worse."),
    ] = None,
) -> None:
    """Shows what was measured, the fitted latency model and its error band.

    Exit 1: the fit is worse than --max-error-ratio.

    Example: rb profile show llama-3.1-8b-h100
    """
    from planner.files.faults import unknown_name
    from planner.files.profiles import find_profiles, pool_names, read_profiles
    from planner.files.write import canonical_json
    from planner.latency.fit import fit
    from planner.report.console import make_console
    from planner.report.data import as_data
    from planner.report.profile import render_profile, summarise

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
    summary = summarise(fit(found.profiles[0]))
    if json:
        typer.echo(canonical_json(as_data(summary)), nl=False)
    else:
        render_profile(summary, make_console())
    if max_error_ratio is not None and not summary.fit_error_ratio <= max_error_ratio:
        typer.echo(
            f"the fit is off by {summary.fit_error_ratio:.1%}, more than {max_error_ratio:.1%}",
            err=True,
        )
        raise typer.Exit(int(ExitCode.FOUND_WANTING))
