"""From a fitted pool to its engine: the step law of the LP and the score, in whole picoseconds.

Notation (one replica, n sequences decoding)
    R(n), A, b, C, D, s, t0   the step law (latency/steplaw.py)                       ms
    G                         data-parallel ranks of a replica

Program
    F[n] = R(n) (A + b n + s sqrt n)      C[n] = R(n) C      D
    with G ranks, each one sees its own n: F[G n], G C[G n], G D, places and cache / G

The law of a data-parallel replica was measured on all of its ranks together, evenly loaded: a rank
with n sequences then is in a replica with G n, and reads or prefills for G.

The rest comes from the pool: its caps and memory as the tables have them, TGI's admission rule for
TGI. A fitted t0 holds what a request waits for beside steps, async scheduling included, so no lag
is added to it.
"""

from __future__ import annotations

import math

import numpy as np

from planner.latency.model import TOKENS_PER_STEP, LatencyModel
from planner.latency.steplaw import StepLaw
from planner.simulate.hosted import HostedSettings
from planner.simulate.settings import EngineSettings, Prefill, StepTimes
from planner.simulate.units import PS_PER_MS

BLOCK_TOKENS = 16
UNBOUNDED_BLOCKS = 2**40
PAUSING_ENGINES = ("tgi", "text-generation-inference")


def engine_of(model: LatencyModel) -> EngineSettings | HostedSettings:
    """Returns how one replica of a fitted pool serves; a delay where no step law is known."""
    if model.law is None or model.capacity is not None:
        assert model.capacity is not None
        return HostedSettings(model.capacity.ttft_ms, model.capacity.tpot_ms)
    pool = model.profile.pool
    n_ranks = pool.data_parallel
    max_num_seqs = max(math.ceil(model.max_num_seqs / n_ranks), 1)
    prefill: Prefill = "pausing" if (pool.engine or "").lower() in PAUSING_ENGINES else "chunked"
    return EngineSettings(
        steps=step_times(model.law, max_num_seqs, n_ranks),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max(pool.max_num_batched_tokens or TOKENS_PER_STEP, max_num_seqs),
        kv_blocks=_blocks(model.memory.kv_capacity_tokens / n_ranks),
        block_tokens=BLOCK_TOKENS,
        prefill=prefill,
        n_ranks=n_ranks,
    )


def step_times(law: StepLaw, max_num_seqs: int, n_ranks: int = 1) -> StepTimes:
    """Returns the step times of one rank of a replica for up to max_num_seqs sequences."""
    n = np.arange(max_num_seqs + 1, dtype=np.float64) * n_ranks
    # No sequence at all is as far from the measured batches as a single one.
    ratio = law.residual_ratio(np.maximum(n, 1.0))
    decode_ms = ratio * (law.step_ms + law.sequence_ms * n + law.root_ms * np.sqrt(n))
    context_ms = ratio * law.context_token_ms * n_ranks
    return StepTimes(
        decode_ps=tuple(_picoseconds(ms) for ms in decode_ms.tolist()),
        context_ps=tuple(_picoseconds(ms) for ms in context_ms.tolist()),
        prompt_token_ps=_picoseconds(law.prompt_token_ms * n_ranks),
    )


def request_ps(model: LatencyModel) -> int:
    """Returns what a request takes before its first token beside any step, t0."""
    return _picoseconds(model.law.request_ms) if model.law is not None else 0


def _picoseconds(ms: float) -> int:
    return round(ms * PS_PER_MS)


def _blocks(tokens: float) -> int:
    return max(int(tokens // BLOCK_TOKENS), 1) if math.isfinite(tokens) else UNBOUNDED_BLOCKS
