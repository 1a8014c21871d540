"""Cascades that the data prove: a cheap model first, a dearer one where its answer looks bad.

Notation (prompt n of a class)
    a, b      first and second model             y_nm    score of model m, in [0, 1]
    s_n       signal of the answer of a;         c_nm    cost of its answer, price x tokens
              larger: trust it                   Y_m, C_m  their means
    t         threshold: escalate where s_n < t  e_n     1 where prompt n is escalated, else 0
    x         cost of the cascade: mean of c_na + e_n c_nb

Program
    signals    "length" (-output tokens of a) and each column of signals in the scores
    pairs      a on the hull of single models, the upper concave hull of (C_m, Y_m); b dearer, one
               of the next two on the hull or the best of all that are dearer
    thresholds quantiles of s. Those of a fold come from the other folds, so that e_n of a prompt
               depends neither on its own answer nor on a duplicate's: everything below is held out
    gain       mean over n of the cascade's score minus what the best mix of single models scores
               at the cost x. With l and h the neighbours of x on the hull, r the share of h that
               costs x, and p = (Y_h - Y_l) / (C_h - C_l) the price of money between them:

                   v_n  = d(y)_n - p d(c)_n,    d(z)_n = (1 - e_n) z_na + e_n z_nb
                                                         - (1 - r) z_nl - r z_nh
               with c_na also paid where e_n = 1. The mean of v_n is the gain, for the costs agree;
               and to first order v_n is all that the gain depends on, so the interval is that of
               a mean of paired values. Dearer than the best model: l = h = that one, p = 0
    proof      the lower bound of the gain lies above zero, for all tries of all classes at once
               (simultaneous.py), in a class with at least 100 usable prompts

The hull is taken on the judged data themselves, where luck can only lift it: that is against the
cascade. A signal that says nothing loses, by what the first answers of escalated prompts cost.

An answer is paid in full before it is judged, also when its length is the signal. Stopping it at
the threshold would save money, but a limit on the answers of a single model saves the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner.quality.folds import fold_of
from planner.quality.scores import Scores
from planner.quality.shrink import shrunk_means
from planner.quality.simultaneous import SINGLE_Z, Means, means_of, reach
from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.workload import LENGTH_SIGNAL

LEVELS = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.75)
"""Shares of the prompts that thresholds try to escalate."""
FEWEST_PROMPTS = 100
FEWEST_PER_SIDE = 20
"""Prompts that are escalated, and that are not, below which a threshold is not tried."""
FEWEST_OF_MODEL = 30
"""Scored prompts below which a single model is no part of a mix."""
NEXT_ON_HULL = 2
MOST_PAIRS = 2
MOST_THRESHOLDS = 3
APART_RATIO = 0.08
"""Thresholds of one pair that are returned escalate shares at least so far apart."""
POINTS = 100.0


@dataclass(frozen=True, eq=False)
class CascadeOption:
    """A cascade for one class; every figure but `below` is held out.

    A gain is in points (hundredths of the score), at the cost of the best mix of single models.
    """

    class_name: str
    first: str
    second: str
    signal: str
    below: float  # escalate where the signal of the first answer is below; "length": -tokens
    escalated_ratio: float
    quality: float
    quality_low: float  # 95 %
    quality_high: float
    gain: float
    gain_low: float  # 95 %, for all tries of all classes at once
    gain_high: float
    first_input_tokens: FloatArray  # of all prompts of the class
    first_output_tokens: FloatArray
    second_input_tokens: FloatArray  # of those that are escalated
    second_output_tokens: FloatArray


@dataclass(frozen=True, eq=False)
class _Try:
    """One pair, signal and threshold in one class, before it is judged."""

    first: int
    second: int
    signal: str
    below: float
    usable: BoolArray  # (n,) prompts of the class that have all it takes
    escalated: BoolArray  # (n,) by thresholds from other folds; False where not usable

    @property
    def pair(self) -> tuple[int, int]:
        """Returns the two models."""
        return self.first, self.second

    @property
    def escalated_ratio(self) -> float:
        """Returns the share of the usable prompts that is escalated."""
        return float(self.escalated.sum() / self.usable.sum())


@dataclass(frozen=True, eq=False)
class _Class:
    """The prompts of one class, n of them, what was tried on them, and how that went."""

    scores: Scores
    tries: tuple[_Try, ...]
    gain: Means

    def may_follow(self, chosen: Sequence[int], t: int) -> bool:
        """Returns whether a try is of few enough pairs and unlike those chosen before it."""
        tried = self.tries[t]
        before = [self.tries[other] for other in chosen]
        pairs = {each.pair for each in before} | {tried.pair}
        ratios = [each.escalated_ratio for each in before if each.pair == tried.pair]
        return (
            len(pairs) <= MOST_PAIRS
            and len(ratios) < MOST_THRESHOLDS
            and all(abs(tried.escalated_ratio - ratio) >= APART_RATIO for ratio in ratios)
        )


def proven_cascades(
    scores: Scores, usd_per_token: FloatArray, seed: int = 0
) -> tuple[CascadeOption, ...]:
    """Returns the cascades whose gain on held-out prompts is above zero beyond luck.

    At most 2 pairs of models with 3 thresholds each for a class, the largest gains first.

    Args:
        scores: what was measured, with the signals of the answers.
        usd_per_token: (C, M) what an output token of a model costs in a class, prompt included;
            only ratios matter.
        seed: of folds and resampling.
    """
    fold, mean = fold_of(scores, seed=seed), shrunk_means(scores).mean
    classes = [
        found
        for c in range(scores.n_classes)
        if (found := _tried(scores, fold, usd_per_token[c], mean[c], c)) is not None
    ]
    if not classes:
        return ()
    z = reach([each.gain for each in classes], seed)
    return tuple(option for each in classes for option in _proven(each, z))


def signals_of(scores: Scores) -> dict[str, FloatArray]:
    """Returns what may say that an answer is bad, (N, M) by name; larger means: trust it.

    NaN where a model answered a prompt several times. What is known there are means, of which a
    signal tells more of a score than those of one answer do; and how far answers agree costs them
    all, of which one alone would be paid here.
    """
    signals = {**scores.signals, LENGTH_SIGNAL: -scores.output_tokens}
    return {name: np.where(scores.n_samples > 1, np.nan, v) for name, v in signals.items()}


# ---- What is tried -------------------------------------------------------------------------------


def _tried(
    scores: Scores, fold: IntArray, usd_per_token: FloatArray, class_score: FloatArray, c: int
) -> _Class | None:
    """Returns the tries of class c with their gains; None where there is nothing to try."""
    here = scores.class_code == c
    if here.sum() < FEWEST_PROMPTS:
        return None
    part, fold = scores.take(here), fold[here]
    cost = part.output_tokens * usd_per_token
    signals = signals_of(part)
    tries = [
        made
        for first, second in _pairs(cost, class_score)
        for name, values in signals.items()
        for made in _thresholds(part, fold, first, second, name, values[:, first])
    ]
    if not tries:
        return None
    gains = ((_values(part.score, cost, each), each.usable) for each in tries)
    return _Class(part, tuple(tries), means_of(gains, part.group))


def _pairs(cost: FloatArray, class_score: FloatArray) -> list[tuple[int, int]]:
    """Returns the pairs of a class: from the hull to what follows on it, or to the best beyond."""
    enough = np.flatnonzero((~np.isnan(cost)).sum(axis=0) >= FEWEST_OF_MODEL)
    mean_score, mean_cost = class_score[enough], np.nanmean(cost[:, enough], axis=0)
    hull = upper_hull(mean_cost, mean_score)
    pairs = []
    for k, first in enumerate(hull):
        dearer = np.flatnonzero(mean_cost > mean_cost[first])
        if dearer.size:
            best = int(dearer[np.argmax(mean_score[dearer])])
            seconds = {best, *hull[k + 1 : k + 1 + NEXT_ON_HULL]}
            pairs += [(int(enough[first]), int(enough[second])) for second in sorted(seconds)]
    return pairs


def _thresholds(
    scores: Scores, fold: IntArray, first: int, second: int, name: str, signal: FloatArray
) -> Iterator[_Try]:
    """Yields a try for each threshold of a signal that splits the prompts differently."""
    usable = ~np.isnan(scores.score[:, [first, second]]).any(axis=1) & ~np.isnan(signal)
    n = int(usable.sum())
    if n < FEWEST_PROMPTS:
        return
    seen: set[float] = set()
    for level in LEVELS:
        below = _threshold(signal[usable], level)
        if below in seen:  # ties: this one sends on the same prompts
            continue
        seen.add(below)
        escalated = np.zeros(usable.size, dtype=np.bool_)
        for k in np.unique(fold):
            others, held_out = usable & (fold != k), usable & (fold == k)
            escalated[held_out] = signal[held_out] < _threshold(signal[others], level)
        if FEWEST_PER_SIDE <= escalated.sum() <= n - FEWEST_PER_SIDE:
            yield _Try(first, second, name, below, usable, escalated)


def _threshold(signal: FloatArray, level: float) -> float:
    """Returns the value below which at most that share of a signal lies (ties stay above)."""
    rank = min(int(np.ceil(level * signal.size)), signal.size - 1)
    return float(np.partition(signal, rank)[rank])


# ---- What it gains -------------------------------------------------------------------------------


def _values(score: FloatArray, cost: FloatArray, tried: _Try) -> FloatArray:
    """Returns v_n: the gain of each prompt at the price of money, (n,); 0 where not usable."""
    rows = tried.usable
    score, cost = _completed(score[rows], cost[rows], tried)
    mean_score, mean_cost = score.mean(axis=0), cost.mean(axis=0)
    played = _played_score(score, tried.first, tried.second, tried.escalated[rows])
    paid = _played_cost(cost, tried.first, tried.second, tried.escalated[rows])
    low, high = _neighbours(mean_cost, mean_score, float(paid.mean()))
    if low == high:
        value = played - score[:, low]
    else:
        width = mean_cost[high] - mean_cost[low]
        share = (paid.mean() - mean_cost[low]) / width
        price = (mean_score[high] - mean_score[low]) / width
        mixed_score = (1.0 - share) * score[:, low] + share * score[:, high]
        mixed_cost = (1.0 - share) * cost[:, low] + share * cost[:, high]
        value = played - mixed_score - price * (paid - mixed_cost)
    values = np.zeros(rows.size)
    values[rows] = value
    return values


def _played_score(score: FloatArray, first: int, second: int, escalated: BoolArray) -> FloatArray:
    """Returns the score of a cascade on each prompt, (n,), from those of all models, (n, M)."""
    return np.where(escalated, score[:, second], score[:, first])


def _played_cost(cost: FloatArray, first: int, second: int, escalated: BoolArray) -> FloatArray:
    """Returns what a cascade costs on each prompt, (n,): the first answer is always paid."""
    return cost[:, first] + np.where(escalated, cost[:, second], 0.0)


def _completed(score: FloatArray, cost: FloatArray, tried: _Try) -> tuple[FloatArray, FloatArray]:
    """Returns score and cost of the models that can be mixed, the others' as NaN columns.

    Where a model was not scored it gets its mean, moved by how hard (scores) or long (costs) the
    prompt was for the two models of the cascade, so that the mix is compared on equal prompts.
    """
    pair = [tried.first, tried.second]
    missing = np.isnan(score)
    if not missing.any():
        return score, cost
    score, cost = score.copy(), cost.copy()
    hard, long = score[:, pair].mean(axis=1), cost[:, pair].mean(axis=1)
    for m in np.flatnonzero(missing.any(axis=0)):
        gap = missing[:, m]
        if (~gap).sum() < FEWEST_OF_MODEL:
            score[:, m] = cost[:, m] = np.nan
            continue
        score[gap, m] = score[~gap, m].mean() + hard[gap] - hard[~gap].mean()
        cost[gap, m] = cost[~gap, m].mean() * long[gap] / long[~gap].mean()
    return score, cost


def _neighbours(mean_cost: FloatArray, mean_score: FloatArray, paid: float) -> tuple[int, int]:
    """Returns the models on the hull just below and just above a cost; twice the best beyond."""
    hull = upper_hull(mean_cost, mean_score)
    k = int(np.searchsorted(mean_cost[hull], paid))
    return (hull[-1], hull[-1]) if k == len(hull) else (hull[max(k - 1, 0)], hull[k])


def upper_hull(cost: FloatArray, score: FloatArray) -> list[int]:
    """Returns the models on the upper concave hull of (cost, score), from the cheapest to the best.

    A NaN model is not on it.
    """
    order = np.lexsort((-score, cost))
    hull: list[int] = []
    for m in order[~np.isnan(score[order])].tolist():
        if hull and score[m] <= score[hull[-1]]:
            continue
        while len(hull) > 1 and _is_below(cost, score, hull[-2], hull[-1], m):
            hull.pop()
        hull.append(m)
    return hull


def _is_below(cost: FloatArray, score: FloatArray, left: int, middle: int, right: int) -> bool:
    """Returns whether a point lies on or below the line between its neighbours."""
    rise, run = score[right] - score[left], cost[right] - cost[left]
    return bool((score[middle] - score[left]) * run <= rise * (cost[middle] - cost[left]))


# ---- What is returned ----------------------------------------------------------------------------


def _proven(part: _Class, z: float) -> Iterator[CascadeOption]:
    """Yields the options of a class whose gain is proven, the largest gains first."""
    chosen: list[int] = []
    for t in np.argsort(-part.gain.mean, kind="stable").tolist():
        reaches = z * float(part.gain.error[t])
        if part.gain.mean[t] > reaches and part.may_follow(chosen, t):
            chosen.append(t)
            yield _option(part.scores, part.tries[t], float(part.gain.mean[t]), reaches)


def _option(scores: Scores, tried: _Try, gain: float, reaches: float) -> CascadeOption:
    """Returns a try with everything that a plan has to know of it."""
    rows, sent_on = tried.usable, tried.escalated
    played = _played_score(scores.score, tried.first, tried.second, sent_on)
    measured = means_of([(played, rows)], scores.group)
    quality, error = float(measured.mean[0]), SINGLE_Z * float(measured.error[0])
    return CascadeOption(
        class_name=scores.class_names[scores.class_code[0]],
        first=scores.model_names[tried.first],
        second=scores.model_names[tried.second],
        signal=tried.signal,
        below=tried.below,
        escalated_ratio=tried.escalated_ratio,
        quality=quality,
        quality_low=max(quality - error, 0.0),
        quality_high=min(quality + error, 1.0),
        gain=POINTS * gain,
        gain_low=POINTS * (gain - reaches),
        gain_high=POINTS * (gain + reaches),
        first_input_tokens=scores.input_tokens[rows],
        first_output_tokens=scores.output_tokens[rows, tried.first],
        second_input_tokens=scores.input_tokens[sent_on],
        second_output_tokens=scores.output_tokens[sent_on, tried.second],
    )
