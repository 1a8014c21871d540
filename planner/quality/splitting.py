"""Which classes deserve to be split: parts of a class on which the models compare differently.

A class is cut in two by one surface feature (say, prompts with more than so many digits). A part
is worth knowing only if the differences between models change across the cut, whatever happens to
the difficulty: contrasts are scores minus the mean over the models of the prompt.

    cut      the feature and the threshold, among deciles, with the largest sum over both parts of
             n_part |mean contrast of the part - mean contrast of the class|^2
    belief   mean score of the part, shrunk to the class mean by 5 prompts
    gain     of those beliefs over the class mean within the class, points at equal cost; both the
             cut and the beliefs come from the other folds

As many classes are tried, an interval is the gain plus and minus z standard errors of its
bootstrap, z for 95 % of all intervals together (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from statistics import NormalDist

import numpy as np

from planner.quality.curve import (
    N_RESAMPLES,
    Interval,
    Outcome,
    measure,
    resamples_of,
    yardstick_of,
)
from planner.quality.features import FEATURE_NAMES
from planner.quality.scores import Scores
from planner.spec.arrays import BoolArray, FloatArray, IntArray

MIN_PROMPTS = 300  # of a class; fewer tell nothing about its parts (ROUTER.md, section 5)
_PSEUDO_COUNT = 5.0
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
class _Part:
    """Some of the prompts, with what is believed of them and what happened."""

    score: FloatArray  # (n, M), NaN not scored
    features: FloatArray  # (n, F)
    fold: IntArray  # (n,)
    group: IntArray  # (n,)
    class_quality: FloatArray  # (n, M) out of fold
    cost_hat: FloatArray  # (n, M)
    realised: FloatArray  # (n, M) score, gaps filled
    cost: FloatArray  # (n, M)
    weight: FloatArray  # (n,)

    def take(self, rows: IntArray) -> _Part:
        return _Part(*(getattr(self, f.name)[rows] for f in fields(self)))


def class_splits(
    scores: Scores,
    features: FloatArray,
    fold: IntArray,
    class_quality: FloatArray,
    cost_hat: FloatArray,
    outcome: Outcome,
    seed: int = 0,
) -> tuple[Split, ...]:
    """Returns the best cut of every class with prompts enough, the largest lower bound first.

    Args:
        scores: what was measured.
        features: (N, F) surface features.
        fold: (N,) held-out fold of each prompt.
        class_quality: (N, M) out of fold.
        cost_hat: (N, M) predicted costs.
        outcome: realised scores and costs without gaps.
        seed: of the bootstrap.
    """
    everything = _Part(
        *(scores.score, features, fold, scores.group),
        *(class_quality, cost_hat, outcome.score, outcome.cost, outcome.weight),
    )
    rows_of = [np.flatnonzero(scores.class_code == c) for c in range(scores.n_classes)]
    tried = {
        name: everything.take(rows)
        for name, rows in zip(scores.class_names, rows_of, strict=True)
        if np.unique(scores.group[rows]).size >= MIN_PROMPTS
    }
    z = NormalDist().inv_cdf(1.0 - 0.025 / max(len(tried), 1))
    found = [_best_split(name, part, z, seed) for name, part in tried.items()]
    return tuple(sorted((s for s in found if s is not None), key=lambda s: -s.gain.low))


def _best_split(name: str, part: _Part, z: float, seed: int) -> Split | None:
    """Returns the cut that all prompts suggest, with its gain out of fold; None: nothing to cut."""
    cut = _best_cut(part.score, part.features)
    if cut is None:
        return None
    outcome = Outcome(part.realised, part.cost, part.weight)
    yardstick = yardstick_of(outcome, resamples_of(part.group, N_RESAMPLES, seed), part.fold)
    split = measure(_out_of_fold(part), part.cost_hat, yardstick).quality
    gains = 100.0 * (split - measure(part.class_quality, part.cost_hat, yardstick).quality)
    if not np.isfinite(gains).all():
        return None  # one model is the cheapest and the best in this class: nothing to route
    reach = z * float(gains[1:].std())
    gain = Interval(float(gains[0]), float(gains[0]) - reach, float(gains[0]) + reach)
    share = float(cut.above(part.features).mean())
    return Split(name, FEATURE_NAMES[cut.feature], cut.threshold, share, gain)


def _out_of_fold(part: _Part) -> FloatArray:
    """Returns mean scores of the parts that cuts of the other folds make, (n, M)."""
    quality = part.class_quality.copy()
    for f in np.unique(part.fold).tolist():
        learned, judged = part.fold != f, part.fold == f
        cut = _best_cut(part.score[learned], part.features[learned])
        if cut is None:
            continue
        belief = part.class_quality[judged]
        above = cut.above(part.features)
        for side in (above, ~above):
            seen = part.score[learned & side]
            n = (~np.isnan(seen)).sum(axis=0)
            inside = side[judged]
            total = np.nansum(seen, axis=0) + _PSEUDO_COUNT * belief[inside]
            quality[judged & side] = total / (n + _PSEUDO_COUNT)
    return quality


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
