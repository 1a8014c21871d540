"""Which classes deserve to be split: parts of a class on which the models compare differently.

A class is cut in two by one surface feature (say, prompts with more than so many digits). A part
is worth knowing only if the differences between models change across the cut, whatever happens to
the difficulty: contrasts are scores minus the mean over the models of the prompt.

    cut      the feature and the threshold, among deciles, with the largest sum over both parts of
             n_part |mean contrast of the part - mean contrast of the class|^2
    belief   mean score of the part, shrunk to the class mean by 5 prompts
    gain     of those beliefs over the class mean within the class, points at equal cost, on one
             half of the prompts; the cut and all means come from the other half

The gains of several folds, pooled, prove nothing here: where all folds choose the same cut, the
pool is the sample that it was chosen on (6.5 % false alarms instead of 2.5 % were measured). So
each of 10 halves (5 ways to halve, both halves of each) is a test by itself, gain minus z standard
errors of its bootstrap, and the median of their bounds is what counts. The median of dependent
p-values may be twice too small (Meinshausen, Meier, Buehlmann, JASA 104 (2009) 1671), and as many
classes are tried, so z is that of 2.5 % / (2 x classes).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from planner.quality.curve import Interval, Outcome, resamples_of, yardstick_of
from planner.quality.features import FEATURE_NAMES
from planner.quality.folds import fold_of
from planner.quality.gate import paired_gain
from planner.quality.scores import Scores
from planner.spec.arrays import BoolArray, FloatArray, IntArray

MIN_PROMPTS = 300  # of a class; fewer tell nothing about its parts
_PSEUDO_COUNT = 5.0
N_HALVINGS = 5
_N_RESAMPLES = 200  # for standard errors, known to 5 %
_DECILES = np.arange(0.1, 0.91, 0.1)


@dataclass(frozen=True)
class Split:
    """One way to cut a class in two, and what that gains out of sample."""

    class_name: str
    feature: str
    threshold: float  # of the feature; counts enter as ln(1 + count)
    share_above: float
    gain: Interval  # points of quality at equal cost, within the class

    @property
    def worthwhile(self) -> bool:
        """Returns whether the gain is proven."""
        return self.gain.low > 0.0


@dataclass(frozen=True)
class _Cut:
    feature: int
    threshold: float

    def above(self, features: FloatArray) -> BoolArray:
        return features[:, self.feature] > self.threshold


@dataclass(frozen=True, eq=False)
class _Class:
    """The prompts of one class, or some of them."""

    scores: Scores
    features: FloatArray  # (n, F)
    cost_hat: FloatArray  # (n, M)
    outcome: Outcome

    def take(self, rows: IntArray | BoolArray) -> _Class:
        outcome = self.outcome
        return _Class(
            self.scores.take(rows),
            self.features[rows],
            self.cost_hat[rows],
            Outcome(outcome.score[rows], outcome.cost[rows], outcome.weight[rows]),
        )


def class_splits(
    scores: Scores,
    features: FloatArray,
    cost_hat: FloatArray,
    outcome: Outcome,
    seed: int = 0,
) -> tuple[Split, ...]:
    """Returns the best cut of every class with prompts enough, the largest lower bound first.

    Args:
        scores: what was measured.
        features: (N, F) surface features.
        cost_hat: (N, M) predicted costs.
        outcome: realised scores and costs without gaps.
        seed: of halves and bootstraps.
    """
    everything = _Class(scores, features, cost_hat, outcome)
    rows_of = [np.flatnonzero(scores.class_code == c) for c in range(scores.n_classes)]
    tried = [
        everything.take(rows)
        for rows in rows_of
        if np.unique(scores.group[rows]).size >= MIN_PROMPTS
    ]
    z = NormalDist().inv_cdf(1.0 - 0.025 / (2 * max(len(tried), 1)))
    found = [_best_split(part, z, seed) for part in tried]
    return tuple(sorted((s for s in found if s is not None), key=lambda s: -s.gain.low))


def _best_split(part: _Class, z: float, seed: int) -> Split | None:
    """Returns the cut that all prompts suggest, with its gain on halves; None: nothing to cut."""
    cut = _best_cut(part.scores.score, part.features)
    if cut is None:
        return None
    name = part.scores.class_names[part.scores.class_code[0]]
    share = float(cut.above(part.features).mean())
    median = Interval(*np.median(_gains_on_halves(part, z, seed), axis=0).tolist())
    return Split(name, FEATURE_NAMES[cut.feature], cut.threshold, share, median)


def _gains_on_halves(part: _Class, z: float, seed: int) -> list[tuple[float, float, float]]:
    """Returns gain, low and high on each half that was not learned from.

    The first two halves settle it where they show no gain.
    """
    gains: list[tuple[float, float, float]] = []
    for k in range(N_HALVINGS):
        half = fold_of(part.scores, n_folds=2, seed=seed + k)
        for judged in (half == 0, half == 1):
            gain = _gain(part.take(~judged), part.take(judged), seed + k)
            value, reach = float(gain[0]), z * float(gain[1:].std())
            gains.append((value, value - reach, value + reach))
        if sum(value for value, *_ in gains) <= 0.0:
            break
    return gains


def _gain(learned: _Class, judged: _Class, seed: int) -> FloatArray:
    """Returns the gain of parts over the class mean on what was not learned from, (1 + B,).

    It is 0 where one model is the cheapest and the best: there is nothing to route.
    """
    overall = np.full(learned.scores.n_models, np.nanmean(learned.scores.score))
    whole = _shrunk(learned.scores.score, overall)
    quality = np.tile(whole, (judged.scores.n_prompts, 1))
    parts = quality.copy()
    cut = _best_cut(learned.scores.score, learned.features)
    if cut is not None:
        above = cut.above(learned.features)
        for side, here in (
            (above, cut.above(judged.features)),
            (~above, ~cut.above(judged.features)),
        ):
            parts[here] = _shrunk(learned.scores.score[side], whole)
    yardstick = yardstick_of(judged.outcome, resamples_of(judged.scores.group, _N_RESAMPLES, seed))
    gain = paired_gain(parts, quality, judged.cost_hat, yardstick)
    return 100.0 * np.nan_to_num(gain)


def _shrunk(score: FloatArray, prior: FloatArray) -> FloatArray:
    """Returns the mean of scores (n, M) with a prior (M,) that counts as a few of them."""
    n = (~np.isnan(score)).sum(axis=0)
    total = np.where(np.isnan(score), 0.0, score).sum(axis=0)
    return np.asarray((total + _PSEUDO_COUNT * prior) / (n + _PSEUDO_COUNT), dtype=np.float64)


def _best_cut(score: FloatArray, features: FloatArray) -> _Cut | None:
    """Returns the cut across which the models' contrasts differ most; None where none differ."""
    scored = ~np.isnan(score)
    seen = scored.sum(axis=1, keepdims=True)
    mean = np.where(scored, score, 0.0).sum(axis=1, keepdims=True) / np.maximum(seen, 1)
    contrast = np.where(scored, score - mean, 0.0)
    contrast -= contrast.mean(axis=0)
    thresholds = np.quantile(features, _DECILES, axis=0)  # (9, F)
    above = features[:, None, :] > thresholds  # (n, 9, F)
    n_above = above.sum(axis=0)
    n_below = len(score) - n_above
    total = np.einsum("ntf,nm->tfm", above.astype(np.float64), contrast)
    sides = np.where((n_above > 0) & (n_below > 0), n_above * n_below, 1)
    gained = (total**2).sum(axis=2) * len(score) / sides  # both parts' sums of squares together
    gained[(n_above == 0) | (n_below == 0)] = 0.0
    if not gained.any():
        return None
    t, f = np.unravel_index(int(gained.argmax()), gained.shape)
    return _Cut(int(f), float(thresholds[t, f]))
