"""YAML in: plain data only. Doubled keys, anchors and tags are faults, not surprises."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from planner.errors import Fault
from planner.files.text import MAX_YAML_BYTES, read_text, shown

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_DEPTH = 40


class _PlainLoader(_Base):  # type: ignore[misc]
    """A safe loader that refuses what makes a YAML file say something else than it shows."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None,
                None,
                f"anchors and aliases are not read, got *{event.anchor}",
                event.start_mark,
            )
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise yaml.constructor.ConstructorError(
                None, None, f"nested deeper than {_MAX_DEPTH} levels", self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key must be plain text", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key given twice, got {key!r}", key_node.start_mark
                )
            seen.add(key)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def parse_yaml(text: str, name: str, faults: list[Fault]) -> object | None:
    """Returns the data of a YAML text; None after adding a fault with its line."""
    try:
        data: object = yaml.load(text, Loader=_PlainLoader)  # noqa: S506 - derived from SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or "is not valid YAML"
        faults.append(Fault(name, where, str(what), "correct the YAML at that line"))
        return None
    except (ValueError, RecursionError) as error:  # e.g. an impossible date such as 2026-13-45
        faults.append(Fault(name, "", f"is not valid YAML: {error}", "correct the value"))
        return None
    if data is None:
        faults.append(Fault(name, "", "file is empty", "fill it, or delete it"))
        return None
    return data


def read_yaml(path: Path, faults: list[Fault]) -> object | None:
    """Returns the data of a YAML file; None after adding a fault."""
    text = read_text(path, MAX_YAML_BYTES, faults)
    return None if text is None else parse_yaml(text, shown(path), faults)
