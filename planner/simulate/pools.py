"""What each pool did on average over runs: rates, how busy its replicas were, how full.

Levels are means over the window and over the replicas of a pool, by Little's law from the records
(planner/simulate/series.py says what waiting, decoding and busy mean). What a data-parallel barrier
costs is counted by the engines, over the whole run. A pool answers in the stages of cascades, too,
and works for answers that no user sees: all of it counts here (`Records.visits`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from planner.simulate.records import Records, Usage
from planner.simulate.series import busy_spans_s, held_tokens, mean_level, of_pool
from planner.simulate.units import PS_PER_S
from planner.simulate.warmup import Window
from planner.spec.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class PoolMeans:
    """Means over runs by pool, (P,) each; NaN where a pool has no such thing."""

    rate_rps: FloatArray
    input_tokens_per_s: FloatArray  # of answers finished in the window, as the output tokens
    output_tokens_per_s: FloatArray
    delivered_tokens_per_s: FloatArray  # the output tokens that users see
    busy_ratio: FloatArray  # 0 for a hosted pool
    n_in_flight_mean: FloatArray  # in one replica
    n_decoding_mean: FloatArray  # in one replica
    kv_ratio: FloatArray
    n_preempted: FloatArray  # per run
    imbalance_tokens: FloatArray
    barrier_idle_ratio: FloatArray


def pool_means(
    runs: Sequence[Records], counted: Sequence[Records], usages: Sequence[Usage], window: Window
) -> PoolMeans:
    """Returns what the pools did, on average over runs.

    Args:
        runs: every request of each run.
        counted: those of them that arrived in the window.
        usages: what the replicas of each run did.
        window: the time that counts.
    """
    found = [_of_run(*run, window) for run in zip(runs, counted, usages, strict=True)]
    return PoolMeans(
        **{
            f.name: np.mean([getattr(means, f.name) for means in found], axis=0)
            for f in fields(PoolMeans)
        }
    )


def _of_run(users: Records, counted: Records, usage: Usage, window: Window) -> PoolMeans:
    run, counted, n_pools = users.visits, counted.visits, len(users.pool_names)

    def by_pool(pool_index: IntArray, weights: IntArray | None = None) -> FloatArray:
        return np.asarray(np.bincount(pool_index, weights, n_pools), dtype=np.float64)

    n_replicas = np.maximum(by_pool(usage.pool_index), 1.0)

    def per_s(answers: Records, tokens: IntArray) -> FloatArray:
        done_ps = answers.done_ps
        finished = answers.is_answered & (done_ps >= window.start_ps) & (done_ps <= window.end_ps)
        return by_pool(answers.pool_index[finished], tokens[finished]) / window.duration_s

    in_flight, decoding, kv_tokens, busy = _levels(run, window)
    capacity_tokens = by_pool(usage.pool_index, usage.kv_capacity_tokens)
    return PoolMeans(
        rate_rps=by_pool(counted.pool_index) / window.duration_s,
        input_tokens_per_s=per_s(run, run.input_tokens),
        output_tokens_per_s=per_s(run, run.output_tokens),
        delivered_tokens_per_s=per_s(users, users.output_tokens),
        busy_ratio=np.where(capacity_tokens > 0, busy / n_replicas, 0.0),
        n_in_flight_mean=in_flight / n_replicas,
        n_decoding_mean=decoding / n_replicas,
        kv_ratio=_ratio(kv_tokens, capacity_tokens),
        n_preempted=by_pool(counted.pool_index, counted.n_preempted),
        imbalance_tokens=_of_groups(usage, usage.imbalance_tokens, n_pools),
        barrier_idle_ratio=_of_groups(usage, _ratio(usage.barrier_idle_ps, usage.busy_ps), n_pools),
    )


def _levels(run: Records, window: Window) -> tuple[FloatArray, ...]:
    """Returns the mean levels in the window by pool: in flight, decoding, KV tokens, busy."""
    edges_s = np.array([window.start_ps, window.end_ps]) / PS_PER_S
    levels = []
    for p in range(len(run.pool_names)):
        here = run.is_answered & of_pool(run, p)
        times_s = [t[here] / PS_PER_S for t in (run.arrived_ps, run.first_ps, run.done_ps)]
        arrived_s, first_s, done_s = times_s
        levels.append(
            [
                mean_level(arrived_s, done_s, edges_s)[0],
                mean_level(first_s, done_s, edges_s)[0],
                mean_level(first_s, done_s, edges_s, held_tokens(run)[here])[0],
                mean_level(*busy_spans_s(run, here), edges_s)[0],
            ]
        )
    return tuple(np.array(levels).T)


def _of_groups(usage: Usage, values: FloatArray, n_pools: int) -> FloatArray:
    """Returns the mean over data-parallel replicas by pool, (P,); NaN where there are none."""
    grouped = ~np.isnan(usage.imbalance_tokens)
    pools = usage.pool_index[grouped]
    total = np.bincount(pools, values[grouped], n_pools)
    return _ratio(total, np.bincount(pools, minlength=n_pools))


def _ratio(part: FloatArray | IntArray, whole: FloatArray | IntArray) -> FloatArray:
    """Returns part / whole, NaN where whole is 0."""
    unknown = np.full(part.shape, np.nan)
    return np.asarray(np.divide(part, whole, out=unknown, where=whole != 0))
