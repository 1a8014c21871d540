"""What a router is worth on the prompts at hand: everything that `rb router eval` shows.

Every estimate is cross-fitted: what is believed of a prompt was learned from other prompts. Costs
are USD per request: the price of a token of that class and model times the tokens of the answer,
realised tokens for what a choice costs, predicted ones for what the router believes. Gaps and
gains are those of planner.quality.curve; mixing single models is their zero.

The difficulty-known reference says how much a gap can be closed by someone who knows how other
models, outside the fleet, did on the very same prompt. It is an estimator, not an upper bound. The
fleet's own scores cannot serve: whoever knows that one model failed and is asked about the other
knows half of the luck that is judged, and is misled by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from planner.quality.calibration import (
    Calibration,
    LengthFit,
    auc_of,
    calibration_of,
    length_fit_of,
)
from planner.quality.contrast import class_residual
from planner.quality.curve import (
    N_RESAMPLES,
    Curve,
    Interval,
    Measured,
    Yardstick,
    interval_of,
    measure,
    resamples_of,
    score_at,
    yardstick_of,
)
from planner.quality.features import surface
from planner.quality.gate import filled
from planner.quality.labels import ClassLabels, LearningPoint, class_labels, learning_curve
from planner.quality.ridge import fit_ridge
from planner.quality.scores import Scores
from planner.quality.splitting import Split, class_splits
from planner.spec.arrays import FloatArray
from planner.spec.router import GateResult

if TYPE_CHECKING:
    from planner.quality.train import CrossFit

N_POINTS = 21  # of the curve that is shown


@dataclass(frozen=True)
class Worth:
    """What one router reaches over mixing single models."""

    gap: Interval  # share of the way from mixing to the oracle
    gain: Interval  # points of quality at equal cost, mean over the range of costs


@dataclass(frozen=True)
class CurvePoint:
    """Quality that can be had for a mean cost per request."""

    cost_usd: float
    router: Interval  # mean score
    mixing: float
    oracle: float  # mostly luck: a reference that no router reaches


@dataclass(frozen=True)
class ModelFit:
    """How well one model is predicted, prompt by prompt; AUC does not decide anything."""

    model_name: str
    class_auc: float  # of class means; NaN where all scores are good or all bad
    prompt_auc: float  # of per-prompt terms; NaN without texts
    lengths: LengthFit


@dataclass(frozen=True)
class Inference:
    """Traffic that does not declare its class, against traffic that does."""

    accuracy: float
    worth: Worth
    kept: Interval  # share of the gain of class means that is kept


@dataclass(frozen=True)
class Evaluation:
    """What a router is worth, with 95 % intervals; every estimate is out of fold."""

    n_prompts: int
    n_distinct: int  # prompts without their duplicates
    missing_ratio: float  # cells not scored; they count as their class means
    ships_prompt_terms: bool  # the gate is open
    curve: tuple[CurvePoint, ...]  # of what ships; empty: one model is the cheapest and the best
    oracle_points: Interval  # from mixing to the oracle, the whole of a gap, in points
    class_means: Worth
    per_prompt: Worth | None  # None without texts, like all that needs them
    reference: Worth | None  # difficulty known; None without models outside the fleet
    inference: Inference | None
    gate: GateResult
    class_calibration: Calibration
    prompt_calibration: Calibration | None
    models: tuple[ModelFit, ...]
    learning: tuple[LearningPoint, ...]
    labels: tuple[ClassLabels, ...]
    splits: tuple[Split, ...]  # every class that was tried, the best first


@dataclass(frozen=True, eq=False)
class _Case:
    scores: Scores
    crossfit: CrossFit
    usd_per_token: FloatArray  # (C, M)
    cost_hat: FloatArray  # (N, M) USD
    yardstick: Yardstick


def evaluate(
    scores: Scores,
    crossfit: CrossFit,
    gate: GateResult,
    usd_per_token: FloatArray,
    *,
    others: FloatArray | None = None,
    weight: FloatArray | None = None,
    seed: int = 0,
) -> Evaluation:
    """Returns what a router is worth on the prompts that it was cross-fitted on.

    Args:
        scores: what was measured.
        crossfit: estimates of each prompt by what never saw it.
        gate: the verdict on per-prompt terms.
        usd_per_token: (C, M) price of an output token.
        others: (N, K) scores of models outside the fleet on the same prompts; NaN not scored.
        weight: (N,) share of the traffic that each prompt stands for; by default all the same.
        seed: of resampling and draws.
    """
    price = usd_per_token[scores.class_code]
    cost_hat = price * crossfit.output_tokens
    cost = price * scores.output_tokens
    outcome = filled(scores.score, cost, crossfit.class_quality, cost_hat, weight)
    resamples = resamples_of(scores.group, N_RESAMPLES, seed)
    yardstick = yardstick_of(outcome, resamples, crossfit.fold)
    case = _Case(scores, crossfit, usd_per_token, cost_hat, yardstick)
    by_class = measure(crossfit.class_quality, cost_hat, yardstick)
    prompt_quality = crossfit.prompt_quality
    by_prompt = None if prompt_quality is None else measure(prompt_quality, cost_hat, yardstick)
    ships = gate.passed and by_prompt is not None
    return Evaluation(
        n_prompts=scores.n_prompts,
        n_distinct=int(np.unique(scores.group).size),
        missing_ratio=float(np.isnan(scores.score).mean()),
        ships_prompt_terms=ships,
        curve=_points((by_prompt if ships and by_prompt else by_class).curve, yardstick),
        oracle_points=interval_of(100.0 * (yardstick.oracle_quality - yardstick.hull_quality)),
        class_means=_worth(by_class, yardstick),
        per_prompt=None if by_prompt is None else _worth(by_prompt, yardstick),
        reference=_reference(case, others),
        inference=_inference(case, by_class),
        gate=gate,
        class_calibration=calibration_of(crossfit.class_quality, scores.score),
        prompt_calibration=(
            None if prompt_quality is None else calibration_of(prompt_quality, scores.score)
        ),
        models=tuple(_model_fit(case, m) for m in range(scores.n_models)),
        learning=learning_curve(scores, crossfit.fold, cost_hat, yardstick, seed),
        labels=class_labels(scores),
        splits=_splits(case, seed),
    )


def difficulty_known(scores: Scores, others: FloatArray, class_quality: FloatArray) -> FloatArray:
    """Returns class means moved by how other models did on the same prompt, (N, M).

    A ridge of the fleet's residuals on those of the others, each prompt left out of its own fit.
    """
    theirs, ours = (
        class_residual(values, scores.class_code, scores.n_classes, scores.group)
        for values in (others, scores.score)
    )
    return (
        class_quality + fit_ridge(np.nan_to_num(theirs), np.nan_to_num(ours), scores.group).left_out
    )


def _worth(found: Measured, yardstick: Yardstick) -> Worth:
    gain = 100.0 * (found.quality - yardstick.hull_quality)
    return Worth(interval_of(found.gap), interval_of(gain))


def _reference(case: _Case, others: FloatArray | None) -> Worth | None:
    if others is None or not others.shape[1]:
        return None
    known = difficulty_known(case.scores, others, case.crossfit.class_quality)
    return _worth(measure(known, case.cost_hat, case.yardstick), case.yardstick)


def _inference(case: _Case, by_class: Measured) -> Inference | None:
    """Returns what remains where the class is inferred from the text; None without texts."""
    crossfit = case.crossfit
    posterior, quality = crossfit.class_posterior, crossfit.inferred_quality
    tokens = crossfit.inferred_tokens
    if posterior is None or quality is None or tokens is None:
        return None
    cost_hat = (posterior @ case.usd_per_token) * tokens
    found = measure(quality, cost_hat, case.yardstick)
    full = by_class.quality - case.yardstick.hull_quality
    kept = np.full(full.shape, np.nan)
    np.divide(found.quality - case.yardstick.hull_quality, full, out=kept, where=full > 0.0)
    accuracy = float((posterior.argmax(axis=1) == case.scores.class_code).mean())
    return Inference(accuracy, _worth(found, case.yardstick), interval_of(kept))


def _model_fit(case: _Case, m: int) -> ModelFit:
    scores, crossfit = case.scores, case.crossfit
    prompt_quality = crossfit.prompt_quality
    return ModelFit(
        scores.model_names[m],
        auc_of(crossfit.class_quality[:, m], scores.score[:, m]),
        np.nan if prompt_quality is None else auc_of(prompt_quality[:, m], scores.score[:, m]),
        length_fit_of(
            crossfit.output_tokens[:, m], crossfit.class_tokens[:, m], scores.output_tokens[:, m]
        ),
    )


def _points(curve: Curve, yardstick: Yardstick) -> tuple[CurvePoint, ...]:
    """Returns a router's curve between the cheapest and the best single model."""
    hull = yardstick.hull
    low, high = float(hull.cost[0, 0]), float(hull.cost[0, -1])
    if not high > low:
        return ()
    cost = np.linspace(low, high, N_POINTS)
    router = score_at(curve, hull, cost)
    mixing = score_at(hull, hull, cost)[0]
    oracle = score_at(yardstick.oracle, hull, cost)[0]
    return tuple(
        CurvePoint(float(c), interval_of(router[:, i]), float(mixing[i]), float(oracle[i]))
        for i, c in enumerate(cost)
    )


def _splits(case: _Case, seed: int) -> tuple[Split, ...]:
    if case.scores.text is None:
        return ()
    features = surface(case.scores.text)
    return class_splits(case.scores, features, case.cost_hat, case.yardstick.outcome, seed)
