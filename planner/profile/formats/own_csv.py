"""Our own points.csv: one row per measured load level of one replica; blank is 'not measured'."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from planner.errors import Fault, InputError
from planner.files.csvs import parse_csv
from planner.profile.fields import Reading, each_file, plain_text
from planner.spec.base import Spec
from planner.spec.pool import CapacityPoint, Point, point_faults

NAME = "rb points.csv"
COLUMNS: tuple[str, ...] = tuple(Point.model_fields)
CAPACITY_COLUMNS: tuple[str, ...] = tuple(CapacityPoint.model_fields)
_SHAPE = {"input_tokens", "output_tokens"}
_TELLING = (set(COLUMNS) | set(CAPACITY_COLUMNS)) - _SHAPE - {"source"}


def recognises(name: str, text: str) -> bool:
    """Returns whether the first line names the lengths and at least one more of our columns."""
    header = _header(text)
    return header >= _SHAPE and bool(header & _TELLING)


def parse(files: Mapping[str, str]) -> list[Reading]:
    """Returns the points (ms, requests/s, tokens/s) of points.csv files, one Reading per file.

    A file with a column max_rps is a capacity.csv. Raises InputError with the faults of all rows
    of all files together.
    """
    return each_file(files, _read_file)


def _read_file(name: str, text: str) -> Reading:
    """Returns the points of one file in their order; raises InputError with its faults."""
    faults: list[Fault] = []
    clean = plain_text(name, text)
    points: tuple[Point, ...] = ()
    capacity: tuple[CapacityPoint, ...] = ()
    if "max_rps" in _header(clean):
        capacity = parse_csv(clean, name, CapacityPoint, faults)
    else:
        points = parse_csv(clean, name, Point, faults, point_faults)
    if faults:
        raise InputError(faults)
    return Reading(list(points), [], capacity=capacity)


def render(points: Iterable[Point]) -> str:
    """Returns the text of a points.csv with every column, numbers in the shortest exact form."""
    return _table(COLUMNS, points)


def render_capacity(points: Iterable[CapacityPoint]) -> str:
    """Returns the text of a capacity.csv with every column."""
    return _table(CAPACITY_COLUMNS, points)


def _table(columns: Sequence[str], rows: Iterable[Spec]) -> str:
    lines = [",".join(columns)]
    lines += [",".join(_cell(getattr(row, column)) for column in columns) for row in rows]
    return "\n".join(lines) + "\n"


def _header(text: str) -> set[str]:
    """Returns the names in the first line of a CSV text."""
    first = text.removeprefix("\ufeff").lstrip("\r\n").split("\n", 1)[0][:10_000]
    return {cell.strip() for cell in first.split(",")}


def _cell(value: object) -> str:
    """Returns one cell of a points.csv; a text with a comma, quote or line end is quoted."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    text = str(value)
    special = any(character in text for character in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if special else text
