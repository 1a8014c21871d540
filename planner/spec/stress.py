"""Tables under stress: the worst that a replica is to bear, as the table of one that bears it.

Notation (class c, metric m, one replica of the pool)
    S(t | r), M(r)   survival and mean of the table at load r
    i                a stress: at load r the replica bears sigma_i r, and its latencies count f_i
                     times (longer by an error band, or less where limits are looser meanwhile)

    S'(t | r) = max_i S(t / f_i | sigma_i r)          M'(r) = max_i f_i M(sigma_i r)

A routing that keeps a limit on the stressed tables keeps it in every scenario that stresses no
pool more than they say, because latency never falls with the load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.spec.arrays import FloatArray
from planner.spec.base import METRICS, Metric
from planner.spec.table import PoolTable


@dataclass(frozen=True)
class Stress:
    """By how much a load is multiplied, and then the latencies."""

    load_ratio: float = 1.0
    latency_ratio: float = 1.0
    latency_band: bool = False  # and to the upper end of their error band


def at_upper_band(table: PoolTable) -> PoolTable:
    """Returns the table with every latency at the upper end of its error band."""
    factors = {metric: 1.0 + band[None, :] for metric, band in table.band_ratio.items()}
    n_rows = table.work_s.size
    ratio = {metric: np.repeat(factor, n_rows, axis=0) for metric, factor in factors.items()}
    return table.stretched(ratio, rising=False)


def stressed(table: PoolTable, stresses: Sequence[Stress], most_load: float) -> PoolTable:
    """Returns the table of a replica that bears the worst of some stresses, up to a load.

    Args:
        table: of the replica when nothing happens.
        stresses: one at a time; that of nothing need not be among them.
        most_load: the highest load that may be planned, before any stress.
    """
    every = [Stress(), *stresses]
    most_ratio = max(stress.load_ratio for stress in every)
    loads = table.loads / most_ratio
    loads = np.append(loads[loads < most_load * (1.0 - 1e-9)], most_load)
    if loads.size < 2:
        loads = np.array([0.0, most_load])
    made = [_slower(table, stress) for stress in every]
    mean, times, survival = dict(table.mean_ms), dict(table.times_ms), dict(table.survival)
    for metric in METRICS if table.has_latency else ():
        if metric not in table.survival:
            continue
        times[metric] = max((t.times_ms[metric] for t in made), key=lambda grid: grid[-1])
        read = [
            _at_loads(t, metric, loads * stress.load_ratio, times[metric])
            for t, stress in zip(made, every, strict=True)
        ]
        mean[metric] = np.max([means for means, _ in read], axis=0)
        survival[metric] = np.max([shares for _, shares in read], axis=0)
    bands = {m: np.interp(loads, table.loads, band) for m, band in table.band_ratio.items()}
    beyond = np.interp(loads, table.loads, table.extrapolated.astype(np.float64)) > 0
    return replace(
        table, loads=loads, mean_ms=mean, times_ms=times, survival=survival, band_ratio=bands,
        extrapolated=beyond,
    )  # fmt: skip


def _slower(table: PoolTable, stress: Stress) -> PoolTable:
    """Returns the table with the latencies of a stress at its own loads."""
    slower = at_upper_band(table) if stress.latency_band else table
    if stress.latency_ratio == 1.0:
        return slower
    shape = (table.work_s.size, table.loads.size)
    ratio: Mapping[Metric, FloatArray] = {
        metric: np.full(shape, stress.latency_ratio) for metric in table.survival
    }
    return slower.stretched(ratio)


def _at_loads(
    table: PoolTable, metric: Metric, loads: FloatArray, times_ms: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Returns mean (C, K) and survival (C, K, T) of a table at other loads and times."""
    last = table.loads.size - 2
    low = np.clip(np.searchsorted(table.loads, loads, side="right") - 1, 0, last)
    width = table.loads[low + 1] - table.loads[low]
    part = np.clip((loads - table.loads[low]) / width, 0.0, 1.0)
    mean = table.mean_ms[metric]
    means = mean[:, low] * (1.0 - part) + mean[:, low + 1] * part
    curve = table.survival[metric]
    if not np.array_equal(table.times_ms[metric], times_ms):
        curve = _at_times(table.times_ms[metric], curve, times_ms)
    shares = curve[:, low] * (1.0 - part)[:, None] + curve[:, low + 1] * part[:, None]
    return np.asarray(means), np.asarray(shares)


def _at_times(grid_ms: FloatArray, survival: FloatArray, times_ms: FloatArray) -> FloatArray:
    """Returns survival (C, K, T) at other times: linear in log t, constant beyond the grid."""
    position = np.interp(np.log(times_ms), np.log(grid_ms), np.arange(grid_ms.size, dtype=float))
    low = np.minimum(position.astype(np.int64), grid_ms.size - 2)
    part = position - low
    return np.asarray(survival[..., low] * (1.0 - part) + survival[..., low + 1] * part)
