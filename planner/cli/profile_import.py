"""`rb profile import`: other tools' result files become profiles, or judge a plan's predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.cli.offers import pools
from planner.cli.options import Json, Quiet
from planner.errors import ExitCode, Fault, InputError

if TYPE_CHECKING:
    from planner.files.profile_out import ProfileFiles
    from planner.latency.model import LatencyModel
    from planner.profile.importer import Imported, PoolImport
    from planner.spec.plan import Plan


Paths = Annotated[
    list[Path], typer.Argument(metavar="PATH...", help="Result files or folders of them.")
]
PoolName = Annotated[
    str | None,
    typer.Option("--pool", metavar="NAME", help="Name of the pool.", autocompletion=pools),
]
GpuId = Annotated[str | None, typer.Option(metavar="NAME", help="GPU id as in gpus.yaml.")]
TensorParallel = Annotated[
    int | None, typer.Option(min=1, help="GPUs that one replica spreads over. Default: 1.")
]
PipelineParallel = Annotated[int | None, typer.Option(min=1, help="Stages of layers. Default: 1.")]
DataParallel = Annotated[
    int | None, typer.Option(min=1, help="Engines side by side as one replica. Default: 1.")
]
MaxNumSeqs = Annotated[int | None, typer.Option(min=1, help="The engine's setting, if known.")]
Replicas = Annotated[
    int | None,
    typer.Option(min=1, help="Replicas behind the address; loads are divided by it. Default: 1."),
]
ModelName = Annotated[
    str | None, typer.Option(metavar="NAME", help="Default: the model id in the files.")
]
Engine = Annotated[str | None, typer.Option(metavar="NAME", help="E.g. vllm.")]
EngineVersion = Annotated[str | None, typer.Option(metavar="VERSION", help="E.g. 0.11.0.")]
ProfilesOut = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Profiles folder; made if missing. Default: profiles."),
]
Append = Annotated[
    bool, typer.Option("--append", help="Keep the points that are there, add the new ones.")
]
Against = Annotated[
    Path | None, typer.Option(metavar="PLAN", help="Judge a plan's predictions; write nothing.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what was understood; write nothing.")]


def import_(
    paths: Paths,
    pool: PoolName = None,
    gpu: GpuId = None,
    tensor_parallel: TensorParallel = None,
    pipeline_parallel: PipelineParallel = None,
    data_parallel: DataParallel = None,
    n_replicas: Replicas = None,
    model_name: ModelName = None,
    engine: Engine = None,
    engine_version: EngineVersion = None,
    max_num_seqs: MaxNumSeqs = None,
    profiles: ProfilesOut = None,
    append: Append = False,
    against: Against = None,
    dry_run: DryRun = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Reads benchmark results of many tools and writes the profiles of the pools they measured.

    Options win over a rb-pool.yaml beside the files (keys of pool.yaml, and n_replicas), which
    wins over what the files say. Folders with a rb-pool.yaml of their own become a pool each.
    Exit 1: with --against, a measurement lies outside the predicted band.

    Example: rb profile import results/ --pool llama-8b-h100 --gpu h100-sxm-80g --dry-run
    """
    options = {
        "name": pool,
        "gpu": gpu,
        "tensor_parallel": tensor_parallel,
        "pipeline_parallel": pipeline_parallel,
        "data_parallel": data_parallel,
        "n_replicas": n_replicas,
        "model_name": model_name,
        "engine": engine,
        "engine_version": engine_version,
        "max_num_seqs": max_num_seqs,
    }
    if against is not None:
        _judge(paths, options, against, profiles, json, quiet)
        return
    folder = profiles or Path("profiles")
    imported = _read(paths, options, folder)
    if append:
        imported = _with_rows_there(imported, folder)
    files = [_files_of(entry, folder, append) for entry in imported.pools]
    written = [[] if dry_run else _write(each) for each in files]
    _tell(imported, files, written, json, quiet)
    if dry_run and not quiet:
        typer.echo("nothing was written (--dry-run)", err=True)


def _read(
    paths: list[Path],
    options: Mapping[str, object],
    folder: Path,
    only: list[str] | None = None,
) -> Imported:
    """Returns what result files measured, of some pools only, with what the profiles know."""
    from planner.files.faults import unknown_name
    from planner.files.profile_out import read_existing
    from planner.files.results import read_results
    from planner.profile.importer import import_results, names_of_pools
    from planner.profile.sidecar import Known, pool_settings

    flags = pool_settings(options)
    files = read_results(paths)
    names = names_of_pools(files, flags)
    faults = [
        unknown_name("plan.json", "deployment", name, only, "pool of this plan")
        for name in names
        if only is not None and name not in only
    ]
    if only is not None and not names:
        what = "neither --pool nor rb-pool.yaml says which pool was measured, got nothing"
        faults.append(Fault("options", "--pool", what, f"pools of this plan: {', '.join(only)}"))
    if faults:
        raise InputError(faults)
    there = read_existing(folder, names)
    return import_results(files, flags, Known(there.gpus, there.pools, folder.as_posix()))


def _with_rows_there(imported: Imported, folder: Path) -> Imported:
    """Returns an import with the rows that the profiles hold already."""
    from dataclasses import replace

    from planner.files.profile_out import read_rows
    from planner.profile.importer import appended

    pools = tuple(appended(p, *read_rows(folder / p.pool.name)) for p in imported.pools)
    return replace(imported, pools=pools)


def _files_of(entry: PoolImport, folder: Path, append: bool) -> ProfileFiles:
    """Returns the files of one pool, before anything is written."""
    from dataclasses import replace

    from planner.files.profile_out import profile_files
    from planner.files.profiles import CAPACITY_FILE, POINTS_FILE
    from planner.files.text import is_there, shown
    from planner.profile.formats.own_csv import render, render_capacity

    name = POINTS_FILE if entry.points else CAPACITY_FILE
    text = render(entry.points) if entry.points else render_capacity(entry.capacity)
    files = profile_files(folder, entry.pool, entry.told, text, name)
    path = files.folder / name
    if append or not is_there(path):
        return files
    note = f"{shown(path)}: the rows that were there are replaced; --append keeps them"
    return replace(files, notes=(note, *files.notes))


def _write(files: ProfileFiles) -> list[str]:
    from planner.files.profile_out import write_profile

    return [path.as_posix() for path in write_profile(files)]


def _tell(
    imported: Imported,
    files: list[ProfileFiles],
    written: list[list[str]],
    json: bool,
    quiet: bool,
) -> None:
    """Shows what was understood and written: data or tables on stdout, remarks on stderr."""
    from planner.files.write import canonical_json
    from planner.report.console import make_console
    from planner.report.imported import grouped, imported_data, left_out, render_imported

    remarks = [*imported.notes, *(note for each in files for note in each.notes)]
    others = left_out(imported.left_out)
    if json:
        data = imported_data(imported, written) | {"notes": remarks}
        typer.echo(canonical_json(data), nl=False)
        remarks += [n for entry in imported.pools for n in grouped(entry.notes)]
    elif not quiet:
        render_imported(imported, make_console())
    if not quiet:
        _note([*remarks, *([others] if others else [])])
        for path in (path for paths in written for path in paths):
            typer.echo(f"wrote {path}", err=True)


def _note(remarks: Iterable[str]) -> None:
    for remark in dict.fromkeys(remarks):
        typer.echo(f"note: {remark}", err=True)


def _plan_profiles(plan_folder: Path, given: Path | None) -> Path:
    """Returns the profiles folder of a plan."""
    from planner.files.profiles import find_profiles

    faults: list[Fault] = []
    found = find_profiles(_folder_of(plan_folder), given, faults)
    if found is None:
        raise InputError(faults)
    return found


def _folder_of(plan: Path) -> Path:
    """Returns the folder of a plan that was named by its folder or by its plan.json."""
    return plan.parent if plan.suffix == ".json" else plan


def _judge(
    paths: list[Path],
    options: Mapping[str, object],
    against: Path,
    profiles: Path | None,
    json: bool,
    quiet: bool,
) -> None:
    """Shows how the predictions of a plan came out; exit 1 where they did not."""
    from planner.files.plans import need_plan
    from planner.files.write import canonical_json
    from planner.profile.against import compare
    from planner.report.against import drift_data, render_drift
    from planner.report.console import make_console
    from planner.report.imported import grouped

    plan = need_plan(against)
    folder = _plan_profiles(against, profiles)
    imported = _read(paths, options, folder, [entry.pool for entry in plan.deployment])
    measured = {entry.pool.name: entry.points for entry in imported.pools}
    drifts = compare(plan, _models(plan, folder, list(measured)), measured)
    remarks = [*imported.notes, *(n for p in imported.pools for n in grouped(p.notes))]
    if json:
        typer.echo(canonical_json(drift_data(drifts, remarks)), nl=False)
    elif not quiet:
        render_drift(drifts, make_console())
    if not quiet:
        _note(remarks)
    if any(drift.verdict != "within" for drift in drifts):
        raise typer.Exit(int(ExitCode.FOUND_WANTING))


def _models(plan: Plan, folder: Path, pools: list[str]) -> dict[str, LatencyModel]:
    """Returns the latency models of some pools as the plan had them."""
    from planner.files.profiles import read_profiles
    from planner.latency.fit import fit
    from planner.profile.against import changed_since

    faults: list[Fault] = []
    found = read_profiles(folder, faults, pools, facts_needed=False)
    if found is not None:
        faults += changed_since(plan, found.hashes, pools)
    if found is None or faults:
        raise InputError(faults)
    return {profile.name: fit(profile) for profile in found.profiles}
