"""Scores and prompts out: merged with what a plan folder holds already, in one order.

A row of scores.csv gives way to a new one of the same prompt and model; all others stay. A kill
between the two files leaves prompts without scores, which is no fault.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from planner.errors import Fault, InputError
from planner.files.csvs import header, parse_rows
from planner.files.prompts import read_prompt_scores, read_prompts
from planner.files.question import QUESTION_FILE
from planner.files.text import MAX_PROMPTS_BYTES, is_folder, is_there, read_text, shown
from planner.files.write import check_writable, write_text
from planner.files.yamls import read_yaml
from planner.spec.answers import ScoreRow
from planner.spec.prompts import PromptLine
from planner.spec.question import SIGNAL_PREFIX

SCORES_FILE = "scores.csv"
PROMPTS_FILE = "prompts.jsonl"
_COLUMNS = ("prompt_id", "class", "model_name", "sample", "score", "input_tokens", "output_tokens")
_DIGITS = 8

Cells = Mapping[str, str]


@dataclass(frozen=True)
class ScoresFolder:
    """What a plan folder holds of scores and prompts, before anything is written."""

    folder: Path
    rows: tuple[Cells, ...]
    prompts: tuple[PromptLine, ...]
    notes: tuple[str, ...]  # on a question.yaml that does not use them

    def outdated(self, prompts: Iterable[PromptLine], models: Iterable[str]) -> tuple[str, ...]:
        """Returns the prompts whose text is now another than when other models were scored."""
        now, renewed = {prompt.prompt_id: prompt.asked for prompt in prompts}, set(models)
        others = {c["prompt_id"] for c in self.rows if c["model_name"] not in renewed}
        changed = (p for p in self.prompts if now.get(p.prompt_id, p.asked) != p.asked)
        return tuple(p.prompt_id for p in changed if p.prompt_id in others)


def outdated_note(prompt_ids: Sequence[str]) -> str:
    """Returns what to say of prompts whose other scores are of another text."""
    named = ", ".join(prompt_ids[:3]) + (", ..." if len(prompt_ids) > 3 else "")
    what = "read otherwise than before: the scores of other models are of the old text"
    return f"{len(prompt_ids)} prompts {what} ({named}); give them new ids, or score all again"


def read_scores_folder(
    folder: Path, class_names: Iterable[str], faults: list[Fault]
) -> ScoresFolder:
    """Returns what is there; a folder or a file that is not there is no fault.

    Args:
        folder: the plan folder.
        class_names: the classes that scores are to be added of.
        faults: grows by what is wrong.
    """
    if is_there(folder) and not is_folder(folder):
        faults.append(Fault(shown(folder), "", "is not a folder", "name a plan folder"))
        return ScoresFolder(folder, (), (), ())
    try:
        check_writable(folder / SCORES_FILE)
    except InputError as error:
        faults += error.faults
    prompts: tuple[PromptLine, ...] = ()
    if is_there(folder / PROMPTS_FILE):
        prompts, _ = read_prompts(folder / PROMPTS_FILE, faults)
    notes = _question_notes(folder, set(class_names), faults)
    return ScoresFolder(folder, _rows(folder / SCORES_FILE, faults), prompts, notes)


def write_scores(
    there: ScoresFolder, rows: Sequence[ScoreRow], prompts: Iterable[PromptLine]
) -> tuple[Path, Path]:
    """Writes prompts.jsonl and scores.csv, each whole or not at all; returns their paths.

    Raises:
        InputError: the folder cannot be written to.
    """
    prompts_path, scores_path = there.folder / PROMPTS_FILE, there.folder / SCORES_FILE
    by_id = {prompt.prompt_id: prompt for prompt in (*there.prompts, *prompts)}
    ordered = sorted(by_id.values(), key=lambda p: (p.class_name or "", p.prompt_id))
    if ordered:
        write_text(prompts_path, "".join(_prompt_line(prompt) for prompt in ordered))
    write_text(scores_path, _scores_text(there.rows, rows))
    return prompts_path, scores_path


def _prompt_line(prompt: PromptLine) -> str:
    data = prompt.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    given = data.get("reference")
    if isinstance(given, list):
        data["reference"] = [_plain(value) for value in given]
    elif given is not None:
        data["reference"] = _plain(given)
    return json.dumps(data, ensure_ascii=False) + "\n"


def _plain(value: object) -> object:
    """Returns a whole number as it was written: 60, not 60.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _rows(path: Path, faults: list[Fault]) -> tuple[Cells, ...]:
    """Returns the rows of a scores file as they stand in it; faults where one is faulty."""
    if not is_there(path):
        return ()
    n_before = len(faults)
    read_prompt_scores(path, None, 1.0, faults)
    text = read_text(path, MAX_PROMPTS_BYTES, []) if len(faults) == n_before else None
    if text is None:
        return ()
    known = dict.fromkeys(header(text), False)
    return tuple(cells for _, cells in parse_rows(text, shown(path), known, []))


def _scores_text(old: Iterable[Cells], new: Sequence[ScoreRow]) -> str:
    replaced = {(row.prompt_id, row.model_name) for row in new}
    kept = [cells for cells in old if (cells["prompt_id"], cells["model_name"]) not in replaced]
    rows = [*kept, *(_cells(row) for row in new)]
    rows.sort(key=_order)
    signals = {name for cells in rows for name, value in cells.items() if value}
    names = [*_COLUMNS, *sorted(name for name in signals if name.startswith(SIGNAL_PREFIX))]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([cells.get(name, "") for name in names] for cells in rows)
    return out.getvalue()


def _order(cells: Cells) -> tuple[str, str, str, int]:
    sample = int(float(cells.get("sample") or 1))
    return cells["class"], cells["prompt_id"], cells["model_name"], sample


def _cells(row: ScoreRow) -> Cells:
    return {
        "prompt_id": row.prompt_id,
        "class": row.class_name,
        "model_name": row.model_name,
        "sample": str(row.sample),
        "score": _figure(row.score),
        "input_tokens": str(row.input_tokens),
        "output_tokens": str(row.output_tokens),
        **{SIGNAL_PREFIX + name: _figure(value) for name, value in row.signals.items()},
    }


def _figure(value: float) -> str:
    return f"{value:.{_DIGITS}g}"


def _question_notes(folder: Path, class_names: set[str], faults: list[Fault]) -> tuple[str, ...]:
    """Returns what a question.yaml that is there lacks to use the scores; it may be unfinished."""
    path = folder / QUESTION_FILE
    question = read_yaml(path, faults) if is_there(path) else None
    if not isinstance(question, Mapping):
        return ()
    if question.get("score_scale", 1) not in (1, 1.0):
        what = f"divides scores by {question['score_scale']}, but those collected go up to 1"
        faults.append(Fault(shown(path), "score_scale", what, "set score_scale: 1, or remove it"))
    notes = []
    classes = question.get("classes")
    entries = classes if isinstance(classes, list) else []
    known = {str(entry.get("name")) for entry in entries if isinstance(entry, Mapping)}
    strange = sorted(class_names - known)
    if strange:
        notes.append(f"{shown(path)} has no class {', '.join(strange)}: add it before planning")
    for key, name in (("scores", SCORES_FILE), ("prompts", PROMPTS_FILE)):
        if question.get(key) != name:
            notes.append(f"{shown(path)} does not name the file: add '{key}: {name}'")
    return tuple(notes)
