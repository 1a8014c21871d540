"""The state of a profile run beside the points it has measured, so that a later call goes on.

Each finished level is written at once: first run.yaml, then pool.yaml and points.csv, each whole
or not at all. A kill between two of them leaves a level without its row, which is measured again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.errors import Fault, InputError
from planner.files.csvs import read_csv
from planner.files.faults import build
from planner.files.profile_out import ProfileFiles, write_profile
from planner.files.profiles import POINTS_FILE
from planner.files.text import content_hash, is_there, shown
from planner.files.write import write_text
from planner.files.yamls import read_yaml, yaml_text
from planner.spec.pool import Point
from planner.spec.run import LevelRecord, RunSettings, RunState, WorkloadRow

RUN_FILE = "run.yaml"
_RESTART = "give --restart to measure all loads anew, or another --pool"


@dataclass(frozen=True)
class Kept:
    """What an earlier call has measured: the finished levels, each with its point."""

    levels: tuple[tuple[LevelRecord, Point | None], ...] = ()


def read_run(folder: Path, settings: RunSettings) -> Kept:
    """Returns what is to be kept of an earlier run in a pool's folder; nothing where none was.

    Raises:
        InputError: the files are faulty, were made with other settings, or hold points that no
            profile run has measured.
    """
    path, points_path = folder / RUN_FILE, folder / POINTS_FILE
    if not is_there(path):
        if is_there(points_path):
            what = "holds points that `rb profile run` did not measure"
            raise InputError.single(shown(points_path), "", what, _RESTART)
        return Kept()
    faults: list[Fault] = []
    data = read_yaml(path, faults)
    state = build(RunState, data, shown(path), faults) if data is not None else None
    points: Sequence[Point] = ()
    if is_there(points_path):
        points, _ = read_csv(points_path, Point, faults)
    if state is not None:
        faults += _changed(state.settings, settings, shown(path))
    if state is None or faults:
        raise InputError(faults)
    return _paired(state.levels, points, shown(points_path))


def read_workload(path: Path) -> tuple[tuple[WorkloadRow, ...], str]:
    """Returns the recorded requests of a workload file in its order, and its content's sha256.

    Raises:
        InputError: the file is faulty, or some rows have a time and others have none.
    """
    faults: list[Fault] = []
    rows, raw = read_csv(path, WorkloadRow, faults)
    if not faults and len({row.timestamp_s is None for row in rows}) > 1:
        what = "is blank in some rows, got a time in others"
        faults.append(Fault(shown(path), "timestamp_s", what, "give it in every row or in none"))
    if faults:
        raise InputError(faults)
    return rows, content_hash(raw)


def write_run(settings: RunSettings, levels: Sequence[LevelRecord], files: ProfileFiles) -> None:
    """Writes the state of a run and all points that it has so far.

    Raises:
        InputError: the folder cannot be written to.
    """
    data = {
        "settings": settings.model_dump(mode="json", exclude_none=True),
        "levels": [level.model_dump(mode="json", exclude_defaults=True) for level in levels],
    }
    write_text(files.folder / RUN_FILE, yaml_text(data))
    write_profile(files)


def _changed(old: RunSettings, new: RunSettings, file: str) -> list[Fault]:
    """Returns a fault for every setting in which two runs differ."""
    return [
        Fault(
            file,
            f"settings.{name}",
            f"the run was begun with {_said(getattr(old, name))}, got {_said(getattr(new, name))}",
            f"give {_said(getattr(old, name))} to go on, or {_RESTART.removeprefix('give ')}",
        )
        for name in RunSettings.model_fields
        if getattr(old, name) != getattr(new, name)
    ]


def _said(value: object) -> str:
    if value is None:
        return "nothing"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _paired(levels: Sequence[LevelRecord], points: Sequence[Point], file: str) -> Kept:
    """Returns the levels with their points; a level that lost its point is left out."""
    rows = {(p.mode, _load(p), p.source): p for p in points}
    kept = [
        (level, rows.pop((level.step.mode, level.step.load, level.step.source), None))
        for level in levels
    ]
    if rows or len(points) > len(levels):
        what = "holds points that this run did not measure"
        raise InputError.single(file, "", what, _RESTART)
    return Kept(tuple((n, point) for n, point in kept if point is not None or not n.answered))


def _load(point: Point) -> float | None:
    return point.offered_rps if point.mode == "open" else point.concurrency
