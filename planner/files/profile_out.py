"""A measured profile out: pool.yaml and points.csv in a folder of the pool's name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from planner.errors import Fault, InputError
from planner.files.faults import build
from planner.files.profiles import GPUS_FILE, MODELS_FILE, POINTS_FILE, POOL_FILE
from planner.files.text import is_there, shown
from planner.files.write import write_text
from planner.files.yamls import read_yaml, yaml_text
from planner.spec.pool import Pool


@dataclass(frozen=True)
class ProfileFiles:
    """What a pool's folder will hold, before anything is written."""

    folder: Path
    pool: Pool
    pool_text: str | None  # None: pool.yaml says it already and stays as it is
    points_text: str
    notes: tuple[str, ...]


def profile_files(
    profiles: Path, pool: Pool, given: Collection[str], points_text: str
) -> ProfileFiles:
    """Returns the files of a pool; what an existing pool.yaml says is kept unless given anew.

    Args:
        profiles: the profiles folder; may be missing.
        pool: the pool as imported.
        given: the fields of the pool that the user has named, which win over pool.yaml.
        points_text: the whole text of points.csv, which replaces what is there.

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
        wins = {key: getattr(pool, key) for key in given}
        added = pool.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        merged = {**old, **{k: v for k, v in added.items() if k not in old}, **wins}
        changed = [key for key in old if merged[key] != old[key]]
        notes += [f"{shown(path)}: {key} is now {merged[key]}, was {old[key]}" for key in changed]
    final = build(Pool, merged, shown(path), faults) if not faults else None
    if final is None:
        raise InputError(faults)
    if is_there(folder / POINTS_FILE):
        notes.append(f"{shown(folder / POINTS_FILE)}: the points that were there are replaced")
    text = yaml_text(merged)
    same = isinstance(old, Mapping) and dict(old) == merged
    notes += _unknown_facts(profiles, final)
    return ProfileFiles(folder, final, None if same else text, points_text, tuple(notes))


def write_profile(files: ProfileFiles) -> tuple[Path, ...]:
    """Writes a pool's files, each whole or not at all; returns their paths."""
    written = []
    if files.pool_text is not None:
        write_text(files.folder / POOL_FILE, files.pool_text)
        written.append(files.folder / POOL_FILE)
    write_text(files.folder / POINTS_FILE, files.points_text)
    return (*written, files.folder / POINTS_FILE)


def _unknown_facts(profiles: Path, pool: Pool) -> list[str]:
    """Returns warnings on a GPU or model without facts: planning with the pool needs them."""
    found = []
    for file, name, kind in (
        (GPUS_FILE, pool.gpu, "GPU"),
        (MODELS_FILE, pool.model_name, "model"),
    ):
        if name is not None and name not in _names(profiles / file):
            found.append(
                f"{kind} {name} is not in {shown(profiles / file)}: add it before planning"
            )
    return found


def _names(path: Path) -> set[str]:
    data = read_yaml(path, []) if is_there(path) else None
    entries = data if isinstance(data, list) else []
    return {str(entry.get("name")) for entry in entries if isinstance(entry, Mapping)}
