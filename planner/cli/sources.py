"""The texts that findings point into, for formats that show them beside the lines of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.report.locate import Source

PLAN_FILES = ("plan.json", "routes.json", "serving.json", "question.yaml")


def finding_sources(
    folder: Path, profiles: Path | None = None, policy: Path | None = None
) -> dict[str, Source]:
    """Returns the files of a check by the names that findings give them; those that are there.

    Args:
        folder: the plan folder, as the user wrote it.
        profiles: the profiles folder; by default the one that belongs to the plan.
        policy: the policy file, where there is one.
    """
    from planner.errors import Fault
    from planner.files.profiles import find_profiles
    from planner.files.text import MAX_CSV_BYTES, is_there, read_text, shown
    from planner.report.locate import Source

    unread: list[Fault] = []  # what cannot be read has been told of before anything was judged
    home = find_profiles(folder, profiles, unread)
    paths = {name: folder / name for name in PLAN_FILES}
    if policy is not None:
        paths["policy.yaml"] = policy
    found = {}
    for name, path in paths.items():
        text = read_text(path, MAX_CSV_BYTES, unread) if is_there(path) else None
        if text is not None:
            found[name] = Source(shown(path), text)
    # Without its text a file is pointed to as a whole.
    found[""] = Source(f"{shown(folder)}/", "")
    if home is not None:
        found["profiles/"] = Source(f"{shown(home)}/", "")
    return found
