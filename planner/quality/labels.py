"""What labels have bought so far, and what more of them would buy.

The learning curve is cross-fitted: each prompt is judged with class means from a random part, of
the size asked for, of the prompts outside its fold. Predicted costs are the same at every size, so
the curve shows labels of quality alone. What twice the labels would do to a class's intervals is
computed by believing every score twice: as if the next prompts looked like those at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from planner.quality.curve import Interval, Yardstick, interval_of, measure
from planner.quality.scores import Scores
from planner.quality.shrink import shrunk_means
from planner.spec.arrays import FloatArray, IntArray

SIZES = (100, 300, 1000, 3000, 10_000, 30_000)


@dataclass(frozen=True)
class LearningPoint:
    """The gap that class means of so many labelled prompts close."""

    n_prompts: int
    gap: Interval


@dataclass(frozen=True)
class ClassLabels:
    """How well a class's mean scores are known, in points: widths of 95 % intervals."""

    class_name: str
    n_prompts: int
    width: float  # mean over the models
    width_doubled: float  # the same with twice the labels
    widest_model: str


def class_labels(scores: Scores) -> tuple[ClassLabels, ...]:
    """Returns how well each class is known and would be known with twice the labels."""
    now, then = shrunk_means(scores), shrunk_means(_twice(scores))
    width, doubled = 100.0 * (now.high - now.low), 100.0 * (then.high - then.low)
    n_prompts = np.bincount(scores.class_code, minlength=scores.n_classes)
    return tuple(
        ClassLabels(
            name,
            int(n_prompts[c]),
            float(width[c].mean()),
            float(doubled[c].mean()),
            scores.model_names[int(width[c].argmax())],
        )
        for c, name in enumerate(scores.class_names)
    )


def learning_curve(
    scores: Scores, fold: IntArray, cost_hat: FloatArray, yardstick: Yardstick, seed: int
) -> tuple[LearningPoint, ...]:
    """Returns the gap that class means close by the number of prompts that they come from.

    Args:
        scores: what was measured.
        fold: (N,) of each prompt; duplicates share theirs.
        cost_hat: (N, M) predicted costs.
        yardstick: of the same prompts.
        seed: of the draws.
    """
    return tuple(
        LearningPoint(
            n, interval_of(measure(_means_from(scores, fold, n, seed), cost_hat, yardstick).gap)
        )
        for n in _sizes(scores.n_prompts - int(np.bincount(fold).max()))
    )


def _sizes(n_most: int) -> Iterator[int]:
    """Yields the sizes of the curve, the last one what there is."""
    yield from (n for n in SIZES if n < 0.8 * n_most)
    if n_most:
        yield n_most


def _means_from(scores: Scores, fold: IntArray, n: int, seed: int) -> FloatArray:
    """Returns class means for each prompt, (N, M), from n prompts outside its fold."""
    quality = np.empty(scores.score.shape)
    for f in np.unique(fold).tolist():
        outside = np.random.default_rng([seed, f]).permutation(np.flatnonzero(fold != f))
        means = shrunk_means(scores.take(outside[:n])).mean
        quality[fold == f] = means[scores.class_code[fold == f]]
    return quality


def _twice(scores: Scores) -> Scores:
    """Returns every prompt twice, the second time as another one."""
    rows = np.tile(np.arange(scores.n_prompts), 2)
    other = np.concatenate([scores.group, scores.group + scores.group.max(initial=0) + 1])
    return replace(scores.take(rows), group=other)
