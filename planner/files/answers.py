"""Journals of what was collected: a JSON object a line, written as it comes, read after any end.

A line is on its way to the disk before the next request is answered. A kill may tear the last line:
it is left out when read, and cut off before more is written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

from planner.errors import Fault, InputError
from planner.files.csvs import capped
from planner.files.faults import build
from planner.files.text import MAX_YAML_BYTES, is_there, read_text, shown
from planner.files.write import check_writable
from planner.spec.base import Spec

ANSWERS_FILE = "answers.jsonl"
VERDICTS_FILE = "verdicts.jsonl"
GRADER_FILE = "grader.json"
MAX_JOURNAL_BYTES = 2_000_000_000
_MOST_TORN = 50_000_000  # bytes of a line
_FIX = "remove the line; its answer is asked again"

S = TypeVar("S", bound=Spec)


def read_journal(path: Path, spec: type[S], faults: list[Fault]) -> list[S]:
    """Returns the entries of a journal in their order, none where there is no file.

    A torn last line is left out; other faulty lines are added to the faults.
    """
    if not is_there(path):
        return []
    text = read_text(path, MAX_JOURNAL_BYTES, faults)
    entries: list[S] = []
    found: list[Fault] = []
    name = shown(path)
    for place, line, is_whole in _lines(text or ""):
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as error:
            if is_whole:
                found.append(Fault(name, f"line {place}", f"is not JSON: {error}", _FIX))
            continue
        entry = build(spec, data, name, found, f"line {place}")
        if entry is not None:
            entries.append(entry)
    faults += capped(found, name)
    return entries


def known_agreement(path: Path, about: Mapping[str, object]) -> object:
    """Returns what a grader.json says of a judge's agreement with people.

    None where the file is not there, is none, or is about another judge or rubric.
    """
    text = read_text(path, MAX_YAML_BYTES, []) if is_there(path) else None
    try:
        data = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    is_same = isinstance(data, dict) and all(data.get(k) == v for k, v in about.items())
    return data.get("agreement_with_people") if is_same else None


def _lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Yields the number of each line, the line, and whether its end is there."""
    start, place = 0, 0
    while start < len(text):
        end = text.find("\n", start)
        is_whole = end >= 0
        end = end if is_whole else len(text)
        place += 1
        if text[start:end].strip():
            yield place, text[start:end], is_whole
        start = end + 1


class Journal:
    """Appends entries to a journal; a context manager that holds the file open."""

    def __init__(self, path: Path) -> None:
        """Raises InputError where the file cannot be written."""
        self.path = path
        self._file: IO[bytes] | None = None  # made with the first entry
        check_writable(path)

    def __enter__(self) -> Journal:
        """Returns the journal."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Returns nothing; what was appended is on the disk."""
        if self._file is None:
            return
        with self._file as file:
            if error is None:
                with self._told():
                    os.fsync(file.fileno())

    def append(self, entry: Spec) -> None:
        """Writes one entry; raises InputError where it cannot, e.g. on a full disk."""
        # Plain ASCII: a torn line never ends within a character.
        line = json.dumps(entry.model_dump(mode="json", exclude_none=True)).encode("ascii")
        with self._told():
            if self._file is None:
                self._file = _opened(self.path)
            self._file.write(line + b"\n")
            self._file.flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turns what the system says into an error for the user."""
        try:
            yield
        except OSError as error:
            what = f"cannot be written: {error.strerror or type(error).__name__}"
            fix = "check the disk, the folder and its permissions; then the same command goes on"
            raise InputError.single(shown(self.path), "", what, fix) from error


def _opened(path: Path) -> IO[bytes]:
    """Returns a journal's file, open behind its last whole line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b", buffering=0)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _MOST_TORN, 0))
    tail = file.read(min(size, _MOST_TORN))
    if tail and not tail.endswith(b"\n"):
        torn = tail.rpartition(b"\n")[2]
        if _is_json(torn):
            file.write(b"\n")
        else:
            file.truncate(size - len(torn))
    return file


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
