"""Benchmark results in: texts of named files and of folders, and what stands beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.errors import Fault
from planner.files.faults import build
from planner.files.text import MAX_CSV_BYTES, is_folder, is_there, read_text, shown
from planner.files.yamls import read_yaml
from planner.spec.pool import PoolSettings

SUFFIXES = (".json", ".jsonl", ".csv", ".yaml", ".yml")
SIDECAR_FILE = "rb-pool.yaml"
MAX_FILES = 2_000
MAX_TOTAL_BYTES = 512_000_000


@dataclass(frozen=True)
class ResultFiles:
    """The texts of result files by name, and what rb-pool.yaml says of them."""

    texts: Mapping[str, str]
    named: frozenset[str]  # given by name; the others were found inside a folder
    sidecar_of: Mapping[str, str]  # result file -> the rb-pool.yaml that is about it
    sidecars: Mapping[str, PoolSettings]
    faults: tuple[Fault, ...] = ()  # what could not be read; whoever reads on adds to them


def read_results(paths: Sequence[Path]) -> ResultFiles:
    """Returns the texts of result files by name; folders are walked for files of SUFFIXES.

    Hidden files, hidden folders and links to folders are left out. The rb-pool.yaml of a file is
    the one in its own folder, or the nearest one above it inside the folder that was named.
    What cannot be read, or is too much, is a fault of the result.
    """
    faults: list[Fault] = []
    texts: dict[str, str] = {}
    n_bytes = 0
    roots = _files(paths, faults)
    for path in roots:
        text = read_text(path, MAX_CSV_BYTES, faults)
        if text is not None:
            texts[shown(path)] = text
            n_bytes += len(text)
        if n_bytes > MAX_TOTAL_BYTES:
            what = f"result files are too large together, more than {MAX_TOTAL_BYTES:,} bytes"
            faults.append(Fault(shown(path), "", what, "import fewer files at once"))
            break
    beside = {path: _sidecar(path, root) for path, root in roots.items()}
    sidecars = _read_sidecars(beside, faults)
    return ResultFiles(
        texts=texts,
        named=frozenset(shown(path) for path, root in roots.items() if root is None),
        sidecar_of={shown(path): shown(at) for path, at in beside.items() if at is not None},
        sidecars=sidecars,
        faults=tuple(faults),
    )


def _files(paths: Sequence[Path], faults: list[Fault]) -> dict[Path, Path | None]:
    """Returns the result files with the folder that was named, None for a file named itself."""
    found: dict[Path, Path | None] = {}
    for path in paths:
        if is_folder(path):
            for file in _walk(path, faults):
                found.setdefault(file, path)
        elif path.name != SIDECAR_FILE:  # a shell's results/* names it too
            found[path] = None
        if len(found) > MAX_FILES:
            what = f"holds too many result files, more than {MAX_FILES:,}"
            faults.append(Fault(shown(path), "", what, "name the files that belong to this pool"))
            return {}
    return found


def _walk(folder: Path, faults: list[Fault]) -> list[Path]:
    """Returns the result files below a folder, sorted; a fault when there is none."""
    found: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            Path(where) / name
            for name in sorted(files)
            if name.endswith(SUFFIXES) and not name.startswith(".") and name != SIDECAR_FILE
        ]
        if len(found) > MAX_FILES:
            break
    if not found:
        what = f"holds no result files ({', '.join(SUFFIXES)})"
        faults.append(Fault(shown(folder), "", what, "name a folder with results"))
    return found


def _sidecar(path: Path, root: Path | None) -> Path | None:
    """Returns the nearest rb-pool.yaml from a file's folder up to the folder that was named."""
    top = root if root is not None else path.parent
    for folder in path.parents:
        if is_there(folder / SIDECAR_FILE):
            return folder / SIDECAR_FILE
        if folder == top:
            break
    return None


def _read_sidecars(
    beside: Mapping[Path, Path | None], faults: list[Fault]
) -> dict[str, PoolSettings]:
    found: dict[str, PoolSettings] = {}
    for path in dict.fromkeys(at for at in beside.values() if at is not None):
        data = read_yaml(path, faults)
        settings = build(PoolSettings, data, shown(path), faults) if data is not None else None
        if settings is not None:
            found[shown(path)] = settings
    return found
