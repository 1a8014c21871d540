"""Values of a YAML text changed where they stand: comments, order and all other lines stay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import yaml

from planner.files.yamls import yaml_nodes, yaml_text

Key = str | int


class Edit(NamedTuple):
    """A new value for one place of the data; its last key may be a new one of a mapping."""

    path: tuple[Key, ...]
    value: float | dict[str, object]


class _Cut(NamedTuple):
    start: int
    end: int
    text: str


def edited_yaml(text: str, edits: Iterable[Edit]) -> str:
    """Returns a YAML text with some values changed or added.

    Raises:
        KeyError: the text has no such place.
    """
    root = yaml_nodes(text)
    cuts = [_cut(text, root, edit) for edit in edits]
    for cut in sorted(cuts, reverse=True):
        text = text[: cut.start] + cut.text + text[cut.end :]
    return text


def _cut(text: str, root: yaml.Node | None, edit: Edit) -> _Cut:
    parent = root
    for key in edit.path[:-1]:
        parent = _child(parent, key)
        if parent is None:
            raise KeyError(key)
    value, last = _flow(edit.value), edit.path[-1]
    old = _child(parent, last)
    if old is not None:
        start, end = old.start_mark.index, _end(old)
        # One that is left empty stands right behind its colon.
        return _Cut(start, end, value if start < end else f" {value}")
    if not isinstance(parent, yaml.MappingNode) or not parent.value:
        raise KeyError(last)
    first_key, first_value = parent.value[0]
    end = _end(first_value)
    if parent.flow_style:
        return _Cut(end, end, f", {last}: {value}")
    # On a line of its own, behind a comment that the one before may have.
    line_end = text.find("\n", end)
    at = len(text) if line_end < 0 else line_end
    return _Cut(at, at, f"\n{' ' * first_key.start_mark.column}{last}: {value}")


def _child(node: yaml.Node | None, key: Key) -> yaml.Node | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int):
        return node.value[key] if 0 <= key < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    return None


def _end(node: yaml.Node) -> int:
    """Returns where a value ends; one that is written in lines ends with its last part."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return int(node.end_mark.index)


def _flow(value: float | dict[str, object]) -> str:
    """Returns a value on one line."""
    if isinstance(value, dict):
        parts = (f"{key}: {_flow_scalar(each)}" for key, each in value.items())
        return "{" + ", ".join(parts) + "}"
    return _flow_scalar(value)


def _flow_scalar(value: object) -> str:
    return yaml_text([value], rows=True).strip()[1:-1]
