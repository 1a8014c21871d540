"""Agreement: between the answers of one model to one prompt, and of a judge with people.

Notation: n answers judged by both; x the judge's scores, y the labels, in [0, 1]
    binary labels    x and y are cut at 1/2; agreement p = share of equal pairs;
                     kappa = (p - e) / (1 - e), e the agreement of two that draw by their own shares
    graded labels    agreement = share of pairs within NEAR; correlation of Pearson
    bias             mean of x - y, with its 95 % interval by Student's t (the judge is too kind
                     where it is above 0)

Reference: Cohen, "A coefficient of agreement for nominal scales", 1960.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TypeVar

import numpy as np

NEAR = 0.1
# Student's 97.5 % point: the exact values for few, a series for more degrees of freedom.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_Z = 1.959964

H = TypeVar("H", bound=Hashable)


@dataclass(frozen=True)
class JudgeAgreement:
    """How far a judge agrees with people; None where it is not defined."""

    n_labelled: int
    n_compared: int
    is_graded: bool
    agreement: float
    agreement_low: float
    agreement_high: float
    kappa: float | None  # of binary labels
    correlation: float | None  # of graded ones
    bias: float
    bias_low: float | None
    bias_high: float | None


def shares_agreeing(found: Sequence[H | None]) -> list[float]:
    """Returns for each of a prompt's samples the share of them with the same answer, itself too.

    Samples without an answer agree with none but count among the samples: (n,) in, (n,) out.
    """
    counts = Counter(found)
    return [0.0 if answer is None else counts[answer] / len(found) for answer in found]


def judge_agreement(
    judged: Sequence[float], labels: Sequence[float], n_labelled: int
) -> JudgeAgreement:
    """Returns how far a judge's scores (n,) agree with labels (n,) of the same answers.

    Args:
        judged: in [0, 1].
        labels: in [0, 1]; all 0 or 1: they are taken as wrong and right.
        n_labelled: all labels that there are, those of answers that were not judged included.

    Raises:
        ValueError: without a single pair.
    """
    x, y = np.array(judged, dtype=np.float64), np.array(labels, dtype=np.float64)
    if not x.size or x.shape != y.shape:
        raise ValueError("agreement needs at least one answer with both scores")
    is_graded = not np.isin(y, (0.0, 1.0)).all()
    equal = np.abs(x - y) <= NEAR + 1e-12 if is_graded else (x >= 0.5) == (y >= 0.5)
    share = float(equal.mean())
    low, high = _wilson(share, x.size)
    gap = x - y
    half = _t(x.size - 1) * float(gap.std(ddof=1)) / sqrt(x.size) if x.size > 1 else None
    bias = float(gap.mean())
    return JudgeAgreement(
        n_labelled=n_labelled,
        n_compared=x.size,
        is_graded=is_graded,
        agreement=share,
        agreement_low=low,
        agreement_high=high,
        kappa=None if is_graded else _kappa(x >= 0.5, y >= 0.5, share),
        correlation=_correlation(x, y) if is_graded else None,
        bias=bias,
        bias_low=None if half is None else bias - half,
        bias_high=None if half is None else bias + half,
    )


def _kappa(
    x: np.typing.NDArray[np.bool_], y: np.typing.NDArray[np.bool_], share: float
) -> float | None:
    """Returns Cohen's kappa; None where both give one and the same answer throughout."""
    by_chance = float(x.mean() * y.mean() + (1 - x.mean()) * (1 - y.mean()))
    return None if by_chance >= 1.0 else (share - by_chance) / (1.0 - by_chance)


def _correlation(
    x: np.typing.NDArray[np.float64], y: np.typing.NDArray[np.float64]
) -> float | None:
    if x.size < 2 or not np.ptp(x) or not np.ptp(y):
        return None
    return float(np.corrcoef(x, y)[0, 1])


def _wilson(share: float, n: int) -> tuple[float, float]:
    """Returns Wilson's 95 % interval of a share of n."""
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _t(n_free: int) -> float:
    """Returns Student's 97.5 % point for degrees of freedom (Cornish-Fisher from 11 on)."""
    if n_free <= len(_T):
        return _T[n_free - 1]
    g1 = (_Z**3 + _Z) / 4
    g2 = (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    return _Z + g1 / n_free + g2 / n_free**2
