"""A question with some of its values changed, written with its comments and all else as it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from planner.errors import Fault, InputError
from planner.files.faults import build
from planner.files.question import QUESTION_FILE
from planner.files.text import MAX_YAML_BYTES, is_there, read_text, shown
from planner.files.write import write_text
from planner.files.yaml_edits import Edit, Key, edited_yaml
from planner.files.yamls import parse_yaml
from planner.spec.question import Question, Schedule, Trace

Value = float | dict[str, object]


def write_changed(
    folder: Path, path: Path, changes: Sequence[tuple[tuple[Key, ...], Value]]
) -> list[str]:
    """Writes the question of a folder, with changes, to a path; returns what is missing beside it.

    That is the files which the question names. A path with just that content is left alone.

    Raises:
        InputError: the question cannot be read, a change makes no question, or the path cannot be
            written to.
    """
    faults: list[Fault] = []
    text = read_text(folder / QUESTION_FILE, MAX_YAML_BYTES, faults)
    if text is None:
        raise InputError(faults)
    new = edited_yaml(text, [Edit(*change) for change in changes])
    data = parse_yaml(new, shown(path), faults)
    question = None if data is None else build(Question, data, shown(path), faults)
    if question is None:
        raise InputError(faults)
    if not (is_there(path) and read_text(path, MAX_YAML_BYTES, []) == new):
        write_text(path, new)
    return [name for name in _named(question) if not is_there(path.parent / name)]


def _named(question: Question) -> list[str]:
    """Returns the files that a question names."""
    arrivals, periods = question.arrivals, question.periods
    named = [question.scores, question.class_scores, question.prompts]
    named.append(arrivals.file if isinstance(arrivals, Schedule) else None)
    named.append(arrivals.trace if isinstance(arrivals, Trace) else None)
    named.append(None if periods is None else periods.file)
    for cls in question.classes:
        named += [x.file for x in (cls.input_tokens, cls.output_tokens) if x is not None]
    return [name for name in dict.fromkeys(named) if name is not None]
