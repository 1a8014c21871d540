"""A trained router as one file: arrays in a zip, as numpy writes them, with a JSON header.

Nothing in it can run. The same router gives the same bytes: entries are sorted by name, not
compressed, and bear no date. The header says the version, the names and all single numbers, and the
sha256 of everything, so a file that was cut, edited or put together from two is refused.

VERSION is raised whenever the same numbers would mean something else, e.g. after any change to the
surface features or to how words are hashed: a router of before would read prompts wrongly.

A proxy reads this file: only numpy and the standard library are loaded.
"""

from __future__ import annotations

import io
import json
import math
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from planner.errors import Fault
from planner.files.text import read_bytes, shown
from planner.files.write import write_bytes
from planner.spec.router import (
    PER_PROMPT,
    AnswerLengths,
    ClassMeans,
    Contrast,
    GateResult,
    NaiveBayes,
    Provenance,
    Router,
    Rule,
    RuleKind,
)

ROUTER_FILE = "router.npz"
VERSION = 1
MAX_BYTES = 64_000_000

_HEADER = "header.json"
_FIX = "train it again: rb router train DIR"
_PARTS = {"means": ClassMeans, "bayes": NaiveBayes, "contrast": Contrast, "lengths": AnswerLengths}
_OPTIONAL = ("bayes", "contrast", "lengths")

# Type and shape of every array: C classes, M models, F features, B buckets.
_ARRAYS = {
    "means.mean": ("<f8", "CM"),
    "means.low": ("<f8", "CM"),
    "means.high": ("<f8", "CM"),
    "means.variance": ("<f8", "CM"),
    "means.raw": ("<f8", "CM"),
    "means.n_prompts": ("<i8", "CM"),
    "means.n_effective": ("<f8", "CM"),
    "means.fleet": ("<f8", "M"),
    "class_tokens": ("<f8", "CM"),
    "fleet_tokens": ("<f8", "M"),
    "n_labels": ("<i8", "C"),
    "trust": ("<i8", "C"),
    "prior": ("<f8", "C"),
    "confusion": ("<f8", "CC"),
    "usd_per_token": ("<f8", "CM"),
    "bayes.log_likelihood": ("<f4", "BC"),
    "bayes.log_prior": ("<f8", "C"),
    "contrast.centre": ("<f8", "F"),
    "contrast.scale": ("<f8", "F"),
    "contrast.coefficient": ("<f8", "FM"),
    "lengths.centre": ("<f8", "F"),
    "lengths.scale": ("<f8", "F"),
    "lengths.level": ("<f8", "CM"),
    "lengths.slope": ("<f8", "FCM"),
    "lengths.fleet_level": ("<f8", "M"),
    "lengths.fleet_slope": ("<f8", "FM"),
    "lengths.shortest": ("<f8", "M"),
    "lengths.longest": ("<f8", "M"),
}
_MAY_BE_NAN = "means.raw"  # of cells without scores
_POSITIVE = (
    "class_tokens",
    "fleet_tokens",
    "contrast.scale",
    "lengths.scale",
    "lengths.level",
    "lengths.fleet_level",
    "lengths.shortest",
)

Array = npt.NDArray[Any]
R = TypeVar("R", GateResult, Provenance, Rule)


# What zipfile, numpy and json raise at bytes that are not theirs; RuntimeError: encrypted.
_UNREADABLE = (
    *(zipfile.BadZipFile, struct.error, ValueError, OSError, EOFError),
    *(NotImplementedError, RuntimeError, OverflowError, IndexError),
)


class _DamagedError(Exception):
    """A file that is no router: what is wrong with it."""


def write_router(folder: Path, router: Router) -> Path:
    """Writes a router into a plan folder, whole or not at all, and returns the path of its file.

    Raises:
        InputError: the folder cannot be written to.
    """
    header, arrays = _packed(router)
    entries = {_HEADER: json.dumps({**header, "sha256": _digest(header, arrays)}).encode()}
    entries |= {f"{name}.npy": _npy(array) for name, array in arrays.items()}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as file:
        for name, entry in sorted(entries.items()):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            file.writestr(info, entry)
    path = folder / ROUTER_FILE
    write_bytes(path, content.getvalue())
    return path


def read_router(path: Path, faults: list[Fault]) -> Router | None:
    """Returns the router in a file; None after adding a fault."""
    content = read_bytes(path, MAX_BYTES, faults)
    if content is None:
        return None
    try:
        return _unpacked(*_entries(content))
    except _DamagedError as error:
        faults.append(Fault(shown(path), "", str(error), _FIX))
        return None


def router_hash(router: Router) -> str:
    """Returns the sha256 (hex) of all that is in a router's file (§7)."""
    return _digest(*_packed(router))


# ---- Out -----------------------------------------------------------------------------------------


def _packed(router: Router) -> tuple[dict[str, Any], dict[str, Array]]:
    """Returns a router as its header, without the hash, and its arrays by name."""
    numbers: dict[str, float] = {}
    arrays: dict[str, Array] = {}
    parts = {f.name: getattr(router, f.name) for f in fields(router)}
    values = {name: value for name, value in parts.items() if name not in _PARTS}
    for name in _PARTS:
        if parts[name] is not None:
            values |= {
                f"{name}.{f.name}": getattr(parts[name], f.name) for f in fields(parts[name])
            }
    for name, value in values.items():
        if name in _ARRAYS:
            arrays[name] = np.ascontiguousarray(value, dtype=_ARRAYS[name][0])
        elif isinstance(value, float):
            numbers[name] = value
    header = {
        "version": VERSION,
        "class_names": list(router.class_names),
        "model_names": list(router.model_names),
        "numbers": numbers,
        "rules": [asdict(rule) for rule in router.rules],
        "gate": asdict(router.gate),
        "provenance": asdict(router.provenance),
    }
    return header, arrays


def _digest(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    """Returns the sha256 (hex) of a header and of arrays in the order of their names."""
    digest = sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"\n{name} {arrays[name].shape}\n".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _npy(array: Array) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
    return content.getvalue()


# ---- In ------------------------------------------------------------------------------------------


def _entries(content: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Returns the header and the arrays of a file, the hash checked.

    Entries are not compressed, so none can be larger than the file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            infos = file.infolist()
            names = [info.filename for info in infos]
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise _DamagedError("is not a router: its entries are compressed")
            if len(names) != len(set(names)) or _HEADER not in names:
                raise _DamagedError("is not a router: it has no header, or entries twice")
            read = {info.filename: file.read(info) for info in infos}
        header = _header(read.pop(_HEADER))
        arrays = {name.removesuffix(".npy"): _array(name, data) for name, data in read.items()}
    except _UNREADABLE as error:
        raise _DamagedError(f"is damaged: {error or type(error).__name__}") from error
    claimed = header.pop("sha256", None)
    if claimed != _digest(header, arrays):
        raise _DamagedError("is damaged: its content is not what its hash says")
    return header, arrays


def _header(data: bytes) -> dict[str, Any]:
    header = json.loads(data)  # a ValueError if it is none
    if not isinstance(header, dict):
        raise _DamagedError("is not a router: its header is no mapping")
    if header.get("version") != VERSION:
        got = header.get("version")
        raise _DamagedError(f"has version {got!r}, this rb reads version {VERSION}")
    return header


def _array(name: str, data: bytes) -> Array:
    """Returns the array of an entry, of the expected type; never unpickles."""
    expected = _ARRAYS.get(name.removesuffix(".npy"))
    if expected is None or not name.endswith(".npy"):
        raise _DamagedError(f"is not a router: it has an entry {name!r}")
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise _DamagedError(f"is damaged: {name} is of another version of numpy's format")
    shape, in_columns, dtype = np.lib.format.read_array_header_1_0(stream)
    rest = data[stream.tell() :]
    if dtype != np.dtype(expected[0]) or in_columns or len(shape) != len(expected[1]):
        raise _DamagedError(f"is damaged: {name} has type {dtype} and {len(shape)} dimensions")
    if len(rest) != math.prod(shape) * dtype.itemsize:
        raise _DamagedError(f"is damaged: {name} has {len(rest)} bytes, not those of {shape}")
    return np.frombuffer(rest, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _unpacked(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> Router:
    """Returns the router of a header and its arrays.

    Raises:
        _DamagedError: something is missing, too much, or out of bounds.
    """
    class_names, model_names = _names(header, "class_names"), _names(header, "model_names")
    sizes = {"C": len(class_names), "M": len(model_names)}
    present = {name for name in _PARTS if any(a.startswith(f"{name}.") for a in arrays)}
    absent = {part for part in _OPTIONAL if part not in present}
    expected = {name for name in _ARRAYS if name.partition(".")[0] not in absent}
    if expected != set(arrays):
        raise _DamagedError(f"is not a router: {sorted(expected ^ set(arrays))[0]} is not expected")
    for name in sorted(arrays):
        _check_array(name, arrays[name], sizes)
    _check_ranges(arrays)
    numbers = header.get("numbers")
    if not isinstance(numbers, dict):
        raise _DamagedError("is not a router: its header has no numbers")
    parts = {part: _part(part, arrays, numbers) if part not in absent else None for part in _PARTS}
    own = {name: array for name, array in arrays.items() if "." not in name}
    rules = header.get("rules")
    if not isinstance(rules, list):
        raise _DamagedError("is not a router: its header has no list of rules")
    values: dict[str, Any] = {**own, **parts}
    return Router(
        class_names=class_names,
        model_names=model_names,
        rules=tuple(_rule(rule) for rule in rules),
        gate=_record(GateResult, header.get("gate")),
        provenance=_record(Provenance, header.get("provenance")),
        **values,
    )


def _names(header: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = header.get(key)
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise _DamagedError(f"is not a router: its {key} are no list of names")
    if len(set(names)) != len(names):
        raise _DamagedError(f"is not a router: its {key} are not distinct")
    return tuple(names)


def _check_array(name: str, array: Array, sizes: dict[str, int]) -> None:
    """Returns where an array has its shape and numbers; a size not known yet is taken from it."""
    for letter, size in zip(_ARRAYS[name][1], array.shape, strict=True):
        if sizes.setdefault(letter, size) != size:
            raise _DamagedError(f"is not a router: {name} has shape {array.shape}")
    if name != _MAY_BE_NAN and not np.isfinite(array).all():
        raise _DamagedError(f"is not a router: {name} has numbers that are not finite")
    if name in _POSITIVE and not (array > 0).all():
        raise _DamagedError(f"is not a router: {name} has numbers that are not above 0")


def _check_ranges(arrays: Mapping[str, Array]) -> None:
    """Returns where no number would break what uses it."""
    if not np.isin(arrays["trust"], range(PER_PROMPT + 1)).all():
        raise _DamagedError("is not a router: trust is not 0, 1 or 2")
    buckets = arrays.get("bayes.log_likelihood")
    if buckets is not None and (len(buckets) < 2 or len(buckets) & (len(buckets) - 1)):
        raise _DamagedError("is not a router: the number of buckets is no power of two")


def _part(part: str, arrays: Mapping[str, Array], numbers: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Returns one of the data classes that a router is made of."""
    values = {}
    for field in fields(_PARTS[part]):
        name = f"{part}.{field.name}"
        value = arrays[name] if name in arrays else numbers.get(name)
        if name not in arrays and not (isinstance(value, float) and 0 < value < math.inf):
            raise _DamagedError(f"is not a router: {name} is no number above 0")
        values[field.name] = value
    return _PARTS[part](**values)


def _rule(data: object) -> Rule:
    """Returns a rule whose expression can be searched for."""
    rule = _record(Rule, data)
    if rule.kind not in get_args(RuleKind):
        raise _DamagedError(f"is not a router: a rule by {rule.kind!r}")
    if rule.kind in ("pattern", "system_prompt"):
        try:
            re.compile(rule.value)
        except (re.error, RecursionError, OverflowError) as error:
            raise _DamagedError(f"has a rule that is no regular expression: {error}") from error
    return rule


_TYPES = {"bool": bool, "int": int, "float": float, "str": str, "RuleKind": str}


def _record(kind: type[R], data: object) -> R:
    """Returns a data class of single values from a mapping with exactly its fields."""
    wanted = {field.name: _TYPES[str(field.type)] for field in fields(kind)}
    if not isinstance(data, dict) or data.keys() != wanted.keys():
        raise _DamagedError(f"is not a router: its {kind.__name__} is incomplete")
    for name, value in data.items():
        finite = not isinstance(value, float) or math.isfinite(value)
        if type(value) is not wanted[name] or not finite:
            raise _DamagedError(f"is not a router: {kind.__name__}.{name} is {value!r}")
    return kind(**data)
