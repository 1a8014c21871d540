"""What an answer costs: the money of the capacity that it uses, per request and per token.

Notation
    C, P, M    number of classes, pools, models
    k_p        rent of one replica, USD per hour
    s_cp       work of one request of class c on pool p, replica-seconds              (C, P)
    L_p        highest load of a replica that may be planned, headroom taken off
    h_cp       what a hosted pool charges for the request, USD                        (C, P)
    n_cp       mean output tokens of class c on pool p                                (C, P)

    usd_cp = k_p / 3600 * s_cp / L_p + h_cp
    usd per token of model m = min over its pools p of usd_cp / n_cp

A replica is paid for whether it works or not; here it works as much as a plan may ask of it. So
this is what a request costs where capacity is rented to fit, which is what a choice between models
weighs; what a plan pays in the end is in plan.json.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from planner.case import Case
from planner.spec.arrays import FloatArray
from planner.spec.plan import Plan

if TYPE_CHECKING:
    from planner.quality.scores import Scores


ANSWERS, POINTS = 1000.0, 100.0
"""Money is shown for so many answers, quality in so many parts: that of one is a row of zeros."""


def request_usd(case: Case) -> FloatArray:
    """Returns the money in USD of a mean request of each class on each pool, (C, P).

    NaN where a class may not use a pool, and for pools of which no replica can be rented.
    """
    tables = case.tables()
    work_s = np.array([table.work_s for table in tables]).T
    headroom = 1.0 - case.question.headroom_ratio
    full_load = np.array([table.max_load for table in tables]) * headroom
    rent = case.space.cost_usd_per_h(np.eye(len(tables), dtype=np.int64))
    usd = rent / 3600.0 * work_s / full_load + case.workload.request_usd
    can_be_had = case.workload.allowed & (case.space.upper > 0)
    return np.where(can_be_had, usd, np.nan)


def usd_per_token(case: Case, scores: Scores, of_request: FloatArray) -> FloatArray:
    """Returns the money in USD per output token of each scored class and model, (C, M).

    Args:
        case: the question with its pools.
        scores: of some of its classes and models.
        of_request: request_usd(case), (C, P).

    The cheapest pool counts. Where a class may use none of a model's pools, the mean of the model's
    other classes stands in, so that its scores can still be weighed. NaN for a model that no pool
    of the question serves.
    """
    usd = _by_model(case, scores, of_request / _mean_output_tokens(case))
    priced = np.isfinite(usd)
    n_priced = priced.sum(axis=0)
    mean = np.where(priced, usd, 0.0).sum(axis=0) / np.maximum(n_priced, 1)
    in_question = np.isin(scores.class_names, case.workload.class_names)
    return np.where(priced | (n_priced == 0) | ~in_question[:, None], usd, mean)


@dataclass(frozen=True)
class Priced:
    """The scores of the models that a question can serve, and the money of their answers."""

    scores: Scores  # N prompts, M models that some pool serves
    usd_per_token: FloatArray  # (C, M), finite
    answer_usd: FloatArray  # (C, M) of a mean request; NaN: the class may use none of the pools
    weight: FloatArray  # (N,) share of the question's traffic that each prompt stands for
    left_out: tuple[str, ...]  # models that were scored and that no pool serves
    left_out_score: FloatArray  # (N, K) their scores; NaN: not scored


def priced(case: Case, scores: Scores) -> Priced:
    """Returns the part of the scores that money can be put to.

    Models that no pool of the question serves are left out, and with them prompts that no other
    model was scored on.
    """
    of_request = request_usd(case)
    usd = usd_per_token(case, scores, of_request)
    served = np.isfinite(usd).any(axis=0)
    kept = scores.take(np.flatnonzero(np.isfinite(scores.score[:, served]).any(axis=1)))
    names = np.array(scores.model_names, dtype=object)
    return Priced(
        replace(
            kept,
            model_names=tuple(names[served]),
            score=kept.score[:, served],
            n_samples=kept.n_samples[:, served],
            output_tokens=kept.output_tokens[:, served],
            signals={name: values[:, served] for name, values in kept.signals.items()},
        ),
        usd[:, served],
        _by_model(case, scores, of_request)[:, served],
        _traffic(case, kept),
        tuple(names[~served]),
        kept.score[:, ~served],
    )


def _traffic(case: Case, scores: Scores) -> FloatArray:
    """Returns the share of the traffic that each scored prompt stands for, (N,), summing to 1.

    A class that the question does not have, or that has no prompt, stands for nothing.
    """
    rates = dict(zip(case.workload.class_names, case.workload.weights.tolist(), strict=True))
    traffic = np.array([rates.get(name, 0.0) for name in scores.class_names])
    n_prompts = np.bincount(scores.class_code, minlength=scores.n_classes)
    each = (traffic / np.maximum(n_prompts, 1))[scores.class_code]
    return np.asarray(each / each.sum())


class ExchangeRate(NamedTuple):
    """What quality is worth in money, and where that is known from."""

    usd: float  # USD for one unit of quality (0 to 1) of one answer
    why: str


def usd_per_point(rate: ExchangeRate) -> float:
    """Returns the worth in USD of a point of quality (0.01) of 1,000 answers."""
    return rate.usd * ANSWERS / POINTS


def exchange_rate(plan: Plan) -> ExchangeRate | None:
    """Returns what a plan would pay for a little more quality; None where it does not say.

    The front tells it: the least money per quality at which a better choice was to be had. Without
    a better choice there, the dual price of the quality floor does.
    """
    requests_per_h = 3600.0 * plan.predicted.rate_rps
    step = _next_better(plan)
    if step is not None:
        usd_per_h, quality = step
        why = f"the next better choice of the plan is ${usd_per_h:,.2f}/h for {100 * quality:.2f}"
        return ExchangeRate(usd_per_h / quality / requests_per_h, f"{why} points more")
    for price in plan.prices:
        if price.what == "quality" and price.unit.startswith("USD per hour"):
            why = "the price of the quality floor in the plan"
            return ExchangeRate(price.value / requests_per_h, why)
    return None


def _next_better(plan: Plan) -> tuple[float, float] | None:
    """Returns money in USD per hour and quality of the cheapest step up from the chosen point."""
    chosen = next((point for point in plan.front if point.chosen), None)
    if chosen is None or chosen.rate_factor is not None:
        return None
    steps = [
        (point.cost_usd_per_h - chosen.cost_usd_per_h, point.quality - chosen.quality)
        for point in plan.front
    ]
    upwards = [(usd, quality) for usd, quality in steps if usd > 0 and quality > 0]
    return min(upwards, key=lambda step: (step[0] / step[1], step), default=None)


class Reign(NamedTuple):
    """The rates at which one model is worth the most."""

    model: int
    from_usd: float  # USD that one unit of quality (0 to 1) is worth; the first one is 0


def reigns(quality: FloatArray, usd: FloatArray) -> tuple[Reign, ...]:
    """Returns who wins at which worth of quality, from 0 on: the upper hull of rate * q - usd.

    Args:
        quality: mean score of each model, (M,).
        usd: money of each model's answer, (M,); NaN leaves a model out.

    Ties go to the cheaper model, then to the better one, then to the first.
    """
    left = np.flatnonzero(np.isfinite(usd) & np.isfinite(quality))
    if not left.size:
        return ()
    now = min(left.tolist(), key=lambda m: (usd[m], -quality[m], m))
    found = [Reign(now, 0.0)]
    while True:
        better = [m for m in left.tolist() if quality[m] > quality[now]]
        if not better:
            return tuple(found)
        rate = {m: (usd[m] - usd[now]) / (quality[m] - quality[now]) for m in better}
        now = min(better, key=lambda m: (rate[m], -quality[m], m))
        found.append(Reign(now, float(rate[now])))


def _mean_output_tokens(case: Case) -> FloatArray:
    """Returns the mean answer length of each class on each pool, (C, P); NaN where not allowed."""
    shapes = case.workload.shapes
    return np.array(
        [[np.nan if s is None else s.mean_output_tokens for s in row] for row in shapes]
    )


def _by_model(case: Case, scores: Scores, values: FloatArray) -> FloatArray:
    """Returns the least value over each model's pools, (C, P) of the case -> (C, M) of the scores.

    NaN where there is none.
    """
    least = np.full((scores.n_classes, scores.n_models), np.inf)
    names = case.workload.class_names
    for c, name in enumerate(scores.class_names):
        if name not in names:
            continue
        for p, profile in enumerate(case.pools):
            value = values[names.index(name), p]
            if profile.pool.scored_as in scores.model_names and np.isfinite(value):
                m = scores.model_names.index(profile.pool.scored_as)
                least[c, m] = min(least[c, m], value)
    return np.where(np.isfinite(least), least, np.nan)
