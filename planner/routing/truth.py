"""What given shares do: the even-split truth, in numpy only.

Notation
    C classes, P pools, R rows: classes, then two stages per cascade (spec/workload.py)
    x_rp   share of the row's class that goes to pool p                               (R, P)
    r_p    load per replica: sum_r lambda_r s_rp x_rp / n_p                           (P,)
    S(t)   P(latency > t), of a class sum_p x_cp S_cp(t | r_p) / sum_p x_cp
    k, a   weight and time ratio of a term of a cascade's latency (Cascade.parts)

A class with cascades: to the sum over its own row each cascade adds its terms
    mean   sum_k k sum_p x_rp mean_rp        S(t)   sum_k k sum_p x_rp S_rp(a t | r_p)
with r the stage of the term, and all is divided by what the own row and the first stages serve.
The means are exact. The survival is an upper bound: the two latencies of an escalated request may
have to do with each other, so the union bound splits the time between them in a fixed ratio.

Replicas of a pool share its load evenly, so one load per pool says everything (§1). Statistics are
over served requests: a class by its shares, all traffic by lambda_c x_cp. Between grid loads the
tables are linear in the load, between grid times survival is linear in log t (spec/table.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from planner.spec.arrays import FloatArray, IntArray, distinct
from planner.spec.base import Metric
from planner.spec.table import PoolTable, quantile_ms
from planner.spec.workload import Cascade, ScopedLimit, StagePart, Workload

LIMIT_TOLERANCE = 1e-5  # relative: what rounding of solver and shares may miss by


def loads(
    workload: Workload, tables: Sequence[PoolTable], replicas: IntArray, shares: FloatArray
) -> FloatArray:
    """Returns the load per replica of every pool, (P,); inf where load meets no replica."""
    work_s = np.stack([table.work_s for table in tables], axis=1)
    arriving = np.where(shares > 0, workload.rate_rps[:, None] * work_s * shares, 0.0).sum(axis=0)
    none = np.where(arriving > 0, np.inf, 0.0)
    return np.asarray(np.where(replicas > 0, arriving / np.maximum(replicas, 1), none))


def served_shares(shares: FloatArray, cascades: Sequence[Cascade] = ()) -> FloatArray:
    """Returns the share of each class that is served, directly or by a cascade, (R, P) -> (C,)."""
    by_row = shares.sum(axis=1)
    served = by_row[: by_row.size - 2 * len(cascades)].copy()
    for cascade in cascades:
        served[cascade.class_index] += by_row[cascade.first_row]
    return np.asarray(served)


def class_means(
    tables: Sequence[PoolTable],
    load: FloatArray,
    shares: FloatArray,
    metric: Metric,
    cascades: Sequence[Cascade] = (),
) -> FloatArray:
    """Returns the mean latency in ms of every class at loads (P,), (C,); NaN where unserved."""
    direct = shares[: shares.shape[0] - 2 * len(cascades)]
    total = np.zeros(direct.shape[0])
    for p in np.flatnonzero(direct.any(axis=0)).tolist():
        used = np.flatnonzero(direct[:, p] > 0)
        total[used] += direct[used, p] * _mean_at(tables[p], metric, float(load[p]))[used]
    for c, part, p, share in _stage_terms(shares, metric, cascades):
        total[c] += share * _mean_at(tables[p], part.metric, float(load[p]))[part.row]
    return _per_served(total, served_shares(shares, cascades))


def class_survival(
    tables: Sequence[PoolTable],
    load: FloatArray,
    shares: FloatArray,
    metric: Metric,
    times_ms: FloatArray,
    cascades: Sequence[Cascade] = (),
) -> FloatArray:
    """Returns P(latency > t) of every class at loads (P,) and times (T,), (C, T); NaN: unserved.

    With cascades an upper bound, which may be above 1 where it says nothing.
    """
    direct = shares[: shares.shape[0] - 2 * len(cascades)]
    total = np.zeros((direct.shape[0], times_ms.size))
    for p in np.flatnonzero(direct.any(axis=0)).tolist():
        used = np.flatnonzero(direct[:, p] > 0)
        total[used] += (
            direct[used, p, None] * _survival_at(tables[p], metric, float(load[p]), times_ms)[used]
        )
    for c, part, p, share in _stage_terms(shares, metric, cascades):
        at_ms = part.time_ratio * times_ms
        total[c] += share * _survival_at(tables[p], part.metric, float(load[p]), at_ms)[part.row]
    return _per_served(total, served_shares(shares, cascades))


def limit_exceedance(
    workload: Workload,
    tables: Sequence[PoolTable],
    load: FloatArray,
    shares: FloatArray,
    scoped: ScopedLimit,
) -> float:
    """Returns the share of the served requests that the limit covers above at_most_ms, a ratio.

    NaN when none of them is served.
    """
    at_ms = np.array([scoped.limit.at_most_ms])
    metric, cascades = scoped.limit.metric, workload.cascades
    by_class = class_survival(tables, load, shares, metric, at_ms, cascades)[:, 0]
    return float(_over_scope(workload, shares, scoped, by_class[:, None])[0])


def limit_value(
    workload: Workload,
    tables: Sequence[PoolTable],
    load: FloatArray,
    shares: FloatArray,
    scoped: ScopedLimit,
) -> float:
    """Returns the limited statistic in ms over the served requests that the limit covers.

    A percentile is read from the mixed survival on the union of the time grids, on which it is
    exact. NaN when nothing is served, inf when the percentile lies beyond the grids.
    """
    metric, tail = scoped.limit.metric, scoped.limit.tail_ratio
    if tail is None:
        means = class_means(tables, load, shares, metric, workload.cascades)
        return float(_over_scope(workload, shares, scoped, means[:, None])[0])
    direct = shares[: workload.n_classes]
    used = np.flatnonzero(direct.any(axis=0)).tolist()
    grids = [tables[p].times_ms[metric] for p in used if metric in tables[p].times_ms]
    for _, part, p, _ in _stage_terms(shares, metric, workload.cascades):
        if part.metric in tables[p].times_ms:
            grids.append(tables[p].times_ms[part.metric] / part.time_ratio)
    if not grids:
        return float("nan")
    times_ms = distinct(np.concatenate(grids))
    survival = class_survival(tables, load, shares, metric, times_ms, workload.cascades)
    mixed = _over_scope(workload, shares, scoped, survival)
    return float("nan") if np.isnan(mixed).any() else float(quantile_ms(times_ms, mixed, tail))


def limit_met(
    workload: Workload,
    tables: Sequence[PoolTable],
    load: FloatArray,
    shares: FloatArray,
    scoped: ScopedLimit,
) -> bool:
    """Returns whether a limit holds for the served requests that it covers (true for none)."""
    tail = scoped.limit.tail_ratio
    if tail is None:
        value = limit_value(workload, tables, load, shares, scoped)
        at_most = scoped.limit.at_most_ms
    else:
        value = limit_exceedance(workload, tables, load, shares, scoped)
        at_most = tail
    covered = np.array([scoped.class_name in (None, name) for name in workload.class_names])
    if not served_shares(shares, workload.cascades)[covered].any():
        return True
    return bool(value <= at_most * (1.0 + LIMIT_TOLERANCE))


def _over_scope(
    workload: Workload, shares: FloatArray, scoped: ScopedLimit, by_class: FloatArray
) -> FloatArray:
    """Returns class figures (C, T) averaged over the served requests in a limit's scope, (T,)."""
    if scoped.class_name is not None:
        return np.asarray(by_class[workload.class_names.index(scoped.class_name)])
    served_rps = workload.class_rate_rps * served_shares(shares, workload.cascades)
    if served_rps.sum() <= 0:
        return np.full(by_class.shape[1], np.nan)
    known = served_rps > 0
    return np.asarray(served_rps[known] @ by_class[known] / served_rps.sum())


def _stage_terms(
    shares: FloatArray, metric: Metric, cascades: Sequence[Cascade]
) -> Iterator[tuple[int, StagePart, int, float]]:
    """Yields (class, term, pool, share times weight) of what cascades add to a latency."""
    for cascade in cascades:
        for part in cascade.parts(metric):
            if part.weight > 0:
                for p in np.flatnonzero(shares[part.row]).tolist():
                    yield cascade.class_index, part, p, part.weight * float(shares[part.row, p])


def _per_served(total: FloatArray, served: FloatArray) -> FloatArray:
    """Returns sums over pools per served share of a class; NaN where nothing is served."""
    per = np.where(served > 0, 1.0 / np.where(served > 0, served, 1.0), np.nan)
    return np.asarray(total * per.reshape((-1,) + (1,) * (total.ndim - 1)))


def _mean_at(table: PoolTable, metric: Metric, load: float) -> FloatArray:
    """Returns the class means of a pool at a load, (C,); NaN where the pool has no such figure."""
    if metric not in table.mean_ms:
        return np.full(table.work_s.size, np.nan)
    return table.mean_at(metric, load)


def _survival_at(table: PoolTable, metric: Metric, load: float, times_ms: FloatArray) -> FloatArray:
    """Returns P(latency > t) of every class on a pool at a load and at times (T,), (C, T)."""
    if metric not in table.survival:
        return np.full((table.work_s.size, times_ms.size), np.nan)
    grid_ms, survival = table.times_ms[metric], table.survival_at(metric, load)
    position = np.interp(np.log(times_ms), np.log(grid_ms), np.arange(grid_ms.size, dtype=float))
    low = np.minimum(position.astype(np.int64), grid_ms.size - 2)
    part = position - low
    return np.asarray(survival[:, low] * (1.0 - part) + survival[:, low + 1] * part)
