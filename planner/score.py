"""The score of a routed deployment: what its users will see, by the fitted tables.

Notation (C classes, P pools)
    lambda_c  planned rate                    req/s     x_cp  share of class c on pool p
    s_cp      work of one request             s         n_p   replicas
    rho_p     load per replica = sum_c lambda_c s_cp x_cp / n_p

Loads and latencies are those of routing/truth.py. Nothing is solved here: plan, check and diff all
quote these figures. Shares of a class on a pool that it may not use count as unserved.

A pool whose latency nobody measured takes forever as far as limits and the latency objective go;
figures without a limit are over the requests whose latency is known, and left out without any.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.routing import truth
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import METRICS, Metric, Origin, Statistic, worst_origin
from planner.spec.question import LatencyObjective, Limit
from planner.spec.table import PoolTable, survival_at_time
from planner.spec.workload import ScopedLimit, Workload

MET_TOLERANCE = 1e-6
"""Shares are rounded to 6 decimals; a limit may be missed by as much."""


@dataclass(frozen=True)
class Figure:
    """One latency statistic in ms with its band, and the limit on it if there is one."""

    class_name: str | None
    metric: Metric
    statistic: Statistic
    ms: float
    low_ms: float
    high_ms: float
    at_most_ms: float | None
    origin: Origin

    @property
    def ratio(self) -> float:
        """Returns predicted over allowed; 0 without a limit."""
        return 0.0 if self.at_most_ms is None else self.ms / self.at_most_ms

    @property
    def label(self) -> str:
        """Returns a short name, e.g. 'p95 e2e of math'."""
        return f"{self.statistic} {self.metric} of {self.class_name or 'all traffic'}"


@dataclass(frozen=True)
class Score:
    """What a deployment with its shares achieves."""

    loads: FloatArray  # (P,) per replica, 1 = saturation; inf where load meets no replica
    utilisation: FloatArray  # (P,) load over what the table allows
    pool_rps: FloatArray  # (P,)
    goodput_rps: FloatArray  # (P,) requests within every limit on them
    output_tokens_per_s: FloatArray  # (P,)
    extrapolated: tuple[bool, ...]  # (P,)
    quality: float
    class_quality: FloatArray  # (C,)
    hosted_usd_per_h: float
    figures: tuple[Figure, ...]  # the limited statistics first, then the usual ones
    latency_ratio: float | None  # largest predicted/limit; None without limits
    objective_ms: float | None  # the latency objective; None with limits, or with nothing served
    mix_shift_ratio: float  # how far the used pools' mix is from that of their tables
    problems: tuple[str, ...]  # what makes the plan unacceptable, in plain words


def duration(ms: float) -> str:
    """Returns a latency for a sentence, in s or ms."""
    return f"{ms / 1000:.2f} s" if ms >= 1000 else f"{ms:.0f} ms"


def score(
    workload: Workload,
    tables: Sequence[PoolTable],
    replicas: IntArray,
    shares: FloatArray,
    headroom_ratio: float,
    objective: LatencyObjective,
) -> Score:
    """Returns the score of shares (C, P) over replicas (P,), even split inside each pool."""
    served = np.where(workload.allowed & (shares > 0), shares, 0.0)
    flow = workload.rate_rps[:, None] * served  # (C, P) req/s
    loads = truth.loads(workload, tables, replicas, served)
    per_class = np.where(served > 0, served * workload.quality, 0.0).sum(axis=1)
    figures = _figures(workload, tables, loads, served, objective)
    wanted = _scoped(None, objective.metric, objective.statistic)
    objective_ms = truth.limit_value(workload, tables, loads, served, wanted)
    tokens = np.array(
        [[s.mean_output_tokens if s is not None else 0.0 for s in row] for row in workload.shapes]
    )
    result = Score(
        loads=loads,
        utilisation=loads / np.array([t.max_load for t in tables]),
        pool_rps=flow.sum(axis=0),
        goodput_rps=_goodput(workload, tables, loads, flow),
        output_tokens_per_s=(flow * tokens).sum(axis=0),
        extrapolated=tuple(
            bool(flow[:, p].any() and replicas[p] > 0) and t.is_extrapolated(float(loads[p]))
            for p, t in enumerate(tables)
        ),
        quality=float(workload.weights @ per_class),
        class_quality=per_class,
        hosted_usd_per_h=float((flow * workload.request_usd).sum() * 3600.0),
        figures=figures,
        latency_ratio=max((f.ratio for f in figures if f.at_most_ms is not None), default=None),
        objective_ms=None if workload.limits or np.isnan(objective_ms) else objective_ms,
        mix_shift_ratio=_mix_shift(tables, flow),
        problems=(),
    )
    problems = [
        *_misrouted(workload, tables, replicas, shares),
        *_broken_promises(workload, result, headroom_ratio),
    ]
    return replace(result, problems=tuple(problems))


def _scoped(
    class_name: str | None, metric: Metric, statistic: Statistic, at_most_ms: float = 1.0
) -> ScopedLimit:
    """Returns what asks truth.py for a statistic; without a limit, at_most_ms says nothing."""
    return ScopedLimit(class_name, Limit(metric=metric, statistic=statistic, at_most_ms=at_most_ms))


def _figures(
    workload: Workload,
    tables: Sequence[PoolTable],
    loads: FloatArray,
    served: FloatArray,
    objective: LatencyObjective,
) -> tuple[Figure, ...]:
    """Returns the limited statistics, then the usual ones of all traffic and of each class."""
    figures = [_figure(workload, tables, loads, served, s, s.limit) for s in workload.limits]
    usual = [_scoped(None, objective.metric, objective.statistic)]
    usual += [_scoped(None, metric, stat) for metric in METRICS for stat in ("mean", "p95")]
    usual += [_scoped(name, "e2e", "p95") for name in workload.class_names]
    known = served * np.array([t.has_latency for t in tables])
    seen = {s.label for s in workload.limits}
    for scoped in usual:
        if scoped.label not in seen:
            seen.add(scoped.label)
            figures.append(_figure(workload, tables, loads, known, scoped, None))
    return tuple(f for f in figures if f is not None)


def _figure(
    workload: Workload,
    tables: Sequence[PoolTable],
    loads: FloatArray,
    shares: FloatArray,
    scoped: ScopedLimit,
    limit: Limit | None,
) -> Figure | None:
    """Returns a statistic with its band; of no requests 0 ms if limited, otherwise None."""
    name, metric, statistic = scoped.class_name, scoped.limit.metric, scoped.limit.statistic
    ms = truth.limit_value(workload, tables, loads, shares, scoped)
    if np.isnan(ms):
        if limit is None:
            return None
        return Figure(name, metric, statistic, 0.0, 0.0, 0.0, limit.at_most_ms, "measured")
    part = workload.rate_rps @ shares  # (P,) requests in scope
    if name is not None:
        part = shares[workload.class_names.index(name)]
    used = np.flatnonzero(part).tolist()
    bands = np.array([tables[p].band_at(metric, float(loads[p])) for p in used])
    band = float(part[used] @ bands / part.sum())
    return Figure(
        name,
        metric,
        statistic,
        ms,
        ms * max(0.0, 1.0 - band) if np.isfinite(ms) else ms,
        ms * (1.0 + band),
        None if limit is None else limit.at_most_ms,
        worst_origin(*(tables[p].origin[metric] for p in used)),
    )


def _goodput(
    workload: Workload, tables: Sequence[PoolTable], loads: FloatArray, flow: FloatArray
) -> FloatArray:
    """Returns the requests per second of each pool within every limit on them, (P,).

    Percentile limits count; several limits on one class are taken as if the slow requests of
    one were the slow requests of the other, so the largest exceedance counts. Where latency was
    not measured, no request counts as within a limit.
    """
    goodput = np.zeros(len(tables))
    for p, table in enumerate(tables):
        missed = np.zeros(workload.n_classes)
        for scoped in workload.limits:
            if scoped.limit.tail_ratio is None:
                continue
            metric, late = scoped.limit.metric, np.ones(workload.n_classes)
            if table.has_latency:
                curve = table.survival_at(metric, float(loads[p]))
                late = survival_at_time(table.times_ms[metric], curve, scoped.limit.at_most_ms)
            hit = np.array([scoped.class_name in (None, n) for n in workload.class_names])
            missed = np.where(hit, np.maximum(missed, np.nan_to_num(late)), missed)
        goodput[p] = float(flow[:, p] @ (1.0 - missed))
    return goodput


def _mix_shift(tables: Sequence[PoolTable], flow: FloatArray) -> float:
    """Returns the largest total-variation distance between a pool's mix and its table's mix."""
    shift = 0.0
    for p, table in enumerate(tables):
        total = float(flow[:, p].sum())
        if total > 0:
            shift = max(shift, 0.5 * float(np.abs(flow[:, p] / total - table.mix).sum()))
    return shift


def _misrouted(
    workload: Workload, tables: Sequence[PoolTable], replicas: IntArray, shares: FloatArray
) -> Iterator[str]:
    """Yields what is wrong with where requests go, in plain words."""
    for c, name in enumerate(workload.class_names):
        served = float(shares[c].sum())
        if served < 1.0 - MET_TOLERANCE:
            yield f"{1 - served:.2%} of class {name} has no place to go"
        elif served > 1.0 + MET_TOLERANCE:
            yield f"the shares of class {name} sum to {served:.2%}"
        for p in np.flatnonzero((shares[c] > 0) & ~workload.allowed[c]).tolist():
            yield f"{workload.pool_names[p]} gets requests of class {name}, which may not use it"
    for p, pool in enumerate(workload.pool_names):
        if shares[:, p].any() and replicas[p] == 0:
            yield f"{pool} gets traffic but has no replica"
        if tables[p].has_latency:
            continue
        for scoped in workload.limits:
            covered = [scoped.class_name in (None, name) for name in workload.class_names]
            if shares[covered, p].any():
                yield f"{pool} carries what {scoped.label} limits, and its latency is not measured"


def _broken_promises(workload: Workload, result: Score, headroom_ratio: float) -> Iterator[str]:
    """Yields every headroom, limit and floor that is missed (§3), in plain words."""
    for p, pool in enumerate(workload.pool_names):
        if 1 - headroom_ratio + MET_TOLERANCE < result.utilisation[p] < np.inf:
            yield (
                f"{pool} runs at {result.utilisation[p]:.1%} of its capacity, "
                f"at most {1 - headroom_ratio:.1%} leaves the headroom"
            )
    for f in result.figures:
        if f.at_most_ms is not None and f.ratio > 1 + MET_TOLERANCE:
            is_ms = f"{f.ms:,.0f} ms" if np.isfinite(f.ms) else "beyond every time that was tabled"
            yield f"{f.label} is {is_ms}, limit {f.at_most_ms:,.0f} ms"
    floor = workload.quality_at_least
    if floor is not None and result.quality < floor - MET_TOLERANCE:
        yield f"quality is {result.quality:.4f}, floor {floor:.4f}"
    for c, name in enumerate(workload.class_names):
        least = float(workload.class_quality_at_least[c])
        if np.isfinite(least) and result.class_quality[c] < least - MET_TOLERANCE:
            yield f"quality of {name} is {result.class_quality[c]:.4f}, floor {least:.4f}"
