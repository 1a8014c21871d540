"""One figure over the load: a curve through the measured loads, led by the step law.

Notation
    x_i    log of a measured load, ascending; loads within 10 % are one                  (N,)
    v_i    log of the figure there, brought to the asked request shape by its base       (N,)
    r_i    log(measured/base), repeats averaged                                          (N,)
    base   log of what the step law says
    f      log of the places of the replica: with more requests in flight, the rest waits
    noise  pooled standard deviation of log measured among repeats of one load

Program
    between   half of  base(x) + PCHIP(r)(x)  and half of  PCHIP(v)(x); of two loads the first, and
              of two loads on both sides of f; above f a straight line in the load
    below     base(x) + r_1
    above     up to the larger of x_N and f the straight line in the load through the last measured
              load and the next one at least a factor of 1.5 below it, never falling (base(x) + r_1
              where there is one load); from there on it grows by as many ms as the base does
    e_i       the same without load i, minus v_i: what the others would have got wrong

The two halves err in opposite directions: the law knows the shape of the curve but not its kinks,
the bare interpolation the other way round. Above, every further sequence costs what the last ones
did (benchmarks/latency_accuracy.py compares).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.latency.pchip import Pchip
from planner.spec.arrays import FloatArray, IntArray

SAME_LOAD = 1.1
APART = 1.5  # loads closer than this make a line too steep or too flat


@dataclass(frozen=True)
class Full:
    """The load that takes every place of a replica, and the base there."""

    x: float  # f
    log_base: float


@dataclass(frozen=True)
class LoadCurve:
    """One figure, a time, at its measured loads."""

    x: FloatArray  # (N,) log load, ascending
    log_ratio: FloatArray  # (N,) r
    log_value: FloatArray  # (N,) v
    noise: float  # 0 without repeats
    full: Full | None = None  # None: no request waits for a place

    @classmethod
    def of(
        cls,
        loads: Sequence[float],
        log_ratio: Sequence[float],
        log_base: Sequence[float],
        full: Full | None = None,
    ) -> LoadCurve:
        """Returns the curve of single measurements, (M,) each, in any order."""
        order = np.argsort(loads, kind="stable")
        x = np.log(np.asarray(loads, dtype=np.float64)[order])
        ratio = np.asarray(log_ratio, dtype=np.float64)[order]
        base = np.asarray(log_base, dtype=np.float64)[order]
        starts = _group_starts(x)
        counts = np.diff(np.append(starts, x.size))

        def mean(values: FloatArray) -> FloatArray:
            return np.asarray(np.add.reduceat(values, starts) / counts)

        spread = ratio - np.repeat(mean(ratio), counts)
        free = float(np.sum(counts - 1))
        noise = float(np.sqrt(np.sum(spread**2) / free)) if free else 0.0
        return cls(mean(x), mean(ratio), mean(ratio) + mean(base), noise, full)

    def at(self, x: float, log_base: float) -> float:
        """Returns the log of the figure at one log load, where the base is known."""
        if x > self.x[-1]:
            return self._above(x, log_base)
        if x < self.x[0] or self.x.size == 1:
            return log_base + float(self.log_ratio[0])
        right = int(np.searchsorted(self.x, x))
        if self.full is not None and self.x[right] > max(self.full.x, x):
            if x > self.full.x:
                return self._queued(x, right, self.full)
            return self._led(x, log_base)
        if self.x.size == 2:
            return self._led(x, log_base)
        bare = float(Pchip.through(self.x, self.log_value)(np.array([x]))[0])
        return (self._led(x, log_base) + bare) / 2.0

    def left_out(self) -> FloatArray:
        """Returns e, (N,); empty where there is one load only."""
        if self.x.size < 2:
            return np.zeros(0)
        errors = np.empty(self.x.size)
        base = self.log_value - self.log_ratio
        for i in range(self.x.size):
            rest = np.arange(self.x.size) != i
            others = replace(
                self, x=self.x[rest], log_ratio=self.log_ratio[rest], log_value=self.log_value[rest]
            )
            errors[i] = others.at(float(self.x[i]), float(base[i])) - self.log_value[i]
        return errors

    def _led(self, x: float, log_base: float) -> float:
        return log_base + float(Pchip.through(self.x, self.log_ratio)(np.array([x]))[0])

    def _queued(self, x: float, right: int, full: Full) -> float:
        """Returns the log of the figure where requests wait for a place, left of a measured load.

        Every further request waits as long as the last one: a straight line.
        """
        left, log_value = self.x[right - 1], self.log_value[right - 1]
        if left < full.x:
            left, log_value = full.x, self._led(full.x, full.log_base)
        loads = np.exp([left, self.x[right]])
        values = np.exp([log_value, self.log_value[right]])
        return float(np.log(np.interp(np.exp(x), loads, values)))

    def _above(self, x: float, log_base: float) -> float:
        """Returns the log of the figure above its largest measured load."""
        knee, knee_base = self._knee(x, log_base)
        if self.x.size > 1:
            served = line_above(self.x, self.log_value, knee)
        else:
            served = knee_base + float(self.log_ratio[0])
        waiting = np.exp(log_base) - np.exp(knee_base)
        return float(np.log(np.exp(served) + max(float(waiting), 0.0)))

    def _knee(self, x: float, log_base: float) -> tuple[float, float]:
        """Returns the log load above which requests only wait, x where they do not, and its base.

        x lies above the largest measured load.
        """
        if self.full is None or x <= self.full.x:
            return x, log_base
        if self.full.x > self.x[-1]:
            return self.full.x, self.full.log_base
        return float(self.x[-1]), float(self.log_value[-1] - self.log_ratio[-1])


def line_above(x: FloatArray, log_value: FloatArray, at: float) -> float:
    """Returns the log of a figure above its largest measured load.

    The straight line through the last measured load and the next one clearly below it.

    Args:
        x: log loads, (N,), ascending, at least two.
        log_value: log of the figure there, (N,).
        at: log load above the last one.
    """
    apart = np.flatnonzero(x <= x[-1] - np.log(APART))
    second = int(apart[-1]) if apart.size else 0
    load, value = np.exp(x[[second, -1]]), np.exp(log_value[[second, -1]])
    slope = max(float((value[1] - value[0]) / (load[1] - load[0])), 0.0)
    return float(np.log(value[1] + slope * (np.exp(at) - load[1])))


def _group_starts(x: FloatArray) -> IntArray:
    """Returns where each group of equal loads starts in ascending log loads, (groups,)."""
    starts = [0]
    for i in range(1, x.size):
        if x[i] > x[starts[-1]] + np.log(SAME_LOAD):
            starts.append(i)
    return np.array(starts, dtype=np.int64)
