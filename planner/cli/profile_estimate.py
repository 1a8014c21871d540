"""`rb profile estimate`: points for a pool that nobody measured."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.offers import pools
from planner.cli.options import Json, Quiet
from planner.cli.profile_import import PipelineParallel, TensorParallel
from planner.cli.progress import working
from planner.errors import Fault, InputError

if TYPE_CHECKING:
    from planner.profile.estimate import Estimate, Shape
    from planner.spec.hardware import Gpu, ModelFacts
    from planner.spec.inputs import Profiles
    from planner.spec.pool import Point, Pool, PoolSettings


class Source(StrEnum):
    """What an estimate is made of."""

    ROOFLINE = "roofline"
    AIC = "aic"


@dataclass(frozen=True)
class _Target:
    """The pool to estimate, with the facts of its hardware and its own measured rows."""

    pool: Pool
    gpu: Gpu
    facts: ModelFacts
    own: tuple[Point, ...]


def estimate(
    pool: Annotated[
        str, typer.Option("--pool", metavar="NAME", help="Name of the pool.", autocompletion=pools)
    ],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="As in models.yaml.")],
    gpu: Annotated[str, typer.Option("--gpu", metavar="NAME", help="GPU id as in gpus.yaml.")],
    tensor_parallel: TensorParallel = None,
    pipeline_parallel: PipelineParallel = None,
    weight_precision: Annotated[
        str | None, typer.Option("--weight-precision", metavar="NAME", help="E.g. fp8.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option("--engine", metavar="NAME", help="As in pool.yaml. Default: vllm.")
    ] = None,
    max_num_seqs: Annotated[
        int | None, typer.Option("--max-num-seqs", min=1, help="The engine's setting.")
    ] = None,
    input_tokens: Annotated[
        int, typer.Option("--input-tokens", min=1, help="Of the requests; 4 times as many, too.")
    ] = 512,
    output_tokens: Annotated[
        int, typer.Option("--output-tokens", min=2, help="Of the answers.")
    ] = 256,
    source: Annotated[
        Source, typer.Option("--source", help="Measured pools, or AIConfigurator (extra aic).")
    ] = Source.ROOFLINE,
    profiles: Annotated[
        Path, typer.Option("--profiles", metavar="DIR", help="Profiles folder.")
    ] = Path("profiles"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the estimate; write nothing.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Estimates a pool that nobody measured, from the measured pools of the same engine.

    Every figure is marked as estimated, and pool.yaml says how far off they may be. Measure a few
    loads of the pool (rb profile run) and estimate again: it is then drawn through them.

    Example: rb profile estimate --pool big --model llama-3.1-70b --gpu h100-sxm-80g
    --tensor-parallel 8
    """
    from planner.profile.estimate import Shape
    from planner.profile.sidecar import pool_settings

    said = pool_settings(
        {
            "name": pool,
            "model_name": model,
            "gpu": gpu,
            "tensor_parallel": tensor_parallel,
            "pipeline_parallel": pipeline_parallel,
            "weight_precision": weight_precision,
            "engine": engine,
            "max_num_seqs": max_num_seqs,
        }
    )
    known = _others(profiles, pool)
    target = _target(said, known, profiles)
    shape = Shape(float(input_tokens), float(output_tokens))
    with working(not quiet and not json, "fitting how well other pools use their GPUs"):
        found = _estimate(target, known, shape, source)
    _tell(found, said, profiles, dry_run, json, quiet)


def _others(folder: Path, pool: str) -> Profiles:
    """Returns every profile but the pool's own; raises InputError with what is wrong in them."""
    from planner.files.profiles import find_profiles, pool_names, read_profiles

    faults: list[Fault] = []
    where = find_profiles(folder, folder, faults)
    found = None
    if where is not None:
        others = [name for name in pool_names(where) if name != pool]
        found = read_profiles(where, faults, others, facts_needed=False)
    if found is None:
        raise InputError(faults)
    return found


def _target(said: PoolSettings, known: Profiles, folder: Path) -> _Target:
    """Returns the pool: options first, then its pool.yaml, if it has one."""
    from planner.files.faults import unknown_name
    from planner.files.profile_out import read_existing, read_rows
    from planner.profile.estimate import settled_pool

    assert said.name is not None
    assert said.gpu is not None
    assert said.model_name is not None
    gpus = {g.name: g for g in known.gpus}
    models = {m.name: m for m in known.models}
    faults = []
    if said.gpu not in gpus:
        faults.append(unknown_name("options", "--gpu", said.gpu, gpus, "GPU of gpus.yaml"))
    if said.model_name not in models:
        faults.append(
            unknown_name("options", "--model", said.model_name, models, "model of models.yaml")
        )
    if faults:
        raise InputError(faults)
    there = read_existing(folder, [said.name]).pools.get(said.name)
    own, _ = read_rows(folder / said.name)
    pool = settled_pool(said, there, own)
    return _Target(pool, gpus[said.gpu], models[said.model_name], own)


def _estimate(target: _Target, known: Profiles, shape: Shape, source: Source) -> Estimate:
    if source is Source.AIC:
        from planner.profile.aic import estimate_with, open_session

        session = open_session(target.pool, target.facts)
        return estimate_with(session, target.pool, target.gpu, target.facts, shape, target.own)
    from planner.profile.estimate import estimate as from_measured

    return from_measured(target.pool, target.gpu, target.facts, known.profiles, shape, target.own)


def _tell(
    found: Estimate, said: PoolSettings, folder: Path, dry_run: bool, json: bool, quiet: bool
) -> None:
    """Writes the files unless it is a dry run; shows points on stdout, remarks on stderr."""
    from planner.files.profile_out import profile_files, write_profile
    from planner.files.write import canonical_json
    from planner.profile.formats.own_csv import render
    from planner.report.console import make_console
    from planner.report.data import as_data
    from planner.report.profile import render_points

    given = {*said.said(), "source", "origin", "error_ratio"}
    files = profile_files(folder, found.pool, given, render(found.points))
    written = [] if dry_run else [path.as_posix() for path in write_profile(files)]
    notes = [*found.notes, *files.notes]
    if json:
        data = {"pool": files.pool, "points": found.points, "notes": notes, "written": written}
        typer.echo(canonical_json(as_data(data)), nl=False)
    elif not quiet:
        render_points(found.points, make_console())
    if not quiet:
        for note in notes:
            typer.echo(f"note: {note}", err=True)
        for name in written:
            typer.echo(f"wrote {name}", err=True)
