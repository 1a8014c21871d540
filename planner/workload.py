"""From the question to the workload: rates at which to plan, quality and lengths per class and pool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.quality.means import class_models
from planner.spec.arrays import FloatArray
from planner.spec.base import worst_origin
from planner.spec.inputs import QuestionFiles
from planner.spec.pool import Profile
from planner.spec.question import (
    Bursty,
    Question,
    RatePoint,
    RequestClass,
    Schedule,
    Square,
    Trace,
    TraceRow,
)
from planner.spec.workload import RequestShape, ScopedLimit, Workload

PEAK_WINDOW_S = 300.0


def make_workload(files: QuestionFiles, pools: Sequence[Profile]) -> Workload:
    """Returns the workload of a question on the given pools, as arrays."""
    question = files.question
    models = class_models(files)
    planned, mean = planning_rates(files)
    n_classes, n_pools = len(question.classes), len(pools)
    quality = np.full((n_classes, n_pools), np.nan)
    request_usd = np.zeros((n_classes, n_pools))
    shapes: list[tuple[RequestShape | None, ...]] = []
    for c, cls in enumerate(question.classes):
        row: list[RequestShape | None] = []
        for p, profile in enumerate(pools):
            model = models.get((cls.name, profile.pool.scored_as))
            if model is None or not _may_use(cls, profile.name):
                row.append(None)
                continue
            shape = RequestShape(model.input_tokens, model.output_tokens, cls.cached_input_ratio)
            quality[c, p] = model.score
            request_usd[c, p] = _request_usd(profile, shape)
            row.append(shape)
        shapes.append(tuple(row))
    used = [m for (c, _), m in models.items()]
    return Workload(
        class_names=tuple(c.name for c in question.classes),
        pool_names=tuple(p.name for p in pools),
        rate_rps=planned,
        mean_rate_rps=mean,
        quality=quality,
        allowed=np.isfinite(quality),
        shapes=tuple(shapes),
        limits=_limits(question),
        quality_at_least=question.quality_at_least,
        class_quality_at_least=np.array(
            [np.nan if c.quality_at_least is None else c.quality_at_least for c in question.classes]
        ),
        priority=np.array([float(c.priority) for c in question.classes]),
        request_usd=request_usd,
        origin=worst_origin(*(m.origin for m in used)),
    )


def arrival_cv(question: Question) -> float:
    """Returns the coefficient of variation of the gaps between arrivals; 1 is Poisson."""
    return question.arrivals.cv if isinstance(question.arrivals, Bursty) else 1.0


def planning_rates(files: QuestionFiles) -> tuple[FloatArray, FloatArray]:
    """Returns the rates to plan for and the long-run mean rates of the classes, both (C,) in req/s.

    A schedule or trace is planned at its busiest five minutes unless the question says mean.
    """
    question = files.question
    arrivals = question.arrivals
    stated = np.array([c.rate_rps for c in question.classes])
    mix = stated / stated.sum()
    if isinstance(arrivals, Schedule):
        mean, peak = _schedule_rates(files.schedule)
        planned = mean if arrivals.planning_rate == "mean" else peak
        return mix * planned * arrivals.rate_factor, mix * mean * arrivals.rate_factor
    if isinstance(arrivals, Trace):
        mean_c, peak_c = _trace_rates(files.trace, question, mix)
        planned_c = mean_c if arrivals.planning_rate == "mean" else peak_c
        return planned_c * arrivals.rate_factor, mean_c * arrivals.rate_factor
    if isinstance(arrivals, Square):
        mean = (arrivals.low_rps + arrivals.high_rps) / 2
        long_enough = arrivals.period_s / 2 >= PEAK_WINDOW_S
        peak = arrivals.high_rps if long_enough else mean
        return mix * (mean if arrivals.planning_rate == "mean" else peak), mix * mean
    return stated * arrivals.rate_factor, stated * arrivals.rate_factor


def _schedule_rates(points: Sequence[RatePoint]) -> tuple[float, float]:
    """Returns the mean and the busiest five-minute rate of a schedule, in req/s.

    Each rate holds until the next row; the last one as long as the one before it.
    """
    starts = np.array([p.start_s for p in points])
    rates = np.array([p.rate_rps for p in points])
    edges = np.append(starts, starts[-1] + (starts[-1] - starts[-2]))
    arrived = np.concatenate([[0.0], np.cumsum(rates * np.diff(edges))])
    span = edges[-1] - edges[0]
    mean = float(arrived[-1] / span)
    if span <= PEAK_WINDOW_S:
        return mean, mean
    # The busiest window of a step function starts or ends at one of its steps.
    begins = np.concatenate([edges, edges - PEAK_WINDOW_S])
    begins = np.clip(begins, edges[0], edges[-1] - PEAK_WINDOW_S)
    inside = np.interp(begins + PEAK_WINDOW_S, edges, arrived) - np.interp(begins, edges, arrived)
    return mean, float(inside.max() / PEAK_WINDOW_S)


def _trace_rates(
    rows: Sequence[TraceRow], question: Question, mix: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Returns the mean and the busiest five-minute rate of each class, (C,) in req/s.

    The busiest window is that of all traffic. Rows without a class follow the stated mix.
    """
    names = [c.name for c in question.classes]
    times = np.array([row.timestamp_s for row in rows])
    member = np.zeros((len(rows), len(names)))
    for i, row in enumerate(rows):
        member[i] = (
            mix if row.class_name is None else np.eye(len(names))[names.index(row.class_name)]
        )
    span = float(times[-1] - times[0])
    mean = np.asarray(member.sum(axis=0) / span)
    if span <= PEAK_WINDOW_S:
        return mean, mean
    ends = np.searchsorted(times, times + PEAK_WINDOW_S, side="left")
    first = int(np.argmax(ends - np.arange(times.size)))
    peak = np.asarray(member[first : int(ends[first])].sum(axis=0) / PEAK_WINDOW_S)
    return mean, peak


def _may_use(cls: RequestClass, pool: str) -> bool:
    return (cls.pools is None or pool in cls.pools) and pool not in cls.not_pools


def _request_usd(profile: Profile, shape: RequestShape) -> float:
    price = profile.pool.price
    if price is None:
        return 0.0
    usd = shape.mean_input_tokens * price.usd_per_million_input_tokens
    usd += shape.mean_output_tokens * price.usd_per_million_output_tokens
    return usd / 1e6


def _limits(question: Question) -> tuple[ScopedLimit, ...]:
    scoped = [ScopedLimit(None, limit) for limit in question.limits]
    for cls in question.classes:
        scoped += [ScopedLimit(cls.name, limit) for limit in cls.limits]
    return tuple(scoped)
