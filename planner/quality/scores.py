"""What was measured: the score of every model on every prompt, as one grid with gaps.

Notation
    N     prompts, n              C     classes, c              M     models, m
    a cell is one (prompt, model); NaN in it means that this model never answered this prompt

Two prompts with the same text up to case and white space are one prompt that was asked twice. They
share a `group`, and whatever learns from some prompts and is judged on others must keep a group
on one side: a duplicate on the other side would be a label seen in advance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from planner.spec.inputs import PromptTable, QuestionFiles


@dataclass(frozen=True)
class Scores:
    """What was measured: a row per prompt, a column per model."""

    class_names: tuple[str, ...]
    model_names: tuple[str, ...]
    prompt_ids: tuple[str, ...]  # (N,)
    class_code: IntArray  # (N,) indexes class_names
    score: FloatArray  # (N, M) in [0, 1], mean over repeated samples; NaN: not scored
    n_samples: IntArray  # (N, M) answers behind a score; 0: not scored
    input_tokens: FloatArray  # (N,)
    output_tokens: FloatArray  # (N, M) at least 1, mean over repeated samples; NaN: not scored
    signals: Mapping[str, FloatArray]  # (N, M) each; larger: trust the answer more; NaN: absent
    text: tuple[str, ...] | None  # (N,) None without a prompts file; "": a prompt without text
    group: IntArray  # (N,) equal numbers: the same prompt

    @property
    def n_prompts(self) -> int:
        """Returns the number of prompts N."""
        return len(self.prompt_ids)

    @property
    def n_classes(self) -> int:
        """Returns the number of classes C."""
        return len(self.class_names)

    @property
    def n_models(self) -> int:
        """Returns the number of models M."""
        return len(self.model_names)

    def take(self, rows: IntArray | BoolArray) -> Scores:
        """Returns some of the prompts, by index or mask; classes, models and groups keep theirs."""
        kept = np.arange(self.n_prompts)[rows]
        return Scores(
            self.class_names,
            self.model_names,
            tuple(self.prompt_ids[i] for i in kept),
            self.class_code[kept],
            self.score[kept],
            self.n_samples[kept],
            self.input_tokens[kept],
            self.output_tokens[kept],
            {name: values[kept] for name, values in self.signals.items()},
            None if self.text is None else tuple(self.text[i] for i in kept),
            self.group[kept],
        )


def make_scores(
    class_names: Sequence[str],
    model_names: Sequence[str],
    class_code: IntArray,
    score: FloatArray,
    *,
    output_tokens: FloatArray | None = None,
    input_tokens: FloatArray | None = None,
    text: Sequence[str] | None = None,
    signals: Mapping[str, FloatArray] | None = None,
    n_samples: IntArray | None = None,
    prompt_ids: Sequence[str] | None = None,
) -> Scores:
    """Returns scores from arrays; what is left out is one token, one sample, a numbered prompt.

    Args:
        class_names: the classes that class_code indexes.
        model_names: one for each column of score.
        class_code: (N,).
        score: (N, M) in [0, 1]; NaN where a model was not scored.
        output_tokens: (N, M); fewer than 1 count as 1, cells that are not scored are ignored.
        input_tokens: (N,).
        text: (N,) what the prompts say; "" where one is not known.
        signals: (N, M) by name; larger means: trust the answer more.
        n_samples: (N, M) how many answers a score is the mean of.
        prompt_ids: (N,) distinct.

    Raises:
        ValueError: shapes disagree, a score is outside [0, 1], or a scored cell has no tokens.
    """
    score = np.asarray(score, dtype=np.float64)
    scored = ~np.isnan(score)
    n_prompts = score.shape[0]
    tokens = np.ones(score.shape) if output_tokens is None else np.asarray(output_tokens, float)
    counted = np.ones(score.shape) if n_samples is None else np.asarray(n_samples)
    inputs = np.ones(n_prompts) if input_tokens is None else np.asarray(input_tokens, float)
    ids = [f"p{i:06d}" for i in range(n_prompts)] if prompt_ids is None else prompt_ids
    told = {name: np.asarray(v, float) for name, v in (signals or {}).items()}
    texts = [""] * n_prompts if text is None else text
    rows = {"class_code": class_code, "input_tokens": inputs, "text": texts, "prompt_ids": ids}
    grids = {"score": score, "output_tokens": tokens, "n_samples": counted, **told}
    _check_sizes((n_prompts, len(model_names)), rows, grids)
    made = Scores(
        tuple(class_names),
        tuple(model_names),
        tuple(ids),
        np.asarray(class_code, dtype=np.int64),
        score,
        np.where(scored, counted, 0).astype(np.int64),
        inputs,
        np.where(scored, np.maximum(tokens, 1.0), np.nan),
        told,
        None if text is None else tuple(text),
        _groups(ids, texts),
    )
    _check_values(made, scored)
    return made


def _check_sizes(
    grid: tuple[int, int], rows: Mapping[str, Sized], grids: Mapping[str, FloatArray | IntArray]
) -> None:
    """Returns when there is an entry for each prompt, or for each prompt and model."""
    for name, row in rows.items():
        if len(row) != grid[0]:
            raise ValueError(f"{name} must have {grid[0]} entries, got {len(row)}")
    for name, values in grids.items():
        if values.shape != grid:
            raise ValueError(f"{name} must be {grid[0]} x {grid[1]}, got {values.shape}")


def _check_values(scores: Scores, scored: BoolArray) -> None:
    """Returns when what is in the arrays can be a measurement."""
    codes, seen = scores.class_code, scores.score[scored]
    if codes.size and not 0 <= codes.min() <= codes.max() < scores.n_classes:
        raise ValueError("class_code must index class_names")
    if ((seen < 0.0) | (seen > 1.0)).any():
        raise ValueError(f"scores must lie in [0, 1], got {seen.min()} to {seen.max()}")
    if np.isnan(scores.output_tokens[scored]).any():
        raise ValueError("output_tokens must be a number wherever there is a score")
    if (scores.n_samples[scored] < 1).any():
        raise ValueError("n_samples must be at least 1 wherever there is a score")


def scores_of(files: QuestionFiles) -> Scores | None:
    """Returns the scores of a question's scores.csv; None where it has class scores instead.

    Repeated samples of a prompt are averaged: score, output tokens and each signal.
    """
    table = files.prompts
    if table is None:
        return None
    n, m = len(table.prompt_ids), len(table.model_names)
    cell = table.prompt_code * m + table.model_code
    n_samples = np.bincount(cell, minlength=n * m).reshape(n, m)
    class_code = np.zeros(n, dtype=np.int64)
    class_code[table.prompt_code] = table.class_code
    rows = np.bincount(table.prompt_code, minlength=n)
    return make_scores(
        table.classes,
        table.model_names,
        class_code,
        _mean(cell, table.score / files.question.score_scale, (n, m)),
        output_tokens=_mean(cell, np.maximum(table.output_tokens, 1.0), (n, m)),
        input_tokens=np.bincount(table.prompt_code, table.input_tokens, n) / rows,
        text=table.text,
        signals=_signals(table, cell, (n, m)),
        n_samples=n_samples,
        prompt_ids=table.prompt_ids,
    )


def _signals(table: PromptTable, cell: IntArray, grid: tuple[int, int]) -> dict[str, FloatArray]:
    """Returns each signal as a grid, blank cells left out of its means."""
    found = {}
    for name, values in table.signals.items():
        given = ~np.isnan(values)
        found[name] = _mean(cell[given], values[given], grid)
    return found


def _mean(cell: IntArray, values: FloatArray, grid: tuple[int, int]) -> FloatArray:
    """Returns the mean of the values of each cell, NaN in cells without any."""
    size = grid[0] * grid[1]
    count = np.bincount(cell, minlength=size)
    total = np.bincount(cell, values, size)
    with np.errstate(invalid="ignore"):  # 0/0 is the NaN that is wanted
        return (total / count).reshape(grid)


def group_key(prompt_id: str, text: str) -> str:
    """Returns what makes a prompt the same as another: its text, else its id."""
    words = " ".join(text.casefold().split())
    return f"text:{words}" if words else f"id:{prompt_id}"


def _groups(prompt_ids: Sequence[str], texts: Sequence[str]) -> IntArray:
    """Returns a number for each prompt, equal for equal keys, in order of first sight, (N,)."""
    number: dict[str, int] = {}
    codes = [
        number.setdefault(group_key(prompt_id, text), len(number))
        for prompt_id, text in zip(prompt_ids, texts, strict=True)
    ]
    return np.array(codes, dtype=np.int64)
