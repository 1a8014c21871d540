"""Weak prior knowledge of the step law from datasheets, used where measurements are silent.

Notation
    W, W_a   bytes of all weights, of those active per token
    P_a      active parameters
    bw, fl   memory bandwidth and fp16 rate of the GPUs that work together
    A = 1 ms + W_a / (bw e_mem)          the weights are read once per step
    s = (W - W_a) / (bw e_mem) / 8       experts: all of them are touched at about 64 sequences
    b = 2 P_a / (fl e_small)             matrix work of one token in a small batch
    C = kv bytes per token / (bw e_mem)
    D = 2 P_a / (fl e_large)             halved where weights have one byte or less

Sources: the two halves of the roofline (Williams, Waterman, Patterson 2009, CACM 52(4)); 2
operations per parameter and token (Kaplan et al. 2020, arXiv:2001.08361, section 2.1). The
efficiencies e are assumptions in the middle of what engines reach; every prior is therefore a
log-normal with the width below, and a FitError or a note tells where it carries the figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.latency.memory import bytes_per_parameter, kv_bytes_per_token_and_gpu
from planner.spec.arrays import FloatArray
from planner.spec.pool import Profile

MEMORY_EFFICIENCY = 0.6
SMALL_BATCH_EFFICIENCY = 0.2
LARGE_BATCH_EFFICIENCY = 0.45
HOST_MS = 1.0
REQUEST_MS = 5.0

# Log-scale widths of (A, b, C, D, s, t0).
WIDTHS = np.array([0.8, 1.2, 0.35, 0.4, 1.5, 1.0])
# Without facts of the GPU or the model only the order of magnitude is known.
WIDTHS_BLIND = np.array([1.5, 1.5, 1.0, 1.0, 2.0, 1.5])


@dataclass(frozen=True)
class Prior:
    """A log-normal guess of the six coefficients (A, b, C, D, s, t0) in ms."""

    centre_ms: FloatArray  # (6,)
    width: FloatArray  # (6,) standard deviations of the logarithm
    roofline_ms: float  # no decode step can be faster; 0 where unknown
    from_facts: bool


def prior(profile: Profile, token_ms: float, n: float) -> Prior:
    """Returns the prior of a profile; `token_ms` at `n` sets the scale where facts are missing."""
    pool, gpu, facts = profile.pool, profile.gpu, profile.facts
    if gpu is None or facts is None:
        step = 0.7 * token_ms
        each = 0.3 * token_ms / max(n, 1.0)
        centre = np.array([step, each, each / 2e4, each / 8, 0.02 * step, 0.2 * token_ms])
        return Prior(centre, WIDTHS_BLIND, 0.0, False)
    compute = pool.share.compute_ratio if pool.share else 1.0
    parallel = pool.tensor_parallel * pool.data_parallel
    bytes_per_ms = gpu.memory_gb_per_s * 1e6 * compute
    flop_per_ms = gpu.fp16_tflops * 1e9 * compute * parallel
    width_bytes = bytes_per_parameter(pool, facts)
    active = facts.n_active_parameters * width_bytes / pool.tensor_parallel / bytes_per_ms
    rest = (facts.n_parameters - facts.n_active_parameters) * width_bytes
    experts = max(rest, 0.0) / pool.tensor_parallel / bytes_per_ms / MEMORY_EFFICIENCY / 8.0
    step = HOST_MS + active / MEMORY_EFFICIENCY
    token_flop = 2.0 * facts.n_active_parameters
    faster = 2.0 if width_bytes <= 1.0 else 1.0
    kv_bytes = kv_bytes_per_token_and_gpu(pool, facts) / pool.data_parallel
    centre = np.array(
        [
            step,
            token_flop / (flop_per_ms * SMALL_BATCH_EFFICIENCY),
            kv_bytes / (bytes_per_ms * MEMORY_EFFICIENCY),
            token_flop / (flop_per_ms * faster * LARGE_BATCH_EFFICIENCY),
            max(experts, 0.02 * step),
            REQUEST_MS,
        ]
    )
    return Prior(centre, WIDTHS, active, True)
