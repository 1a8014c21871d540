"""From the question to the workload: planned rates, quality and lengths per class and pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from planner.arrivals import RateCurve
from planner.errors import Fault, InputError
from planner.quality.inferred import mixed_models
from planner.quality.lengths import PLANNED, Nodes, observed_nodes
from planner.quality.means import class_models
from planner.spec.arrays import FloatArray
from planner.spec.base import Metric, Origin, worst_origin
from planner.spec.inputs import QuestionFiles
from planner.spec.pool import Profile
from planner.spec.question import (
    Bursty,
    Poisson,
    Question,
    RequestClass,
    Schedule,
    Square,
    Trace,
)
from planner.spec.table import PoolTable
from planner.spec.workload import Cascade, RequestShape, ScopedLimit, Workload

if TYPE_CHECKING:
    from planner.quality.cascade import CascadeOption

PEAK_WINDOW_S = 300.0
SPLIT_METRICS: tuple[Metric, ...] = ("ttft", "e2e")
EVEN_SPLIT = 0.5
SPLIT_RATIOS = 0.05, 0.95
"""No stage of a cascade gets less of the time than this."""


def make_workload(
    files: QuestionFiles,
    pools: Sequence[Profile],
    nodes: Nodes = PLANNED,
    cascades: Sequence[CascadeOption] = (),
) -> Workload:
    """Returns the workload of a question on the given pools, as arrays.

    Args:
        files: the question and the tables that it names.
        pools: who may answer it, (P,).
        nodes: how finely the distributions of its lengths are cut.
        cascades: that may be used; those without pools for both of their models are left out.

    Raises:
        InputError: a class never occurs in the trace that the question names.
    """
    question = files.question
    models = class_models(files, nodes, {profile.pool.scored_as for profile in pools})
    if files.inferred is not None:
        names = [cls.name for cls in question.classes]
        models = mixed_models(models, names, files.inferred.mixture, nodes)
    planned, mean = planning_rates(files)
    n_classes, n_pools = len(question.classes), len(pools)
    quality = np.full((n_classes, n_pools), np.nan)
    request_usd = np.zeros((n_classes, n_pools))
    shapes: list[tuple[RequestShape | None, ...]] = []
    origins: set[Origin] = set()
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
            origins.add(model.origin)
            row.append(shape)
        shapes.append(tuple(row))
    workload = Workload(
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
        origin=worst_origin(*origins),
    )
    for option in cascades:
        if option.class_name in workload.class_names:
            workload = _with_cascade(workload, question, pools, option, nodes)
    return workload


def with_split_times(workload: Workload, tables: Sequence[PoolTable]) -> Workload:
    """Returns the workload with the time of each cascade split as its stages take it at half load.

    Args:
        workload: with cascades.
        tables: of the pools at the traffic's own mix, (P,).
    """

    def mean_ms(row: int, metric: Metric) -> float:
        known = [
            float(table.mean_at(metric, table.max_load / 2)[row])
            for table, allowed in zip(tables, workload.allowed[row], strict=True)
            if allowed and table.has_latency and metric in table.mean_ms
        ]
        return float(np.mean(known)) if known else np.nan

    def first_ratio(cascade: Cascade, metric: Metric) -> float:
        first, second = mean_ms(cascade.first_row, "e2e"), mean_ms(cascade.second_row, metric)
        ratio = first / (first + second)
        low, high = SPLIT_RATIOS
        return round(min(max(ratio, low), high), 3) if np.isfinite(ratio) else EVEN_SPLIT

    split = [
        replace(cascade, first_time_ratio={m: first_ratio(cascade, m) for m in SPLIT_METRICS})
        for cascade in workload.cascades
    ]
    return replace(workload, cascades=tuple(split))


def _with_cascade(
    workload: Workload,
    question: Question,
    pools: Sequence[Profile],
    option: CascadeOption,
    nodes: Nodes,
) -> Workload:
    """Returns the workload with two rows more, or the same where a stage has no pool."""
    c = workload.class_names.index(option.class_name)
    own, stated = workload.shapes[c], question.classes[c].output_tokens is not None
    runs = [profile.pool.scored_as for profile in pools]
    first = tuple(
        shape if name == option.first else None for name, shape in zip(runs, own, strict=True)
    )
    second = tuple(
        _escalated(shape, option, stated, nodes) if shape and name == option.second else None
        for name, shape in zip(runs, own, strict=True)
    )
    stages = (first, second)
    if not all(any(stage) for stage in stages):
        return workload
    allowed = np.array([[shape is not None for shape in stage] for stage in stages])
    cascade = Cascade(
        class_name=option.class_name,
        class_index=c,
        first_row=workload.n_rows,
        second_row=workload.n_rows + 1,
        first_model=option.first,
        second_model=option.second,
        signal=option.signal,
        below=float(option.below),
        escalated_ratio=float(option.escalated_ratio),
        quality=float(option.quality),
        first_time_ratio=dict.fromkeys(SPLIT_METRICS, EVEN_SPLIT),
    )
    part = np.array([1.0, cascade.escalated_ratio])
    worth = np.array([[cascade.quality], [0.0]])
    usd = [
        [0.0 if s is None else _request_usd(p, s) for p, s in zip(pools, stage, strict=True)]
        for stage in stages
    ]
    return replace(
        workload,
        rate_rps=np.append(workload.rate_rps, part * workload.rate_rps[c]),
        mean_rate_rps=np.append(workload.mean_rate_rps, part * workload.mean_rate_rps[c]),
        quality=np.vstack([workload.quality, np.where(allowed, worth, np.nan)]),
        allowed=np.vstack([workload.allowed, allowed]),
        shapes=(*workload.shapes, *stages),
        request_usd=np.vstack([workload.request_usd, usd]),
        cascades=(*workload.cascades, cascade),
    )


def _escalated(
    own: RequestShape, option: CascadeOption, stated: bool, nodes: Nodes
) -> RequestShape:
    """Returns the token counts of escalated requests of a class on the second model.

    Prompts are as much longer or shorter than the class's as they were where it was measured. An
    answer length that the question states for the class holds for them, too.
    """
    if not option.second_output_tokens.size:
        return own
    scale = float(own.input_tokens.mean()) / float(option.first_input_tokens.mean())
    return replace(
        own,
        input_tokens=observed_nodes(scale * option.second_input_tokens, nodes.n_input),
        output_tokens=own.output_tokens
        if stated
        else observed_nodes(np.maximum(option.second_output_tokens, 1.0), nodes.n_output),
    )


def arrival_cv(question: Question) -> float:
    """Returns the coefficient of variation of the gaps between arrivals; 1 is Poisson."""
    return question.arrivals.cv if isinstance(question.arrivals, Bursty) else 1.0


def planning_rates(files: QuestionFiles) -> tuple[FloatArray, FloatArray]:
    """Returns the rates to plan for and the long-run mean rates of the classes, both (C,) in req/s.

    A schedule or trace is planned at its busiest five minutes unless the question says mean, and
    never below its mean.

    Raises:
        InputError: a class never occurs in the trace that the question names.
    """
    question = files.question
    arrivals = question.arrivals
    stated = np.array([c.rate_rps for c in question.classes])
    mix = stated / stated.sum()
    if isinstance(arrivals, Schedule):
        mean, peak = _schedule_rates(schedule_curve(files))
        planned = mean if arrivals.planning_rate == "mean" else peak
        return mix * planned * arrivals.rate_factor, mix * mean * arrivals.rate_factor
    if isinstance(arrivals, Trace):
        mean_c, peak_c = _trace_rates(files, arrivals, mix)
        planned_c = mean_c if arrivals.planning_rate == "mean" else peak_c
        return planned_c * arrivals.rate_factor, mean_c * arrivals.rate_factor
    if isinstance(arrivals, Square):
        mean, peak = _square_rates(arrivals)
        return mix * (mean if arrivals.planning_rate == "mean" else peak), mix * mean
    return stated * arrivals.rate_factor, stated * arrivals.rate_factor


def busiest_minutes(files: QuestionFiles) -> tuple[float, float] | None:
    """Returns start and end, in s since the first arrival, of the five minutes planned for.

    None where the question is planned at its mean. A trace is looked at as it was recorded, before
    any rate factor; a square wave begins with its high half.
    """
    arrivals = files.question.arrivals
    if isinstance(arrivals, Poisson | Bursty) or arrivals.planning_rate == "mean":
        return None
    if isinstance(arrivals, Square):
        return 0.0, PEAK_WINDOW_S
    if isinstance(arrivals, Schedule):
        curve = schedule_curve(files)
        begin_s, peak = _busiest_step(curve)
        is_mean = peak <= float(curve.expected[-1] / curve.period_s)
        return None if is_mean else (begin_s, begin_s + PEAK_WINDOW_S)
    times = _since_first(files)
    if times[-1] <= PEAK_WINDOW_S:
        return None
    begin_s = float(times[_busiest_rows(times).start])
    return begin_s, begin_s + PEAK_WINDOW_S


def schedule_curve(files: QuestionFiles) -> RateCurve:
    """Returns the rate of a question whose arrivals follow a schedule, before any rate factor.

    Each rate holds until the next row; the last one as long as the one before it.
    """
    starts = np.array([p.start_s for p in files.schedule])
    return RateCurve.from_starts(starts, np.array([p.rate_rps for p in files.schedule]))


def _square_rates(arrivals: Square) -> tuple[float, float]:
    """Returns the mean and the busiest five-minute rate of a square wave, in req/s.

    The busiest window starts with the high half; periods that do not fill it begin another one.
    """
    periods, rest_s = divmod(PEAK_WINDOW_S, arrivals.period_s)
    half_s = arrivals.period_s / 2
    high = (periods * half_s + min(rest_s, half_s)) / PEAK_WINDOW_S
    mean = (arrivals.low_rps + arrivals.high_rps) / 2
    return mean, arrivals.low_rps + high * (arrivals.high_rps - arrivals.low_rps)


def _schedule_rates(curve: RateCurve) -> tuple[float, float]:
    """Returns the mean and the busiest five-minute rate of a schedule, in req/s."""
    mean = float(curve.expected[-1] / curve.period_s)
    # No window can hold traffic at both ends of a short schedule: then the mean is higher.
    return mean, max(mean, _busiest_step(curve)[1])


def _busiest_step(curve: RateCurve) -> tuple[float, float]:
    """Returns the start, in s since the curve's, and the rate of its busiest five minutes.

    A shorter curve is one window, at its mean rate.
    """
    edges, arrived, span = curve.edges_s, curve.expected, curve.period_s
    if span <= PEAK_WINDOW_S:
        return 0.0, float(arrived[-1] / span)
    # The busiest window of a step function starts or ends at one of its steps.
    begins = np.concatenate([edges, edges - PEAK_WINDOW_S])
    begins = np.clip(begins, edges[0], edges[-1] - PEAK_WINDOW_S)
    inside = np.interp(begins + PEAK_WINDOW_S, edges, arrived) - np.interp(begins, edges, arrived)
    most = int(np.argmax(inside))
    return float(begins[most] - edges[0]), float(inside[most] / PEAK_WINDOW_S)


def _trace_rates(
    files: QuestionFiles, arrivals: Trace, mix: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Returns the mean and the busiest five-minute rate of each class, (C,) in req/s.

    The busiest window is that of all traffic; a class that is rarer in it than on average counts
    with its mean. Rows without a class follow the stated mix. The mean counts the gaps between
    requests, one less than there are requests, as the time from first to last holds no more.
    """
    rows, names = files.trace, [c.name for c in files.question.classes]
    times = _since_first(files)
    one_of = np.vstack([np.eye(len(names)), mix])
    kind = [len(names) if r.class_name is None else names.index(r.class_name) for r in rows]
    member = one_of[kind]  # (N, C)
    total = member.sum(axis=0)
    if not total.all():
        raise InputError(
            [_never(files, arrivals, n) for n, k in zip(names, total, strict=True) if k == 0]
        )
    span = float(times[-1])
    mean = np.asarray(total * ((1.0 - 1.0 / len(rows)) / span))
    if span <= PEAK_WINDOW_S:
        return mean, mean
    peak = member[_busiest_rows(times)].sum(axis=0) / PEAK_WINDOW_S
    return mean, np.maximum(mean, peak)


def _since_first(files: QuestionFiles) -> FloatArray:
    """Returns the recorded times of the trace, (N,) in s since its first request."""
    times = np.array([row.timestamp_s for row in files.trace])
    return np.asarray(times - times[0])


def _busiest_rows(times: FloatArray) -> slice:
    """Returns which requests (N,) arrive in the busiest five minutes of a trace."""
    ends = np.searchsorted(times, times + PEAK_WINDOW_S, side="left")
    first = int(np.argmax(ends - np.arange(times.size)))
    return slice(first, int(ends[first]))


def _never(files: QuestionFiles, arrivals: Trace, name: str) -> Fault:
    what = f"never occurs in {arrivals.trace}"
    return Fault(files.name, f"classes.{name}", what, "remove the class, or name it in the trace")


def _may_use(cls: RequestClass, pool: str) -> bool:
    return (cls.pools is None or pool in cls.pools) and pool not in cls.not_pools


def _request_usd(profile: Profile, shape: RequestShape) -> float:
    price = profile.pool.price
    if price is None:
        return 0.0
    # Every prompt token is charged: what a provider takes off for cached ones is not known.
    usd = float(shape.input_tokens.mean()) * price.usd_per_million_input_tokens
    usd += shape.mean_output_tokens * price.usd_per_million_output_tokens
    return usd / 1e6


def _limits(question: Question) -> tuple[ScopedLimit, ...]:
    scoped = [ScopedLimit(None, limit) for limit in question.limits]
    for cls in question.classes:
        scoped += [ScopedLimit(cls.name, limit) for limit in cls.limits]
    return tuple(scoped)
