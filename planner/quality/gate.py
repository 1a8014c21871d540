"""The gate: per-prompt terms are used only where they have proven a gain on held-out prompts.

Most per-prompt estimates of quality look better by Brier score or AUC and route no better, some
worse. So two routers are compared in what they decide: both see the same predicted costs, one has
the class means, the other the per-prompt terms, both learned without the prompt that they judge.
The gain is the mean of the difference of their curves over the range of costs (planner.quality
.curve), with a paired bootstrap over groups of equal prompts. The gate opens when the whole 95 %
interval lies above zero and there are enough prompts for such an interval to be believed.

A score that is missing counts as its class mean and a cost that is missing as predicted: choosing
that model there is neither a gain nor a loss for anyone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from planner.quality.curve import (
    N_RESAMPLES,
    Interval,
    Outcome,
    as_gap,
    interval_of,
    measure,
    resamples_of,
    yardstick_of,
)
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.router import GateResult

if TYPE_CHECKING:
    from planner.quality.scores import Scores
    from planner.quality.train import CrossFit

MIN_PROMPTS = 1000  # distinct ones; below this no interval opens the gate


def run_gate(
    crossfit: CrossFit, scores: Scores, cost: FloatArray, cost_hat: FloatArray, seed: int
) -> GateResult:
    """Returns whether per-prompt terms gain over class means at equal predicted costs.

    Args:
        crossfit: estimates of each prompt by what never saw it.
        scores: what was measured, the same prompts.
        cost: (N, M) realised, NaN where not scored.
        cost_hat: (N, M) predicted, in the same unit.
        seed: of the bootstrap.
    """
    if crossfit.prompt_quality is None:
        n_prompts = np.unique(scores.group).size
        return _unjudged(n_prompts, "there are no texts to learn per-prompt terms from")
    outcome = filled(scores.score, cost, crossfit.class_quality, cost_hat)
    gain, gap_gain = paired_gain(
        crossfit.prompt_quality,
        crossfit.class_quality,
        cost_hat,
        outcome,
        scores.group,
        crossfit.fold,
        seed,
    )
    return judge(gain, gap_gain, np.unique(scores.group).size)


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
    outcome: Outcome,
    group: IntArray,
    fold: IntArray | None,
    seed: int,
    n_resamples: int = N_RESAMPLES,
) -> tuple[Interval, Interval]:
    """Returns the first estimate's gain over the other: in points, and as a share of the gap."""
    yardstick = yardstick_of(outcome, resamples_of(group, n_resamples, seed), fold)
    first = measure(quality_hat, cost_hat, yardstick).quality
    gain = first - measure(other_quality_hat, cost_hat, yardstick).quality
    return interval_of(100.0 * gain), interval_of(as_gap(gain, yardstick))


def judge(gain: Interval, gap_gain: Interval, n_prompts: int) -> GateResult:
    """Returns the verdict on a paired gain, with the reason in words."""
    if not np.isfinite(gain.value):
        return _unjudged(n_prompts, "one model is both the cheapest and the best: nothing to route")
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
