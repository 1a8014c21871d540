"""CSV in: a header of known columns, one typed entry per row, faulty rows named by their line."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar, get_args

from planner.errors import Fault
from planner.files.faults import build
from planner.files.text import MAX_CSV_BYTES, lines, read_text, shown
from planner.spec.base import Spec

S = TypeVar("S", bound=Spec)

MAX_FAULTS_PER_FILE = 20


def columns(spec: type[Spec]) -> dict[str, bool]:
    """Returns the column names of an entry type and whether each is required."""
    return {(field.alias or name): field.is_required() for name, field in spec.model_fields.items()}


def parse_csv(
    text: str,
    name: str,
    spec: type[S],
    faults: list[Fault],
    check: Callable[[S], Iterable[tuple[str, str, str]]] = lambda _: (),
) -> tuple[S, ...]:
    """Returns the entries of a CSV text, those that are right; adds the faults of the rest.

    Args:
        text: the content of the file.
        name: the file, as faults name it.
        spec: the type of a row.
        faults: grows by what is wrong.
        check: what else is wrong with a row, as (column, what, fix).
    """
    rows = parse_rows(text, name, columns(spec), faults)
    numeric = _numeric_columns(spec)
    entries: list[S] = []
    found: list[Fault] = []
    for line, row in rows:
        data = {key: _cell(value, key in numeric) for key, value in row.items() if value != ""}
        entry = build(spec, data, name, found, f"line {line}")
        if entry is not None:
            entries.append(entry)
            found += [Fault(name, f"line {line}.{at}", *rest) for at, *rest in check(entry)]
    faults.extend(capped(found, name))
    return tuple(entries)


def read_csv(
    path: Path,
    spec: type[S],
    faults: list[Fault],
    check: Callable[[S], Iterable[tuple[str, str, str]]] = lambda _: (),
) -> tuple[tuple[S, ...], object]:
    """Returns the entries of a CSV file and its raw rows (for the content hash)."""
    text = read_text(path, MAX_CSV_BYTES, faults)
    if text is None:
        return (), None
    return parse_csv(text, shown(path), spec, faults, check), raw_rows(text)


def raw_rows(text: str) -> list[list[str]]:
    """Returns the stripped cells of a CSV text, row by row, empty rows left out.

    No rows where the text is not CSV at all: whoever parses it says so.
    """
    try:
        cells = list(csv.reader(lines(text)))
    except csv.Error:
        return []
    rows = ([cell.strip() for cell in row] for row in cells)
    return [row for row in rows if any(row)]


def parse_rows(
    text: str, name: str, known: dict[str, bool], faults: list[Fault]
) -> list[tuple[int, dict[str, str]]]:
    """Returns (line number, cells by column) for each row; faults for header and ragged rows."""
    return list(each_row(text, name, known, faults))


def each_row(
    text: str, name: str, known: dict[str, bool], faults: list[Fault]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, cells by column) of row after row; faults as parse_rows."""
    n_rows = 0
    try:
        reader = csv.reader(lines(text), strict=True)
        header = next(reader, None)
        if header is None or not any(cell.strip() for cell in header):
            faults.append(Fault(name, "", "file is empty", "give a header line and rows"))
            return
        names = [cell.strip() for cell in header]
        if not _header_is_right(names, name, known, faults):
            return
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(names):
                what = f"must have {len(names)} cells, got {len(cells)}"
                faults.append(
                    Fault(name, f"line {reader.line_num}", what, "align it with the header")
                )
                continue
            n_rows += 1
            yield reader.line_num, dict(zip(names, (c.strip() for c in cells), strict=True))
    except csv.Error as error:
        faults.append(Fault(name, "", f"is not valid CSV: {error}", "quote cells that hold commas"))
        return
    if not n_rows and not any(fault.file == name for fault in faults):
        faults.append(Fault(name, "", "has a header but no rows", "add at least one row"))


def header(text: str) -> list[str]:
    """Returns the column names of a CSV text; none where its first line is not CSV."""
    try:
        return [cell.strip() for cell in next(csv.reader(lines(text), strict=True), [])]
    except csv.Error:
        return []


def _header_is_right(
    names: list[str], file: str, known: dict[str, bool], faults: list[Fault]
) -> bool:
    bad = False
    for name in sorted({n for n in names if names.count(n) > 1}):
        faults.append(Fault(file, name, "column given twice", "remove one of them"))
        bad = True
    for name in names:
        if name not in known:
            what = f"unknown column, got {name!r}"
            faults.append(Fault(file, name, what, f"columns are: {', '.join(known)}"))
            bad = True
    for name, required in known.items():
        if required and name not in names:
            faults.append(Fault(file, name, "column is missing", f"add a column '{name}'"))
            bad = True
    return not bad


def _numeric_columns(spec: type[Spec]) -> set[str]:
    return {
        (field.alias or name)
        for name, field in spec.model_fields.items()
        if _holds_number(field.annotation)
    }


def _holds_number(annotation: object) -> bool:
    """Returns whether a type is int or float, possibly optional or annotated."""
    return annotation in (int, float) or any(_holds_number(a) for a in get_args(annotation)[:2])


# nan and inf count as numbers, so that they are refused as what they are.
_NUMBER = re.compile(r"[+-]?(?:(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf)", re.ASCII | re.IGNORECASE)


def number(cell: str) -> float | None:
    """Returns the number that a cell holds in plain decimal notation; None if it holds none."""
    return float(cell) if _NUMBER.fullmatch(cell) else None


def _cell(value: str, numeric: bool) -> object:
    """Returns a number where the column holds numbers and the cell is one, else the text."""
    if not numeric or not _NUMBER.fullmatch(value):
        return value
    whole = value.lstrip("+-").isdigit() and len(value) <= 18
    return int(value) if whole else float(value)


def capped(found: Iterable[Fault], name: str) -> list[Fault]:
    """Returns at most MAX_FAULTS_PER_FILE faults: a file of a million bad rows is one problem."""
    listed = list(found)
    if len(listed) <= MAX_FAULTS_PER_FILE:
        return listed
    more = len(listed) - MAX_FAULTS_PER_FILE
    rest = Fault(name, "", f"and {more} more faults of this kind", "correct the rows above first")
    return [*listed[:MAX_FAULTS_PER_FILE], rest]
