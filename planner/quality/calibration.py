"""How well estimates fit what happened: calibration of qualities, ranking, and lengths of answers.

Notation
    p_nm   believed quality of model m on prompt n      y_nm   realised score; NaN: not scored
    L_nm   realised output tokens                       l_nm   predicted ones

    ECE    sum over bins b of (cells in b / all cells) |mean p - mean y in b|, ten equal bins of p
    AUC    chance that of two prompts, one scored at least 1/2 and one below, the estimate ranks
           them rightly; ties count half

An ECE is never zero, even for the truth: the mean of a bin wavers by its standard error s_b, so
that sum of (cells / all) s_b sqrt(2 / pi) is what luck alone gives. AUC says how well prompts are
ranked by difficulty, which moves no route: only differences between models do.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray

N_BINS = 10


@dataclass(frozen=True)
class Bin:
    """The scored cells whose believed quality falls into one tenth."""

    n_cells: int
    believed: float
    realised: float
    error: float  # standard error of realised - believed


@dataclass(frozen=True)
class Calibration:
    """How far believed qualities are from realised ones."""

    ece: float
    ece_by_luck: float  # what the truth itself would show on so many cells
    brier: float
    bins: tuple[Bin, ...]  # from low to high, empty ones left out


@dataclass(frozen=True)
class LengthFit:
    """How well the answers' lengths of one model are predicted."""

    total_ratio: float  # predicted / realised tokens over all prompts
    spearman: float
    mean_error_tokens: float  # mean absolute error
    class_mean_error_tokens: float  # the same of class means


def calibration_of(believed: FloatArray, score: FloatArray) -> Calibration:
    """Returns the calibration of believed qualities (N, M) on the cells that are scored."""
    scored = ~np.isnan(score)
    p, y = believed[scored], score[scored]
    bins, by_luck = [], 0.0
    tenth = np.minimum((p * N_BINS).astype(np.int64), N_BINS - 1)
    for b in np.unique(tenth):
        inside = tenth == b
        n_cells = int(inside.sum())
        error = float((y - p)[inside].std() / np.sqrt(n_cells))
        bins.append(Bin(n_cells, float(p[inside].mean()), float(y[inside].mean()), error))
        by_luck += n_cells / p.size * error * sqrt(2.0 / pi)
    ece = sum(b.n_cells / p.size * abs(b.believed - b.realised) for b in bins)
    return Calibration(ece, by_luck, float(((p - y) ** 2).mean()), tuple(bins))


def auc_of(estimate: FloatArray, score: FloatArray) -> float:
    """Returns the AUC of estimates (n,) for scores (n,) of at least 1/2; NaN without both sorts."""
    scored = ~np.isnan(score)
    good = score[scored] >= 0.5
    n_good, n_bad = int(good.sum()), int((~good).sum())
    if not n_good or not n_bad:
        return np.nan
    above = ranks(estimate[scored])[good].sum() - n_good * (n_good + 1) / 2
    return float(above / (n_good * n_bad))


def length_fit_of(predicted: FloatArray, class_mean: FloatArray, realised: FloatArray) -> LengthFit:
    """Returns how well tokens (n,) of one model are predicted; NaN realised: not answered."""
    known: BoolArray = ~np.isnan(realised)
    tokens = realised[known]
    return LengthFit(
        float(predicted[known].sum() / tokens.sum()),
        spearman(predicted[known], tokens),
        float(np.abs(predicted[known] - tokens).mean()),
        float(np.abs(class_mean[known] - tokens).mean()),
    )


def spearman(first: FloatArray, second: FloatArray) -> float:
    """Returns the rank correlation of two arrays (n,); NaN where one of them is constant."""
    a, b = (r - r.mean() for r in (ranks(first), ranks(second)))
    power = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / power if power > 0.0 else np.nan


def ranks(values: FloatArray) -> FloatArray:
    """Returns ranks from 1, (n,); equal values share the mean of theirs."""
    _, member, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - 0.5 * (count - 1))[member]
