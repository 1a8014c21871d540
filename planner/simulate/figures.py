"""Simulated latency statistics against their limits.

Which requests a figure is about (§2):

    a limit      the statistic over all counted requests in its scope; one that failed, was refused,
                 or was answered in a time that nobody knows counts as infinitely late, for tpot
                 too. So a p95 is infinite when more than 5 % of them are, and a mean from the first
    other        over the answers whose time is known
    tpot         over answers of at least two tokens

A limit is met when the whole 95 % interval lies within it and missed when all of it lies above
(§9); between the two the runs are too short or too few to tell. Of a class of which no request
came nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.simulate.estimates import Estimate, estimates
from planner.simulate.records import Records
from planner.simulate.warmup import Window
from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.base import FOREVER_MS, METRICS, STATISTICS, Metric, Statistic
from planner.spec.plan import SimulatedFigure, Verdict
from planner.spec.question import LatencyObjective
from planner.spec.workload import ScopedLimit

LATENCY_DIGITS = 1
_UNKNOWN = Estimate(0.0, 0.0, FOREVER_MS)


def asked_figures(
    runs: Sequence[Records],
    window: Window,
    limits: Sequence[ScopedLimit],
    objective: LatencyObjective,
) -> tuple[SimulatedFigure, ...]:
    """Returns the limited statistics of what arrived in the window, then the usual ones."""
    counted = [run.between(window.start_ps, window.end_ps) for run in runs]
    limited = [(s.class_name, s.limit.metric, s.limit.statistic) for s in limits]
    usual: list[tuple[str | None, Metric, Statistic]] = [
        (None, objective.metric, objective.statistic)
    ]
    usual += [(None, metric, statistic) for metric in METRICS for statistic in ("mean", "p95")]
    usual += [(name, "e2e", "p95") for name in counted[0].class_names]
    figures = [
        _figure(*key, _estimate(counted, *key, True), scoped.limit.at_most_ms)
        for key, scoped in zip(limited, limits, strict=True)
    ]
    figures += [
        _figure(*key, _estimate(counted, *key, False))
        for key in dict.fromkeys(usual)
        if key not in limited and any(_values(run, *key[:2], False).size for run in counted)
    ]
    return tuple(figures)


def every_figure(runs: Sequence[Records], window: Window) -> tuple[SimulatedFigure, ...]:
    """Returns all statistics of all metrics, of all traffic and of each class, without limits."""
    counted = [run.between(window.start_ps, window.end_ps) for run in runs]
    return tuple(
        _figure(scope, metric, statistic, found)
        for scope in (None, *counted[0].class_names)
        for metric in METRICS
        for values in [[_values(run, scope, metric, False) for run in counted]]
        for statistic, found in estimates(values, STATISTICS).items()
        if any(run_values.size for run_values in values)
    )


def verdict(estimate: Estimate, at_most_ms: float) -> Verdict:
    """Returns where an interval lies against a limit: within it, above it, or on both sides."""
    if estimate.high <= at_most_ms:
        return "met"
    return "missed" if estimate.low > at_most_ms else "too close to call"


def latency_ratio(figures: Sequence[SimulatedFigure]) -> float | None:
    """Returns the largest of simulated over allowed; None without limits."""
    ratios = [min(f.ms / f.at_most_ms, 1e6) for f in figures if f.at_most_ms is not None]
    return round(max(ratios), 6) if ratios else None


def in_scope(run: Records, scope: str | None) -> BoolArray:
    """Returns which requests are of a class, (N,); all of them for None."""
    if scope is None:
        return np.full(run.n_requests, True)
    return np.asarray(run.class_index == run.class_names.index(scope))


def _estimate(
    counted: Sequence[Records],
    scope: str | None,
    metric: Metric,
    statistic: Statistic,
    is_limited: bool,
) -> Estimate:
    if not any(in_scope(run, scope).any() for run in counted):
        return _UNKNOWN
    values = [_values(run, scope, metric, is_limited) for run in counted]
    return estimates(values, (statistic,))[statistic]


def _values(run: Records, scope: str | None, metric: Metric, is_limited: bool) -> FloatArray:
    """Returns the latencies in ms that count, (n,), in order of arrival."""
    values = run.latency_ms(metric)
    if is_limited:
        values = np.where(run.is_timed, values, np.inf)
    return np.asarray(values[in_scope(run, scope) & ~np.isnan(values)])


def _figure(
    scope: str | None,
    metric: Metric,
    statistic: Statistic,
    estimate: Estimate,
    at_most_ms: float | None = None,
) -> SimulatedFigure:
    return SimulatedFigure.model_validate(
        {
            "class": scope,
            "metric": metric,
            "statistic": statistic,
            "ms": round(estimate.value, LATENCY_DIGITS),
            "low_ms": round(estimate.low, LATENCY_DIGITS),
            "high_ms": round(estimate.high, LATENCY_DIGITS),
            "at_most_ms": at_most_ms,
            "verdict": None if at_most_ms is None else verdict(estimate, at_most_ms),
        }
    )
