"""The batch whose evaluation promises most: greedy expected hypervolume improvement, by samples.

Notation
    g_sc     gain of candidate c in sample s of the surrogate              (S, n, m)
    h_sc     whether c is acceptable in sample s                           (S, n)
    p_c      chance that c is acceptable                                   (n,)
    F_s      gains of the front, in sample s with what was chosen already  (k, m)
    E(g | F) volume that g adds to what F dominates above 0

Program
    repeat   choose the c with the largest  a_c = p_c * mean over s of E(g_sc | F_s)
             F_s takes in g_sc wherever h_sc
a_c only falls when F grows, so a c whose last a_c is already below the best of this round need
not be looked at again (lazy greedy: Minoux, "Accelerated greedy algorithms", 1978).
[Daulton, Balandat, Bakshy, "Parallel Bayesian optimization of multiple noisy objectives with
 expected hypervolume improvement", NeurIPS 2021, on a discrete set, where no gradient is needed]
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from planner.search import hypervolume
from planner.search.problem import FloatVector, IntVector

Samples = NDArray[np.float64]
"""Gains by sample, candidate and objective, (S, n, m)."""


def best_batch(
    gains: Samples,
    accepted: NDArray[np.bool_],
    chance: FloatVector,
    fronts: Samples,
    n_points: int,
) -> tuple[IntVector, float]:
    """Returns the candidates to evaluate together, (<= n_points,), and the volume they promise.

    Args:
        gains: of each candidate in each sample, (S, n, m).
        accepted: which candidates are acceptable in which samples, (S, n).
        chance: that a candidate is acceptable, (n,).
        fronts: what is known already, in each sample, (S, k, m).
        n_points: at most so many.
    """
    known = [-front for front in fronts]
    origin = np.zeros(gains.shape[2])

    def promise(c: int) -> float:
        added = [
            hypervolume.exclusive(-sample[c], front, origin)
            for sample, front in zip(gains, known, strict=True)
        ]
        return float(chance[c] * np.mean(added))

    queue = [(-promise(c), c, 0) for c in range(gains.shape[1])]
    heapq.heapify(queue)
    chosen: list[int] = []
    total = 0.0
    while queue and len(chosen) < n_points:
        least, c, round_ = heapq.heappop(queue)
        if round_ < len(chosen):
            heapq.heappush(queue, (-promise(c), c, len(chosen)))
            continue
        chosen.append(c)
        total -= least
        for s in np.flatnonzero(accepted[:, c]):
            known[s] = np.vstack([known[s], -gains[s, c]])
    return np.array(chosen, dtype=np.int64), total
