"""The score of a routed deployment: what its users will see, by the fitted tables.

Notation (C classes, P pools)
    lambda_c  planned rate                    req/s     x_cp  share of class c on pool p
    s_cp      work of one request             s         n_p   replicas
    rho_p     load per replica = sum_c lambda_c s_cp x_cp / n_p
    S_cp(t)   P(latency > t) on p at rho_p    (even split over the replicas of a pool)

A statistic of a class is that of the mixture sum_p x_cp S_cp; of all traffic, of
sum_cp lambda_c x_cp S_cp / sum_c lambda_c. Nothing is solved here: LP, plan, check and diff all
quote these figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import METRICS, Metric, Origin, Statistic, tail_ratio, worst_origin
from planner.spec.question import LatencyObjective, Limit
from planner.spec.table import PoolTable, quantile_ms, survival_at_time
from planner.spec.workload import Workload

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

    loads: FloatArray  # (P,) per replica, 1 = saturation
    utilisation: FloatArray  # (P,) load over what the table allows
    pool_rps: FloatArray  # (P,)
    goodput_rps: FloatArray  # (P,) requests within every limit on them
    output_tokens_per_s: FloatArray  # (P,)
    extrapolated: tuple[bool, ...]  # (P,)
    quality: float
    class_quality: FloatArray  # (C,)
    hosted_usd_per_h: float
    figures: tuple[Figure, ...]
    latency_ratio: float | None  # largest predicted/limit; None without limits
    objective_ms: float | None  # the latency objective, where there is no limit
    mix_shift_ratio: float  # how far the used pools' mix is from that of their tables
    problems: tuple[str, ...]  # what makes the plan unacceptable, in plain words


def score(
    workload: Workload,
    tables: Sequence[PoolTable],
    replicas: IntArray,
    shares: FloatArray,
    headroom_ratio: float,
    objective: LatencyObjective,
) -> Score:
    """Returns the score of shares (C, P) over replicas (P,), even split inside each pool."""
    flow = np.where(shares > 0, workload.rate_rps[:, None] * shares, 0.0)  # (C, P) req/s
    work = np.array([np.nan_to_num(t.work_s) for t in tables]).T  # (C, P)
    loads = (flow * work).sum(axis=0) / np.maximum(replicas, 1)
    per_class = np.nansum(np.where(shares > 0, shares * workload.quality, 0.0), axis=1)
    figures = _figures(workload, tables, loads, flow, objective)
    limited = [f for f in figures if f.at_most_ms is not None]
    overall = next(
        f
        for f in figures
        if (f.class_name, f.metric, f.statistic) == (None, objective.metric, objective.statistic)
    )
    tokens = np.array(
        [[s.mean_output_tokens if s is not None else 0.0 for s in row] for row in workload.shapes]
    )
    headroom = np.array([t.max_load for t in tables])
    result = Score(
        loads=loads,
        utilisation=loads / headroom,
        pool_rps=flow.sum(axis=0),
        goodput_rps=_goodput(workload, tables, loads, flow),
        output_tokens_per_s=(flow * tokens).sum(axis=0),
        extrapolated=tuple(
            bool(flow[:, p].any()) and t.is_extrapolated(float(loads[p]))
            for p, t in enumerate(tables)
        ),
        quality=float(workload.weights @ per_class),
        class_quality=per_class,
        hosted_usd_per_h=float((flow * workload.request_usd).sum() * 3600.0),
        figures=figures,
        latency_ratio=max((f.ratio for f in limited), default=None),
        objective_ms=None if limited else overall.ms,
        mix_shift_ratio=_mix_shift(tables, flow),
        problems=(),
    )
    problems = _problems(workload, replicas, shares, result, headroom_ratio)
    return replace(result, problems=problems)


def _figures(
    workload: Workload,
    tables: Sequence[PoolTable],
    loads: FloatArray,
    flow: FloatArray,
    objective: LatencyObjective,
) -> tuple[Figure, ...]:
    """Returns the limited statistics first, then the usual ones of all traffic."""
    rows: list[tuple[str | None, Metric, Statistic, Limit | None]] = [
        (s.class_name, s.limit.metric, s.limit.statistic, s.limit) for s in workload.limits
    ]
    seen = {row[:3] for row in rows}
    usual: list[tuple[str | None, Metric, Statistic, Limit | None]] = []
    usual += [(None, objective.metric, objective.statistic, None)]
    usual += [(None, metric, stat, None) for metric in METRICS for stat in ("mean", "p95")]
    usual += [(name, "e2e", "p95", None) for name in workload.class_names]
    for row in usual:
        if row[:3] not in seen:
            seen.add(row[:3])
            rows.append(row)
    return tuple(_figure(workload, tables, loads, flow, *row) for row in rows)


def _figure(
    workload: Workload,
    tables: Sequence[PoolTable],
    loads: FloatArray,
    flow: FloatArray,
    class_name: str | None,
    metric: Metric,
    statistic: Statistic,
    limit: Limit | None,
) -> Figure:
    rows = slice(None)  # the classes that the figure is about
    if class_name is not None:
        c = workload.class_names.index(class_name)
        rows = slice(c, c + 1)
    part = flow[rows]  # (c, P)
    used = [p for p in range(len(tables)) if part[:, p].any() and tables[p].has_latency]
    total = float(part[:, used].sum())
    at_most = limit.at_most_ms if limit is not None else None
    if total <= 0:
        return Figure(class_name, metric, statistic, 0.0, 0.0, 0.0, at_most, "measured")
    share = part / total
    tail = tail_ratio(statistic)
    if tail is None:
        ms = sum(
            float(share[:, p] @ tables[p].mean_at(metric, float(loads[p]))[rows]) for p in used
        )
    else:
        times, survival = mixture(tables, loads, metric, share, rows, used)
        ms = float(quantile_ms(times, survival, tail))
    band = sum(float(share[:, p].sum()) * tables[p].band_at(metric, float(loads[p])) for p in used)
    origin = worst_origin(*(tables[p].origin[metric] for p in used))
    return Figure(
        class_name, metric, statistic, ms, ms * max(0.0, 1 - band), ms * (1 + band), at_most, origin
    )


def mixture(
    tables: Sequence[PoolTable],
    loads: FloatArray,
    metric: Metric,
    share: FloatArray,
    rows: slice,
    used: Sequence[int],
) -> tuple[FloatArray, FloatArray]:
    """Returns the times in ms (T,) and the survival (T,) of a mixture of classes over pools.

    The grid is the union of the pools' grids, so that each limit is a node of it.
    """
    times = np.unique(np.concatenate([tables[p].times_ms[metric] for p in used]))
    survival = np.zeros(times.size)
    for p in used:
        curve = tables[p].survival_at(metric, float(loads[p]))[rows]  # (c, T_p)
        mixed = share[:, p] @ np.nan_to_num(curve)
        grid = tables[p].times_ms[metric]
        survival += np.interp(np.log(times), np.log(grid), mixed)
    return times, survival


def _goodput(
    workload: Workload, tables: Sequence[PoolTable], loads: FloatArray, flow: FloatArray
) -> FloatArray:
    """Returns the requests per second of each pool within every limit on them, (P,).

    Percentile limits count; several limits on one class are taken as if the slow requests of
    one were the slow requests of the other, so the largest exceedance counts.
    """
    goodput = np.zeros(len(tables))
    for p, table in enumerate(tables):
        missed = np.zeros(workload.n_classes)
        for scoped in workload.limits:
            if scoped.limit.tail_ratio is None or not table.has_latency:
                continue
            metric = scoped.limit.metric
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


def _problems(
    workload: Workload,
    replicas: IntArray,
    shares: FloatArray,
    result: Score,
    headroom_ratio: float,
) -> tuple[str, ...]:
    """Returns everything that makes a plan unacceptable (§3), in plain words."""
    found = []
    for c, name in enumerate(workload.class_names):
        served = float(shares[c].sum())
        if abs(served - 1.0) > MET_TOLERANCE:
            found.append(f"{1 - served:.2%} of class {name} has no place to go")
    for p, name in enumerate(workload.pool_names):
        if shares[:, p].any() and replicas[p] == 0:
            found.append(f"{name} gets traffic but has no replica")
        elif result.utilisation[p] > 1 - headroom_ratio + MET_TOLERANCE:
            found.append(
                f"{name} runs at {result.utilisation[p]:.1%} of its capacity, "
                f"at most {1 - headroom_ratio:.1%} leaves the headroom"
            )
    found += [
        f"{f.label} is {f.ms:,.0f} ms, limit {f.at_most_ms:,.0f} ms"
        for f in result.figures
        if f.at_most_ms is not None and f.ratio > 1 + MET_TOLERANCE
    ]
    floor = workload.quality_at_least
    if floor is not None and result.quality < floor - MET_TOLERANCE:
        found.append(f"quality is {result.quality:.4f}, floor {floor:.4f}")
    for c, name in enumerate(workload.class_names):
        least = float(workload.class_quality_at_least[c])
        if np.isfinite(least) and result.class_quality[c] < least - MET_TOLERANCE:
            found.append(f"quality of {name} is {result.class_quality[c]:.4f}, floor {least:.4f}")
    return tuple(found)
