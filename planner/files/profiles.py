"""A profiles folder in: gpus.yaml, models.yaml, and one folder per pool."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from planner.errors import Fault
from planner.files.csvs import read_csv
from planner.files.faults import build, build_list, unknown_name
from planner.files.text import content_hash, is_folder, is_there, shown
from planner.files.yamls import read_yaml
from planner.spec.hardware import Gpu, ModelFacts
from planner.spec.inputs import Profiles
from planner.spec.pool import CapacityPoint, Point, Pool, Profile, point_faults

T = TypeVar("T", Gpu, ModelFacts)

GPUS_FILE = "gpus.yaml"
MODELS_FILE = "models.yaml"
POOL_FILE = "pool.yaml"
POINTS_FILE = "points.csv"
CAPACITY_FILE = "capacity.csv"


def find_profiles(plan_folder: Path, given: Path | None, faults: list[Fault]) -> Path | None:
    """Returns the profiles folder: the given one, beside the plan's parent, or right here."""
    if given is not None:
        if is_folder(given):
            return given
        faults.append(Fault(shown(given), "", "folder not found", "correct --profiles"))
        return None
    candidates = [plan_folder.absolute().parent.parent / "profiles", Path.cwd() / "profiles"]
    for candidate in candidates:
        if is_folder(candidate):
            return candidate
    looked = " and ".join(dict.fromkeys(shown(c) for c in candidates))
    faults.append(
        Fault("profiles", "", f"folder not found, looked at {looked}", "give --profiles DIR")
    )
    return None


def read_profiles(
    folder: Path,
    faults: list[Fault],
    only: Sequence[str] | None = None,
    facts_needed: bool = True,
) -> Profiles | None:
    """Returns the profiles of a folder, or None after adding every fault of every file.

    Args:
        folder: holds gpus.yaml, models.yaml and one folder per pool.
        faults: grows by what is wrong.
        only: read just these pools; the others may be broken without harm.
        facts_needed: a pool whose GPU or model is not listed is a fault; to look at measurements
            alone it is none, and the two lists need not exist.
    """
    n_before = len(faults)
    hashes: dict[str, str] = {}
    listed = {name: facts_needed or is_there(folder / name) for name in (GPUS_FILE, MODELS_FILE)}
    gpus = _list_file(folder / GPUS_FILE, Gpu, hashes, faults) if listed[GPUS_FILE] else ()
    models = (
        _list_file(folder / MODELS_FILE, ModelFacts, hashes, faults) if listed[MODELS_FILE] else ()
    )
    # While the lists themselves are at fault, an unknown name in a pool is a mere consequence.
    unknown_is_fault = facts_needed and len(faults) == n_before
    profiles: list[Profile] = []
    for pool_folder in _pool_folders(folder, faults):
        if only is not None and pool_folder.name not in only:
            continue
        profile = _read_pool(
            pool_folder, gpus, models, hashes, faults, unknown_is_fault=unknown_is_fault
        )
        if profile is not None:
            profiles.append(profile)
    if len(faults) > n_before:
        return None
    return Profiles(shown(folder), tuple(profiles), gpus, models, hashes)


def pool_names(folder: Path) -> tuple[str, ...]:
    """Returns the names of the pool folders of a profiles folder, sorted."""
    return tuple(path.name for path in _pool_folders(folder, []))


def _pool_folders(folder: Path, faults: list[Fault]) -> list[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        faults.append(Fault(shown(folder), "", f"cannot be read: {error.strerror}", "check it"))
        return []
    return [e for e in entries if e.is_dir() and not e.name.startswith(".")]


def _list_file(
    path: Path, spec: type[T], hashes: dict[str, str], faults: list[Fault]
) -> tuple[T, ...]:
    data = read_yaml(path, faults)
    if data is None:
        return ()
    hashes[f"profiles/{path.name}"] = content_hash(data)
    entries = build_list(spec, data, shown(path), faults)
    names = [entry.name for entry in entries]
    faults += [
        Fault(shown(path), f"[{name}].name", "name given twice", "keep one of them")
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    return entries


def _read_pool(
    folder: Path,
    gpus: tuple[Gpu, ...],
    models: tuple[ModelFacts, ...],
    hashes: dict[str, str],
    faults: list[Fault],
    *,
    unknown_is_fault: bool,
) -> Profile | None:
    path = folder / POOL_FILE
    name = shown(path)
    data = read_yaml(path, faults)
    pool = build(Pool, data, name, faults) if data is not None else None
    if pool is None:
        return None
    hashes[f"profiles/{folder.name}/{POOL_FILE}"] = content_hash(data)
    if pool.name != folder.name:
        what = f"must equal the folder's name {folder.name}, got {pool.name}"
        faults.append(Fault(name, "name", what, f"set name: {folder.name}"))
    gpu = next((g for g in gpus if g.name == pool.gpu), None)
    facts = next((m for m in models if m.name == pool.model_name), None)
    if unknown_is_fault and pool.gpu is not None and gpu is None:
        faults.append(unknown_name(name, "gpu", pool.gpu, (g.name for g in gpus), "GPU"))
    if unknown_is_fault and pool.gpu is not None and facts is None:
        known = (m.name for m in models)
        faults.append(unknown_name(name, "model_name", pool.model_name, known, "model"))
    if gpu is not None:
        _check_node(pool, gpu, name, faults)
    points, capacity = _read_points(folder, pool, hashes, faults)
    return Profile(pool, gpu, facts, points, capacity)


def _check_node(pool: Pool, gpu: Gpu, name: str, faults: list[Fault]) -> None:
    if pool.tensor_parallel > gpu.gpus_per_node and not pool.spans_nodes:
        what = f"must be at most {gpu.gpus_per_node} GPUs, a node, got {pool.tensor_parallel}"
        faults.append(Fault(name, "tensor_parallel", what, "set spans_nodes: true if it is meant"))
    elif pool.replica_gpus > gpu.gpus_per_node and not pool.spans_nodes:
        size = pool.replica_gpus
        what = f"is false, got a replica of {size} GPUs on nodes of {gpu.gpus_per_node}"
        faults.append(Fault(name, "spans_nodes", what, "set spans_nodes: true if it is meant"))
    if pool.share is not None and pool.share.memory_gib > gpu.memory_gib:
        what = f"must be at most {gpu.memory_gib:g} GiB, got {pool.share.memory_gib:g} GiB"
        faults.append(Fault(name, "share.memory_gib", what, "correct the share"))


def _read_points(
    folder: Path, pool: Pool, hashes: dict[str, str], faults: list[Fault]
) -> tuple[tuple[Point, ...], tuple[CapacityPoint, ...]]:
    points_path, capacity_path = folder / POINTS_FILE, folder / CAPACITY_FILE
    if pool.gpu is None and not points_path.exists():
        return (), ()  # a hosted API may be planned by its rate limit alone
    if capacity_path.exists() and not points_path.exists():
        capacity, raw = read_csv(capacity_path, CapacityPoint, faults)
        hashes[f"profiles/{folder.name}/{CAPACITY_FILE}"] = content_hash(raw)
        return (), capacity
    points, raw = read_csv(points_path, Point, faults, point_faults)
    hashes[f"profiles/{folder.name}/{POINTS_FILE}"] = content_hash(raw)
    return points, ()
