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

from planner.quality.shrink import wilson
from planner.steady import student_t

NEAR = 0.1

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
    low, high = wilson(np.array(share), np.array(float(x.size)))
    gap = x - y
    spread = float(gap.std(ddof=1)) / sqrt(x.size) if x.size > 1 else None
    half = None if spread is None else student_t(x.size - 1) * spread
    bias = float(gap.mean())
    return JudgeAgreement(
        n_labelled=n_labelled,
        n_compared=x.size,
        is_graded=is_graded,
        agreement=share,
        agreement_low=float(low),
        agreement_high=float(high),
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
