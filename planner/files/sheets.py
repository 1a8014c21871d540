"""serving.json, out and in: what a runtime must know of a plan beside its routes."""

from __future__ import annotations

from pathlib import Path

from planner.errors import Fault
from planner.files.plans import read_json
from planner.files.write import canonical_json, write_text
from planner.spec.sheet import ServingSheet

SHEET_FILE = "serving.json"


def sheet_text(sheet: ServingSheet) -> str:
    """Returns the text of serving.json."""
    return canonical_json(sheet.model_dump(mode="json", exclude_none=True))


def write_sheet(folder: Path, sheet: ServingSheet) -> Path:
    """Writes serving.json, whole; returns its path.

    It carries the hash of its plan: one that was left of an older plan is seen as such.
    """
    path = folder / SHEET_FILE
    write_text(path, sheet_text(sheet))
    return path


def read_sheet(folder: Path, faults: list[Fault]) -> ServingSheet | None:
    """Returns the serving sheet of a folder; None after adding its faults."""
    return read_json(folder / SHEET_FILE, ServingSheet, faults, "make one with: rb plan DIR")
