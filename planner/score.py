"""The score of a routed deployment: what its users will see, by the fitted tables.

Notation (C classes, P pools, R rows: classes, then two stages per cascade, spec/workload.py)
    lambda_r  planned rate                    req/s     x_rp  share of row r on pool p
    s_rp      work of one request             s         n_p   replicas
    rho_p     load per replica = sum_r lambda_r s_rp x_rp / n_p

Rates, work, tokens and money of pools are those of all rows; quality, latency and what is served
count each request once. Loads and latencies are those of routing/truth.py. Nothing is solved here:
plan, check and diff all quote these figures. Shares of a class on a pool that it may not use count
as unserved.

A pool whose latency nobody measured takes forever as far as limits and the latency objective go;
figures without a limit are over the requests whose latency is known, and left out without any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.routing import truth
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import (
    METRICS,
    LatencyKey,
    Metric,
    Origin,
    Statistic,
    latency_label,
    worst_origin,
)
from planner.spec.question import LatencyObjective, Limit
from planner.spec.table import PoolTable, survival_at_time
from planner.spec.workload import ScopedLimit, Workload

Asked = LatencyKey

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
        return latency_label(self.class_name, self.metric, self.statistic)


@dataclass(frozen=True)
class Score:
    """What a deployment with its shares achieves."""

    loads: FloatArray  # (P,) per replica, 1 = saturation; inf where load meets no replica
    utilisation: FloatArray  # (P,) load over what the table allows
    pool_rps: FloatArray  # (P,) both stages of a cascade among them
    goodput_rps: FloatArray  # (P,) answers to users within every limit on them
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
    """Returns the score of shares (R, P) over replicas (P,), even split inside each pool."""
    served = np.where(workload.allowed & (shares > 0), shares, 0.0)
    flow = workload.rate_rps[:, None] * served  # (R, P) req/s
    loads = truth.loads(workload, tables, replicas, served)
    per_row = np.where(served > 0, served * workload.quality, 0.0).sum(axis=1)
    per_class = workload.by_class(per_row)
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
    usual: list[Asked] = [(None, objective.metric, objective.statistic)]
    usual += [(None, metric, stat) for metric in METRICS for stat in ("mean", "p95")]
    usual += [(name, "e2e", "p95") for name in workload.class_names]
    limited = {(s.class_name, s.limit.metric, s.limit.statistic) for s in workload.limits}
    wanted = [asked for asked in dict.fromkeys(usual) if asked not in limited]
    found = tuple(f for f in figures if f is not None)
    return found + figures_of(workload, tables, loads, served, wanted)


def figures_of(
    workload: Workload,
    tables: Sequence[PoolTable],
    loads: FloatArray,
    shares: FloatArray,
    wanted: Iterable[Asked],
) -> tuple[Figure, ...]:
    """Returns statistics without a limit, over the requests whose latency is known.

    Args:
        workload: of R rows on P pools.
        tables: of the pools, (P,).
        loads: per replica, (P,).
        shares: of each row that each pool serves, (R, P).
        wanted: (class or None, metric, statistic); those of no known latency are left out.
    """
    known = _with_known_latency(workload, tables, shares)
    scoped = (_scoped(*asked) for asked in wanted)
    figures = [_figure(workload, tables, loads, known, each, None) for each in scoped]
    return tuple(f for f in figures if f is not None)


def _with_known_latency(
    workload: Workload, tables: Sequence[PoolTable], served: FloatArray
) -> FloatArray:
    """Returns the shares (R, P) whose latency was measured; of a cascade all or none."""
    known = served * np.array([t.has_latency for t in tables])
    for cascade in workload.cascades:
        stages = [cascade.first_row, cascade.second_row]
        if (known[stages] != served[stages]).any():
            known[stages] = 0.0
    return np.asarray(known)


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
        part = _of_class(workload, shares, workload.class_names.index(name))
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


def _of_class(workload: Workload, shares: FloatArray, c: int) -> FloatArray:
    """Returns the requests on each pool, (P,), per request of a class, from shares (R, P)."""
    part = shares[c]
    for cascade in workload.cascades:
        if cascade.class_index == c:
            second = cascade.escalated_ratio * shares[cascade.second_row]
            part = part + shares[cascade.first_row] + second
    return np.asarray(part)


def _goodput(
    workload: Workload, tables: Sequence[PoolTable], loads: FloatArray, flow: FloatArray
) -> FloatArray:
    """Returns the answers per second of each pool within every limit on them, (P,).

    Percentile limits count; several limits on one class are taken as if the slow requests of
    one were the slow requests of the other, so the largest exceedance counts. Where latency was
    not measured, no request counts as within a limit. An answer of a cascade counts at the pool
    that gave it: a first answer that was not trusted counts nowhere.
    """
    goodput = np.zeros(len(tables))
    answered = flow.copy()
    for cascade in workload.cascades:
        answered[cascade.first_row] *= 1.0 - cascade.escalated_ratio
    for p, table in enumerate(tables):
        missed = np.zeros(workload.n_rows)
        for scoped in workload.limits:
            if scoped.limit.tail_ratio is None:
                continue
            late = np.ones(workload.n_rows)
            if table.has_latency:
                late = _late(workload, tables, loads, flow, scoped.limit, p)
            hit = workload.in_scope(scoped)
            missed = np.where(hit, np.maximum(missed, np.nan_to_num(late)), missed)
        goodput[p] = float(answered[:, p] @ (1.0 - missed))
    return goodput


def _late(
    workload: Workload,
    tables: Sequence[PoolTable],
    loads: FloatArray,
    flow: FloatArray,
    limit: Limit,
    p: int,
) -> FloatArray:
    """Returns the share of the answers of pool p that come after a limit, (R,), at most 1."""

    def at(pool: int, metric: Metric, at_ms: float) -> FloatArray:
        if not tables[pool].has_latency:
            return np.ones(workload.n_rows)
        curve = tables[pool].survival_at(metric, float(loads[pool]))
        return survival_at_time(tables[pool].times_ms[metric], curve, at_ms)

    late = at(p, limit.metric, limit.at_most_ms)
    for cascade in workload.cascades:
        first, second = cascade.first_row, cascade.second_row
        if limit.metric == "tpot":
            late[first] = 0.0  # a first answer comes whole
        if limit.metric == "tpot" or not flow[[first, second], p].any():
            continue
        *_, split, streamed = cascade.parts(limit.metric)
        late[first] = at(p, "e2e", limit.at_most_ms)[first]
        share = flow[first] / max(float(flow[first].sum()), 1e-300)
        before = sum(
            share[pool] * at(pool, "e2e", split.time_ratio * limit.at_most_ms)[first]
            for pool in np.flatnonzero(share).tolist()
        )
        after = at(p, limit.metric, streamed.time_ratio * limit.at_most_ms)[second]
        late[second] = min(1.0, before + after)
    return late


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
    by_class = truth.served_shares(shares, workload.cascades)
    for r, name in enumerate(workload.row_names):
        served = float(by_class[r]) if r < workload.n_classes else 1.0
        if served < 1.0 - MET_TOLERANCE:
            yield f"{1 - served:.2%} of class {name} has no place to go"
        elif served > 1.0 + MET_TOLERANCE:
            yield f"the shares of class {name} sum to {served:.2%}"
        for p in np.flatnonzero((shares[r] > 0) & ~workload.allowed[r]).tolist():
            yield f"{workload.pool_names[p]} gets requests of class {name}, which may not use it"
    for cascade in workload.cascades:
        first, second = shares[cascade.first_row].sum(), shares[cascade.second_row].sum()
        if abs(float(first - second)) > MET_TOLERANCE:
            yield f"the two stages of a cascade differ in their shares ({cascade.label})"
    for p, pool in enumerate(workload.pool_names):
        if shares[:, p].any() and replicas[p] == 0:
            yield f"{pool} gets traffic but has no replica"
        if tables[p].has_latency:
            continue
        for scoped in workload.limits:
            if shares[workload.in_scope(scoped), p].any():
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
