"""The fields of a file kind in words: for the manual, and for the schemas that editors read.

A field's meaning is its own entry in the glossary, the docstring below it, the comment behind it,
or what its name means everywhere, in this order. Types, ranges and defaults are read off the JSON
Schema, so that none is written twice.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args

from pydantic import TypeAdapter

from planner.spec.base import Name, Spec
from planner.spec.glossary import OWN, meaning_of_name

HUGE = 1e9
"""Bounds from here on are no statement about a figure, only about what a number may be."""

_NAME_PATTERN = str(TypeAdapter(Name).json_schema()["pattern"])
_IN_A_FILE = {"None": "null", "True": "true", "False": "false"}


@dataclass(frozen=True)
class FieldText:
    """One field of a type, as a reader of the manual needs it."""

    name: str  # as it stands in the file
    kind: str  # e.g. 'number > 0', 'list of Limit'
    default: str  # as it stands in a file; '' where the field is required
    required: bool
    meaning: str  # '' where nobody says


def described(spec: type[Spec]) -> tuple[FieldText, ...]:
    """Returns the fields of a type, in their order."""
    properties = _properties(spec)
    in_code = said(spec)
    texts = []
    for name, field in spec.model_fields.items():
        alias = field.alias or name
        prop = properties[alias]
        required = field.is_required()
        default = "" if required else _default(prop.get("default"))
        text = _own(spec, name) or in_code.get(name) or meaning_of_name(name) or ""
        kind = _kind(prop) + (" or null" if required and _may_be_null(prop) else "")
        texts.append(FieldText(alias, kind, default, required, text))
    return tuple(texts)


@cache
def _properties(spec: type[Spec]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = spec.model_json_schema(by_alias=True)["properties"]
    return found


def parts(spec: type[Spec]) -> tuple[type[Spec], ...]:
    """Returns a type and, in the order in which they are met, all types that it is made of."""
    found: dict[type[Spec], None] = {}

    def visit(annotation: object) -> None:
        if isinstance(annotation, type) and issubclass(annotation, Spec):
            if annotation in found:
                return
            found[annotation] = None
            for field in annotation.model_fields.values():
                visit(field.annotation)
        for argument in get_args(annotation):
            visit(argument)

    visit(spec)
    return tuple(found)


def schema_with_meanings(spec: type[Spec]) -> dict[str, Any]:
    """Returns the JSON Schema of a type in which every field says what it means."""
    schema = spec.model_json_schema(by_alias=True)
    for part in parts(spec):
        own = schema if part is spec else schema.get("$defs", {}).get(part.__name__)
        for field in described(part) if own else ():
            if field.meaning:
                own["properties"][field.name]["description"] = field.meaning
    return schema


@cache
def said(spec: type[Spec]) -> Mapping[str, str]:
    """Returns what the source of a type, or of those it stands on, says of its fields."""
    found: dict[str, str] = {}
    for base in reversed(spec.__mro__):
        if issubclass(base, Spec) and base is not Spec:
            found |= dict(_in_source(inspect.getsource(base)))
    return found


def _in_source(source: str) -> Iterator[tuple[str, str]]:
    """Yields (field, meaning) of each field with a docstring below it or a comment behind it."""
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and "noqa" not in token.string
    }
    (klass,) = ast.parse(source).body
    assert isinstance(klass, ast.ClassDef)
    for entry, after in zip(klass.body, [*klass.body[1:], None], strict=True):
        if not isinstance(entry, ast.AnnAssign) or not isinstance(entry.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield entry.target.id, _sentence(str(after.value.value))
        elif comment := comments.get(entry.end_lineno or 0):
            yield entry.target.id, _sentence(comment)


def _sentence(text: str) -> str:
    """Returns a comment as a sentence about a file, in which nothing is called None."""
    text = " ".join(text.split())
    text = text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
    return re.sub(r"\b(None|True|False)\b", lambda found: _IN_A_FILE[found[0]], text)


def _own(spec: type[Spec], field: str) -> str | None:
    """Returns the entry of a field of a type, or of one that the type stands on."""
    keys = (f"{base.__name__}.{field}" for base in spec.__mro__)
    return next((OWN[key] for key in keys if key in OWN), None)


def _default(value: object) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value


def _may_be_null(prop: Mapping[str, Any]) -> bool:
    return any(each.get("type") == "null" for each in prop.get("anyOf", ()))


def _kind(prop: Mapping[str, Any]) -> str:
    """Returns the type of a property in words."""
    for combined in ("anyOf", "oneOf", "allOf"):
        if combined in prop:
            kinds = [_kind(each) for each in prop[combined] if each.get("type") != "null"]
            return " or ".join(dict.fromkeys(kinds))
    if "$ref" in prop:
        return str(prop["$ref"]).rpartition("/")[2]
    if "enum" in prop:
        return "one of " + ", ".join(map(str, prop["enum"]))
    if "const" in prop:
        return str(prop["const"])
    return _plain_kind(prop)


def _plain_kind(prop: Mapping[str, Any]) -> str:
    kind = prop.get("type")
    if kind == "array":
        return _list_kind(prop)
    if kind == "object":
        values = [prop.get("additionalProperties"), *prop.get("patternProperties", {}).values()]
        return f"mapping of {_key_kind(prop)} to {_kind(next(filter(None, values), {}))}"
    if kind in ("integer", "number"):
        return ("whole number" if kind == "integer" else "number") + _range(prop)
    if kind == "string":
        return _string_kind(prop)
    return "true or false" if kind == "boolean" else "anything"


def _string_kind(prop: Mapping[str, Any]) -> str:
    if prop.get("format") == "date":
        return "date"
    return "name" if prop.get("pattern") == _NAME_PATTERN else "text"


def _key_kind(prop: Mapping[str, Any]) -> str:
    """Returns what the keys of a mapping are."""
    keys = prop.get("propertyNames") or {}
    patterns = [keys["pattern"]] if "pattern" in keys else list(prop.get("patternProperties", ()))
    if "enum" in keys:
        return _kind(keys)
    return "name" if patterns == [_NAME_PATTERN] else "text"


def _list_kind(prop: Mapping[str, Any]) -> str:
    if items := prop.get("prefixItems"):
        return "[" + ", ".join(_kind(each) for each in items) + "]"
    return f"list of {_kind(prop.get('items', {}))}"


def _range(prop: Mapping[str, Any]) -> str:
    """Returns the range of a number in words, e.g. ' > 0' or ' from 0 to 1'."""
    low, high = _bound(prop, "minimum"), _bound(prop, "maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    signs = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
    found = [(sign, _bound(prop, key)) for key, sign in signs.items()]
    said = ", ".join(f"{sign} {bound}" for sign, bound in found if bound is not None)
    return f" {said}" if said else ""


def _bound(prop: Mapping[str, Any], key: str) -> str | None:
    bound = prop.get(key)
    return None if bound is None or abs(bound) >= HUGE else f"{bound:g}"
