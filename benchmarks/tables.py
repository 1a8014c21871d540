"""Writes the tables of a planning folder: YAML and CSV, byte for byte the same every time."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import yaml


class _PlainDumper(yaml.SafeDumper):
    """Writes equal parts twice: planning files have no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def write_yaml(path: Path, content: object, heading: str = "") -> None:
    """Writes plain YAML in the order given, under a heading of comment lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    text = yaml.dump(content, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True, width=100)
    path.write_text(comment + text, encoding="utf-8")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Writes a table without its index, with the same line ends everywhere."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n", float_format="%.6g")
