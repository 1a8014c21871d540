"""How a run went over time: load, queue, batch, memory and latency in equal time buckets.

Notation (request i)
    a, f, d    arrived, first token, done           s
    p, o       input and output tokens              tokens

    waiting     from a to f: in the queue or in prefill, which records cannot tell apart
    decoding    from f to d: its answer is being written
    KV          p + o/2 tokens while decoding, the mean of its growth from p to p + o
    busy        a replica is, while at least one request that was sent to it waits or decodes

Levels are means over a bucket, exact to rounding: with x(t) = sum of w_i over start_i <= t < end_i,

    integral of x to t = sum_{start_i <= t} w_i (t - start_i) - sum_{end_i <= t} w_i (t - end_i)

so that two histograms give every bucket. Requests without an answer count as arrivals only, and
hosted pools have no KV cache and no replicas that could be busy. Of all pools together arrivals and
TTFT are those that users see; levels, and everything of one pool, are those of the stages that
cascades ask of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from planner.simulate.records import Records, Usage
from planner.simulate.units import PS_PER_S
from planner.spec.arrays import BoolArray, FloatArray

N_BUCKETS = 120


@dataclass(frozen=True)
class Series:
    """A run, or one pool of it, in B time buckets; levels are means over a bucket."""

    edges_s: FloatArray  # (B + 1,)
    arrivals_rps: FloatArray  # (B,)
    n_waiting_mean: FloatArray  # (B,)
    n_decoding_mean: FloatArray  # (B,)
    kv_ratio: FloatArray  # (B,) of all KV caches together; NaN without any
    busy_ratio: FloatArray  # (B,) of all replicas on own GPUs; 0 without any
    ttft_p95_ms: FloatArray  # (B,) of the requests that arrived in it; NaN of none


def time_series(
    records: Records,
    usage: Usage,
    until_ps: int,
    pool_index: int | None = None,
    n_buckets: int = N_BUCKETS,
) -> Series:
    """Returns the series of a run from its start to a moment, of all pools or of one."""
    edges_s = np.linspace(0.0, until_ps / PS_PER_S, n_buckets + 1)
    seen = records if pool_index is None else records.visits
    arrived_s = seen.arrived_ps[of_pool(seen, pool_index)] / PS_PER_S
    ttft_p95_ms = _p95(seen, pool_index, edges_s)
    records = records.visits
    here = records.is_answered & of_pool(records, pool_index)
    first_s, done_s = records.first_ps[here] / PS_PER_S, records.done_ps[here] / PS_PER_S
    own = usage.kv_capacity_tokens > 0
    if pool_index is not None:
        own &= usage.pool_index == pool_index
    capacity_tokens = float(usage.kv_capacity_tokens[own].sum())
    on_own = here & np.isin(records.pool_index, usage.pool_index[own])
    kv_tokens = mean_level(
        first_s, done_s, edges_s, np.where(on_own, held_tokens(records), 0)[here]
    )
    return Series(
        edges_s=edges_s,
        arrivals_rps=np.histogram(arrived_s, edges_s)[0] / np.diff(edges_s),
        n_waiting_mean=mean_level(records.arrived_ps[here] / PS_PER_S, first_s, edges_s),
        n_decoding_mean=mean_level(first_s, done_s, edges_s),
        kv_ratio=kv_tokens / capacity_tokens if capacity_tokens else np.full(n_buckets, np.nan),
        busy_ratio=mean_level(*busy_spans_s(records, on_own), edges_s) / max(own.sum(), 1),
        ttft_p95_ms=ttft_p95_ms,
    )


def of_pool(records: Records, pool_index: int | None) -> BoolArray:
    """Returns which requests went to a pool, (N,); all of them for None."""
    if pool_index is None:
        return np.full(records.n_requests, True)
    return np.asarray(records.pool_index == pool_index)


def held_tokens(records: Records) -> FloatArray:
    """Returns the KV tokens that each request holds on average while decoding, (N,)."""
    return records.input_tokens + records.output_tokens / 2.0


def mean_level(
    start_s: FloatArray, end_s: FloatArray, edges_s: FloatArray, weights: FloatArray | None = None
) -> FloatArray:
    """Returns the mean over each bucket, (B,), of the weights of the spans (n,) that cover it.

    Args:
        start_s: starts of the spans, (n,).
        end_s: their ends, (n,), none before its start.
        edges_s: edges of equal buckets, (B + 1,).
        weights: what each span counts for, (n,); one each by default.
    """
    until = _ramp(start_s, edges_s, weights) - _ramp(end_s, edges_s, weights)
    return np.maximum(np.diff(until) / np.diff(edges_s), 0.0)  # rounding knows no sign


def _ramp(since_s: FloatArray, edges_s: FloatArray, weights: FloatArray | None) -> FloatArray:
    """Returns the sum of w (edge - since) over those that lie before each edge, (B + 1,)."""
    n_edges = edges_s.size
    width_s = (edges_s[-1] - edges_s[0]) / (n_edges - 1)
    first_edge = np.ceil((since_s - edges_s[0]) / width_s)
    bucket = np.clip(first_edge, 0, n_edges).astype(np.int64)
    w = np.ones(since_s.size) if weights is None else weights
    total = np.bincount(bucket, w, n_edges + 1)[:n_edges].cumsum()
    moment = np.bincount(bucket, w * since_s, n_edges + 1)[:n_edges].cumsum()
    return np.asarray(edges_s * total - moment)


def busy_spans_s(records: Records, here: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Returns when the replicas had something to do: starts and ends of the spans, (k,) each.

    Args:
        records: the run.
        here: which of its requests count, (N,), all of them with an answer.
    """
    chosen = np.flatnonzero(here)
    if chosen.size == 0:
        return np.empty(0), np.empty(0)
    n_most = int(records.replica_index.max()) + 1
    station = records.pool_index[chosen] * n_most + records.replica_index[chosen]
    order = np.argsort(station, kind="stable")  # within a replica still in order of arrival
    chosen = chosen[order]
    start_s, done_s = records.arrived_ps[chosen] / PS_PER_S, records.done_ps[chosen] / PS_PER_S
    # Replicas one after the other on one time axis: none reaches into the next one's stretch.
    shift_s = station[order] * (float(done_s.max()) + 1.0)
    last_s = np.maximum.accumulate(done_s + shift_s)
    begins = np.append(True, (start_s + shift_s)[1:] > last_s[:-1])
    ends = np.append(begins[1:], True)
    return start_s[begins], (last_s - shift_s)[ends]


def _p95(records: Records, pool_index: int | None, edges_s: FloatArray) -> FloatArray:
    """Returns the 95th percentile of TTFT in ms by bucket of arrival, (B,)."""
    timed = records.is_timed & of_pool(records, pool_index)
    ttft_ms = records.ttft_ms[timed]
    arrived_s = records.arrived_ps[timed] / PS_PER_S
    cuts = np.searchsorted(arrived_s, edges_s)
    cuts[-1] = np.searchsorted(arrived_s, edges_s[-1], side="right")  # as a histogram does
    parts = [ttft_ms[a:b] for a, b in pairwise(cuts.tolist())]
    return np.array([np.percentile(part, 95) if part.size else np.nan for part in parts])
