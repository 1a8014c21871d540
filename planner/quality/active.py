"""Which answers to score next, so that a plan's choices gain the most from what is learned.

Notation
    C, M      classes, models; a cell is one (class, model)
    m_cm      believed mean score of a cell                                           (C, M)
    v_cm      variance of that belief                                                 (C, M)
    s_cm      variance of one label of the cell                                       (C, M)
    p_cm      price of an answer in units of quality: its money over the money that a unit is worth
    w_c       share of the traffic, summing to 1                                      (C,)
    x_cm      share of a class that the plan sends to a model                         (C, M)

After k more labels the belief has variance 1 / (1/v + k/s); until then, the mean that they will
bring is a normal number around m with variance  t^2 = v - 1 / (1/v + k/s).  A class goes to the
model with the largest m - p.  With d the distance of a cell to its best rival, k labels of it
are worth

    G(k) = w_c t f(d / t),        f(z) = phi(z) - z Phi(-z)

units of quality over all traffic: what choosing again, after seeing them, gains on average (the
knowledge gradient). Where d is large, one label is worth nothing and a hundred may be worth a lot,
so G(k)/k is compared at its best k. Between models that a plan uses for the same class, its prices
make it indifferent: there d is 0. Where no choice could change, labels go where they narrow the
quality that the plan states, whose variance is the sum of (w_c x_cm)^2 v_cm.

Reference: Frazier, Powell, Dayanik, A Knowledge-Gradient Policy for Sequential Information
Collection (2008); the best of G(k)/k: Frazier, Powell, Paradoxes in Learning (2010).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from math import erfc
from typing import TYPE_CHECKING

import numpy as np

from planner.spec.arrays import FloatArray, IntArray

if TYPE_CHECKING:
    from planner.quality.scores import Scores

NEGLIGIBLE = 1e-6
"""Units of quality per label, over all traffic, below which no choice is expected to change."""


@dataclass(frozen=True)
class Beliefs:
    """What is believed of every cell, and what hangs on it."""

    mean: FloatArray  # (C, M)
    variance: FloatArray  # (C, M) of the belief
    label_variance: FloatArray  # (C, M) of one more label
    price: FloatArray  # (C, M) in units of quality; NaN: nobody may or can choose this model
    weight: FloatArray  # (C,)
    share: FloatArray | None = None  # (C, M) of a plan; None: each class takes its best model


@dataclass(frozen=True)
class Request:
    """One answer to score."""

    prompt_id: str
    class_name: str
    model_name: str


@dataclass(frozen=True)
class Allocation:
    """How many labels each cell should get, and what that is worth."""

    n_labels: IntArray  # (C, M)
    worth: FloatArray  # (C, M) expected gain in units of quality over all traffic, cell by cell
    sd_before: float  # standard deviation of the quality that the plan states
    sd_after: float


def allocate(beliefs: Beliefs, n_labels: int) -> Allocation:
    """Returns the cells that the next labels should go to, one greedy step after the other."""
    distance, share = distances(beliefs)
    variance = np.where(np.isfinite(beliefs.mean - beliefs.price), beliefs.variance, 0.0)
    known = beliefs.label_variance
    weight = np.broadcast_to(beliefs.weight[:, None], variance.shape)
    per_label, best_k = _offers(distance, variance, known, weight, n_labels)
    given = np.zeros(variance.shape, dtype=np.int64)
    while (left := n_labels - int(given.sum())) > 0 and variance.any():
        if per_label.max() > NEGLIGIBLE:
            at = _largest(per_label)
            k = min(int(best_k[at]), left)
        else:
            at = _largest((weight * share) ** 2 * (variance - learned(variance, known, 1)))
            k = 1
        given[at] += k
        variance[at] = learned(variance[at], known[at], k)
        per_label[at], best_k[at] = _offers(
            distance[at], variance[at], known[at], weight[at], n_labels
        )
    return _allocation(beliefs, given, distance, share)


def distances(beliefs: Beliefs) -> tuple[FloatArray, FloatArray]:
    """Returns how far each cell is from its best rival, and the share of its class, (C, M) each.

    NaN where there is nothing to choose, or nobody to choose it over.
    """
    value = beliefs.mean - beliefs.price
    choosable = np.isfinite(value)
    worst = np.where(choosable, value, -np.inf)
    share = beliefs.share
    if share is None:
        share = np.zeros(value.shape)
        share[np.arange(len(value)), np.argmax(worst, axis=1)] = 1.0
    else:
        used = choosable & (share > 0)
        level = np.max(np.where(used, value, -np.inf), axis=1, keepdims=True)
        worst = np.where(used, level, np.where(np.isfinite(level), np.minimum(worst, level), worst))
    rival = _best_of_the_others(worst)
    with np.errstate(invalid="ignore"):  # -inf less -inf: neither can be chosen
        distance = np.abs(worst - rival)
    return np.where(np.isfinite(distance), distance, np.nan), np.where(choosable, share, 0.0)


def learned(
    variance: FloatArray, label_variance: FloatArray, n_labels: IntArray | int
) -> FloatArray:
    """Returns the variance of beliefs after so many more labels, of the shape of its arguments."""
    return variance * label_variance / (label_variance + n_labels * variance)


def label_variance(scores: Scores, mean: FloatArray) -> FloatArray:
    """Returns the variance of one more label of each cell, (C, M), never zero.

    That of a right-or-wrong answer, m (1 - m), times how much less graded scores vary: one ratio
    for all cells, as a cell with few labels cannot tell.
    """
    binary = np.clip(mean, 0.01, 0.99) * (1.0 - np.clip(mean, 0.01, 0.99))
    around = (scores.score - mean[scores.class_code]) ** 2
    expected = np.where(np.isfinite(around), binary[scores.class_code], 0.0).sum()
    ratio = np.nansum(around) / expected if expected > 0 else 1.0
    return np.asarray(binary * np.clip(ratio, 0.01, 1.0))


def choose_prompts(scores: Scores, n_labels: IntArray) -> tuple[tuple[Request, ...], IntArray]:
    """Returns the answers to score, and how many of each cell, (C, M), need prompts not yet there.

    Args:
        scores: what is scored already.
        n_labels: how many labels each cell should get, (C, M).

    Prompts that rival models have answered come first: on the same prompt, part of the luck is
    shared, so that a difference is known sooner. Then the order is that of a hash. Duplicates of a
    prompt count as that prompt, and nothing is asked twice.
    """
    found: list[Request] = []
    missing = n_labels.copy()
    for c, m in zip(*np.nonzero(n_labels), strict=True):
        rows = _unscored(scores, int(c), int(m))[: int(n_labels[c, m])]
        missing[c, m] -= len(rows)
        found += [
            Request(scores.prompt_ids[n], scores.class_names[c], scores.model_names[m])
            for n in rows
        ]
    return tuple(found), missing


def _unscored(scores: Scores, c: int, m: int) -> list[int]:
    """Returns the prompts of a class that a model has not answered, best first, one per group."""
    scored = np.isfinite(scores.score)
    taken = set(scores.group[scored[:, m]].tolist())
    rivals = scored.sum(axis=1)
    rows = np.flatnonzero(scores.class_code == c).tolist()
    rows.sort(key=lambda n: (-rivals[n], _digest(scores.prompt_ids[n]), n))
    first: dict[int, int] = {}
    for n in rows:
        if int(scores.group[n]) not in taken:
            first.setdefault(int(scores.group[n]), n)
    return list(first.values())


def _digest(prompt_id: str) -> bytes:
    return hashlib.sha256(prompt_id.encode("utf-8", "surrogatepass")).digest()


def _offers(
    distance: FloatArray, variance: FloatArray, known: FloatArray, weight: FloatArray, n: int
) -> tuple[FloatArray, IntArray]:
    """Returns the most that a label of each cell is worth, and the k <= n at which it is."""
    steps = 2 ** np.arange(max(n, 1).bit_length())
    after = learned(np.asarray(variance)[..., None], np.asarray(known)[..., None], steps)
    spread = np.sqrt(np.maximum(np.asarray(variance)[..., None] - after, 0.0))
    per_label = _gain(np.asarray(distance)[..., None], spread) / steps
    best = np.argmax(per_label, axis=-1)
    return np.asarray(np.max(per_label, axis=-1) * weight), steps[best]


def _gain(distance: FloatArray, spread: FloatArray) -> FloatArray:
    """Returns t f(d / t) of distances d and spreads t; 0 where either is not there."""
    distance, spread = np.broadcast_arrays(distance, spread)
    gain = np.zeros(spread.shape)
    there = (spread > 0.0) & np.isfinite(distance)
    z = distance[there] / spread[there]
    density = np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)
    tail = 0.5 * _ERFC(z / np.sqrt(2.0)).astype(np.float64)
    gain[there] = np.maximum(spread[there] * (density - z * tail), 0.0)
    return gain


_ERFC = np.frompyfunc(erfc, 1, 1)


def _largest(values: FloatArray) -> tuple[int, int]:
    c, m = np.unravel_index(int(np.argmax(values)), values.shape)
    return int(c), int(m)


def _best_of_the_others(value: FloatArray) -> FloatArray:
    """Returns for each cell the largest value of its row but its own, (C, M); -inf if alone."""
    order = np.argsort(-value, axis=1, kind="stable")
    rows = np.arange(len(value))
    rival = np.repeat(value[rows, order[:, 0]][:, None], value.shape[1], axis=1)
    second = value[rows, order[:, 1]] if value.shape[1] > 1 else np.full(len(value), -np.inf)
    rival[rows, order[:, 0]] = second
    return rival


def _allocation(
    beliefs: Beliefs, given: IntArray, distance: FloatArray, share: FloatArray
) -> Allocation:
    after = learned(beliefs.variance, beliefs.label_variance, given)
    spread = np.sqrt(np.maximum(beliefs.variance - after, 0.0))
    worth = beliefs.weight[:, None] * _gain(distance, spread)
    part = (beliefs.weight[:, None] * share) ** 2
    before, afterwards = (float(np.sqrt((part * v).sum())) for v in (beliefs.variance, after))
    return Allocation(given, np.where(given > 0, worth, 0.0), before, afterwards)
