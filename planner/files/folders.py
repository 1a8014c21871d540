"""The folders that a command may mean, for completion in a shell: few looks, and no fault ever."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

DEEPEST = 3  # levels below the working folder, as in plans/team/service
N_LOOKED_AT = 400  # folders at most: an answer has to be there before the next key is pressed
_SKIPPED = frozenset({"node_modules", "__pycache__", "site-packages"})


def plan_folders(below: Path) -> list[str]:
    """Returns the folders with a question or a plan, as one would write them from `below`."""
    return [
        folder.relative_to(below).as_posix()
        for folder in _folders(below)
        if folder != below
        and ((folder / "question.yaml").is_file() or (folder / "plan.json").is_file())
    ]


def pool_names(profiles: Path) -> list[str]:
    """Returns the names of the pools in a profiles folder; none where there is no such folder."""
    return [name for name in _names(profiles) if (profiles / name / "pool.yaml").is_file()]


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
