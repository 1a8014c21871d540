"""Results of evaluation tools as rows of scores: what each format gives, and how it is told.

Notation of all formats: a prompt's id is '<class>/<id in the tool>', so that several tasks go into
one folder. Where a tool counted no tokens, they are its texts' characters over CHARS_PER_TOKEN,
which is marked in the notes: good for a first plan, not for sizing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from planner.errors import Fault, InputError
from planner.profile.collect.client import CHARS_PER_TOKEN
from planner.spec.answers import ScoreRow
from planner.spec.prompts import PromptLine

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._+-]+")
_MOST_CHARS = 80
_LONGEST_ID = 500
_HEAD_CHARS = 20_000


@dataclass(frozen=True)
class ImportOptions:
    """What the user says beyond the files; None: as the files say."""

    model_name: str | None = None
    class_name: str | None = None
    metric: str | None = None
    filter_name: str | None = None


@dataclass(frozen=True)
class Reading:
    """What some files of one format say."""

    rows: tuple[ScoreRow, ...] = ()
    prompts: tuple[PromptLine, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportedScores:
    """What all files say together; each answer once."""

    rows: tuple[ScoreRow, ...]
    prompts: tuple[PromptLine, ...]
    notes: tuple[str, ...]
    formats: Mapping[str, int]  # files by the name of their format
    left_out: tuple[str, ...]  # files of no format that is known


def estimated_tokens(text: str) -> int:
    """Returns about how many tokens a text has, at least 1."""
    return max(round(len(text) / CHARS_PER_TOKEN), 1)


def as_name(text: str) -> str | None:
    """Returns a name of a class or a model as planning files take it; None where nothing is left.

    Of a path such as meta-llama/Llama-3.1-8B the last part counts.
    """
    last = text.strip().rstrip("/").rsplit("/", 1)[-1]
    return _NOT_IN_NAMES.sub("-", last).lstrip("._+-")[:_MOST_CHARS] or None


def score_fault(file: str, at: str, value: object) -> Fault:
    """Returns the fault of a score that is none."""
    got = f"{value:g}" if isinstance(value, int | float) else repr(value)[:40]
    fix = "name another metric with --metric, or correct the file"
    return Fault(file, at, f"a score must be a number from 0 to 1, got {got}", fix)


def as_score(value: object) -> float | None:
    """Returns a score from 0 to 1; true and false are 1 and 0. None where it is none."""
    if isinstance(value, bool | int | float) and 0.0 <= value <= 1.0:
        return float(value)
    return None


def first_line(text: str) -> str:
    """Returns the first line of a file that is not blank, or as much of it as tells a format."""
    return text.lstrip("\ufeff \n\r\t")[:_HEAD_CHARS].split("\n", 1)[0]


def prompt_key(class_name: str, tool_id: object) -> str:
    """Returns the id of a prompt, of its class and its id in the tool."""
    return f"{class_name}/{_clean(str(tool_id)).strip()}"[:_LONGEST_ID]


def prompt_line(prompt_id: str, class_name: str, text: str, reference: str | None) -> PromptLine:
    """Returns a prompt as prompts.jsonl holds it."""
    return PromptLine.model_validate(
        {
            "prompt_id": prompt_id,
            "class": class_name,
            "text": _clean(text),
            "reference": None if reference is None else _clean(reference),
        }
    )


def _clean(text: str) -> str:
    """Returns a text that can be written as UTF-8: without halves of characters."""
    return text.encode("utf-8", "replace").decode("utf-8")


def together(
    readings: Iterable[Reading], formats: Mapping[str, int], left_out: Iterable[str]
) -> ImportedScores:
    """Returns what readings say together; of an answer given twice the last counts.

    Raises:
        InputError: there is no score at all.
    """
    rows: dict[tuple[str, str, int], ScoreRow] = {}
    prompts: dict[str, PromptLine] = {}
    notes: list[str] = []
    different: dict[str, None] = {}  # prompts with more than one text
    n_rows = 0
    for reading in readings:
        notes += reading.notes
        for row in reading.rows:
            rows[row.prompt_id, row.model_name, row.sample] = row
        n_rows += len(reading.rows)
        for prompt in reading.prompts:
            there = prompts.setdefault(prompt.prompt_id, prompt)
            if there.asked != prompt.asked:
                different[prompt.prompt_id] = None
    if n_rows > len(rows):
        notes.append(f"{n_rows - len(rows):,} answers are there twice: the last of each counts")
    if different:
        named = ", ".join(list(different)[:3]) + (", ..." if len(different) > 3 else "")
        what = f"{len(different):,} prompts differ between models (templates, examples): the first "
        notes.append(f"{what}of each is kept, got {named}")
    if not rows:
        fix = "name sample logs of lm-evaluation-harness, logs of OpenAI evals, or a wide table"
        raise InputError.single("import", "files", "no file holds a score", fix)
    return ImportedScores(
        tuple(rows.values()),
        tuple(prompts.values()),
        tuple(dict.fromkeys(notes)),
        formats,
        tuple(left_out),
    )
