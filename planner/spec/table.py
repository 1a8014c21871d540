"""PoolTable: the latency of one pool as arrays, the only thing that routing and score know of it.

Notation (per replica of the pool)
    rho   load: replica-seconds of work arriving per second and replica, dimensionless  (K,)
    s_c   work of one request of class c, in replica-seconds                            (C,)
    T     a latency in ms; S_cm(t | rho) = P(T > t) for class c and metric m            (C, K, T)

Between two grid loads every figure is linear in rho; between two grid times the survival is
linear in log t. LP, score and check use these same two rules, so they cannot disagree.

Why this is enough: at rho the replica's batch is in equilibrium, so each class sees a latency
distribution that depends on rho alone (for the class mix at which the table was made, §5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.base import Metric, Origin, Statistic, tail_ratio


@dataclass(frozen=True)
class PoolTable:
    """Latency and work of one pool at a class mix; one replica, K loads, C classes."""

    pool: str
    work_s: FloatArray  # (C,) replica-seconds per request; NaN where the class may not use the pool
    mix: FloatArray  # (C,) class shares of the pool's requests at which the table was made
    loads: FloatArray  # (K,) ascending from 0; the last one is the highest that may be planned
    mean_ms: Mapping[Metric, FloatArray]  # (C, K)
    times_ms: Mapping[Metric, FloatArray]  # (T,) ascending
    survival: Mapping[Metric, FloatArray]  # (C, K, T), non-increasing along T
    band_ratio: Mapping[
        Metric, FloatArray
    ]  # (K,) half-width of the error band: figure * (1 +- band)
    extrapolated: BoolArray  # (K,) load lies outside the measured loads (§8)
    origin: Mapping[Metric, Origin]
    has_latency: bool = True  # False: capacity only, may carry no limited class

    @property
    def max_load(self) -> float:
        """Returns the highest load per replica that may be planned, before headroom."""
        return float(self.loads[-1])

    def mean_at(self, metric: Metric, load: float) -> FloatArray:
        """Returns the mean latency in ms of every class at a load per replica, (C,)."""
        low, weight = _bracket(self.loads, load)
        table = self.mean_ms[metric]
        return np.asarray(table[:, low] * (1 - weight) + table[:, low + 1] * weight)

    def survival_at(self, metric: Metric, load: float) -> FloatArray:
        """Returns P(latency > t) on the metric's time grid at a load per replica, (C, T)."""
        low, weight = _bracket(self.loads, load)
        table = self.survival[metric]
        return np.asarray(table[:, low] * (1 - weight) + table[:, low + 1] * weight)

    def exceedance(self, metric: Metric, at_most_ms: float) -> FloatArray:
        """Returns P(latency > at_most_ms) of every class at every grid load, (C, K)."""
        return survival_at_time(self.times_ms[metric], self.survival[metric], at_most_ms)

    def statistic_ms(self, metric: Metric, statistic: Statistic) -> FloatArray:
        """Returns one statistic in ms of every class at every grid load, (C, K)."""
        tail = tail_ratio(statistic)
        if tail is None:
            return np.asarray(self.mean_ms[metric])
        return quantile_ms(self.times_ms[metric], self.survival[metric], tail)

    def band_at(self, metric: Metric, load: float) -> float:
        """Returns the half-width of the error band at a load per replica, as a ratio."""
        return float(np.interp(load, self.loads, self.band_ratio[metric]))

    def slowed(self, ratio: float) -> PoolTable:
        """Returns the table of a replica that takes `ratio` times as long for everything.

        At the same load, all that happens happens `ratio` times slower: the same queues, stretched.
        """
        return replace(
            self,
            work_s=self.work_s * ratio,
            mean_ms={m: v * ratio for m, v in self.mean_ms.items()},
            times_ms={m: v * ratio for m, v in self.times_ms.items()},
        )

    def stretched(self, ratio: Mapping[Metric, FloatArray], rising: bool = True) -> PoolTable:
        """Returns the table with the latencies of each metric times its ratio, (C, K).

        The work, and with it the loads, stay as they are; latency still never falls with the load,
        unless it need not be rising.
        """
        mean, times, survival = dict(self.mean_ms), dict(self.times_ms), dict(self.survival)
        for metric, factor in ratio.items():
            log_t = np.log(times[metric])
            # Beyond the grid the times go on as finely as before, stretched by the largest ratio.
            longer = times[metric] * float(factor.max())
            longer = longer[longer > times[metric][-1] * (1 + 1e-9)]
            times[metric] = np.append(times[metric], longer)
            asked = np.log(times[metric]) - np.log(factor)[..., None]  # (C, K, T)
            moved = [
                [np.interp(t, log_t, s) for t, s in zip(*of_class, strict=True)]
                for of_class in zip(asked, survival[metric], strict=True)
            ]
            survival[metric], mean[metric] = np.array(moved), mean[metric] * factor
            if rising:
                survival[metric] = np.maximum.accumulate(survival[metric], axis=1)
                mean[metric] = np.maximum.accumulate(mean[metric], axis=1)
        return replace(self, mean_ms=mean, times_ms=times, survival=survival)

    def with_rows(self, alike: IntArray, mix: FloatArray) -> PoolTable:
        """Returns the table with more rows, each like one of this table.

        Args:
            alike: which row of this table each new one is like, (R,).
            mix: shares of the pool's requests by new row, (R,), of which this one has the sums.
        """
        whole = np.bincount(alike, mix, self.mix.size)[alike]
        _, first = np.unique(alike, return_index=True)
        part = np.divide(mix, whole, out=np.zeros(mix.size), where=whole > 0)
        part[first] = np.where(whole[first] > 0, part[first], 1.0)
        return replace(self.taking(alike), mix=self.mix[alike] * part)

    def taking(self, rows: IntArray) -> PoolTable:
        """Returns the table of some of its rows, (n,), as it is."""
        return replace(
            self,
            work_s=self.work_s[rows],
            mix=self.mix[rows],
            mean_ms={m: v[rows] for m, v in self.mean_ms.items()},
            survival={m: v[rows] for m, v in self.survival.items()},
        )

    def is_extrapolated(self, load: float) -> bool:
        """Returns whether a load per replica lies outside what was measured."""
        low, weight = _bracket(self.loads, load)
        read = [k for k, part in ((low, 1.0 - weight), (low + 1, weight)) if part > 1e-9]
        return bool(self.extrapolated[read].any())


def survival_at_time(times_ms: FloatArray, survival: FloatArray, at_ms: float) -> FloatArray:
    """Returns the survival at one time, linear in log t; (..., T) -> (...).

    Below the grid it is the first value, above the grid the last one.
    """
    position = np.interp(np.log(at_ms), np.log(times_ms), np.arange(times_ms.size, dtype=float))
    low = min(int(position), times_ms.size - 2)
    weight = position - low
    return np.asarray(survival[..., low] * (1 - weight) + survival[..., low + 1] * weight)


def quantile_ms(times_ms: FloatArray, survival: FloatArray, tail: float) -> FloatArray:
    """Returns the time in ms that a share `tail` of requests exceeds; (..., T) -> (...).

    The inverse of survival_at_time. Where even the last grid time is exceeded more often, inf.
    """
    below = survival <= tail + 1e-12
    first = np.argmax(below, axis=-1)
    never = ~below.any(axis=-1)
    log_t = np.log(times_ms)
    high = np.maximum(first, 1)
    s_high = np.take_along_axis(survival, high[..., None], axis=-1)[..., 0]
    s_low = np.take_along_axis(survival, (high - 1)[..., None], axis=-1)[..., 0]
    drop = np.where(s_low > s_high, s_low - s_high, 1.0)
    weight = np.clip((s_low - tail) / drop, 0.0, 1.0)
    value = np.exp(log_t[high - 1] + weight * (log_t[high] - log_t[high - 1]))
    value = np.where(first == 0, times_ms[0], value)
    return np.asarray(np.where(never, np.inf, value), dtype=np.float64)


def _bracket(loads: FloatArray, load: float) -> tuple[int, float]:
    """Returns the grid interval that holds a load and the weight of its upper end, clipped."""
    low = int(np.clip(np.searchsorted(loads, load, side="right") - 1, 0, loads.size - 2))
    weight = float(np.clip((load - loads[low]) / (loads[low + 1] - loads[low]), 0.0, 1.0))
    return low, weight
