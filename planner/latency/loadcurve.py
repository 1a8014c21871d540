"""One figure over the load: a curve through the measured loads, led by the step law.

Notation
    x_i    log of a measured load, ascending; loads within 10 % are one                  (N,)
    v_i    log of the figure there, brought to the asked request shape by its base       (N,)
    r_i    log(measured/base), repeats averaged                                          (N,)
    base   log of what the step law says
    noise  pooled standard deviation of log measured among repeats of one load

Program
    between   half of  base(x) + PCHIP(r)(x)  and half of  PCHIP(v)(x); of two loads the first
    below     base(x) + r_1
    above     the straight line in the load through the last measured load and the next one at
              least a factor of 1.5 below it, never falling; base(x) + r_1 where there is one load
    e_i       the same without load i, minus v_i: what the others would have got wrong

The two halves err in opposite directions: the law knows the shape of the curve but not its kinks,
the bare interpolation the other way round. Above, every further sequence costs what the last ones
did (benchmarks/latency_accuracy.py compares).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.latency.pchip import Pchip
from planner.spec.arrays import FloatArray, IntArray

SAME_LOAD = 1.1
APART = 1.5  # loads closer than this make a line too steep or too flat


@dataclass(frozen=True)
class LoadCurve:
    """One figure, a time, at its measured loads."""

    x: FloatArray  # (N,) log load, ascending
    log_ratio: FloatArray  # (N,) r
    log_value: FloatArray  # (N,) v
    noise: float  # 0 without repeats

    @classmethod
    def of(
        cls, loads: Sequence[float], log_ratio: Sequence[float], log_base: Sequence[float]
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
        return cls(mean(x), mean(ratio), mean(ratio) + mean(base), noise)

    def at(self, x: float, log_base: float) -> float:
        """Returns the log of the figure at one log load, where the base is known."""
        if x < self.x[0] or self.x.size == 1:
            return log_base + float(self.log_ratio[0])
        if x > self.x[-1]:
            return line_above(self.x, self.log_value, x)
        at = np.array([x])
        led = log_base + float(Pchip.through(self.x, self.log_ratio)(at)[0])
        if self.x.size == 2:
            return led
        bare = float(Pchip.through(self.x, self.log_value)(at)[0])
        return (led + bare) / 2.0

    def left_out(self) -> FloatArray:
        """Returns e, (N,); empty where there is one load only."""
        if self.x.size < 2:
            return np.zeros(0)
        errors = np.empty(self.x.size)
        base = self.log_value - self.log_ratio
        for i in range(self.x.size):
            rest = np.arange(self.x.size) != i
            others = LoadCurve(self.x[rest], self.log_ratio[rest], self.log_value[rest], 0.0)
            errors[i] = others.at(float(self.x[i]), float(base[i])) - self.log_value[i]
        return errors


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
