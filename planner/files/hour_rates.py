"""Rates by hour in: the file that the periods of a question may name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby
from pathlib import Path

from planner.errors import Fault
from planner.files.csvs import read_csv
from planner.files.faults import unknown_name
from planner.files.text import content_hash, shown
from planner.spec.periods import MOST_HOURS, HourRate


def read_hour_rates(
    path: Path, classes: AbstractSet[str], faults: list[Fault]
) -> tuple[tuple[HourRate, ...], str]:
    """Returns the rows of a rates file, by hour, and the hash of its content.

    Args:
        path: of the file.
        classes: names of the question's classes.
        faults: grows by what is wrong.
    """
    rows, raw = read_csv(path, HourRate, faults)
    faults += [
        unknown_name(shown(path), "class", name, classes, "class")
        for name in sorted({row.class_name for row in rows if row.class_name} - classes)
    ]
    faults += _faults(rows, classes, shown(path))
    return rows, content_hash(raw)


def _faults(rows: Sequence[HourRate], classes: AbstractSet[str], name: str) -> Iterator[Fault]:
    """Yields hours that are missing or doubled, and classes without a rate."""
    hours = [hour for hour, _ in groupby(row.hour for row in rows)]
    if hours != list(range(len(hours))):
        what = "hours must be 0, 1, 2, ... in order, none left out"
        yield Fault(name, "hour", what, "sort the rows and give every hour")
        return
    if len(hours) > MOST_HOURS:
        what = f"must be at most {MOST_HOURS} hours, a year, got {len(hours)}"
        yield Fault(name, "hour", what, "give the hours of a day or a week that stand for all")
    for hour, each in groupby(rows, key=lambda row: row.hour):
        named = sorted(row.class_name or "" for row in each)
        if named not in ([""], sorted(classes)):
            what = f"needs one row for all traffic, or one of each: {', '.join(sorted(classes))}"
            yield Fault(name, f"hour {hour}", what, "leave class blank, or name every class once")
