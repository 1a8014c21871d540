"""`rb profile ...`: what the hardware can do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from planner.cli.options import Json, Quiet

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
        int, typer.Option("--tensor-parallel", min=1, help="GPUs that one replica spreads over.")
    ] = 1,
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
    from planner.cli.profile_import import run_import
    from planner.profile.importer import PoolSettings

    settings = PoolSettings(
        pool, gpu, tensor_parallel, model_name, engine, engine_version, max_num_seqs
    )
    run_import(paths, settings, profiles, dry_run=dry_run, as_json=json, quiet=quiet)


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
    from planner.cli.profile_show import run_show

    run_show(pool, profiles, json, max_error_ratio)
