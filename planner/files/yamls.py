"""YAML in and out: plain data only. Doubled keys, anchors and tags are faults, not surprises."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from planner.errors import Fault
from planner.files.text import MAX_YAML_BYTES, read_text, shown

_MAX_DEPTH = 40
_TEXT_TAG = "tag:yaml.org,2002:str"


class _PlainLoader(yaml.SafeLoader):
    """A safe loader that refuses what makes a YAML file say something else than it shows.

    The loader written in C composes nodes out of our sight, so this is the Python one.
    """

    depth = 0
    yaml_implicit_resolvers = {}  # noqa: RUF012 - as its base does; filled from _MEANINGS

    def compose_node(self, parent: Any, index: Any) -> Any:  # noqa: ANN401 - as its base says
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor is not None:
            raise _refused(f"anchors and aliases are not read, got {event.anchor}", event)
        if event.tag is not None:
            raise _refused(f"tags are not read, got {event.tag}", event)
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _refused(f"nested deeper than {_MAX_DEPTH} levels", event)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(
        self,
        node: Any,  # noqa: ANN401 - as its base says
        deep: bool = False,
    ) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "a collection"
            if key_node.tag != _TEXT_TAG:
                raise _refused(f"a key must be text, got {key or 'nothing'}", key_node)
            if key in seen:
                raise _refused(f"key given twice, got {key!r}", key_node)
            seen.add(key)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


def _refused(what: str, at: Any) -> yaml.MarkedYAMLError:  # noqa: ANN401 - an event or a node
    """Returns the error of something that YAML allows and a planning file does not."""
    return yaml.constructor.ConstructorError(None, None, what, at.start_mark)


class _PlainDumper(yaml.SafeDumper):
    """Writes text in quotes wherever _PlainLoader, or an older reader, would see something else."""

    def ignore_aliases(self, data: object) -> bool:
        """Returns that equal parts are written twice: _PlainLoader reads no anchors."""
        return True


# Plain words mean what they show, as in YAML 1.2: 8e9 is a number, 010 is ten, 1:30 and `no` are
# words.
_MEANINGS = (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?)|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("timestamp", "[0-9]{4}-[0-9]{2}-[0-9]{2}", "0123456789"),
)
for _kind, _form, _first in _MEANINGS:
    for _class in (_PlainLoader, _PlainDumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_form})\\Z"), list(_first)
        )


def parse_yaml(text: str, name: str, faults: list[Fault]) -> object | None:
    """Returns the data of a YAML text; None after adding a fault with its line."""
    try:
        data: object = yaml.load(text, Loader=_PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line if mark is not None else text.count("\n", 0, getattr(error, "position", 0))
        where = f"line {line + 1}"
        what = getattr(error, "problem", None) or getattr(error, "reason", "is not valid YAML")
        faults.append(Fault(name, where, str(what), "correct the YAML at that line"))
        return None
    except (ValueError, RecursionError) as error:  # e.g. an impossible date such as 2026-13-45
        faults.append(
            Fault(name, "", f"is not valid YAML: {str(error).split(';')[0]}", "correct the value")
        )
        return None
    if data is None:
        faults.append(Fault(name, "", "file is empty", "fill it, or delete it"))
        return None
    return data


def yaml_nodes(text: str) -> yaml.Node | None:
    """Returns the nodes of a YAML text that parse_yaml reads, with their places; None of none."""
    node: yaml.Node | None = yaml.compose(text, Loader=_PlainLoader)
    return node


def read_yaml(path: Path, faults: list[Fault]) -> object | None:
    """Returns the data of a YAML file; None after adding a fault."""
    text = read_text(path, MAX_YAML_BYTES, faults)
    return None if text is None else parse_yaml(text, shown(path), faults)


def yaml_text(data: object, *, rows: bool = False) -> str:
    """Returns the YAML of plain data, in the order given, that read_yaml reads back as it was.

    Args:
        data: mappings, lists, texts, numbers, dates.
        rows: write the innermost lists and mappings on one line each, as [1, 2].
    """
    flow = None if rows else False
    return yaml.dump(
        data,
        Dumper=_PlainDumper,
        sort_keys=False,
        allow_unicode=True,
        width=100,
        default_flow_style=flow,
    )
