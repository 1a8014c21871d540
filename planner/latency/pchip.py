"""Monotone piecewise cubic interpolation (PCHIP), constant outside the nodes.

Notation
    x   node positions, strictly ascending              (N,)
    y   values at the nodes                             (N,)
    h_i = x_{i+1} - x_i,  d_i = (y_{i+1} - y_i) / h_i

Slopes: 0 where d changes sign, otherwise the weighted harmonic mean of the two neighbours
(Fritsch and Butland 1984, SIAM J. Sci. Stat. Comput. 5(2), 300-304); one-sided three-point
slopes at the ends, cut back so that the curve stays monotone. No new extremum appears.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import FloatArray


@dataclass(frozen=True)
class Pchip:
    """A monotone interpolant; one node means a constant, none means zero."""

    x: tuple[float, ...] = ()  # tuples, so that laws compare by value
    y: tuple[float, ...] = ()

    @classmethod
    def through(cls, x: FloatArray, y: FloatArray) -> Pchip:
        """Returns the interpolant through the nodes, (N,) each, x strictly ascending."""
        return cls(tuple(float(v) for v in x), tuple(float(v) for v in y))

    def __call__(self, at: FloatArray) -> FloatArray:
        """Returns the curve at the given positions, same shape as `at`."""
        x, y = np.array(self.x), np.array(self.y)
        if x.size == 0:
            return np.zeros_like(at, dtype=np.float64)
        if x.size == 1:
            return np.full_like(at, y[0], dtype=np.float64)
        slope = slopes(x, y)
        clipped = np.clip(at, x[0], x[-1])
        low = np.clip(np.searchsorted(x, clipped, side="right") - 1, 0, x.size - 2)
        width = x[low + 1] - x[low]
        u = (clipped - x[low]) / width
        return np.asarray(
            (1 + 2 * u) * (1 - u) ** 2 * y[low]
            + u * (1 - u) ** 2 * width * slope[low]
            + u**2 * (3 - 2 * u) * y[low + 1]
            + u**2 * (u - 1) * width * slope[low + 1]
        )


def slopes(x: FloatArray, y: FloatArray) -> FloatArray:
    """Returns the slope at every node, (N,), for N >= 2."""
    width = np.diff(x)
    delta = np.diff(y) / width
    if delta.size == 1:
        return np.repeat(delta, 2)
    left, right = delta[:-1], delta[1:]
    weight_left = 2 * width[1:] + width[:-1]
    weight_right = width[1:] + 2 * width[:-1]
    same = left * right > 0
    safe_left, safe_right = np.where(same, left, 1.0), np.where(same, right, 1.0)
    harmonic = (weight_left + weight_right) / (weight_left / safe_left + weight_right / safe_right)
    inner = np.where(same, harmonic, 0.0)
    first = _end_slope(width[0], width[1], delta[0], delta[1])
    last = _end_slope(width[-1], width[-2], delta[-1], delta[-2])
    return np.concatenate(([first], inner, [last]))


def _end_slope(near: float, next_: float, delta: float, delta_next: float) -> float:
    """Returns the one-sided slope at an end, zero or cut back where it would overshoot."""
    slope = ((2 * near + next_) * delta - near * delta_next) / (near + next_)
    if slope * delta <= 0:
        return 0.0
    if delta * delta_next < 0 and abs(slope) > abs(3 * delta):
        return float(3 * delta)
    return float(slope)
