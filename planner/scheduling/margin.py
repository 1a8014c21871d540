"""What a placement does to the balance of a group, now and in the steps to come.

Notation
    G       number of workers
    h       horizon: steps after the next one; L_gh expected KV tokens worker g reads there  (G, H)
    M_h     max_g L_gh, the envelope
    m_gh    M_h - L_gh, the safe margin: what g can take before the step gets longer         (G, H)
    x_h     what a placement adds to one worker at h                                         (n, H)
    w_h     how much a step at h counts
    beta    what a token above the envelope costs, in tokens below it

    F_g(x) = sum_h w_h [x_h - beta max(0, x_h - m_gh)]

With the next step alone and beta = G, F is exactly by how much the imbalance G M - sum_g L_g falls:
below the envelope each token is idle time put to use, above it each makes G - 1 others wait. The
paper writes alpha F_g with its own beta; only their ratio decides, so alpha = 1 here.

Reference: BalanceRoute, arXiv 2605.06113, for constant x; that x may fade as requests end is our
own addition.
"""

from __future__ import annotations

import numpy as np

from planner.scheduling.batch import DecodeWorkers, Running
from planner.scheduling.survival import Predictor
from planner.spec.arrays import FloatArray, IntArray


def f_score(
    added_tokens: FloatArray, margin_tokens: FloatArray, weights: FloatArray, beta: float
) -> FloatArray:
    """Returns F of each placement on one worker, tokens, (n,).

    Shapes: `added_tokens` (n, H), or (n, 1) where it is the same at every horizon; the others (H,).
    """
    above = np.maximum(added_tokens - margin_tokens, 0.0)
    scores: FloatArray = (added_tokens - beta * above) @ weights
    return scores


def running_of(workers: DecodeWorkers) -> Running:
    """Returns what decodes on the workers.

    Raises:
        ValueError: they do not say.
    """
    if workers.running is None:
        raise ValueError("a policy that looks ahead needs DecodeWorkers.running")
    return workers.running


def expected_loads(running: Running, horizons: IntArray, predictor: Predictor) -> FloatArray:
    """Returns sum_i (kv_i + h) P(i decodes at h), tokens, (G, horizons)."""
    worker, place = np.nonzero(running.age_tokens >= 0)
    ages, keys = running.age_tokens[worker, place], running.keys[worker, place]
    alive = predictor.alive(ages, horizons, keys)
    read = (running.kv_tokens[worker, place] + horizons[:, None]) * alive.T
    n_workers = len(running.age_tokens)
    loads = np.zeros((n_workers, len(horizons)))
    first = np.searchsorted(worker, np.arange(n_workers))  # of each worker: they ascend
    busy = np.flatnonzero(np.diff(first, append=worker.size))
    if busy.size:
        loads[busy] = np.add.reduceat(read, first[busy], axis=1).T
    return loads
