"""Records of simulated requests, out: CSV, or parquet where pyarrow is installed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from math import isnan
from pathlib import Path

import numpy as np
import numpy.typing as npt

from planner.errors import InputError, MissingExtra
from planner.files.text import is_folder, shown
from planner.files.write import check_writable, write_bytes, write_parts

Table = Mapping[str, npt.NDArray[np.generic]]
"""Columns of one length by name: whole numbers, numbers with NaN for blank, or text."""

CSV, PARQUET = ".csv", ".parquet"
_ROWS_PER_PART = 50_000
_DIGITS = 3  # of a time in ms


def check_out(path: Path) -> None:
    """Returns when records can be written to a path, so that no run is made in vain.

    Raises:
        InputError: the name says neither CSV nor parquet, or is that of a folder, or its own
            folder cannot be written to.
        MissingExtra: parquet without pyarrow.
    """
    if path.suffix not in (CSV, PARQUET):
        what = f"must end in {CSV} or {PARQUET}, got {path.name}"
        raise InputError.single("--out", "", what, "write --out records.csv")
    if is_folder(path):
        raise InputError.single(shown(path), "", "is a folder", "name a file in it")
    check_writable(path)
    if path.suffix == PARQUET and find_spec("pyarrow") is None:
        raise MissingExtra("parquet", f"--out {path.name}")


def write_records(path: Path, tables: Iterable[Table]) -> None:
    """Writes tables with the same columns one below the other; whole or not at all.

    Raises:
        InputError: as check_out, or the folder cannot be written to.
    """
    check_out(path)
    if path.suffix == PARQUET:
        write_bytes(path, _parquet(tables))
    else:
        write_parts(path, _csv(tables))


def _csv(tables: Iterable[Table]) -> Iterator[bytes]:
    """Yields the lines of a CSV file, many at a time, a header first."""
    for k, table in enumerate(tables):
        if k == 0:
            yield (",".join(table) + "\n").encode("utf-8")
        n_rows = next(iter(table.values())).size
        for start in range(0, n_rows, _ROWS_PER_PART):
            cells = [_cells(column[start : start + _ROWS_PER_PART]) for column in table.values()]
            lines = map(",".join, zip(*cells, strict=True))
            yield ("\n".join(lines) + "\n").encode("utf-8")


def _cells(column: npt.NDArray[np.generic]) -> list[str]:
    """Returns the cells of a column: blank for NaN."""
    if column.dtype.kind == "f":
        return ["" if isnan(value) else f"{value:.{_DIGITS}f}" for value in column.tolist()]
    return [str(value) for value in column.tolist()]


def _parquet(tables: Iterable[Table]) -> bytes:
    """Returns a parquet file with one row group per table; NaN becomes null."""
    import pyarrow as pa
    from pyarrow import parquet

    buffer, writer = io.BytesIO(), None
    for table in tables:
        made = pa.table({name: pa.array(v, from_pandas=True) for name, v in table.items()})
        writer = writer or parquet.ParquetWriter(buffer, made.schema)
        writer.write_table(made)
    if writer is not None:
        writer.close()
    return buffer.getvalue()
