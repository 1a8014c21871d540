"""Cascades as further columns of arrays that have one for each model, to judge routing with them.

fold k     cascades are proven on the other folds alone, thresholds, scores and costs included
column j   the j-th cascade of the prompt's class in its fold: what the other folds expect of
           it, and what it scores and costs on this prompt
none       where a class has fewer cascades the column repeats that of the first model, which
           offers nothing new; where a prompt lacks what a cascade needs, it does as expected
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.quality.cascade import (
    CascadeOption,
    played_cost,
    played_score,
    proven_cascades,
    signals_of,
)
from planner.quality.folds import fold_of
from planner.quality.scores import Scores
from planner.spec.arrays import FloatArray


@dataclass(frozen=True, eq=False)
class RouteArrays:
    """What is believed and what happens for each prompt and each way to answer it, (N, R) each."""

    quality_hat: FloatArray
    cost_hat: FloatArray
    score: FloatArray
    cost: FloatArray


def with_cascades(
    scores: Scores, usd_per_token: FloatArray, single: RouteArrays, seed: int = 0
) -> RouteArrays:
    """Returns the arrays with a column more for each proven cascade that a class has at most.

    Args:
        scores: what was measured.
        usd_per_token: (C, M) as for `proven_cascades`.
        single: (N, M) of the models alone, believed values cross-fitted.
        seed: of folds and resampling.
    """
    fold = fold_of(scores, seed=seed)
    placed = []
    for k in np.unique(fold).tolist():
        n_of_class = [0] * scores.n_classes
        for option in proven_cascades(scores.take(fold != k), usd_per_token, seed):
            c = scores.class_names.index(option.class_name)
            placed.append((k, c, n_of_class[c], option))
            n_of_class[c] += 1
    n_columns = max((column + 1 for _, _, column, _ in placed), default=0)
    names = ("quality_hat", "cost_hat", "score", "cost")
    added = {name: np.repeat(getattr(single, name)[:, :1], n_columns, axis=1) for name in names}
    for k, c, column, option in placed:
        rows = np.flatnonzero((fold == k) & (scores.class_code == c))
        for name, values in _column(scores.take(rows), usd_per_token[c], option).items():
            added[name][rows, column] = values
    return RouteArrays(**{name: np.hstack([getattr(single, name), added[name]]) for name in names})


def _column(
    scores: Scores, usd_per_token: FloatArray, option: CascadeOption
) -> dict[str, FloatArray]:
    """Returns the four columns of a cascade on prompts that it was not proven on, (n,) each."""
    first, second = (scores.model_names.index(name) for name in (option.first, option.second))
    signal = signals_of(scores)[option.signal][:, first]
    known = ~np.isnan(scores.score[:, [first, second]]).any(axis=1) & ~np.isnan(signal)
    cost = scores.output_tokens * usd_per_token
    expected_cost = usd_per_token[first] * option.first_output_tokens.mean()
    per_escalated = usd_per_token[second] * option.second_output_tokens.mean()
    expected_cost += option.escalated_ratio * per_escalated
    escalated = signal < option.below
    score = played_score(scores.score, first, second, escalated)
    paid = played_cost(cost, first, second, escalated)
    return {
        "quality_hat": np.full(known.size, option.quality),
        "cost_hat": np.full(known.size, expected_cost),
        "score": np.where(known, score, option.quality),
        "cost": np.where(known, paid, expected_cost),
    }
