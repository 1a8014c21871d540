"""A measured profile out: pool.yaml and points.csv (or capacity.csv) in a folder of its name."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.errors import Fault, InputError
from planner.files.csvs import read_csv
from planner.files.faults import build
from planner.files.profiles import (
    CAPACITY_FILE,
    GPUS_FILE,
    MODELS_FILE,
    POINTS_FILE,
    POOL_FILE,
)
from planner.files.text import is_there, shown
from planner.files.write import write_text
from planner.files.yamls import read_yaml, yaml_text
from planner.nearest import nearest
from planner.spec.pool import CapacityPoint, Point, Pool, point_faults


@dataclass(frozen=True)
class ProfileFiles:
    """What a pool's folder will hold, before anything is written."""

    folder: Path
    pool: Pool
    pool_text: str | None  # None: pool.yaml says it already and stays as it is
    rows_file: str  # points.csv or capacity.csv
    rows_text: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Existing:
    """What a profiles folder says before an import: GPU ids, and the asked pools by name."""

    gpus: tuple[str, ...]
    pools: Mapping[str, Pool]


def read_existing(profiles: Path, names: Iterable[str]) -> Existing:
    """Returns what is there of some pools; a folder or pool that is not there is no fault.

    Raises:
        InputError: an existing pool.yaml is faulty.
    """
    faults: list[Fault] = []
    pools = {}
    for name in names:
        path = profiles / name / POOL_FILE
        data = read_yaml(path, faults) if is_there(path) else None
        pool = build(Pool, data, shown(path), faults) if data is not None else None
        if pool is not None:
            pools[name] = pool
    if faults:
        raise InputError(faults)
    return Existing(tuple(sorted(_names(profiles / GPUS_FILE))), pools)


def read_rows(folder: Path) -> tuple[tuple[Point, ...], tuple[CapacityPoint, ...]]:
    """Returns the rows of points.csv and capacity.csv of a pool's folder, none where it has none.

    Raises:
        InputError: a row is faulty.
    """
    faults: list[Fault] = []
    points: tuple[Point, ...] = ()
    capacity: tuple[CapacityPoint, ...] = ()
    if is_there(folder / POINTS_FILE):
        points, _ = read_csv(folder / POINTS_FILE, Point, faults, point_faults)
    if is_there(folder / CAPACITY_FILE):
        capacity, _ = read_csv(folder / CAPACITY_FILE, CapacityPoint, faults)
    if faults:
        raise InputError(faults)
    return points, capacity


def profile_files(
    profiles: Path,
    pool: Pool,
    given: Collection[str],
    rows_text: str,
    rows_file: str = POINTS_FILE,
) -> ProfileFiles:
    """Returns the files of a pool; what an existing pool.yaml says is kept unless given anew.

    Args:
        profiles: the profiles folder; may be missing.
        pool: the pool as imported.
        given: the fields of the pool that the user has named, which win over pool.yaml.
        rows_text: the whole text of the rows' file, which replaces what is there.
        rows_file: points.csv or capacity.csv.

    Raises:
        InputError: an existing pool.yaml is faulty, or does not go with what is given.
    """
    folder = profiles / pool.name
    path = folder / POOL_FILE
    faults: list[Fault] = []
    notes: list[str] = []
    merged: dict[str, object] = pool.model_dump(mode="json", exclude_none=True)
    old = read_yaml(path, faults) if is_there(path) else None
    if isinstance(old, Mapping):
        # The origin follows the rows; a source that a person may have written stays with it.
        follow = () if old.get("origin", "measured") == pool.origin else ("origin", "source")
        wins = {k: v for k, v in merged.items() if k in (*given, *follow)}
        added = pool.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        merged = {**old, **{k: v for k, v in added.items() if k not in old}, **wins}
        changed = [key for key in old if merged[key] != old[key]]
        notes += [
            f"{shown(path)}: {key} is now {_brief(merged[key])}, was {_brief(old[key])}"
            for key in changed
        ]
    final = build(Pool, merged, shown(path), faults) if not faults else None
    if is_there(folder / POINTS_FILE) and rows_file == CAPACITY_FILE:
        what = "is there and says more than the capacities that were imported, got no points"
        fix = "import them as another pool, or remove the file"
        faults.append(Fault(shown(folder / POINTS_FILE), "", what, fix))
    if final is None or faults:
        raise InputError(faults)
    if is_there(folder / CAPACITY_FILE) and rows_file == POINTS_FILE:
        notes.append(f"{shown(folder / CAPACITY_FILE)}: is no longer used, the points say more")
    text = yaml_text(merged)
    same = isinstance(old, Mapping) and dict(old) == merged
    notes += unknown_facts(profiles, final)
    return ProfileFiles(folder, final, None if same else text, rows_file, rows_text, tuple(notes))


def write_profile(files: ProfileFiles) -> tuple[Path, ...]:
    """Writes a pool's files, each whole or not at all; returns their paths."""
    written = []
    if files.pool_text is not None:
        write_text(files.folder / POOL_FILE, files.pool_text)
        written.append(files.folder / POOL_FILE)
    write_text(files.folder / files.rows_file, files.rows_text)
    return (*written, files.folder / files.rows_file)


def _brief(value: object) -> str:
    """Returns a value on part of a line; a source can be a paragraph."""
    return textwrap.shorten(str(value), 60, placeholder=" ...")


def unknown_facts(profiles: Path, pool: Pool) -> list[str]:
    """Returns warnings on a GPU or model without facts: planning with the pool needs them."""
    found = []
    for file, name, kind in (
        (GPUS_FILE, pool.gpu, "GPU"),
        (MODELS_FILE, pool.model_name, "model"),
    ):
        known = _names(profiles / file)
        if name is not None and name not in known:
            near = nearest(name, known)
            guess = f"; did you mean {near[0]}?" if near else ""
            what = f"{kind} {name} is not in {shown(profiles / file)}"
            found.append(f"{what}: add it before planning{guess}")
    return found


def _names(path: Path) -> set[str]:
    data = read_yaml(path, []) if is_there(path) else None
    entries = data if isinstance(data, list) else []
    return {str(entry.get("name")) for entry in entries if isinstance(entry, Mapping)}
