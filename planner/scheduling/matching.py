"""Fills free places with the requests that bring every worker as close as possible to the mean.

Notation
    G, L_g   workers; KV tokens that worker g reads in the next step                 tokens, (G,)
    f_g      its free places; n of them in all, one row k each
    s_j      KV tokens of the waiting requests in the window, ascending              tokens, (m,)
    T        the level: (sum_g L_g + the n oldest waiting requests) / G              tokens
    r_k      room of a place, (T - L_g) / f_g, ascending                             tokens, (n,)
    c_kj     (s_j - r_k)^2, times OVERSHOOT where s_j > r_k                          (n, m)

Program
    min  sum_k c_k,j(k)   over n different requests j(k) out of the window
    The costs are convex in s_j - r_k, so a best assignment keeps the order: the smallest chosen
    request goes where the least room is. That leaves who is chosen:
        V_k(j) = min(V_k(j-1), V_{k-1}(j-1) + c_kj)
    the least cost of the first k places with the first j requests. The minimum over j is a running
    one: n numpy calls for all of it.

The level makes it different from filling the least loaded worker with the largest request: nobody
is filled up to the envelope, so the next one to grow is not in front of all. It needs no guess of
how long answers will be.

Where places abound (a worker has more than a FEW of them, or nobody would be left over) there is no
choice to make among the waiting, and the largest go first onto the least loaded worker instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.scheduling.batch import DecodeWorkers, Placement, largest_first
from planner.spec.arrays import FloatArray, IntArray

WINDOW = 64  # how many more requests than places are looked at; 32 to 128 balance equally well
OVERSHOOT = 4.0  # a worker above the level makes all wait, one below it only itself; 2 to 16 alike
FEW = 6  # free places of one worker


class BestMatch:
    """The batch policy; it remembers nothing."""

    def __init__(self, window: int = WINDOW, overshoot: float = OVERSHOOT) -> None:
        self._window, self._overshoot = window, overshoot

    def __call__(
        self, waiting: Sequence[int], workers: DecodeWorkers, n_overdue: int = 0
    ) -> list[Placement]:
        """Returns what is placed where, oldest first."""
        free = workers.free_slots
        n = sum(free)
        if max(free) > FEW or len(waiting) <= n:
            return largest_first(waiting, workers)
        worker, rooms = _places(workers, sum(waiting[:n]))
        sizes = np.array(waiting[: n + self._window if n_overdue < n else n], dtype=np.float64)
        by_size = np.argsort(sizes, kind="stable")
        costs = self._costs(sizes[by_size], rooms)
        costs[:, by_size < n_overdue] -= n * costs.max(initial=0.0) + 1.0  # they have to be chosen
        chosen = by_size[_cheapest_in_order(costs)]
        return sorted(zip(chosen.tolist(), worker.tolist(), strict=True))

    def _costs(self, sizes: FloatArray, rooms: FloatArray) -> FloatArray:
        """Returns what it costs to put each request (m,) into each place (n,), tokens^2, (n, m)."""
        above = sizes - rooms[:, None]
        return np.where(above > 0.0, self._overshoot, 1.0) * above * above


def _places(workers: DecodeWorkers, added_tokens: int) -> tuple[IntArray, FloatArray]:
    """Returns the worker and the room of every free place, least room first, (n,) each."""
    loads = np.array(workers.load_tokens, dtype=np.float64)
    free = np.array(workers.free_slots, dtype=np.int64)
    level = (loads.sum() + added_tokens) / loads.size
    worker = np.repeat(np.arange(free.size), free)
    rooms = (level - loads[worker]) / free[worker]
    order = np.argsort(rooms, kind="stable")
    return worker[order], rooms[order]


def _cheapest_in_order(costs: FloatArray) -> IntArray:
    """Returns the ascending columns, one per row, of least total cost, (n,); costs are (n, m).

    In a tie the lower columns, m >= n.
    """
    n, m = costs.shape
    columns = np.arange(m)
    last = np.empty((n, m), dtype=np.int64)  # of the best choice for rows 0..k within columns 0..j
    least = np.zeros(m + 1)  # V_k, by number of columns
    for k in range(n):
        ending_here = least[:-1] + costs[k]
        least = np.concatenate(([np.inf], np.minimum.accumulate(ending_here)))
        is_better = ending_here < least[:-1]
        last[k] = np.maximum.accumulate(np.where(is_better, columns, 0))
    chosen = np.empty(n, dtype=np.int64)
    end = m
    for k in range(n - 1, -1, -1):
        chosen[k] = end = last[k, end - 1]
    return chosen
