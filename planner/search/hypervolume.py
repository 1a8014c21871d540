"""Exact hypervolume: how much of the space below a reference a set of values dominates.

Notation
    y_i      values of point i, all minimised                    (m,)
    R        reference                                           (m,)
    V(S)     volume of the union over i in S of the box [y_i, R]  product of objective units
    E(y|S)   V(S + y) - V(S), the volume that only y adds

Program
    m = 1, 2   a sweep over the sorted points
    m = 3      a sweep along the third objective over a staircase of the first two
    m > 3      V(S) = sum over i of E(y_i | y_{i+1}, ...)
    E(y | S) = prod(R - y) - V({max(y, s): s in S})          [While, Bradstreet, Barone:
               "A fast way of calculating exact hypervolumes", IEEE TEC 16(1), 2012]
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from planner.search import pareto

_Matrix = NDArray[np.float64]
_Vector = NDArray[np.float64]


def hypervolume(values: _Matrix, reference: _Vector) -> float:
    """Returns the volume that `values` (n, m) dominate below `reference` (m,).

    Points that are not better than the reference in every objective add nothing.
    """
    inside = values[np.all(values < reference, axis=1)]
    if len(inside) == 0:
        return 0.0
    match values.shape[1]:
        case 1:
            return float(reference[0] - inside.min())
        case 2:
            return _area(inside, reference)
        case 3:
            return _swept_volume(inside, reference)
        case _:
            return _summed_volume(inside, reference)


def exclusive(value: _Vector, others: _Matrix, reference: _Vector) -> float:
    """Returns the volume that `value` (m,) adds to what `others` (n, m) dominate."""
    if not np.all(value < reference):
        return 0.0
    shared = hypervolume(np.maximum(others, value), reference)
    return max(0.0, float(np.prod(reference - value)) - shared)


def contributions(values: _Matrix, reference: _Vector) -> _Vector:
    """Returns for each row of `values` (n, m) the volume that would be lost without it, (n,)."""
    keep = ~np.eye(len(values), dtype=np.bool_)
    return np.array(
        [exclusive(value, values[keep[i]], reference) for i, value in enumerate(values)],
        dtype=np.float64,
    )


class RunningHypervolume:
    """The hypervolume of a growing set: adding a point costs one exclusive volume."""

    def __init__(self, reference: _Vector) -> None:
        self._reference = reference
        self._front: _Matrix = np.empty((0, reference.size), dtype=np.float64)
        self._total = 0.0

    @property
    def total(self) -> float:
        """Returns the volume of all points added so far."""
        return self._total

    def add(self, value: _Vector) -> float:
        """Returns the volume that `value` (m,) added, after taking it in."""
        gain = exclusive(value, self._front, self._reference)
        if gain > 0.0:
            worse = np.all(self._front >= value, axis=1)
            self._front = np.vstack([self._front[~worse], value])
            self._total += gain
        return gain


def _area(values: _Matrix, reference: _Vector) -> float:
    ordered = values[np.lexsort((values[:, 1], values[:, 0]))]
    ceiling = np.minimum.accumulate(np.append(reference[1], ordered[:, 1]))
    return float(np.sum((reference[0] - ordered[:, 0]) * (ceiling[:-1] - ceiling[1:])))


def _swept_volume(values: _Matrix, reference: _Vector) -> float:
    """V for m = 3: the area of the first two objectives, integrated along the third."""
    ref_x, ref_y, ref_z = (float(r) for r in reference)
    xs: list[float] = []  # the staircase: xs ascending, ys descending
    ys: list[float] = []
    area = volume = 0.0
    last_z = 0.0
    for x, y, z in values[np.argsort(values[:, 2], kind="stable")].tolist():
        volume += area * (z - last_z)
        last_z = z
        at = bisect_left(xs, x)
        if (at > 0 and ys[at - 1] <= y) or (at < len(xs) and xs[at] == x and ys[at] <= y):
            continue
        end = at
        left, top = x, ys[at - 1] if at > 0 else ref_y
        while end < len(xs) and ys[end] >= y:
            area += (xs[end] - left) * (top - y)
            left, top = xs[end], ys[end]
            end += 1
        area += ((xs[end] if end < len(xs) else ref_x) - left) * (top - y)
        xs[at:end] = [x]
        ys[at:end] = [y]
    return volume + area * (ref_z - last_z)


def _summed_volume(values: _Matrix, reference: _Vector) -> float:
    """V for m > 3, by exclusive volumes; sorted so that the limited sets become small."""
    front = np.unique(values[pareto.non_dominated(values)], axis=0)
    return sum(exclusive(value, front[i + 1 :], reference) for i, value in enumerate(front))
