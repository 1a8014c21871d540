"""Our own points.csv: one row per measured load level of one replica; blank is 'not measured'."""

from __future__ import annotations

from collections.abc import Iterable

from planner.errors import Fault, InputError
from planner.files.csvs import parse_csv
from planner.profile.fields import Reading, plain_text
from planner.spec.pool import Point

COLUMNS: tuple[str, ...] = tuple(Point.model_fields)


def parse(name: str, text: str) -> Reading:
    """Returns the points (ms, requests/s, tokens/s) of a points.csv, in the file's order.

    Raises InputError with the faults of all rows together.
    """
    faults: list[Fault] = []
    points = parse_csv(plain_text(name, text), name, Point, faults)
    if not faults:  # only then is the n-th point the n-th row
        faults += [fault for n, point in enumerate(points, 1) for fault in _no_load(name, n, point)]
    if faults:
        raise InputError(faults)
    return Reading(list(points), [])


def render(points: Iterable[Point]) -> str:
    """Returns the text of a points.csv with every column, numbers in the shortest exact form."""
    lines = [",".join(COLUMNS)]
    lines += [",".join(_cell(getattr(point, column)) for column in COLUMNS) for point in points]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    """Returns one cell of a points.csv; a text with a comma, quote or line end is quoted."""
    if value is None:
        return ""
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    text = str(value)
    special = any(character in text for character in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if special else text


def _no_load(name: str, n: int, point: Point) -> list[Fault]:
    """Returns the fault of a point that does not say at which load it was measured."""
    if point.mode != "open" and point.concurrency is None:
        what = f"a {point.mode} point needs the requests in flight, got nothing"
        return [Fault(name, f"row {n}.concurrency", what, "give the requests in flight")]
    if point.mode == "open" and point.offered_rps is None and point.achieved_rps is None:
        what = "an open point needs its rate in requests/s, got nothing"
        return [Fault(name, f"row {n}.offered_rps", what, "give the offered rate")]
    return []
