"""The folders that a command may mean: for completion in a shell, and for who mistypes one.

Few looks, and no fault ever comes of looking.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from planner.errors import Fault
from planner.files.text import is_folder, is_there, shown
from planner.nearest import nearest

DEEPEST = 3  # levels below the working folder, as in plans/team/service
N_LOOKED_AT = 400  # folders at most: an answer has to be there before the next key is pressed
MOST_NAMED = 5
_OF_A_PLAN = frozenset({".yaml", ".json", ".csv", ".jsonl", ".npz"})
_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages"})


def plan_folders(below: Path) -> list[str]:
    """Returns the folders with a question or a plan, as one would write them from `below`."""
    found = (folder for folder in _folders(below) if folder != below and _is_plan(folder))
    return [folder.relative_to(below).as_posix() for folder in found]


def _is_plan(folder: Path) -> bool:
    return _is_file(folder / "question.yaml") or _is_file(folder / "plan.json")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # e.g. in a folder that may not be looked into
        return False


def _has_inputs(folder: Path) -> bool:
    """Returns whether a folder has files of a plan, so that it is one where some are missing."""
    try:
        with os.scandir(folder) as entries:
            return any(e.is_file() and Path(e.name).suffix in _OF_A_PLAN for e in entries)
    except OSError:
        return True  # nobody can tell


def not_a_plan(folder: Path, file: str) -> Fault | None:
    """Returns why a file of a plan folder cannot be there: it is no such folder; None where it is.

    Args:
        folder: as the user wrote it.
        file: that is looked for in it, e.g. 'plan.json'.
    """
    if is_folder(folder):
        inner = [] if is_there(folder / file) or _has_inputs(folder) else plan_folders(folder)
        names = [(folder / name).as_posix() for name in inner]
        return Fault(shown(folder), "", "is no plan folder", _one_of(names)) if names else None
    if is_there(folder) and _is_plan(folder.parent):
        return Fault(shown(folder), "", "is not a folder", _one_of([folder.parent.as_posix()]))
    what = "is not a folder" if is_there(folder) else "folder not found"
    near = _like(folder)
    return Fault(shown(folder), "", what, _one_of(near) if near else "make one with: rb init DIR")


def _one_of(names: list[str]) -> str:
    listed = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    return f"did you mean {names[0]}?" if len(names) == 1 else f"name one of: {listed}"


def _like(folder: Path) -> list[str]:
    """Returns the plan folder that is most like one that is none, as one would write it; or none.

    Names of folders are compared by themselves, so that `plans/` before all of them says nothing.
    """
    above = folder.parent
    beside = [(above / name).as_posix() for name in _names(above) if _is_plan(above / name)]
    known: dict[str, list[str]] = {}
    for path in dict.fromkeys((*beside, *plan_folders(Path.cwd()))):
        known.setdefault(Path(path).name, []).append(path)
    names = nearest(folder.name, known)
    return nearest(folder.as_posix(), known[names[0]]) or known[names[0]][:1] if names else []


def pool_names(profiles: Path) -> list[str]:
    """Returns the names of the pools in a profiles folder; none where there is no such folder."""
    return [name for name in _names(profiles) if _is_file(profiles / name / "pool.yaml")]


def _folders(top: Path) -> Iterator[Path]:
    """Yields a folder and those below it, level by level, those that a person would look into."""
    level, n_left = [top], N_LOOKED_AT
    for _ in range(DEEPEST + 1):
        n_left -= len(level)
        yield from level
        if n_left <= 0:
            return
        level = [folder / name for folder in level for name in _names(folder)][:n_left]


def _names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            found = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    except OSError:
        return []
    return sorted(name for name in found if name not in _SKIPPED)
