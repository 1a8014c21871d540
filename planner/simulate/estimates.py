"""Statistics of simulated requests with 95 % confidence intervals.

Notation
    y        values of n requests, in b groups that hardly depend on each other
    T        a statistic of values: the mean, or a percentile (linear between order statistics)
    T_-g     the same of all groups but g
    J_g      = b T - (b - 1) T_-g                      pseudo-values

    interval     T +- t(b - 1) s_J / sqrt(b),   s_J the standard deviation of J_1..J_b

Groups are the runs (replications). A single run is cut into ten equal parts in order of arrival
(batch means), and so are fewer than five runs, into ten or more in all: two runs alone would be
sure of little, as t(1) = 12.7. Where the rate changes by plan, parts of a run differ for that
reason, too, and may be far from independent: five runs and more tell better.

For a mean over equal groups J_g is the mean of group g, so this is the usual t interval; for a
percentile it asks how far the percentile of everything moves when one group is missing, which
small groups do not bias.

Infinite values are allowed: a percentile stands as long as few enough of them lie above it, a mean
does not. What is infinite is written as FOREVER_MS, one day.

References: Miller, "The jackknife - a review", Biometrika 61 (1974); Law, "Simulation Modeling and
Analysis", ch. 9 (replications, batch means).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import FOREVER_MS, Statistic, tail_ratio
from planner.steady import N_BATCHES, student_t

ENOUGH_RUNS = 5

_FEWEST = 2 * N_BATCHES
_ABOVE = 2  # values that must lie above a percentile


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, all in the unit of what was estimated."""

    value: float
    low: float
    high: float


def parts_per_run(n_runs: int) -> int:
    """Returns into how many groups each of some runs is cut."""
    return 1 if n_runs >= ENOUGH_RUNS else math.ceil(N_BATCHES / n_runs)


def of_groups(value: float, groups: FloatArray) -> Estimate:
    """Returns the interval of a value of at least 0, the mean of those of b >= 2 groups, (b,)."""
    half = student_t(groups.size - 1) * float(groups.std(ddof=1)) / math.sqrt(groups.size)
    return Estimate(value, max(value - half, 0.0), value + half)


def estimates(
    runs: Sequence[FloatArray], statistics: Sequence[Statistic]
) -> dict[Statistic, Estimate]:
    """Returns statistics of values of at least 0, each run's (n,) in order of arrival.

    Nothing is known of no values: 0 with the interval 0 to 0. Of too few values (20, and two above
    a percentile) it is only known that the statistic is not below the smallest.
    """
    filled = [run for run in runs if run.size]
    if not filled:
        return dict.fromkeys(statistics, Estimate(0.0, 0.0, 0.0))
    n_parts = parts_per_run(len(filled))
    groups = [part for run in filled for part in np.array_split(run, n_parts) if part.size]
    pool = _pooled(groups)
    return {statistic: _estimate(pool, statistic) for statistic in statistics}


@dataclass(frozen=True)
class _Pool:
    """The values of all groups, ascending (n,), and the places of each group among them."""

    ordered: FloatArray
    places: tuple[IntArray, ...]  # (b,) of (n_g,) each, ascending


def _pooled(groups: Sequence[FloatArray]) -> _Pool:
    values = np.concatenate(groups)
    order = np.argsort(values, kind="stable")
    owner = np.repeat(np.arange(len(groups)), [group.size for group in groups])[order]
    return _Pool(values[order], tuple(np.flatnonzero(owner == g) for g in range(len(groups))))


def _estimate(pool: _Pool, statistic: Statistic) -> Estimate:
    """Returns a statistic with its jackknife interval, or with how little is known of it."""
    tail = tail_ratio(statistic)
    value = float(pool.ordered.mean()) if tail is None else _percentile(pool.ordered, tail)
    if pool.ordered.size < (_FEWEST if tail is None else max(_FEWEST, math.ceil(_ABOVE / tail))):
        return Estimate(_finite(value), _finite(pool.ordered[0]), FOREVER_MS)
    if tail is not None:
        without = [_finite(_percentile(pool.ordered, tail, out)) for out in pool.places]
        return _jackknife(_finite(value), np.array(without))
    if not math.isfinite(value):
        return Estimate(FOREVER_MS, FOREVER_MS, FOREVER_MS)
    sums = np.array([pool.ordered[out].sum() for out in pool.places])
    sizes = np.array([out.size for out in pool.places])
    return _jackknife(value, (sums.sum() - sums) / (sizes.sum() - sizes))


def _percentile(ordered: FloatArray, tail: float, left_out: IntArray | None = None) -> float:
    """Returns what a tail of sorted values lies above, less those at some places (k,)."""
    n_out = 0 if left_out is None else left_out.size
    below, part = divmod((ordered.size - n_out - 1) * (1.0 - tail), 1.0)
    at = np.array([int(below), int(below) + (part > 1e-9)])
    if left_out is not None:
        # The i-th value that stays has i of them and the left out ones before it below.
        at = at + np.searchsorted(left_out - np.arange(n_out), at, side="right")
    low, high = ordered[at]
    return float(low if low == high else low + part * (high - low))


def _jackknife(value: float, without: FloatArray) -> Estimate:
    """Returns the interval of a statistic from its values without each group, (b,)."""
    found = of_groups(value, without.size * value - (without.size - 1) * without)
    return Estimate(value, _finite(found.low), _finite(found.high))


def _finite(value: float) -> float:
    return min(float(value), FOREVER_MS)
