"""What a shell offers for a word that is being typed: names of folders, pools, targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

Offered = Callable[[str], list[str]]
"""Called with what has been typed of a word; returns the words that it may become."""


def among(words: Sequence[str]) -> Offered:
    """Returns what offers the words of an option that takes one of some."""

    def offered(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return offered


def plans(incomplete: str) -> list[str]:
    """Returns the plan folders below the working folder that begin so."""
    from planner.files.folders import plan_folders

    return [folder for folder in plan_folders(Path.cwd()) if folder.startswith(incomplete)]


def pools(incomplete: str) -> list[str]:
    """Returns the pools in ./profiles that begin so."""
    from planner.files.folders import pool_names

    return [name for name in pool_names(Path("profiles")) if name.startswith(incomplete)]


def targets(incomplete: str) -> list[str]:
    """Returns what a plan can be exported to that begins so."""
    from planner.export.targets import TARGETS

    return [target.name for target in TARGETS if target.name.startswith(incomplete)]
