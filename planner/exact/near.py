"""Deployments near others: brought into the box, one replica away, or as large as can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from planner.space import Space
from planner.spec.arrays import FloatArray, IntArray


def repaired(space: Space, replicas: IntArray, wanted: FloatArray) -> IntArray:
    """Returns the replicas (P,) brought into the box: clipped, then taken where least is missed.

    While a row is broken, the pool that takes most of it beyond what was `wanted` (P,) gives one
    replica. Where lower bounds alone break a row nothing helps, and the result is outside.
    """
    n = np.clip(replicas, space.lower, space.upper)
    while True:
        over = space.rows @ n - space.limits
        broken = np.flatnonzero(over > 1e-9)
        if not broken.size:
            return n
        row = space.rows[broken[np.argmax(over[broken])]]
        may_give = (row > 0) & (n > space.lower)
        if not may_give.any():
            return n
        surplus = np.where(may_give, n - wanted, -np.inf)
        n = n - (np.arange(n.size) == int(np.argmax(surplus)))


def next_to(tried: Sequence[IntArray], space: Space) -> list[IntArray]:
    """Returns deployments (P,) with one replica more of a used pool, those of the latest first.

    Also with one replica moved between used pools, where the box has no room for more.
    """
    found: list[IntArray] = []
    for replicas in reversed(tried):
        used = np.flatnonzero(replicas > 0).tolist()
        one = np.eye(replicas.size, dtype=np.int64)
        found += [replicas + one[p] for p in used]
        found += [replicas + one[p] - one[q] for p in used for q in used if p != q]
    return [replicas for replicas in found if space.admits(replicas)]


def grown(replicas: IntArray, space: Space, is_paid: Callable[[IntArray], bool]) -> IntArray:
    """Returns a deployment (P,) with more replicas of its pools, in turn, while there is room."""
    growing = np.flatnonzero(replicas > 0).tolist()
    while growing:
        for p in list(growing):
            more = replicas + (np.arange(replicas.size) == p)
            if space.admits(more) and is_paid(more):
                replicas = more
            else:
                growing.remove(p)
    return replicas
