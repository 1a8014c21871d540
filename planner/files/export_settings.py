"""export.yaml in: what only a deployment knows; a plan folder may do without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from planner.errors import Fault
from planner.files.faults import build, unknown_name
from planner.files.text import is_link, is_there, shown
from planner.files.yamls import read_yaml
from planner.spec.export import ExportSettings

EXPORT_FILE = "export.yaml"


def read_export_settings(
    folder: Path, given: Path | None, faults: list[Fault]
) -> ExportSettings | None:
    """Returns the settings of a plan folder, the defaults where it has none.

    None after adding the faults of the file, or of a given one that is not there.
    """
    path = given if given is not None else folder / EXPORT_FILE
    if not is_there(path) and not is_link(path):
        if given is None:
            return ExportSettings()
        faults.append(Fault(shown(path), "", "file not found", "correct --settings"))
        return None
    data = read_yaml(path, faults)
    return None if data is None else build(ExportSettings, data, shown(path), faults)


def unknown_settings(
    settings: ExportSettings, file: str, known: Mapping[str, Iterable[str]]
) -> list[Fault]:
    """Returns the faults of entries about what nothing in the plan or its profiles is called.

    Args:
        settings: as read.
        file: as the user would write it.
        known: the names by key: models, pools, gpus.
    """
    return [
        unknown_name(file, f"{key}.{name}", name, known[key], key.removesuffix("s"))
        for key in ("models", "pools", "gpus")
        for name in getattr(settings, key)
        if name not in set(known[key])
    ]
