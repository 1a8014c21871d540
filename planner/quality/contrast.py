"""Per-prompt terms: how a prompt's surface moves each model's score away from its class mean.

Only differences between models decide a route, so residuals are turned into their mean over the
models and the principal axes of what differs, and every such contrast gets as much shrinkage as
leaving out each prompt asks for; most contrasts of most fleets shrink to nothing, as class means
give almost all that can be had. Whether the terms are used at all is the gate's decision.

Notation
    N, M, F   prompts, models, features
    r (N, M)  residual: score minus the class mean of the other prompts; NaN: not scored
    V (M, M)  orthonormal: the first column is 1/sqrt(M), the others are the axes of differences
    z = r V   contrasts; b_k their ridge slopes, s_k in [0, 1] the slope of z_k on what it predicts
              for left-out prompts
    adjustment of a prompt with scaled features x:  x B V',   B = (s_1 b_1, ..., s_M b_M)
"""

from __future__ import annotations

import numpy as np

from planner.quality.features import scaled, scaling
from planner.quality.ridge import class_sums, fit_ridge
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.router import Contrast


def adjust(contrast: Contrast, features: FloatArray) -> FloatArray:
    """Returns what to add to the class means of prompts, (n, M), from features (n, F)."""
    return scaled(features, contrast.centre, contrast.scale) @ contrast.coefficient


def class_residual(
    score: FloatArray, class_code: IntArray, n_classes: int, group: IntArray
) -> FloatArray:
    """Returns scores (N, M) minus the class mean of the other groups; NaN where there is none."""
    scored = np.isfinite(score)
    value = np.where(scored, score, 0.0)
    _, cell = np.unique(class_code + n_classes * group, return_inverse=True)
    total, count = (
        class_sums(part, class_code, n_classes)[class_code]
        - class_sums(part, cell, int(cell.max(initial=-1)) + 1)[cell]
        for part in (value, scored.astype(np.float64))
    )
    return score - np.where(count > 0.0, total, np.nan) / np.maximum(count, 1.0)


def fit_contrast(features: FloatArray, residual: FloatArray, group: IntArray) -> Contrast:
    """Returns per-prompt terms from features (N, F) and residuals (N, M); NaN: not scored.

    Raises:
        ValueError: nothing is scored.
    """
    used = np.isfinite(residual).any(axis=1)
    if not used.any():
        raise ValueError("no score at all to learn per-prompt terms from")
    centre, scale = scaling(features[used])
    moved = _filled(residual[used])
    basis = _basis(moved)
    contrasts = moved @ basis
    ridge = fit_ridge(scaled(features[used], centre, scale), contrasts, group[used])
    earned = _earned(contrasts, ridge.left_out)
    return Contrast(centre, scale, (ridge.slope * earned) @ basis.T)


def _filled(residual: FloatArray) -> FloatArray:
    """Returns residuals whose missing cells are the mean of the prompt's known ones.

    A model that did not see a hard prompt must not look good on it: it is taken to be moved as the
    others were, which shrinks its differences to them, not its score, to nothing.
    """
    return np.where(np.isfinite(residual), residual, np.nanmean(residual, axis=1, keepdims=True))


def _basis(residual: FloatArray) -> FloatArray:
    """Returns V, (M, M): the mean over models, then the principal axes of their differences."""
    n_models = residual.shape[1]
    mean = np.full((n_models, 1), n_models**-0.5)
    differences = residual - residual.mean(axis=1, keepdims=True)
    spread = differences.T @ differences
    # The mean's own direction is lifted above all others, so that eigh puts it last.
    lifted = spread + (np.trace(spread) + 1.0) * (mean @ mean.T)
    vector = np.linalg.eigh(lifted)[1][:, ::-1]
    vector[:, :1] = mean
    return vector


def _earned(z: FloatArray, left_out: FloatArray) -> FloatArray:
    """Returns the share of each contrast's prediction that held-out prompts confirm, (K,)."""
    power = (left_out**2).sum(axis=0)
    slope = (z * left_out).sum(axis=0) / np.where(power > 0.0, power, 1.0)
    return np.clip(np.where(power > 0.0, slope, 0.0), 0.0, 1.0)
