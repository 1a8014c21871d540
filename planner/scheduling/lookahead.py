"""Fills free places with the requests that keep the workers even for the next hundred steps.

Notation (see margin.py for the rest)
    W       window: how many of the oldest waiting requests are looked at
    x_ih    (s_i + h) P(i decodes at h): what request i would add                    (W, H)
    w_h     gamma^h / sum over the horizons
    kappa   G: the price of the idle time that one token above the envelope causes

Program
    while there is a free place and somebody waits
        g = the worker with a free place of least sum_h w_h L_gh         in a tie the lowest index
        i = the request in the window of largest F_g(x_i), beta = kappa  in a tie the oldest
        place i on g; L_g += x_i; the next oldest moves into the window

Choosing worker and request together, the largest F over all pairs, was tried: no better balance,
and G times the work. Overdue requests go first, so nobody is passed over for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.scheduling.batch import DecodeWorkers, Placement
from planner.scheduling.margin import expected_loads, f_score, running_of
from planner.scheduling.survival import Predictor
from planner.spec.arrays import FloatArray, IntArray

WINDOW = 64  # 32 to 128 balance equally well; larger ones are less fair and no better
HORIZONS = (0, 16, 32, 64, 128)  # steps; the first one is the next step
GAMMA = 0.97  # per step


class Lookahead:
    """The batch policy; its predictor may learn between the calls."""

    def __init__(
        self,
        predictor: Predictor,
        window: int = WINDOW,
        horizons: Sequence[int] = HORIZONS,
        gamma: float = GAMMA,
    ) -> None:
        self.predictor = predictor
        self._window = window
        self._horizons: IntArray = np.array(horizons, dtype=np.int64)
        weights = gamma**self._horizons
        self._weights: FloatArray = weights / weights.sum()

    def __call__(
        self, waiting: Sequence[int], workers: DecodeWorkers, n_overdue: int = 0
    ) -> list[Placement]:
        """Returns what is placed where, in the order of the decisions."""
        n = min(len(waiting), sum(workers.free_slots))
        if n == 0:
            return []
        loads = expected_loads(running_of(workers), self._horizons, self.predictor)
        added = self._added(waiting[: self._window + n])
        return self._fill(loads, added, list(workers.free_slots), n, n_overdue)

    def _added(self, waiting: Sequence[int]) -> FloatArray:
        """Returns what each waiting request would add to its worker, tokens, (n, horizons)."""
        young, nobody = np.zeros(1, dtype=np.int64), np.full(1, -1)
        alive = self.predictor.alive(young, self._horizons, nobody)
        return (np.array(waiting)[:, None] + self._horizons) * alive

    def _fill(
        self, loads: FloatArray, added: FloatArray, free: list[int], n: int, n_overdue: int
    ) -> list[Placement]:
        """Returns n placements; `loads` (G, horizons) is updated on the way."""
        beta = float(len(free))
        envelope = loads.max(axis=0)
        order = loads @ self._weights
        order[np.array(free) == 0] = np.inf
        rest = np.arange(len(added))  # what is not placed, oldest first
        placed = []
        for k in range(n):
            g = int(order.argmin())
            window = rest[: 1 if k < n_overdue else self._window]
            at = int(f_score(added[window], envelope - loads[g], self._weights, beta).argmax())
            i = int(rest[at])
            rest[1 : at + 1] = rest[:at]
            rest = rest[1:]
            placed.append((i, g))
            loads[g] += added[i]
            envelope = np.maximum(envelope, loads[g])
            free[g] -= 1
            order[g] = loads[g] @ self._weights if free[g] else np.inf
        return placed
