"""From pydantic's report to faults: file, field, what is wrong, the value, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from planner.errors import Fault
from planner.spec.base import Spec

S = TypeVar("S", bound=Spec)

_UNION_TAGS = {"Poisson", "Bursty", "Square", "Schedule", "Trace"}

_FIXES = {
    "missing": "add it",
    "extra_forbidden": "remove it, or correct its spelling",
    "finite_number": "give a finite number",
    "greater_than": "give a larger number",
    "greater_than_equal": "give a larger number",
    "less_than": "give a smaller number",
    "less_than_equal": "give a smaller number",
    "string_pattern_mismatch": "use letters, digits, '.', '_', '+' and '-', starting with a letter or digit",
    "float_parsing": "give a number",
    "float_type": "give a number",
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "literal_error": "use one of the allowed words",
}


def build(spec: type[S], data: object, file: str, faults: list[Fault], at: str = "") -> S | None:
    """Returns one validated entry; None after adding every fault of it."""
    if not isinstance(data, Mapping):
        what = f"must be a mapping of keys to values, got {_short(data)}"
        faults.append(Fault(file, at, what, "write 'key: value' lines"))
        return None
    try:
        return spec.model_validate(dict(data))
    except ValidationError as error:
        faults.extend(_from_error(spec, error, file, at, data))
        return None


def build_list(spec: type[S], data: object, file: str, faults: list[Fault]) -> tuple[S, ...]:
    """Returns the validated entries of a list, those that are right; adds the faults of the rest."""
    if not isinstance(data, list):
        what = f"must be a list of entries, got {_short(data)}"
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
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    fix = f"did you mean {near[0]}?" if near else f"known: {listed or 'none'}"
    return Fault(file, field, f"unknown {what}, got {name}", fix)


def _from_error(
    spec: type[Spec], error: ValidationError, file: str, at: str, data: object
) -> list[Fault]:
    details = error.errors(include_url=False)
    chosen = _chosen_branch(data)
    return [
        _one(spec, detail, file, at)
        for detail in details
        if not _other_branch(detail["loc"], chosen)
    ]


def _chosen_branch(data: object) -> str | None:
    """Returns the arrivals type that the data means, so that only its faults are shown."""
    arrivals = data.get("arrivals") if isinstance(data, Mapping) else None
    if not isinstance(arrivals, Mapping):
        return "Poisson"
    if "trace" in arrivals:
        return "Trace"
    by_process = {
        "poisson": "Poisson",
        "gamma": "Bursty",
        "weibull": "Bursty",
        "square": "Square",
        "schedule": "Schedule",
        "trace": "Trace",
    }
    return by_process.get(str(arrivals.get("process", "poisson")), "Poisson")


def _other_branch(loc: tuple[int | str, ...], chosen: str | None) -> bool:
    return len(loc) > 1 and loc[0] == "arrivals" and loc[1] in _UNION_TAGS and loc[1] != chosen


def _one(spec: type[Spec], detail: ErrorDetails, file: str, at: str) -> Fault:
    parts = [part for part in detail["loc"] if part not in _UNION_TAGS]
    field = at + "".join(
        f"[{part}]" if isinstance(part, int) else (f".{part}" if at or i else str(part))
        for i, part in enumerate(parts)
    )
    kind = detail["type"]
    if kind == "missing":
        return Fault(file, field, "is missing", _FIXES["missing"])
    if kind == "extra_forbidden":
        last = str(parts[-1]) if parts else ""
        known = list(spec.model_fields) if len(parts) == 1 else []
        near = difflib.get_close_matches(last, known, n=1)
        fix = f"did you mean {near[0]}?" if near else _FIXES[kind]
        return Fault(file, field, f"unknown key, got {_short(detail['input'])}", fix)
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if kind == "value_error" and isinstance(detail["input"], Mapping):
        return Fault(file, field, message, "correct that entry")
    return Fault(
        file,
        field,
        f"{message}, got {_short(detail['input'])}",
        _FIXES.get(kind, "correct the value"),
    )


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
