"""YAML out for other tools: what readers of YAML 1.1 and of YAML 1.2 both read as it was meant.

`no` is a word to one and false to the other; 3324e394, the head of a hash, is text to one and a
number to the other. Whatever either would not read as text stands in quotes here. Texts of several
lines are written as blocks, so that a person can read a file inside a file.
"""

from __future__ import annotations

import re

import yaml

_TEXT = "tag:yaml.org,2002:str"
# A reader of YAML 1.2 (or of either, as Go's) may take these for numbers or for words of its own.
_NOT_TEXT = re.compile(
    r"[-+]?(\.?[0-9][0-9_.,:eEoOxX+-]*)|[-+]?[0-9a-fA-F.]*[eE][-+]?[0-9]+|0[xXoObB][0-9a-fA-F_]+"
    r"|[-+]?\.(inf|nan)|y|n|yes|no|on|off|true|false|null|~|=|<<",
    re.IGNORECASE,
)
WIDTH = 100


class _ManifestDumper(yaml.SafeDumper):
    """Block style, lists indented below their key, no anchors, texts as the module says."""

    def ignore_aliases(self, data: object) -> bool:
        """Returns that equal parts are written twice: manifests are read one document at a time."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indents lists below their key, whatever is asked."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    if "\n" in value and _is_block(value):
        return dumper.represent_scalar(_TEXT, value, style="|")
    if not value.isprintable():  # line ends of other kinds would be folded into blanks
        return dumper.represent_scalar(_TEXT, value, style='"')
    style = "'" if _NOT_TEXT.fullmatch(value) else None
    return dumper.represent_scalar(_TEXT, value, style=style)


def _is_block(value: str) -> bool:
    """Returns whether a block says a text exactly: no blanks at ends of lines, nothing odd."""
    lines = value.split("\n")
    return (
        all(c == "\n" or c.isprintable() for c in value)
        and not any(line != line.rstrip() for line in lines)
        and not lines[0].startswith((" ", "\t"))
    )


_ManifestDumper.add_representer(str, _text)


def manifest_yaml(document: object) -> str:
    """Returns the YAML of plain data, in the order given, without a document mark."""
    return yaml.dump(
        document,
        Dumper=_ManifestDumper,
        sort_keys=False,
        allow_unicode=True,
        width=WIDTH,
        default_flow_style=False,
    )
