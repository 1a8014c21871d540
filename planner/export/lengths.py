"""The longest request that a pool may get, as far as the question says: what it must have room for.

Notation (tokens, one request)
    m, v     mean and coefficient of variation of a length that is only known so
    longest  the stated maximum where there is one; else m (1 + 4 v), beyond which less than one
             request in a thousand lies at the lengths that are usual (log-normal, v <= 1)
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.spec.inputs import QuestionFiles
from planner.spec.question import ClassScore, Lengths

DEVIATIONS = 4.0


def longest_tokens(files: QuestionFiles, class_name: str, scored_as: str) -> int:
    """Returns the tokens of the longest request of a class to a model, prompt and answer.

    0 where the question says nothing of it.
    """
    asked = next(c for c in files.question.classes if c.name == class_name)
    stated = [_stated(files, lengths) for lengths in (asked.input_tokens, asked.output_tokens)]
    scored = [
        [s if s is not None else known for s, known in zip(stated, each, strict=True)]
        for each in _known(files, class_name, scored_as)
    ]
    pairs = scored or [[s or 0.0 for s in stated]]
    prompt, answer = max(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
    traced = [  # a blank length is one of its class
        (row.input_tokens or prompt) + (row.output_tokens or answer)
        for row in files.trace
        if row.class_name in (None, class_name)
    ]
    return round(max([sum(pair) for pair in pairs] + traced))


def _stated(files: QuestionFiles, lengths: Lengths | None) -> float | None:
    if lengths is None:
        return None
    if lengths.file is not None:
        values = files.lengths.get(lengths.file)
        return float(values.max()) if values is not None and values.size else None
    if lengths.max is not None:
        return lengths.max
    spread = lengths.cv if lengths.distribution == "lognormal" else 0.0
    return _beyond(lengths.mean or 0.0, spread)


def _known(files: QuestionFiles, class_name: str, scored_as: str) -> Iterator[tuple[float, float]]:
    """Yields longest prompt and answer as the scores know them."""
    for row in files.class_scores:
        if (row.class_name, row.model_name) == (class_name, scored_as):
            yield _beyond(row.input_tokens_mean, row.input_tokens_cv), _longest_answer(row)
    table = files.prompts
    if table is None or class_name not in table.classes or scored_as not in table.model_names:
        return
    rows = (table.class_code == table.classes.index(class_name)) & (
        table.model_code == table.model_names.index(scored_as)
    )
    if rows.any():
        yield float(table.input_tokens[rows].max()), float(table.output_tokens[rows].max())


def _longest_answer(row: ClassScore) -> float:
    known = [row.output_tokens_max, row.output_tokens_p99, row.output_tokens_p95]
    beyond = _beyond(row.output_tokens_mean, row.output_tokens_cv)
    return row.output_tokens_max or max([beyond, *(k for k in known if k is not None)])


def _beyond(mean: float, cv: float) -> float:
    return mean * (1.0 + DEVIATIONS * cv)
