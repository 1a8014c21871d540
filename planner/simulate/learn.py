"""What a simulation teaches about the tables: how much slower a pool is than its formula (§9).

Notation (class c, pool p, metric m, a run at f times the traffic)
    S(t)      P(latency > t) by the table at the load of that run
    e, M      share of simulated latencies above a limit t; their mean, M' by the table        1, ms
    rho_p f   load of a replica of the pool in that run

Program
    ratio(rho_p f) = max(1, r over the limits on c and m)
    limit on a percentile    r = t / t',  S(t') = e     so that S stretched by r misses t as often
                             where few exceed t, the time that some do exceed takes its place:
                             a run without late requests says nothing about how late some would be
    limit on the mean        r = M / M'
    no limit                 r = simulated p95 / p95 by the table

A latency is a mixture over pools, so the share above the limit is what must be right, not the
pool's own percentile. A simulation that is faster than the formula teaches nothing: a plan may
lean on the more careful of the two. Classes that a pool did not serve get the mean ratio of those
that it did. A class that came to a pool in several ways, in stages of cascades, is held against the
table's row for each of them, and is as slow as the slowest. A stage has no limit of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.case import Case
from planner.simulate.records import Records
from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.base import METRICS, Metric
from planner.spec.plan import Learned
from planner.spec.question import Limit
from planner.spec.table import PoolTable, quantile_ms
from planner.spec.workload import Cascade

FEWEST_REQUESTS = 400
"""Of one class on one pool, for a statistic to teach anything: 20 beyond a p95."""

FEWEST_BEYOND = 20
"""Simulated latencies above a time, for their share to be known at all."""

LEAST_RATIO = 1.005
NO_LIMIT_MS = 1e12
RATIO_DIGITS = 4
LOAD_DIGITS = 6  # significant ones: a hosted pool's load may be tiny, and loads must stay apart


@dataclass(frozen=True)
class Lesson:
    """Runs of a plan: at which multiple of its traffic, and what happened."""

    rate_factor: float
    runs: tuple[Records, ...]  # of the requests on which the plan is judged
    cascades: tuple[Cascade, ...] = ()  # of the plan that was simulated


def learn(
    case: Case, tables: Sequence[PoolTable], loads: FloatArray, lessons: Sequence[Lesson]
) -> tuple[Learned, ...]:
    """Returns how much slower than their tables the pools of a plan are, where they are.

    Args:
        case: the question.
        tables: of every pool at the plan's mix, as the formula has them, (P,).
        loads: per replica at the planned rate, (P,).
        lessons: runs of the plan, at rising multiples of its traffic.
    """
    found: list[Learned] = []
    for p, table in enumerate(tables):
        reached = [lesson for lesson in lessons if loads[p] * lesson.rate_factor <= table.max_load]
        if not table.has_latency or loads[p] <= 0 or not reached:
            continue
        at = [float(loads[p]) * lesson.rate_factor for lesson in reached]
        for metric in METRICS:
            ratios = [
                _ratios(case, table, metric, lesson, load)
                for lesson, load in zip(reached, at, strict=True)
            ]
            found += _entries(case, table.pool, metric, at, np.array(ratios))
    return tuple(found)


def _entries(
    case: Case, pool: str, metric: Metric, loads: Sequence[float], ratios: FloatArray
) -> Iterable[Learned]:
    """Yields an entry per class with a lesson, and one for all other classes."""
    told = np.isfinite(ratios)
    if not told.any() or np.nanmax(ratios) < LEAST_RATIO:
        return
    weight = np.where(told, case.workload.weights, 0.0)
    some = weight.sum(axis=1) > 0
    mean = (np.nan_to_num(ratios) * weight).sum(axis=1)[some] / weight.sum(axis=1)[some]
    yield _entry(None, pool, metric, np.array(loads)[some], mean)
    for c, name in enumerate(case.workload.class_names):
        if told[:, c].any():
            yield _entry(name, pool, metric, np.array(loads)[told[:, c]], ratios[told[:, c], c])


def _entry(
    name: str | None, pool: str, metric: Metric, loads: FloatArray, ratio: FloatArray
) -> Learned:
    return Learned.model_validate(
        {
            "class": name,
            "pool": pool,
            "metric": metric,
            "load_ratio": tuple(float(f"{v:.{LOAD_DIGITS}g}") for v in loads),
            "slower_ratio": tuple(round(float(v), RATIO_DIGITS) for v in ratio),
        }
    )


def _ratios(
    case: Case, table: PoolTable, metric: Metric, lesson: Lesson, load: float
) -> FloatArray:
    """Returns simulated over predicted of every class on a pool, at least 1, (C,); NaN unknown."""
    ratios = np.full(case.workload.n_classes, np.nan)
    rows = [_rows(case, lesson, run) for run in lesson.runs]
    for row, c in enumerate(case.workload.row_class.tolist()):
        seen = np.concatenate(
            [
                _values(run.visits, table.pool, metric, row_of == row)
                for run, row_of in zip(lesson.runs, rows, strict=True)
            ]
        )
        if seen.size < FEWEST_REQUESTS:
            continue
        limits = _limits(case, metric, c) if row < ratios.size else [_no_limit(metric)]
        each = [_ratio(table, row, load, seen, limit) for limit in limits]
        ratios[c] = np.nanmax([1.0, ratios[c], *each])
    return ratios


def _rows(case: Case, lesson: Lesson, run: Records) -> IntArray:
    """Returns the row of the workload that each visit of a run took, (V,)."""
    if run.cascaded is None:
        return run.class_index
    known = {cascade.key: cascade for cascade in case.workload.cascades}
    own = [known[cascade.key] for cascade in lesson.cascades]
    rows = np.array([row for c in own for row in (c.first_row, c.second_row)] + [-1])
    stage = run.cascaded.visit_stage
    return np.where(stage >= 0, rows[stage], run.visits.class_index)


def _values(run: Records, pool: str, metric: Metric, here: BoolArray) -> FloatArray:
    """Returns the latencies in ms of some requests, (n,), of those that went to a pool."""
    values = run.latency_ms(metric)
    here = here & (run.pool_index == run.pool_names.index(pool))
    return np.asarray(values[here & np.isfinite(values)])


def _limits(case: Case, metric: Metric, c: int) -> list[Limit]:
    """Returns the limits on a metric of a class; a p95 without a limit where there is none."""
    name = case.workload.class_names[c]
    found = [
        scoped.limit
        for scoped in case.workload.limits
        if scoped.limit.metric == metric and scoped.class_name in (None, name)
    ]
    return found or [_no_limit(metric)]


def _no_limit(metric: Metric) -> Limit:
    return Limit(metric=metric, statistic="p95", at_most_ms=NO_LIMIT_MS)


def _ratio(
    table: PoolTable, row: int, load: float, simulated_ms: FloatArray, limit: Limit
) -> float:
    """Returns how much slower than the table simulated latencies (n,) are where a limit is."""
    metric, tail = limit.metric, limit.tail_ratio
    if tail is None:
        return float(simulated_ms.mean()) / float(table.mean_at(metric, load)[row])
    n, at_ms = simulated_ms.size, limit.at_most_ms
    if at_ms == NO_LIMIT_MS:
        at_ms = float(np.quantile(simulated_ms, 1.0 - tail))
    at_ms = min(at_ms, float(np.partition(simulated_ms, n - 1 - FEWEST_BEYOND)[-1 - FEWEST_BEYOND]))
    exceeded = float(np.clip(np.mean(simulated_ms > at_ms), 1.0 / n, 1.0 - 1.0 / n))
    survival = table.survival_at(metric, load)[row]
    return at_ms / float(quantile_ms(table.times_ms[metric], survival, exceeded))
