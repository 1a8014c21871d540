"""How many tokens each model will answer a prompt with: a ridge on log lengths, totals kept.

Capacity is sized with totals, and the exponential of a mean logarithm is far below the mean (4 to
63 % on public data), so every class and model gets the factor that makes its total right, shrunk
to the factor of the model where a class has few prompts.

Notation
    n, c, m    prompt, class, model        x_n   scaled features, (F,)
    ln L_nm = level_cm + x_n slope_m + (x_n - mean of c) extra_cm + noise
               level_cm is shrunk to the model's, pseudo-count 5; extra_cm, what the slopes of a
               class differ by, is a ridge on what the common slopes leave over in left-out prompts
    p_nm       exp of what is predicted for n when n's group is left out
    f_cm = (sum_c L + 5 f_m mean p_m) / (sum_c p + 5 mean p_m),   f_m = sum L / sum p: smearing
    tokens_nm = sum_c w_nc clip(f_cm exp(ln L_nm of class c), shortest_m, longest_m)

References
    smearing: Duan, JASA 78 (1983) 605
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from planner.quality.features import scaled, scaling
from planner.quality.ridge import Levels, class_sums, fit_ridge
from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.router import AnswerLengths

_PSEUDO_COUNT = 5.0
_OWN_SLOPES = 100  # prompts of a class from which it has slopes of its own
_LARGEST_TABLE = 1 << 20  # cells


def predict(lengths: AnswerLengths, features: FloatArray, class_weight: FloatArray) -> FloatArray:
    """Returns tokens of answers, (n, M), from features (n, F) and class weights (n, C).

    A row of NaN weights is a class that nobody knows: it gets what is believed of the fleet.
    """
    x = scaled(features, lengths.centre, lengths.scale)
    unknown = np.isnan(class_weight[:, 0])
    if not unknown.any():
        return _mixed(lengths, x, class_weight)
    of_fleet = lengths.fleet_level * np.exp(x @ lengths.fleet_slope)
    tokens = _within(lengths, of_fleet)
    tokens[~unknown] = _mixed(lengths, x[~unknown], class_weight[~unknown])
    return tokens


def _mixed(lengths: AnswerLengths, x: FloatArray, weight: FloatArray) -> FloatArray:
    """Returns tokens, (n, M), of scaled features (n, F) by what each class predicts for them."""
    level, slope = lengths.level, lengths.slope
    used = weight.any(axis=0)
    if not used.all():
        level, slope, weight = level[used], slope[:, used], weight[:, used]
    slope = slope.reshape(x.shape[1], level.size)
    tokens = np.empty((x.shape[0], level.shape[1]))
    step = max(1, _LARGEST_TABLE // max(level.size, 1))
    for begin in range(0, x.shape[0], step):
        rows = slice(begin, begin + step)
        factor = np.exp(x[rows] @ slope)
        by_class = _within(lengths, level * factor.reshape(factor.shape[0], *level.shape))
        tokens[rows] = (weight[rows, None, :] @ by_class)[:, 0]
    return tokens


def _within(lengths: AnswerLengths, tokens: FloatArray) -> FloatArray:
    """Returns tokens (..., M) within the range that was seen."""
    return np.minimum(np.maximum(tokens, lengths.shortest), lengths.longest)


def fit_answer_lengths(
    features: FloatArray,
    class_code: IntArray,
    n_classes: int,
    output_tokens: FloatArray,
    group: IntArray,
) -> AnswerLengths:
    """Returns the law of answer lengths from features (N, F), classes and tokens (N, M), NaN apart.

    Raises:
        ValueError: a model has no answers at all.
    """
    known = np.isfinite(output_tokens)
    if not known.any(axis=0).all():
        raise ValueError("a model without answers has no lengths to learn from")
    n_models, n_features = output_tokens.shape[1], features.shape[1]
    centre, scale = scaling(features)
    level, fleet_level = np.empty((n_classes, n_models)), np.empty(n_models)
    slope = np.empty((n_features, n_classes, n_models))
    fleet_slope = np.empty((n_features, n_models))
    x = scaled(features, centre, scale)
    for models in _equal_columns(known):
        rows = known[:, models[0]]
        levels = Levels(class_code[rows], n_classes, _PSEUDO_COUNT)
        law = _fit_models(x[rows], output_tokens[np.ix_(rows, models)], group[rows], levels)
        level[:, models], slope[:, :, models], fleet_level[models], fleet_slope[:, models] = law
    shortest, longest = np.nanmin(output_tokens, axis=0), np.nanmax(output_tokens, axis=0)
    return AnswerLengths(centre, scale, level, slope, fleet_level, fleet_slope, shortest, longest)


class _Law(NamedTuple):
    """What is learned of K models that answered the same prompts."""

    level: FloatArray  # (C, K)
    slope: FloatArray  # (F, C, K)
    fleet_level: FloatArray  # (K,)
    fleet_slope: FloatArray  # (F, K)


def _fit_models(x: FloatArray, tokens: FloatArray, group: IntArray, levels: Levels) -> _Law:
    """Returns the law of models from scaled features (n, F) and tokens (n, K)."""
    log_tokens = np.log(tokens)
    common = fit_ridge(x, log_tokens, group, levels)
    level, left_out = common.level.copy(), common.left_out.copy()
    slope = np.repeat(common.slope[:, None], levels.n_classes, axis=1)
    for c in range(levels.n_classes):
        rows = np.flatnonzero(levels.code == c)
        if rows.size < _OWN_SLOPES:
            continue
        mean = x[rows].mean(axis=0)
        unexplained = log_tokens[rows] - common.left_out[rows]
        extra = fit_ridge(x[rows] - mean, unexplained, group[rows])
        slope[:, c] += extra.slope
        level[c] -= mean @ extra.slope
        left_out[rows] += extra.left_out
    by_class = np.exp(level) * _smearing(tokens, np.exp(left_out), levels)
    overall = tokens.sum(axis=0) / np.exp(common.left_out).sum(axis=0)
    return _Law(by_class, slope, np.exp(common.common) * overall, common.slope)


def _smearing(tokens: FloatArray, predicted: FloatArray, levels: Levels) -> FloatArray:
    """Returns the factors that keep totals by class and model, (C, K)."""
    overall = tokens.sum(axis=0) / predicted.sum(axis=0)
    prior = _PSEUDO_COUNT * predicted.mean(axis=0)
    realised, expected = (
        class_sums(part, levels.code, levels.n_classes) for part in (tokens, predicted)
    )
    factor: FloatArray = (realised + overall * prior) / (expected + prior)
    return factor


def _equal_columns(known: BoolArray) -> list[IntArray]:
    """Returns the models in sets that answered the very same prompts: they share one fit."""
    _, pattern = np.unique(known, axis=1, return_inverse=True)
    return [np.flatnonzero(pattern == p) for p in range(int(pattern.max()) + 1)]
