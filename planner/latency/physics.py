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
log-normal with the width below, and a FitError or a note tells where it carries the figure. Where
the GPU's kernels were measured (`rb profile gpu`) their rates stand in place of e bw and e fl, and
A and D are surer: what is left is how well an engine uses the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from planner.latency.memory import bytes_per_parameter, kv_bytes_per_token_and_gpu
from planner.spec.arrays import FloatArray
from planner.spec.hardware import GemmRates, Gpu, GpuMeasured
from planner.spec.pool import BYTES_PER_PARAMETER, Profile

MEMORY_EFFICIENCY = 0.6
SMALL_BATCH_EFFICIENCY = 0.2
LARGE_BATCH_EFFICIENCY = 0.45
HOST_MS = 1.0
REQUEST_MS = 5.0

# Log-scale widths of (A, b, C, D, s, t0).
WIDTHS = np.array([0.8, 1.2, 0.35, 0.4, 1.5, 1.0])
# With measured kernels; an engine's own attention kernel may still be another than torch's.
WIDTHS_MEASURED = np.array([0.5, 1.2, 0.35, 0.3, 1.5, 1.0])
# Without facts of the GPU or the model only the order of magnitude is known.
WIDTHS_BLIND = np.array([1.5, 1.5, 1.0, 1.0, 2.0, 1.5])


@dataclass(frozen=True)
class Prior:
    """A log-normal guess of the six coefficients (A, b, C, D, s, t0) in ms."""

    centre_ms: FloatArray  # (6,)
    width: FloatArray  # (6,) standard deviations of the logarithm
    roofline_ms: float  # no decode step can be faster; 0 where unknown
    from_facts: bool


def blind_prior(token_ms: Sequence[float], n: Sequence[float]) -> Prior:
    """Returns the prior of a machine of which nothing is known but times per token at n."""
    step = 0.7 * float(min(token_ms))
    each = 0.3 * median((np.asarray(token_ms) / np.maximum(n, 1.0)).tolist())
    typical = median(token_ms)
    centre = np.array([step, each, each / 2e4, each / 8, 0.02 * step, 0.2 * typical])
    return Prior(centre, WIDTHS_BLIND, 0.0, False)


def prior(profile: Profile, token_ms: Sequence[float], n: Sequence[float]) -> Prior:
    """Returns the prior of a profile; times per token at n set the scale without facts."""
    pool, gpu, facts = profile.pool, profile.gpu, profile.facts
    if gpu is None or facts is None:
        return blind_prior(token_ms, n)
    compute = pool.share.compute_ratio if pool.share else 1.0
    parallel = pool.tensor_parallel * pool.data_parallel
    width_bytes = bytes_per_parameter(pool, facts)
    rates = _Rates.of(gpu, width_bytes)
    weights_per_ms = rates.weight_gb_per_s * 1e6 * compute * pool.tensor_parallel / width_bytes
    rest = max(facts.n_parameters - facts.n_active_parameters, 0.0)
    step = HOST_MS + facts.n_active_parameters / weights_per_ms
    token_flop = 2.0 * facts.n_active_parameters / (1e9 * compute * parallel)
    kv_bytes = kv_bytes_per_token_and_gpu(pool, facts) / pool.data_parallel
    centre = np.array(
        [
            step,
            token_flop / rates.small_tflops,
            kv_bytes / (rates.cache_gb_per_s * 1e6 * compute),
            token_flop / rates.large_tflops,
            max(rest / weights_per_ms / 8.0, 0.02 * step),
            REQUEST_MS,
        ]
    )
    sheet_bytes_per_ms = gpu.memory_gb_per_s * 1e6 * compute * pool.tensor_parallel
    roofline_ms = facts.n_active_parameters * width_bytes / sheet_bytes_per_ms
    return Prior(centre, rates.width, roofline_ms, True)


@dataclass(frozen=True)
class _Rates:
    """What one GPU is expected to reach, and how sure that is."""

    weight_gb_per_s: float
    cache_gb_per_s: float
    small_tflops: float  # of what one more sequence adds to a small batch
    large_tflops: float
    width: FloatArray  # (6,)

    @classmethod
    def of(cls, gpu: Gpu, width_bytes: float) -> _Rates:
        """Returns the rates for weights of `width_bytes`: measured, or parts of the sheet's."""
        memory = gpu.memory_gb_per_s * MEMORY_EFFICIENCY
        small = gpu.fp16_tflops * SMALL_BATCH_EFFICIENCY
        if gpu.measured is None:
            faster = 2.0 if width_bytes <= 1.0 else 1.0
            large = gpu.fp16_tflops * faster * LARGE_BATCH_EFFICIENCY
            return cls(memory, memory, small, large, WIDTHS)
        gemm = _products(gpu.measured, width_bytes)
        # A product of m rows reads every weight once for 2 m operations.
        weights = max(
            rate / (2.0 * m) for m, rate in zip(gemm.n_rows, gemm.reached_tflops, strict=True)
        )
        return cls(
            weights * 1e3 * BYTES_PER_PARAMETER[gemm.precision],
            max(gpu.measured.decode_attention.reached_gb_per_s),
            # Sampling and the host's work are in no kernel: `small` stays as it is.
            small,
            max(gemm.reached_tflops),
            WIDTHS_MEASURED,
        )


def _products(measured: GpuMeasured, width_bytes: float) -> GemmRates:
    """Returns the measured products of the precision nearest to the weights'."""
    return min(
        measured.gemm,
        key=lambda gemm: abs(np.log(BYTES_PER_PARAMETER[gemm.precision] / width_bytes)),
    )
