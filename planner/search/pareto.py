"""Non-dominated points, the order of a front, and its knee.

Notation
    y        values of the n points, all minimised      (n, m)
    a < b    a dominates b: a <= b in every objective and a < b in at least one
    t        a point of the front between the cheapest (0) and the best (1), both axes scaled
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_TIE = 1e-12
"""Distances closer than this are one distance: the chord is a sum of rounded quotients."""


def non_dominated(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns for each row of `values` (n, m) whether no other row dominates it, (n,).

    Equal rows do not dominate one another. Costs n times the size of the front.
    """
    mask = np.zeros(len(values), dtype=np.bool_)
    if values.shape[1] == 0:
        return ~mask
    # In lexicographic order nobody is dominated by a later row, so the first one left is
    # on the front; what is nowhere better than it leaves with it.
    distinct, copy_of = np.unique(values, axis=0, return_inverse=True)
    on_front = np.zeros(len(distinct), dtype=np.bool_)
    left = np.arange(len(distinct))
    while left.size:
        on_front[left[0]] = True
        left = left[np.any(distinct[left] < distinct[left[0]], axis=1)]
    mask[:] = on_front[copy_of.reshape(-1)]
    return mask


def front_order(values: NDArray[np.float64], points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the permutation that sorts rows by `values` (n, m), then `points` (n, d)."""
    keys = [*values.T, *points.T]
    if not keys:
        return np.arange(len(values), dtype=np.int64)
    return np.asarray(np.lexsort(keys[::-1]), dtype=np.int64)


def knee(cost: NDArray[np.float64], quality: NDArray[np.float64]) -> int:
    """Returns the index of the point farthest above the chord of the scaled front.

    `cost` (n,) is minimised, `quality` (n,) maximised; both are scaled to [0, 1], and the
    chord runs from (0, 0) to (1, 1). Ties go to the lower cost, then to the lower index.
    Raises ValueError where there is no point.
    """
    if cost.size == 0:
        raise ValueError("a front without points has no knee")
    distance = (_scaled(quality) - _scaled(cost)) / np.sqrt(2.0)
    tied = np.flatnonzero(distance >= distance.max() - _TIE)
    return int(tied[np.argmin(cost[tied])])


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    span = float(np.ptp(values))
    return (values - values.min()) / span if span > 0 else np.zeros_like(values)
