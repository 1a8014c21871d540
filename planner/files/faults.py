"""From pydantic's report to faults: file, field, what is wrong, the value, what to do."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from planner.errors import Fault
from planner.nearest import meant, nearest
from planner.spec.base import Spec

S = TypeVar("S", bound=Spec)

_ARRIVALS = {
    "poisson": "Poisson",
    "gamma": "Bursty",
    "weibull": "Bursty",
    "square": "Square",
    "schedule": "Schedule",
    "trace": "Trace",
}

_NAME = "use letters, digits, '.', '_', '+' and '-', starting with a letter or digit"

# What pydantic reports, in the words of a planning file: what is wrong, what to do about it.
_WORDS = {
    "finite_number": ("must be a finite number", "give a finite number"),
    "greater_than": ("must be above {gt:g}", "give a larger number"),
    "greater_than_equal": ("must be at least {ge:g}", "give a larger number"),
    "less_than": ("must be below {lt:g}", "give a smaller number"),
    "less_than_equal": ("must be at most {le:g}", "give a smaller number"),
    "float_type": ("must be a number", "give a number, without a unit or quotes"),
    "float_parsing": ("must be a number", "give a number, without a unit or quotes"),
    "int_type": ("must be a whole number", "give a whole number"),
    "int_parsing": ("must be a whole number", "give a whole number"),
    "int_from_float": ("must be a whole number", "give a whole number"),
    "bool_type": ("must be true or false", "write true or false"),
    "bool_parsing": ("must be true or false", "write true or false"),
    "string_type": ("must be text", "put it in quotes"),
    "string_unicode": ("must be Unicode text", "write the character itself"),
    "string_too_short": ("must not be empty", "fill it, or remove the key"),
    "string_too_long": ("must have at most {max_length} characters", "shorten it"),
    "literal_error": ("must be {expected}", "use one of the allowed words"),
    "tuple_type": ("must be a list", "write [a, b], or one entry per line after '- '"),
    "list_type": ("must be a list", "write [a, b], or one entry per line after '- '"),
    "dict_type": ("must be a mapping of keys to values", "write 'key: value' lines"),
    "model_type": ("must be a mapping of keys to values", "write 'key: value' lines"),
    "too_short": ("needs at least {min_length} entry", "add one"),
    "date_type": ("must be a date", "write it as 2026-01-31"),
    "date_parsing": ("must be a date", "write it as 2026-01-31"),
    "date_from_datetime_parsing": ("must be a date", "write it as 2026-01-31"),
    "date_from_datetime_inexact": ("must be a date", "write it as 2026-01-31"),
    "invalid_key": ("a key must be text", "put the key in quotes"),
}


def build(spec: type[S], data: object, file: str, faults: list[Fault], at: str = "") -> S | None:
    """Returns one validated entry; None after adding every fault of it."""
    if not isinstance(data, Mapping):
        what = f"must be a mapping of keys to values, got {short(data)}"
        faults.append(Fault(file, at, what, "write 'key: value' lines"))
        return None
    try:
        return spec.model_validate(dict(data))
    except ValidationError as error:
        faults.extend(_from_error(spec, error, file, at, data))
        return None


def build_list(spec: type[S], data: object, file: str, faults: list[Fault]) -> tuple[S, ...]:
    """Returns the entries of a list, those that are right; adds the faults of the rest."""
    if not isinstance(data, list):
        what = f"must be a list of entries, got {short(data)}"
        faults.append(Fault(file, "", what, "start each entry with '- '"))
        return ()
    entries = []
    for index, item in enumerate(data):
        name = item.get("name") if isinstance(item, Mapping) else None
        at = f"[{name}]" if isinstance(name, str) else f"[{index}]"
        entry = build(spec, item, file, faults, at)
        if entry is not None:
            entries.append(entry)
    return tuple(entries)


def unknown_name(file: str, field: str, name: str, known: Iterable[str], what: str) -> Fault:
    """Returns the fault of a name that nothing bears, with the nearest known one as the fix."""
    return Fault(file, field, f"unknown {what}, got {name}", meant(name, known))


def _from_error(
    spec: type[Spec], error: ValidationError, file: str, at: str, data: object
) -> list[Fault]:
    details = error.errors(include_url=False)
    chosen = _chosen_branch(data)
    if chosen is None:
        got = short(data["arrivals"].get("process")) if isinstance(data, Mapping) else ""
        words = ", ".join(_ARRIVALS)
        field = f"{at}.arrivals.process" if at else "arrivals.process"
        fault = Fault(file, field, f"must be one of {words}, got {got}", "use one of these words")
        rest = [d for d in details if d["loc"][:1] != ("arrivals",)]
        return [fault, *(_one(spec, d, file, at) for d in rest if not _is_consequence(d))]
    return [
        _one(spec, detail, file, at)
        for detail in details
        if not _other_branch(detail["loc"], chosen) and not _is_consequence(detail)
    ]


def _is_consequence(detail: ErrorDetails) -> bool:
    """Returns whether a list is found too short only because its entries are faulty themselves."""
    given = detail["input"]
    least = detail.get("ctx", {}).get("min_length", 0)
    return detail["type"] == "too_short" and isinstance(given, list) and len(given) >= least


def _chosen_branch(data: object) -> str | None:
    """Returns the arrivals type that the data means, so that only its faults are shown.

    None where it names a process that does not exist.
    """
    arrivals = data.get("arrivals") if isinstance(data, Mapping) else None
    if not isinstance(arrivals, Mapping):
        return "Poisson"
    if "trace" in arrivals and "process" not in arrivals:
        return "Trace"
    return _ARRIVALS.get(str(arrivals.get("process", "poisson")))


def _other_branch(loc: tuple[int | str, ...], chosen: str) -> bool:
    if len(loc) < 2 or loc[0] != "arrivals":
        return False
    tag = _union_tag(loc[1])
    return tag is not None and tag != chosen


def _union_tag(part: int | str) -> str | None:
    """Returns the type that a part of a location names, e.g. of 'function-after[f(), Square]'."""
    words = re.findall(r"\w+", str(part))
    return next((word for word in words if word in _ARRIVALS.values()), None)


def _one(spec: type[Spec], detail: ErrorDetails, file: str, at: str) -> Fault:
    """Returns one fault of pydantic's report, in the words of the file."""
    parts = [part for part in detail["loc"] if part != "[key]"]
    if len(parts) > 1 and parts[0] == "arrivals" and _union_tag(parts[1]) is not None:
        del parts[1]
    field = at + "".join(
        f"[{part}]" if isinstance(part, int) else (f".{part}" if at or i else str(part))
        for i, part in enumerate(parts)
    )
    kind, got = detail["type"], short(detail["input"])
    if kind == "missing":
        return Fault(file, field, "is missing", "add it")
    if kind == "extra_forbidden":
        near = nearest(str(parts[-1]), _known_keys(spec, detail["loc"]))
        fix = f"did you mean {near[0]}?" if near else "remove it, or correct its spelling"
        return Fault(file, field, f"unknown key, got {got}", fix)
    if kind == "string_pattern_mismatch":
        is_name = "A-Z" in str(detail.get("ctx", {}).get("pattern"))
        what, fix = ("is not a name", _NAME) if is_name else ("has the wrong form", "make it again")
        return Fault(file, field, f"{what}, got {got}", fix)
    if kind.endswith("_attributes_type"):
        kind = "model_type"
    if kind in _WORDS:
        what, fix = _WORDS[kind]
        return Fault(file, field, f"{what.format(**detail.get('ctx', {}))}, got {got}", fix)
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if kind == "value_error" and isinstance(detail["input"], Mapping):
        return Fault(file, field, message, "correct that entry")
    return Fault(file, field, f"{message}, got {got}", "correct the value")


def _known_keys(spec: type[Spec], loc: tuple[int | str, ...]) -> list[str]:
    """Returns the keys that an entry inside a file may have: those of the type at its place."""
    here: list[type[Spec]] = [spec]
    for part in loc[:-1]:
        if isinstance(part, int) or _union_tag(part) is not None:
            continue
        fields = [field for s in here for field in [_field(s, part)] if field is not None]
        here = [inner for field in fields for inner in _specs(field)] or here
    return [field.alias or name for s in here for name, field in s.model_fields.items()]


def _field(spec: type[Spec], key: str) -> object | None:
    """Returns the type of a field by the key that files use for it."""
    for name, field in spec.model_fields.items():
        if key == (field.alias or name):
            return field.annotation
    return None


def _specs(annotation: object) -> Iterator[type[Spec]]:
    """Yields the entry types that a type is made of, e.g. Limit of tuple[Limit, ...] | None."""
    if isinstance(annotation, type) and issubclass(annotation, Spec):
        yield annotation
    for inner in get_args(annotation):
        yield from _specs(inner)


def short(value: object) -> str:
    """Returns a value for a message: its repr, bounded in depth and length."""
    text = _REPR.repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother, _REPR.maxlong = 2, 60, 60, 60
