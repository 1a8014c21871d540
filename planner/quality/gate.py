"""The gate: per-prompt terms are used only where they have proven a gain on held-out prompts.

Most per-prompt estimates of quality look better by Brier score or AUC and route no better, some
worse. So two routers are compared in what they decide: both see the same predicted costs, one has
the class means, the other the per-prompt terms, both learned without the prompt that they judge.
The gain is the mean of the difference of their curves over the range of costs (planner.quality
.curve), with a paired bootstrap over groups of equal prompts. The gate opens when the whole 95 %
interval lies above zero and there are enough prompts for such an interval to be believed.

A bootstrap resamples prompts, not how they were dealt to folds, and the same prompts dealt
otherwise may say otherwise. So a gain that looks proven is asked for again: the prompts are dealt
anew several times, and what counts is the interval of the mean gain over all dealings.

A score that is missing counts as its class mean and a cost that is missing as predicted: choosing
that model there is neither a gain nor a loss for anyone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from planner.quality.curve import (
    N_RESAMPLES,
    Interval,
    Outcome,
    Resamples,
    Yardstick,
    as_gap,
    interval_of,
    measure,
    resamples_of,
    yardstick_of,
)
from planner.spec.arrays import FloatArray
from planner.spec.router import GateResult

if TYPE_CHECKING:
    from planner.quality.scores import Scores
    from planner.quality.train import CrossFit

N_DEALINGS = 5  # of the prompts to folds, before a gain is believed
LABELS_FOR_TERMS = 300  # scored prompts of a class, from which it may have per-prompt terms
MIN_PROMPTS = 1000  # distinct ones; below this no interval opens the gate


def run_gate(
    scores: Scores,
    price: FloatArray,
    dealt: Callable[[int], CrossFit],
    seed: int = 0,
    weight: FloatArray | None = None,
) -> GateResult:
    """Returns whether per-prompt terms gain over class means at equal predicted costs.

    Args:
        scores: what was measured.
        price: (N, M) USD of an output token of each answer.
        dealt: estimates of each prompt by what never saw it, for the k-th way of dealing the
            prompts to folds, k = 0, 1, ...; only the first is asked for where it shows no gain.
        seed: of the bootstrap.
        weight: (N,) share of the traffic that each prompt stands for; by default all the same.
    """
    n_prompts = int(np.unique(scores.group).size)
    resamples = resamples_of(scores.group, N_RESAMPLES, seed)
    first = dealt(0)
    if first.prompt_quality is None:
        return _unjudged(n_prompts, "there are no texts to learn from")
    n_labels = np.bincount(scores.class_code[~np.isnan(scores.score).all(axis=1)])
    if n_labels.max(initial=0) < LABELS_FOR_TERMS:
        return _unjudged(n_prompts, f"no class has {LABELS_FOR_TERMS} scored prompts yet")
    gains = [_gain(first, scores, price, resamples, weight)]
    if interval_of(gains[0][0]).low > 0.0:
        others = (dealt(k) for k in range(1, N_DEALINGS))
        gains += [_gain(each, scores, price, resamples, weight) for each in others]
    gain, gap_gain = np.mean(gains, axis=0)
    return judge(interval_of(100.0 * gain), interval_of(gap_gain), n_prompts)


def _gain(
    crossfit: CrossFit,
    scores: Scores,
    price: FloatArray,
    resamples: Resamples,
    weight: FloatArray | None,
) -> tuple[FloatArray, FloatArray]:
    """Returns the gain of per-prompt terms, (1 + B,), as mean score and as a share of the gap."""
    assert crossfit.prompt_quality is not None  # there are texts
    cost_hat = price * crossfit.output_tokens
    cost = price * scores.output_tokens
    outcome = filled(scores.score, cost, crossfit.class_quality, cost_hat, weight)
    yardstick = yardstick_of(outcome, resamples, crossfit.fold)
    gain = paired_gain(crossfit.prompt_quality, crossfit.class_quality, cost_hat, yardstick)
    return gain, as_gap(gain, yardstick)


def filled(
    score: FloatArray,
    cost: FloatArray,
    class_quality: FloatArray,
    cost_hat: FloatArray,
    weight: FloatArray | None = None,
) -> Outcome:
    """Returns what happened, gaps filled with the class mean and the predicted cost."""
    return Outcome(
        np.where(np.isnan(score), class_quality, score),
        np.where(np.isnan(cost), cost_hat, cost),
        np.ones(len(score)) if weight is None else weight,
    )


def paired_gain(
    quality_hat: FloatArray,
    other_quality_hat: FloatArray,
    cost_hat: FloatArray,
    yardstick: Yardstick,
) -> FloatArray:
    """Returns the first estimate's gain of mean score over the other, (1 + B,), same costs."""
    other = measure(other_quality_hat, cost_hat, yardstick)
    return measure(quality_hat, cost_hat, yardstick).quality - other.quality


def judge(gain: Interval, gap_gain: Interval, n_prompts: int) -> GateResult:
    """Returns the verdict on a paired gain, with the reason in words."""
    if not np.isfinite(gain.value):
        return _unjudged(n_prompts, "one model is both the cheapest and the best: nothing to route")
    if not np.isfinite(gap_gain.value):  # no gap; a router's file holds finite numbers only
        return _unjudged(n_prompts, "mixing single models reaches all that there is to reach")
    why = (
        f"per-prompt terms change quality by {gain.value:+.2f} points at equal cost on held-out "
        f"prompts, 95 % interval {gain.low:+.2f} to {gain.high:+.2f}"
    )
    if n_prompts < MIN_PROMPTS:
        why += f"; {n_prompts} distinct prompts are too few to trust that ({MIN_PROMPTS} needed)"
    elif gain.low <= 0.0:
        why += ": not proven to be a gain"
    return GateResult(
        bool(gain.low > 0.0 and n_prompts >= MIN_PROMPTS),
        *(gain.value, gain.low, gain.high),
        *(gap_gain.value, gap_gain.low, gap_gain.high),
        n_prompts,
        N_RESAMPLES,
        why,
    )


def _unjudged(n_prompts: int, why: str) -> GateResult:
    return GateResult(False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, n_prompts, 0, why)
