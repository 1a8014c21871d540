"""Class means: the quality and the lengths that a router which knows only the class can reach.

Routing on a prompt's own recorded score would be planning on luck of one sample; so scores of
single prompts become class means, shrunk and compared fairly, before anything is decided. A model
that was never scored on a class has none there, although planner.quality.shrink can guess one: a
router may fall back on a guess, but a plan would rent machines for it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from planner.quality.lengths import (
    PLANNED,
    Nodes,
    lognormal_nodes,
    observed_nodes,
    quantile_nodes,
)
from planner.quality.scores import scores_of
from planner.quality.shrink import shrunk_means, wilson
from planner.spec.arrays import FloatArray
from planner.spec.base import Origin
from planner.spec.inputs import PromptTable, QuestionFiles
from planner.spec.question import ClassScore, Lengths, RequestClass
from planner.spec.router import ClassMeans

_LEVELS = (0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class ClassModel:
    """What one model is worth on one class: mean score in [0, 1] and token counts."""

    score: float
    low: float  # 95 % interval of the score
    high: float
    input_tokens: FloatArray  # (n_in,) equally likely
    output_tokens: FloatArray  # (n_out,) equally likely
    origin: Origin


def class_models(
    files: QuestionFiles, nodes: Nodes = PLANNED, model_names: Collection[str] | None = None
) -> dict[tuple[str, str], ClassModel]:
    """Returns, by (class name, model name), the mean score and the token counts.

    Args:
        files: the question and the tables that it names.
        nodes: how finely the distributions of lengths are cut.
        model_names: of these alone; None: of all that were scored. Their scores are compared with
            those of all models either way.
    """
    found: dict[tuple[str, str], ClassModel] = {}
    scores = scores_of(files)
    means = None if scores is None else shrunk_means(scores)
    for cls in files.question.classes:
        recorded = _recorded_inputs(files, cls, nodes.n_input)
        for row in files.class_scores:
            if row.class_name == cls.name:
                found[cls.name, row.model_name] = _from_row(row, files, cls, recorded, nodes)
        if files.prompts is not None and means is not None and cls.name in files.prompts.classes:
            made = _from_prompts(files.prompts, means, files, cls, recorded, nodes, model_names)
            found.update(made)
    return found


def oracle_quality(files: QuestionFiles, class_name: str, model_names: set[str]) -> float | None:
    """Returns the mean of each prompt's best recorded score among models: a marked reference only.

    It is mostly luck of one sample: no router can reach it, and no plan is built on it.
    """
    table = files.prompts
    if table is None or class_name not in table.classes:
        return None
    codes = [i for i, name in enumerate(table.model_names) if name in model_names]
    usable = np.isin(table.model_code, codes)
    chosen = usable & (table.class_code == table.classes.index(class_name))
    if not chosen.any():
        return None
    best = np.full(int(table.prompt_code.max()) + 1, -np.inf)
    np.maximum.at(best, table.prompt_code[chosen], table.score[chosen])
    return float(best[np.isfinite(best)].mean()) / files.question.score_scale


def _from_row(
    row: ClassScore,
    files: QuestionFiles,
    cls: RequestClass,
    recorded: FloatArray | None,
    nodes: Nodes,
) -> ClassModel:
    known = {
        level: value
        for level, value in zip(
            _LEVELS,
            (
                row.output_tokens_p10,
                row.output_tokens_p25,
                row.output_tokens_p50,
                row.output_tokens_p75,
                row.output_tokens_p90,
                row.output_tokens_p95,
                row.output_tokens_p99,
                row.output_tokens_max,
            ),
            strict=True,
        )
        if value is not None
    }
    mean, cv = row.output_tokens_mean, row.output_tokens_cv
    if len(known) >= 3:
        output = quantile_nodes(list(known), list(known.values()), mean, nodes.n_output)
    else:
        output = lognormal_nodes(mean, cv, nodes.n_output, row.output_tokens_max)
    inputs = recorded
    if inputs is None:
        inputs = lognormal_nodes(row.input_tokens_mean, row.input_tokens_cv, nodes.n_input)
    score = row.score / files.question.score_scale
    low, high = wilson(np.array(score), np.array(float(row.n_prompts)))
    return ClassModel(
        score,
        float(low),
        float(high),
        _stated(cls.input_tokens, files, nodes.n_input, inputs),
        _stated(cls.output_tokens, files, nodes.n_output, output),
        row.origin,
    )


def _from_prompts(
    table: PromptTable,
    means: ClassMeans,
    files: QuestionFiles,
    cls: RequestClass,
    recorded: FloatArray | None,
    nodes: Nodes,
    model_names: Collection[str] | None,
) -> dict[tuple[str, str], ClassModel]:
    c = table.classes.index(cls.name)
    in_class = table.class_code == c
    found = {}
    for code, model_name in enumerate(table.model_names):
        if model_names is not None and model_name not in model_names:
            continue
        rows = in_class & (table.model_code == code)
        if not rows.any():
            continue
        inputs = recorded
        if inputs is None:
            inputs = observed_nodes(table.input_tokens[rows], nodes.n_input)
        output = observed_nodes(np.maximum(table.output_tokens[rows], 1.0), nodes.n_output)
        found[cls.name, model_name] = ClassModel(
            float(means.mean[c, code]),
            float(means.low[c, code]),
            float(means.high[c, code]),
            _stated(cls.input_tokens, files, nodes.n_input, inputs),
            _stated(cls.output_tokens, files, nodes.n_output, output),
            "measured",
        )
    return found


def _recorded_inputs(files: QuestionFiles, cls: RequestClass, n: int) -> FloatArray | None:
    """Returns the prompt lengths of a class in the trace; None where it has none.

    Traffic knows its prompts better than a test set does. Rows without a class tell something
    only where there is one class.
    """
    names = {cls.name, None} if len(files.question.classes) == 1 else {cls.name}
    tokens = [r.input_tokens for r in files.trace if r.class_name in names and r.input_tokens]
    return observed_nodes(np.array(tokens, dtype=np.float64), n) if tokens else None


def _stated(
    lengths: Lengths | None, files: QuestionFiles, n: int, otherwise: FloatArray
) -> FloatArray:
    """Returns the lengths that the question states for a class, else the other ones."""
    if lengths is None:
        return otherwise
    if lengths.file is not None:
        return observed_nodes(files.lengths[lengths.file], n)
    assert lengths.mean is not None  # Lengths has either a mean or a file
    cv = 0.0 if lengths.distribution == "constant" else lengths.cv
    return lognormal_nodes(lengths.mean, cv, n, lengths.max)
