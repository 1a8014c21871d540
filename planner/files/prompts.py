"""Single prompts in: their scores (scores.csv) and what they say (prompts.jsonl).

Both may have millions of rows, so they are read row by row into arrays and codes, and hashed on
the way.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner.errors import Fault
from planner.files.csvs import capped, columns, each_row, header, number
from planner.files.faults import build, short, unknown_name
from planner.files.text import MAX_PROMPTS_BYTES, ListHash, lines, read_text, shown
from planner.spec.arrays import IntArray
from planner.spec.inputs import PromptTable
from planner.spec.prompts import PromptLine
from planner.spec.question import SIGNAL_PREFIX, PromptScore

_LARGEST = 1e9  # of a count
_FARTHEST = 1e15  # of a signal from zero


def read_prompts(path: Path, faults: list[Fault]) -> tuple[tuple[PromptLine, ...], str]:
    """Returns the prompts of a file, those that are right, and the hash of its content."""
    text = read_text(path, MAX_PROMPTS_BYTES, faults)
    if text is None:
        return (), ""
    name, digest = shown(path), ListHash()
    found: list[Fault] = []
    first: dict[str, int] = {}
    prompts: list[PromptLine] = []
    for n, data in _objects(text, name, found):
        digest.add(data)
        prompt = build(PromptLine, data, name, found, f"line {n}")
        if prompt is None:
            continue
        if prompt.prompt_id in first:
            what = f"prompt given twice, first at line {first[prompt.prompt_id]}"
            what += f", got {prompt.prompt_id}"
            found.append(Fault(name, f"line {n}.prompt_id", what, "keep one line for each"))
        first.setdefault(prompt.prompt_id, n)
        prompts.append(prompt)
    if not prompts and not found:
        found.append(Fault(name, "", "file is empty", "give a JSON object on each line"))
    faults += capped(found, name)
    return tuple(prompts), digest.hexdigest()


def _objects(text: str, name: str, faults: list[Fault]) -> Iterator[tuple[int, object]]:
    """Yields (line number, content) of each line that is JSON; blank lines are none."""
    for n, line in enumerate(lines(text), start=1):
        if not line.strip():
            continue
        try:
            yield n, json.loads(line)
        except (ValueError, RecursionError) as error:
            what = f"is not JSON: {error}, got {short(line)}"
            faults.append(Fault(name, f"line {n}", what, "write one JSON object on each line"))


def read_prompt_scores(
    path: Path, class_names: set[str] | None, score_scale: float, faults: list[Fault]
) -> tuple[PromptTable | None, str]:
    """Returns the rows of a scores file as columns, and the hash of its content.

    None where there are no rows; what stands in for a faulty cell is of no use.

    Args:
        path: the file.
        class_names: the classes that there are; None: any.
        score_scale: what a full score is.
        faults: grows by what is wrong.
    """
    text = read_text(path, MAX_PROMPTS_BYTES, faults)
    if text is None:
        return None, ""
    name, names = shown(path), header(text)
    signals = [c for c in names if c.startswith(SIGNAL_PREFIX) and c != SIGNAL_PREFIX]
    known = columns(PromptScore) | dict.fromkeys(signals, False)
    rows = _Rows(_bounds(score_scale, signals))
    digest = ListHash()
    digest.add(names)
    for line, row in each_row(text, name, known, faults):
        digest.add(list(row.values()))
        rows.add(line, row)
    if not rows.line:
        return None, digest.hexdigest()
    table = rows.table(signals)
    faults += _name_faults(rows, name, class_names)
    faults += _double_faults(table, rows, name, "sample" in names)
    faults += rows.number_faults(name)
    return table, digest.hexdigest()


@dataclass(frozen=True)
class _Bounds:
    """What a number may be, and what stands for a blank cell (None: it must not be blank)."""

    low: float
    high: float
    blank: float | None = None
    whole: bool = False

    def value(self, cell: str) -> float | None:
        """Returns the number in a cell; None if it holds none that may be."""
        if not cell:
            return self.blank
        value = number(cell)
        if value is None or not self.low <= value <= self.high:
            return None
        return None if self.whole and value != int(value) else value

    @property
    def wanted(self) -> str:
        """Returns what a cell should have held."""
        return f"a {'whole ' if self.whole else ''}number from {self.low:g} to {self.high:g}"


def _bounds(score_scale: float, signals: list[str]) -> dict[str, _Bounds]:
    """Returns what the numbers of each column may be."""
    return {
        "sample": _Bounds(0.0, _LARGEST, blank=1.0, whole=True),
        "score": _Bounds(0.0, score_scale),
        "input_tokens": _Bounds(1.0, _LARGEST),
        "output_tokens": _Bounds(0.0, _LARGEST),
        **{s: _Bounds(-_FARTHEST, _FARTHEST, blank=float("nan")) for s in signals},
    }


class _Rows:
    """The rows of a scores file as they come: numbers, codes of names, and what is wrong."""

    def __init__(self, bounds: dict[str, _Bounds]) -> None:
        self.line = array("q")
        self.codes = {name: array("q") for name in ("prompt_id", "class", "model_name")}
        self.names: dict[str, dict[str, int]] = {name: {} for name in self.codes}
        self.numbers = {name: array("d") for name in bounds}
        self.bad: dict[str, list[tuple[int, str]]] = {name: [] for name in bounds}
        self._bounds = bounds

    def add(self, line: int, row: dict[str, str]) -> None:
        """Takes a row in."""
        self.line.append(line)
        for column, known in self.names.items():
            self.codes[column].append(known.setdefault(row[column], len(known)))
        for column, bounds in self._bounds.items():
            cell = row.get(column, "")
            value = bounds.value(cell)
            if value is None:
                self.bad[column].append((line, cell))
            self.numbers[column].append(bounds.low if value is None else value)

    def table(self, signals: list[str]) -> PromptTable:
        """Returns the rows as columns, names in order."""
        classes, class_code = self._sorted("class")
        models, model_code = self._sorted("model_name")
        prompts, prompt_code = self._sorted("prompt_id")
        number = {column: np.array(values) for column, values in self.numbers.items()}
        return PromptTable(
            classes,
            models,
            prompts,
            class_code,
            model_code,
            prompt_code,
            number["sample"].astype(np.int64),
            number["score"],
            number["input_tokens"],
            number["output_tokens"],
            {signal.removeprefix(SIGNAL_PREFIX): number[signal] for signal in signals},
        )

    def _sorted(self, column: str) -> tuple[tuple[str, ...], IntArray]:
        """Returns the names in a column in order, and each row's place among them."""
        seen = list(self.names[column])
        order = sorted(range(len(seen)), key=seen.__getitem__)
        place = np.empty(len(seen), dtype=np.int64)
        place[order] = np.arange(len(seen))
        return tuple(seen[i] for i in order), place[np.array(self.codes[column])]

    def number_faults(self, name: str) -> Iterator[Fault]:
        """Yields the first few faults of each column of numbers, and how many more there are."""
        for column, bad in self.bad.items():
            wanted = self._bounds[column].wanted
            fix = "set score_scale in question.yaml" if column == "score" else "correct the row"
            for line, cell in bad[:3]:
                what = f"must be {wanted}, got {cell or 'nothing'}"
                yield Fault(name, f"line {line}.{column}", what, fix)
            if len(bad) > 3:
                yield Fault(name, column, f"and {len(bad) - 3} more such rows", "correct them too")


def _name_faults(rows: _Rows, name: str, classes: set[str] | None) -> Iterator[Fault]:
    """Yields the faults of unknown classes, and the first of prompts and models without a name."""
    if classes is not None:
        for other in sorted(set(rows.names["class"]) - classes):
            yield unknown_name(name, "class", other, classes, "class")
    for column in ("prompt_id", "model_name"):
        code = rows.names[column].get("")
        if code is not None:
            line = rows.line[rows.codes[column].index(code)]
            yield Fault(name, f"line {line}.{column}", "is missing", "add it")


def _double_faults(
    table: PromptTable, rows: _Rows, name: str, has_samples: bool
) -> Iterator[Fault]:
    """Yields the first answer given twice, and the first prompt given two classes."""
    order = np.lexsort((table.sample, table.model_code, table.prompt_code))  # stable
    keys = np.stack([table.prompt_code, table.model_code, table.sample])[:, order]
    again = np.flatnonzero((keys[:, 1:] == keys[:, :-1]).all(axis=0))
    if again.size:
        k = again[np.argmin(order[again + 1])]
        first, second = int(order[k]), int(order[k + 1])
        key = [table.prompt_ids[keys[0, k]], table.model_names[keys[1, k]]]
        key += [str(keys[2, k])] if has_samples else []
        what = "prompt, model and sample" if has_samples else "prompt and model"
        what += f" given twice, first at line {rows.line[first]}, got {' / '.join(key)}"
        fix = "keep one row for each" if has_samples else "keep one, or number them in 'sample'"
        yield Fault(name, f"line {rows.line[second]}", what, fix)
    first_class = np.empty(len(table.prompt_ids), dtype=np.int64)
    first_class[table.prompt_code[::-1]] = table.class_code[::-1]
    other = np.flatnonzero(first_class[table.prompt_code] != table.class_code)
    if other.size:
        row = int(other[0])
        prompt = int(table.prompt_code[row])
        one, two = table.classes[first_class[prompt]], table.classes[table.class_code[row]]
        what = f"prompt given two classes, got {table.prompt_ids[prompt]} in {one} and {two}"
        yield Fault(name, f"line {rows.line[row]}.class", what, "give each prompt one class")


def with_texts(
    table: PromptTable, prompts: Iterable[PromptLine], name: str, faults: list[Fault]
) -> PromptTable:
    """Returns scores with what their prompts say; faults for prompts without, or of other class."""
    by_id = {prompt.prompt_id: prompt for prompt in prompts}
    own = np.empty(len(table.prompt_ids), dtype=np.int64)
    own[table.prompt_code] = table.class_code
    missing = [prompt_id for prompt_id in table.prompt_ids if prompt_id not in by_id]
    if missing:
        listed = ", ".join(each[:60] for each in missing[:3]) + (", ..." if missing[3:] else "")
        what = f"lacks {len(missing)} of {len(own)} prompts of the scores, got none for {listed}"
        faults.append(Fault(name, "prompt_id", what, "add them, or remove their scores"))
        return table
    for prompt_id, code in zip(table.prompt_ids, own, strict=True):
        stated = by_id[prompt_id].class_name
        if stated not in (None, table.classes[code]):
            what = f"must be {table.classes[code]} for {prompt_id} as in the scores, got {stated}"
            faults.append(Fault(name, "class", what, "correct it, or leave it out"))
            break
    return replace(table, text=tuple(by_id[prompt_id].asked for prompt_id in table.prompt_ids))
