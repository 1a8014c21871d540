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
N = TypeVar("N", int, float)


# What zipfile and json raise at bytes that are not theirs; RuntimeError: encrypted, or too deep.
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
    header, entries = _packed(router)
    signed = {**header, "sha256": _digest(header, entries)}
    entries[_HEADER] = json.dumps(signed).encode()
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
    """Returns the sha256 (hex) of all that is in a router's file."""
    return _digest(*_packed(router))


# ---- Out -----------------------------------------------------------------------------------------


def _packed(router: Router) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Returns a router as its header, without the hash, and its other entries by name."""
    values = {f.name: getattr(router, f.name) for f in fields(router)}
    for part in _PARTS:
        of_part = values.pop(part)
        if of_part is not None:
            values |= {f"{part}.{f.name}": getattr(of_part, f.name) for f in fields(of_part)}
    sizes: dict[str, int] = {}
    entries = {}
    for name, (dtype, letters) in _ARRAYS.items():
        if name in values:
            array = np.ascontiguousarray(values[name], dtype=dtype)
            sizes |= dict(zip(letters, array.shape, strict=True))
            entries[f"{name}.npy"] = _npy_head(dtype, array.shape) + array.tobytes()
    header = {
        "version": VERSION,
        "class_names": list(router.class_names),
        "model_names": list(router.model_names),
        "sizes": sizes,
        "numbers": {name: v for name, v in values.items() if isinstance(v, float)},
        "rules": [asdict(rule) for rule in router.rules],
        "gate": asdict(router.gate),
        "provenance": asdict(router.provenance),
    }
    return header, entries


def _digest(header: Mapping[str, Any], entries: Mapping[str, bytes]) -> str:
    """Returns the sha256 (hex) of a header and of the other entries in the order of their names."""
    digest = sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(entries):
        digest.update(f"\n{name} {len(entries[name])}\n".encode())
        digest.update(entries[name])
    return digest.hexdigest()


def _npy_head(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Returns how a file of numpy's format 1.0 begins, the same whatever numpy writes today.

    What begins otherwise is not read: no shape is believed, and nothing is parsed or unpickled.
    """
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


# ---- In ------------------------------------------------------------------------------------------


def _entries(content: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Returns the header and the other entries of a file, the hash checked.

    Entries are not compressed, so together they are no larger than the file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            infos = file.infolist()
            names = {info.filename for info in infos}
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise _DamagedError("is not a router: its entries are compressed")
            if len(names) != len(infos) or _HEADER not in names:
                raise _DamagedError("is not a router: it has no header, or entries twice")
            if sum(info.file_size for info in infos) > len(content):
                raise _DamagedError("is damaged: its entries are larger than the file")
            entries = {info.filename: file.read(info) for info in infos}
        header = json.loads(entries.pop(_HEADER))
    except _UNREADABLE as error:
        raise _DamagedError(f"is damaged: {error or type(error).__name__}") from error
    if not isinstance(header, dict):
        raise _DamagedError("is not a router: its header is no mapping")
    version = header.get("version")
    if type(version) is not int or version != VERSION:
        raise _DamagedError(f"has version {version!r}, this rb reads version {VERSION}")
    if header.pop("sha256", None) != _digest(header, entries):
        raise _DamagedError("is damaged: its content is not what its hash says")
    return header, entries


def _unpacked(header: Mapping[str, Any], entries: Mapping[str, bytes]) -> Router:
    """Returns the router of a header and the other entries.

    Raises:
        _DamagedError: something is missing, too much, or out of bounds.
    """
    class_names, model_names = _names(header, "class_names"), _names(header, "model_names")
    sizes = {**_numbers(header, "sizes", int), "C": len(class_names), "M": len(model_names)}
    absent = {part for part in _OPTIONAL if not any(e.startswith(f"{part}.") for e in entries)}
    expected = {name for name in _ARRAYS if name.partition(".")[0] not in absent}
    odd = {f"{name}.npy" for name in expected} ^ set(entries)
    if odd:
        raise _DamagedError(f"is not a router: {min(odd)} is missing or too much")
    arrays = {name: _array(name, entries[f"{name}.npy"], sizes) for name in sorted(expected)}
    numbers = _numbers(header, "numbers", float)
    rules = header.get("rules")
    if not isinstance(rules, list):
        raise _DamagedError("is not a router: its header has no list of rules")
    values: dict[str, Any] = {name: array for name, array in arrays.items() if "." not in name}
    values |= {part: None if part in absent else _part(part, arrays, numbers) for part in _PARTS}
    return Router(
        class_names=class_names,
        model_names=model_names,
        rules=tuple(_rule(rule, class_names) for rule in rules),
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


def _numbers(header: Mapping[str, Any], key: str, kind: type[N]) -> dict[str, N]:
    """Returns a mapping of names to numbers above 0."""
    numbers = header.get(key)
    if not isinstance(numbers, dict):
        raise _DamagedError(f"is not a router: its header has no {key}")
    for name, value in numbers.items():
        if type(value) is not kind or not 0 < value < math.inf:
            raise _DamagedError(f"is not a router: {name} is no number above 0")
    return numbers


def _array(name: str, data: bytes, sizes: Mapping[str, int]) -> Array:
    """Returns an array of the type and shape that its name and the sizes ask for."""
    dtype, letters = _ARRAYS[name]
    shape = tuple(sizes.get(letter, 0) for letter in letters)
    head = _npy_head(dtype, shape)
    n_bytes = len(head) + math.prod(shape) * np.dtype(dtype).itemsize
    if not data.startswith(head) or len(data) != n_bytes:
        raise _DamagedError(f"is not a router: {name} is no array {shape} of {dtype}")
    array = np.frombuffer(data, dtype, offset=len(head)).reshape(shape)
    if name != _MAY_BE_NAN and not np.isfinite(array).all():
        raise _DamagedError(f"is not a router: {name} has numbers that are not finite")
    if name in _POSITIVE and not (array > 0).all():
        raise _DamagedError(f"is not a router: {name} has numbers that are not above 0")
    if name == "trust" and not np.isin(array, range(PER_PROMPT + 1)).all():
        raise _DamagedError("is not a router: trust is not 0, 1 or 2")
    if letters[0] == "B" and (shape[0] < 2 or shape[0] & (shape[0] - 1)):
        raise _DamagedError("is not a router: the number of buckets is no power of two")
    return array.astype(array.dtype.newbyteorder("="))


def _part(part: str, arrays: Mapping[str, Array], numbers: Mapping[str, float]) -> object:
    """Returns one of the data classes that a router is made of."""
    values: dict[str, Any] = {}
    for field in fields(_PARTS[part]):
        name = f"{part}.{field.name}"
        if name not in arrays and name not in numbers:
            raise _DamagedError(f"is not a router: {name} is missing")
        values[field.name] = arrays[name] if name in arrays else numbers[name]
    return _PARTS[part](**values)


def _rule(data: object, class_names: tuple[str, ...]) -> Rule:
    """Returns a rule of a class of the router, whose expression can be searched for."""
    rule = _record(Rule, data)
    if rule.class_name not in class_names:
        raise _DamagedError(f"is not a router: a rule of no class of it, {rule.class_name!r}")
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
