"""From a settled deployment to a Plan: figures rounded (§6), every number with its origin (§8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from planner import __version__
from planner.case import Case
from planner.score import Figure, Score
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import FOREVER_MS, worst_origin
from planner.spec.plan import (
    Bound,
    CascadeRoute,
    DeployedPool,
    FrontPoint,
    LatencyFigure,
    PlacedReplica,
    Plan,
    PoolFigure,
    Predicted,
    Price,
    Provenance,
    QualityBasis,
    Route,
    Simulated,
    Survived,
    ToMeasure,
)
from planner.spec.reasons import Reasons
from planner.spec.workload import Workload

if TYPE_CHECKING:  # what only planning loads: the rounding of figures is for others, too
    from planner.proofs.frontier import Proof
    from planner.settle import Settled

MONEY_DIGITS = 4
LATENCY_DIGITS = 1
SHARE_DIGITS = 6
RATIO_DIGITS = 6

FEWEST_TOKENS_PER_H = 1.0
"""Below this a price per token says nothing; a rate of 1e-300 must not break a plan."""


class Scored(Protocol):
    """A deployment with its routes and their score: what the predicted figures are made of."""

    @property
    def replicas(self) -> IntArray:
        """Returns the replicas of each pool, (P,)."""

    @property
    def shares(self) -> FloatArray:
        """Returns the share of each row on each pool, (R, P)."""

    @property
    def score(self) -> Score:
        """Returns the score at these shares."""

    @property
    def cost_usd_per_h(self) -> float:
        """Returns the money per hour, hosted requests included."""

    @property
    def rate_factor(self) -> float:
        """Returns how many times the question's rates are served."""


def make_answer(
    case: Case,
    settled: Settled,
    front: Sequence[Settled],
    why: Sequence[str],
    provenance: Provenance,
    complete: bool,
    bound: Bound | None = None,
    measure_first: Sequence[ToMeasure] = (),
    simulated: Simulated | None = None,
    front_simulated: Sequence[float | None] | None = None,
    quality_basis: QualityBasis | None = None,
    front_proofs: Sequence[Proof | None] | None = None,
    survives: Sequence[Survived] | None = None,
    reasons: Reasons | None = None,
) -> Plan:
    """Returns the plan of a settled deployment.

    Args:
        case: the question, with what was learned about its pools.
        settled: the chosen deployment.
        front: the best deployments, the chosen one among them.
        why: plain sentences.
        provenance: where the plan comes from.
        complete: False after an interruption.
        bound: what no plan can beat.
        measure_first: what to measure next.
        simulated: what the chosen one did in simulation.
        front_simulated: simulated / allowed latency of each point of the front, where simulated.
        quality_basis: what its quality rests on.
        front_proofs: what nothing beats at each point of the front, where that is proved.
        survives: what becomes of it in its scenarios; by default what the tables say.
        reasons: what its sentences say of other questions and deployments.
    """
    tried = front_simulated or [None] * len(front)
    proofs = front_proofs or [None] * len(front)
    if survives is None and settled.survivals:
        from planner.drills import by_tables  # loads what plays scenarios

        survives = by_tables(settled.survivals)
    return Plan(
        title=case.question.title,
        complete=complete,
        deployment=deployed(case, settled.replicas),
        routing=_routes(case, settled),
        cascades=_cascades(case, settled),
        prices=tuple(_rounded_price(price) for price in settled.routing.prices),
        predicted=predicted(case, settled),
        bound=bound,
        simulated=simulated,
        front=tuple(
            _front_point(case, point, point is settled, ratio, proof)
            for point, ratio, proof in zip(front, tried, proofs, strict=True)
        ),
        why=tuple(why),
        quality_basis=quality_basis,
        measure_first=tuple(measure_first),
        learned=case.learned,
        placement=placed(case, settled.replicas),
        survives=tuple(survives or ()),
        reasons=reasons or None,
        provenance=provenance,
    )


def make_provenance(
    method: str, seed: int, effort: str, n_evaluations: int, hashes: Mapping[str, str]
) -> Provenance:
    """Returns where a plan comes from: enough to make the same bytes again."""
    return Provenance(
        rb_version=__version__,
        method=method,
        seed=seed,
        effort=effort,
        n_evaluations=n_evaluations,
        inputs=dict(hashes),
    )


def deployed(case: Case, replicas: IntArray) -> tuple[DeployedPool, ...]:
    """Returns the rented pools of a deployment (P,), with their GPUs and rent."""
    rent, gpus = case.space.pool_usd_per_h(replicas), case.space.pool_gpus(replicas)
    found = []
    for p, profile in enumerate(case.pools):
        if replicas[p] == 0:
            continue
        found.append(
            DeployedPool(
                pool=profile.name,
                model_name=profile.pool.model_name,
                gpu=profile.pool.gpu,
                tensor_parallel=profile.pool.tensor_parallel,
                replicas=int(replicas[p]),
                n_gpus=round(float(gpus[p]), 4),
                usd_per_h=round(float(rent[p]), MONEY_DIGITS),
            )
        )
    return tuple(found)


def placed(case: Case, replicas: IntArray) -> tuple[PlacedReplica, ...]:
    """Returns the GPUs of each replica of a deployment (P,) where rows do not say all.

    That is on kinds of GPU that pools share, and where replicas leave gaps on nodes.
    """
    places = case.space.placement(replicas) or {}
    return tuple(
        PlacedReplica(pool=case.space.pool_names[p], replica=number, gpus=gpus)
        for p in sorted(places)
        for number, gpus in enumerate(places[p], start=1)
    )


def predicted(case: Case, settled: Scored) -> Predicted:
    """Returns the predicted outcome of a deployment with its routes, rounded for the file."""
    score, workload = settled.score, case.workload
    factor = settled.rate_factor
    usd_per_h, tokens_per_h = _long_run(case, settled)
    used = [f.origin for f in score.figures if f.at_most_ms is not None or f.class_name is None]
    return Predicted(
        rate_rps=round(workload.total_rps * factor, 6),
        class_rps={
            name: round(float(rate) * factor, 6)
            for name, rate in zip(workload.class_names, workload.class_rate_rps, strict=True)
        },
        rate_factor=round(factor, 6) if case.question.maximise == "rate_factor" else None,
        cost_usd_per_h=round(settled.cost_usd_per_h, MONEY_DIGITS),
        usd_per_million_output_tokens=_per_million(
            float(usd_per_h.sum()), float(tokens_per_h.sum()) - _discarded(case, settled)
        ),
        quality=round(score.quality, RATIO_DIGITS),
        class_quality={
            name: round(float(q), RATIO_DIGITS)
            for name, q in zip(workload.class_names, score.class_quality, strict=True)
        },
        latency=tuple(_figure(f) for f in score.figures),
        latency_ratio=_ratio(score.latency_ratio),
        pools=_pool_figures(case, settled),
        mix_shift_ratio=round(score.mix_shift_ratio, RATIO_DIGITS),
        origin=worst_origin(workload.origin, *used),
    )


def _long_run(case: Case, settled: Scored) -> tuple[FloatArray, FloatArray]:
    """Returns each pool's money in $/h and output tokens per hour at mean rates, (P,) each.

    Replicas are rented for the peak and paid all day; requests are paid, and answered, on average.
    """
    workload = case.workload
    per_h = workload.mean_rate_rps[:, None] * settled.shares * settled.rate_factor * 3600.0
    hosted = (per_h * workload.request_usd).sum(axis=0)
    tokens_per_h = (per_h * _output_tokens(workload)).sum(axis=0)
    return case.space.pool_usd_per_h(settled.replicas) + hosted, tokens_per_h


def _output_tokens(workload: Workload) -> FloatArray:
    """Returns the mean answer of each row on each pool in tokens, (R, P)."""
    return np.array(
        [[s.mean_output_tokens if s is not None else 0.0 for s in row] for row in workload.shapes]
    )


def _discarded(case: Case, settled: Scored) -> float:
    """Returns the output tokens per hour of first answers that no user gets.

    Answers that are not trusted are taken to be as long as the others.
    """
    workload, total = case.workload, 0.0
    tokens = _output_tokens(workload)
    for cascade in workload.cascades:
        row = cascade.first_row
        escalated_rps = cascade.escalated_ratio * workload.mean_rate_rps[row] * settled.rate_factor
        total += float(tokens[row] @ settled.shares[row]) * float(escalated_rps) * 3600.0
    return total


def _pool_figures(case: Case, settled: Scored) -> tuple[PoolFigure, ...]:
    score = settled.score
    usd_per_h, tokens_per_h = _long_run(case, settled)
    found = []
    for p, name in enumerate(case.space.pool_names):
        if settled.replicas[p] == 0:
            continue
        found.append(
            PoolFigure(
                pool=name,
                utilisation_ratio=round(float(score.utilisation[p]), RATIO_DIGITS),
                rate_rps=round(float(score.pool_rps[p]), 6),
                output_tokens_per_s=round(float(score.output_tokens_per_s[p]), 3),
                goodput_rps=round(float(score.goodput_rps[p]), 6),
                usd_per_million_output_tokens=_per_million(
                    float(usd_per_h[p]), float(tokens_per_h[p])
                ),
                extrapolated=score.extrapolated[p],
            )
        )
    return tuple(found)


def _per_million(usd_per_h: float, tokens_per_h: float) -> float | None:
    if tokens_per_h < FEWEST_TOKENS_PER_H:
        return None
    return round(usd_per_h / tokens_per_h * 1e6, MONEY_DIGITS)


def _routes(case: Case, settled: Settled) -> tuple[Route, ...]:
    routes = []
    for c, class_name in enumerate(case.workload.class_names):
        order = sorted(
            np.flatnonzero(settled.shares[c] > 0).tolist(),
            key=lambda p: (-settled.shares[c, p], case.space.pool_names[p]),
        )
        routes += [
            Route.model_validate(
                {
                    "class": class_name,
                    "pool": case.space.pool_names[p],
                    "share": round(float(settled.shares[c, p]), SHARE_DIGITS),
                }
            )
            for p in order
        ]
    return tuple(routes)


def _cascades(case: Case, settled: Settled) -> tuple[CascadeRoute, ...]:
    """Returns the cascades that carry traffic, of each class the largest first."""
    routes = []
    for cascade in case.workload.cascades:
        share = round(float(settled.shares[cascade.first_row].sum()), SHARE_DIGITS)
        if share <= 0:
            continue
        routes.append(
            CascadeRoute.model_validate(
                {
                    "class": cascade.class_name,
                    "share": share,
                    "signal": cascade.signal,
                    "below": cascade.below,
                    "escalated_ratio": round(cascade.escalated_ratio, RATIO_DIGITS),
                    "quality": round(cascade.quality, RATIO_DIGITS),
                    "first": _parts(case, settled.shares[cascade.first_row] / share),
                    "second": _parts(case, settled.shares[cascade.second_row] / share),
                }
            )
        )
    names = case.workload.class_names
    return tuple(sorted(routes, key=lambda r: (names.index(r.class_name), -r.share)))


def _parts(case: Case, ratio: FloatArray) -> list[dict[str, object]]:
    """Returns the pools of a stage with their shares of it, largest first."""
    pools = case.space.pool_names
    order = sorted(np.flatnonzero(ratio > 0).tolist(), key=lambda p: (-ratio[p], pools[p]))
    return [{"pool": pools[p], "share": round(float(ratio[p]), SHARE_DIGITS)} for p in order]


def _figure(figure: Figure) -> LatencyFigure:
    return LatencyFigure.model_validate(
        {
            "class": figure.class_name,
            "metric": figure.metric,
            "statistic": figure.statistic,
            "ms": ms_in_file(figure.ms),
            "low_ms": ms_in_file(figure.low_ms),
            "high_ms": ms_in_file(figure.high_ms),
            "at_most_ms": figure.at_most_ms,
            "origin": figure.origin,
        }
    )


def ms_in_file(value: float) -> float:
    """Returns a latency for the file: a percentile beyond every table is written as one day."""
    return round(value, LATENCY_DIGITS) if np.isfinite(value) else FOREVER_MS


def _ratio(value: float | None) -> float | None:
    return None if value is None else round(min(value, 1e6), RATIO_DIGITS)


def _rounded_price(price: Price) -> Price:
    # Duals carry solver noise in their last digits; six significant ones are the same everywhere.
    return price.model_copy(update={"value": float(f"{price.value:.6g}") + 0.0})


def _front_point(
    case: Case,
    point: Settled,
    chosen: bool,
    simulated_ratio: float | None,
    proof: Proof | None,
) -> FrontPoint:
    rates = case.question.maximise == "rate_factor"
    objective = point.score.objective_ms
    return FrontPoint(
        deployment={
            name: int(n)
            for name, n in zip(case.space.pool_names, point.replicas, strict=True)
            if n > 0
        },
        cost_usd_per_h=round(point.cost_usd_per_h, MONEY_DIGITS),
        quality=round(point.score.quality, RATIO_DIGITS),
        latency_ratio=_ratio(point.score.latency_ratio),
        latency_ms=None if objective is None else ms_in_file(objective),
        rate_factor=round(point.rate_factor, 6) if rates else None,
        simulated_latency_ratio=simulated_ratio,
        best_possible=None if proof is None else round(proof.best_possible, RATIO_DIGITS),
        gap_ratio=None if proof is None else round(proof.gap_ratio, RATIO_DIGITS),
        chosen=chosen,
    )
