"""Reading untrusted text: typed fields of one object, every fault kept instead of the first raised.

An importer asks for each field it needs, gets a value or None, and at the end raises all faults
together. A None therefore means 'absent or faulty': what is built from it is thrown away when
there is any fault.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from planner.errors import Fault, InputError
from planner.spec.arrays import FloatArray
from planner.spec.pool import CapacityPoint, Point, point_faults

LARGEST = 1e15  # the largest number that a planning file may hold (spec.base.Positive)
_FIX_FILE = "leave the file out, or export it again from the tool that wrote it"


class Reading(NamedTuple):
    """What one file or run says: its load levels, remarks, and what it served, on what."""

    points: list[Point]
    notes: list[str]
    model_id: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    gpu: str | None = None  # as the tool names it; not an id of gpus.yaml
    tensor_parallel: int | None = None
    capacity: Sequence[CapacityPoint] = ()  # loads sustained, where no latency is known


def each_file(files: Mapping[str, str], read: Callable[[str, str], Reading]) -> list[Reading]:
    """Returns what `read` says of each file (name, text); raises InputError with all faults."""
    readings: list[Reading] = []
    faults: list[Fault] = []
    for name, text in files.items():
        try:
            readings.append(read(name, text))
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    return readings


def base_name(name: str) -> str:
    """Returns the last part of a file's path, so that no folder of a machine enters a profile."""
    return name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or name


def shown(value: object) -> str:
    """Returns a value as it stands in an error message: short, on one line, text in quotes."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**30:
        return "a number of more than 30 digits"  # its text alone may exceed Python's limit
    names = {dict: "an object", list: "a list", type(None): "null"}
    text = names.get(type(value)) or (
        str(value).lower() if isinstance(value, bool) else repr(value)
    )
    return text if len(text) <= 60 else f"{text[:57]}..."


class Fields:
    """The fields of one object of one file, read with their types; faults collect in `faults`."""

    def __init__(self, file: str, values: Mapping[str, object], prefix: str = "") -> None:
        self.file = file
        self.values = values
        self.prefix = prefix
        self.faults: list[Fault] = []

    def fault(self, field: str, what: str, fix: str = _FIX_FILE) -> None:
        """Returns nothing; keeps one fault of a field of this object."""
        self.faults.append(Fault(self.file, f"{self.prefix}{field}", what, fix))

    def has(self, field: str) -> bool:
        """Returns whether a field is there and not null."""
        return self.values.get(field) is not None

    def number(
        self, field: str, unit: str, *, required: bool = False, above_zero: bool = False
    ) -> float | None:
        """Returns a finite number in its unit, None where it is absent or faulty."""
        value = self.values.get(field)
        if value is None:
            if required:
                self.fault(field, f"is missing, needed in {unit}, got {self._absent(field)}")
            return None
        problem = _number_problem(value, above_zero)
        if problem:
            self.fault(field, f"must be {problem}, in {unit}, got {shown(value)}")
            return None
        assert isinstance(value, int | float)
        return float(value)

    def count(self, field: str, *, required: bool = False, at_least: int = 0) -> int | None:
        """Returns a whole number, None where it is absent or faulty."""
        value = self.values.get(field)
        if value is None:
            if required:
                self.fault(field, f"is missing, a count is needed, got {self._absent(field)}")
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            self.fault(field, f"must be a whole number from {at_least} up, got {shown(value)}")
            return None
        if value > 10**9:
            self.fault(field, f"must be at most 1e9, got {shown(value)}")
            return None
        return value

    def text(self, field: str, *, required: bool = False) -> str | None:
        """Returns a text that is not blank, None where it is absent or faulty."""
        value = self.values.get(field)
        if value is None:
            if required:
                self.fault(field, f"is missing, a text is needed, got {self._absent(field)}")
            return None
        if not isinstance(value, str) or not value.strip() or len(value) > 1000:
            self.fault(field, f"must be a text of 1 to 1000 characters, got {shown(value)}")
            return None
        return value.strip()

    def items(self, field: str) -> list[object] | None:
        """Returns a list of anything, None where it is absent or no list."""
        value = self.values.get(field)
        if value is None:
            return None
        if not isinstance(value, list):
            self.fault(field, f"must be a list with one entry per request, got {shown(value)}")
            return None
        return value

    def numbers(self, field: str, unit: str) -> FloatArray | None:
        """Returns a list of finite numbers from 0 up, (n,), None where it is absent or faulty."""
        values = self.items(field)
        return None if values is None else self.array(field, values, unit)

    def array(self, field: str, values: list[object], unit: str) -> FloatArray | None:
        """Returns values as an array, (n,), None after naming the first faulty entry."""
        for place, value in enumerate(values):
            problem = _number_problem(value, above_zero=False)
            if problem:
                what = f"must be {problem}, in {unit}, got {shown(value)}"
                self.fault(f"{field}[{place}]", what)
                return None
        return np.array(values, dtype=np.float64)

    def point(self, figures: Mapping[str, object]) -> Point | None:
        """Returns the point made of figures, None after keeping the faults of every figure."""
        try:
            point = Point.model_validate(figures)
        except ValidationError as error:
            self.reject(error)
            return None
        faults = list(point_faults(point))
        for field, what, fix in faults:
            self.fault(field, what, fix)
        return None if faults else point

    def reject(self, error: ValidationError, fix: str = _FIX_FILE) -> None:
        """Returns nothing; keeps every fault that pydantic found."""
        for detail in error.errors(include_url=False):
            field = ".".join(str(part) for part in detail["loc"])
            got = "nothing" if detail["type"] == "missing" else shown(detail["input"])
            self.fault(field, f"{detail['msg']}, got {got}", fix)

    def _absent(self, field: str) -> str:
        """Returns how an absent field shows: null, or nothing at all."""
        return "null" if field in self.values else "nothing"


def json_objects(name: str, text: str) -> list[dict[str, object]]:
    """Returns the JSON objects of a text, in order: one, or several one after the other (JSONL).

    Raises InputError for anything else, and for a key that stands twice in one object.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_no_doubles)
    objects: list[dict[str, object]] = []
    at = _skip_blank(text, 0)
    while at < len(text):
        value, at = _decode(name, decoder, text, at)
        if not isinstance(value, dict):
            what = f"must be a JSON object, got {shown(value)}"
            raise InputError.single(name, f"run {len(objects) + 1}", what, _FIX_FILE)
        objects.append(value)
        at = _skip_blank(text, at)
    return objects


def is_broken_json(text: str) -> bool:
    """Returns whether a text begins like JSON and its first value is none."""
    clean = text.removeprefix("\ufeff").lstrip()
    if not clean.startswith(("{", "[")):
        return False
    try:
        json.JSONDecoder().raw_decode(clean)
    except (ValueError, RecursionError):
        return True
    return False


def plain_text(name: str, text: str) -> str:
    """Returns the text without its byte order mark; raises InputError when empty or binary."""
    clean = text.removeprefix("\ufeff")
    if not clean.strip():
        raise InputError.single(name, "content", "is empty, got 0 characters", _FIX_FILE)
    if "\x00" in clean:
        what = f"is binary, got a NUL character at position {clean.index(chr(0))}"
        raise InputError.single(name, "content", what, _FIX_FILE)
    return clean


def _decode(name: str, decoder: json.JSONDecoder, text: str, at: int) -> tuple[object, int]:
    """Returns the JSON value at a position and the position after it."""
    try:
        value, end = decoder.raw_decode(text, at)
    except json.JSONDecodeError as error:
        got = shown(text[error.pos : error.pos + 20]) if error.pos < len(text) else "end of file"
        what = f"is not JSON ({error.msg}), got {got}"
        raise InputError.single(name, f"line {error.lineno}", what, _FIX_FILE) from None
    except _DoubleKeyError as error:
        what = f"the key {shown(error.key)} stands twice in one object, got two values"
        raise InputError.single(name, error.key[:60], what, "keep one of the two") from None
    except RecursionError:
        what = "is nested too deeply, got more levels than any benchmark writes"
        raise InputError.single(name, "content", what, _FIX_FILE) from None
    except ValueError:  # Python refuses to read integers of more than 4300 digits
        what = f"holds a number that is too large, got more than {LARGEST:g}"
        raise InputError.single(name, "content", what, _FIX_FILE) from None
    return value, end


class _DoubleKeyError(ValueError):
    """A key that stands twice in one JSON object."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _no_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Returns the object of key-value pairs; raises _DoubleKeyError for a key that comes twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DoubleKeyError(next(key for key in keys if keys.count(key) > 1))
    return values


def _skip_blank(text: str, at: int) -> int:
    """Returns the position of the first character from `at` on that is no white space."""
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _number_problem(value: object, above_zero: bool) -> str | None:
    """Returns what a value must be to be a usable number, None when it is one."""
    lowest = "a number above 0" if above_zero else "a number from 0 up"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return lowest
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if value > LARGEST:
        return f"at most {LARGEST:g}"
    return lowest if value < 0 or (above_zero and value == 0) else None
