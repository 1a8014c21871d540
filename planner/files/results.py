"""Benchmark results in: the texts of named files, and of the result files inside named folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from planner.errors import Fault, InputError
from planner.files.text import MAX_CSV_BYTES, is_folder, read_text, shown

SUFFIXES = (".json", ".jsonl", ".csv")
MAX_FILES = 2_000
MAX_TOTAL_BYTES = 512_000_000


def read_results(paths: Sequence[Path]) -> dict[str, str]:
    """Returns the texts of result files by name; folders are walked for .json, .jsonl and .csv.

    Hidden folders and links to folders are left out.

    Raises:
        InputError: with every file that cannot be read, or when there are too many.
    """
    faults: list[Fault] = []
    texts: dict[str, str] = {}
    n_bytes = 0
    for path in _files(paths, faults):
        text = read_text(path, MAX_CSV_BYTES, faults)
        if text is not None:
            texts[shown(path)] = text
            n_bytes += len(text)
        if n_bytes > MAX_TOTAL_BYTES:
            what = f"result files are too large together, more than {MAX_TOTAL_BYTES:,} bytes"
            faults.append(Fault(shown(path), "", what, "import fewer files at once"))
            break
    if faults:
        raise InputError(faults)
    return texts


def _files(paths: Sequence[Path], faults: list[Fault]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in paths:
        inside = _walk(path, faults) if is_folder(path) else [path]
        found.update(dict.fromkeys(inside))
        if len(found) > MAX_FILES:
            what = f"holds too many result files, more than {MAX_FILES:,}"
            faults.append(Fault(shown(path), "", what, "name the files that belong to this pool"))
            return []
    return list(found)


def _walk(folder: Path, faults: list[Fault]) -> list[Path]:
    """Returns the result files below a folder, sorted; a fault when there is none."""
    found: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(where) / name for name in sorted(files) if name.endswith(SUFFIXES)]
        if len(found) > MAX_FILES:
            break
    if not found:
        what = f"holds no result files ({', '.join(SUFFIXES)})"
        faults.append(Fault(shown(folder), "", what, "name a folder with results"))
    return found
