"""Runs of a simulated cluster written down by hand, for the tests of what is made of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.simulate.records import Outcome, Records, Usage
from planner.simulate.units import PS_PER_S


def records(
    arrived_s: Sequence[float],
    ttft_s: Sequence[float] | float,
    tpot_s: Sequence[float] | float = 0.01,
    *,
    output_tokens: Sequence[int] | int = 11,
    class_index: Sequence[int] | int = 0,
    pool_index: Sequence[int] | int = 0,
    replica_index: Sequence[int] | int = 0,
    outcome: Sequence[int] | int = Outcome.OK,
    class_names: tuple[str, ...] = ("chat", "code"),
    pool_names: tuple[str, ...] = ("small", "big"),
) -> Records:
    """Returns records with the given latencies; those not answered have no times."""
    n = len(arrived_s)

    def column(values: Sequence[int] | int) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, dtype=np.int64), (n,)).copy()

    tokens, ended = column(output_tokens), column(outcome)
    answered = (ended == Outcome.OK) | (ended == Outcome.UNTIMED)
    first_s = np.asarray(arrived_s, dtype=float) + np.asarray(ttft_s)
    done_s = first_s + np.asarray(tpot_s) * (tokens - 1)
    return Records(
        class_names=class_names,
        pool_names=pool_names,
        class_index=column(class_index),
        pool_index=column(pool_index),
        replica_index=column(replica_index),
        arrived_ps=in_ps(arrived_s),
        first_ps=np.where(answered, in_ps(first_s), -1),
        done_ps=np.where(answered, in_ps(done_s), -1),
        input_tokens=column(100),
        output_tokens=tokens,
        n_preempted=column(0),
        outcome=ended,
    )


def usage(n_replicas: Sequence[int] = (1, 1), kv_capacity_tokens: int = 10_000) -> Usage:
    """Returns what replicas without data parallelism did, n_replicas of each pool."""
    pools = np.repeat(np.arange(len(n_replicas)), n_replicas)
    zeros = np.zeros(pools.size, dtype=np.int64)
    return Usage(
        pool_index=pools,
        replica_index=np.concatenate([np.arange(n) for n in n_replicas]),
        busy_ps=zeros,
        n_steps=zeros,
        n_decoded_tokens=zeros,
        n_prefilled_tokens=zeros,
        barrier_idle_ps=zeros,
        imbalance_tokens=np.full(pools.size, np.nan),
        kv_capacity_tokens=zeros + kv_capacity_tokens,
    )


def in_ps(seconds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns times in whole picoseconds."""
    return np.rint(np.asarray(seconds, dtype=float) * PS_PER_S).astype(np.int64)
