"""BR-0 and BR-H of BalanceRoute: greedy while places abound, small subsets when they are scarce.

Notation (see margin.py for the rest)
    f_g     free places of worker g
    D       sum of s_i of the requests of a set: it counts as constant over the horizons
    H       how far BR-H looks ahead, steps; BR-0 looks at the next step alone: H = 0
    w_h     gamma^h, h = 0 .. H;  beta = G
    L_gh    what g is expected to read at h: sum of (kv_i + h) P(i decodes at h)

Program
    while there is a free place and somebody waits
        g = the worker with most free places; of these the least loaded; then the lowest index
        f_g > S_GREEDY   the single waiting request of largest F_g
        else             of the first R_MAX waiting requests the subset of at most f_g requests with
                         the largest F_g, be it negative
        place it; D is added to L_gh at every horizon

In a tie fewer requests, then older ones. Overdue requests go before all others, the oldest first.
The paper forces the single request of largest F_g when no subset has F_g > 0; that is the subset
chosen here without a case of its own: F_g is concave in D and 0 at 0, so a part of a set with
F_g <= 0 is no worse than the whole.

The paper gives R_MAX = 4 and H = 80. It gives neither S_GREEDY nor gamma (7 and 0.86 here, as in
the authors' earlier simulator) nor beta / alpha (G here: the exact price of an idle step, as in
BR-0). Its predictor says how many of the next H steps a request will decode in; here that number is
spread over them as P(i decodes at h), whose sum it is.

Reference: BalanceRoute, arXiv 2605.06113; its precursor BF-IO, arXiv 2601.17855.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import combinations

import numpy as np

from planner.scheduling.batch import DecodeWorkers, Placement
from planner.scheduling.margin import expected_loads, f_score, running_of
from planner.scheduling.survival import Predictor
from planner.spec.arrays import FloatArray, IntArray

S_GREEDY = 7  # free places of a worker above which any waiting request may come next
R_MAX = 4  # how many of the oldest requests a subset is chosen from
HORIZON = 80  # steps
GAMMA = 0.86  # per step


class BalanceRoute:
    """The batch policy: BR-H with a predictor, BR-0 without one."""

    def __init__(
        self, predictor: Predictor | None = None, horizon: int = HORIZON, gamma: float = GAMMA
    ) -> None:
        self.predictor = predictor
        self._horizons: IntArray = np.arange(1 + (horizon if predictor else 0))
        self._weights: FloatArray = np.power(gamma, self._horizons)

    def __call__(
        self, waiting: Sequence[int], workers: DecodeWorkers, n_overdue: int = 0
    ) -> list[Placement]:
        """Returns what is placed where, in the order of the decisions."""
        free = workers.free_slots
        queue = [(-free[g], load, g) for g, load in enumerate(workers.load_tokens) if free[g]]
        if not queue or len(waiting) == 0:
            return []
        heapify(queue)
        loads = self._projected(workers)
        envelope = loads.max(axis=0)
        sizes = np.array(waiting, dtype=np.float64)
        rest = np.arange(len(waiting))  # what is not placed, oldest first
        placed: list[Placement] = []
        while queue and rest.size:
            minus_free, load, g = heappop(queue)
            if len(placed) < n_overdue:
                chosen: tuple[int, ...] = (0,)
            else:
                chosen = self._choose(sizes[rest], -minus_free, envelope - loads[g], len(free))
            taken = rest[list(chosen)]
            placed += [(i, g) for i in taken.tolist()]
            rest = np.delete(rest, chosen)
            total = int(sizes[taken].sum())
            loads[g] += total
            envelope = np.maximum(envelope, loads[g])
            if len(chosen) < -minus_free:
                heappush(queue, (minus_free + len(chosen), load + total, g))
        return placed

    def _projected(self, workers: DecodeWorkers) -> FloatArray:
        """Returns what each worker is expected to read at each horizon, tokens, (G, H + 1)."""
        if self.predictor is None:
            return np.array(workers.load_tokens, dtype=np.float64)[:, None]
        return expected_loads(running_of(workers), self._horizons, self.predictor)

    def _choose(
        self, sizes: FloatArray, n_free: int, margin: FloatArray, n_workers: int
    ) -> tuple[int, ...]:
        """Returns the positions of the requests, oldest first, that the worker takes."""
        if n_free > S_GREEDY:
            scores = f_score(sizes[:, None], margin, self._weights, n_workers)
            return (int(scores.argmax()),)
        subsets, members = _subsets(min(R_MAX, sizes.size), n_free)
        totals = members @ sizes[:R_MAX]
        scores = f_score(totals[:, None], margin, self._weights, n_workers)
        return subsets[int(scores.argmax())]


@lru_cache(maxsize=R_MAX * R_MAX)
def _subsets(n: int, at_most: int) -> tuple[list[tuple[int, ...]], FloatArray]:
    """Returns the non-empty subsets of 0..n-1 up to a size, small ones first, and 1 per member."""
    subsets = [s for k in range(1, min(n, at_most) + 1) for s in combinations(range(n), k)]
    members = np.zeros((len(subsets), n))
    for row, subset in enumerate(subsets):
        members[row, subset] = 1.0
    return subsets, members
