"""A decode step from what the device reached: the calibrated roofline.

Notation
    n, c         sequences in the step, context of each                        -, tokens
    m, k, o      rows, inputs and outputs of a matrix product
    l            time of one kernel that has nothing to do (in a graph)         ms
    f(m)         measured rate of a product of m rows by a (k0, o0) matrix      operations/ms
    r(x)         measured rate of reading x caches side by side                 bytes/ms
    tp           GPUs that share the matrices and the KV heads

Program, per layer
    product      l + (2 m k0 o0 / f(m) - l) * (k o) / (k0 o0)        weights cold, as measured
    attention    l + K and V of n sequences / r(n * KV heads)
    rest         8 kernels: 2 norms, K and V into the cache, SiLU, product, 2 residuals;
                 l each, and their traffic at the bandwidth of the triad
    all-reduce   2 sums of (n, hidden), where tp > 1 was measured
and once per step a norm and the product with the vocabulary. f and r are interpolated in logarithms
and constant outside what was measured. Source of the form: the roofline (Williams, Waterman,
Patterson 2009, CACM 52(4)) with measured ceilings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.profile.device.plan import ELEMENT_BYTES
from planner.spec.hardware import GemmRates, GpuMeasured, KernelPrecision

N_SMALL_KERNELS = 8


@dataclass(frozen=True)
class StepShape:
    """A model of the Llama form, as far as the time of a step needs it."""

    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    ffn_size: int
    n_layers: int
    vocabulary_size: int
    tensor_parallel: int = 1

    @property
    def n_own_heads(self) -> int:
        """Returns the query heads on one GPU."""
        return self.n_heads // self.tensor_parallel

    @property
    def n_own_kv_heads(self) -> int:
        """Returns the KV heads on one GPU; a head cannot be split."""
        return max(self.n_kv_heads // self.tensor_parallel, 1)

    @property
    def n_own_ffn(self) -> int:
        """Returns the columns of the feed-forward layer on one GPU."""
        return self.ffn_size // self.tensor_parallel

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """Returns (inputs, outputs) of a layer's four matrices on one GPU, in order."""
        attention = self.n_own_heads * self.head_dim
        cache = self.n_own_kv_heads * self.head_dim
        return (
            (self.hidden_size, attention + 2 * cache),
            (attention, self.hidden_size),
            (self.hidden_size, 2 * self.n_own_ffn),
            (self.n_own_ffn, self.hidden_size),
        )

    @property
    def head(self) -> tuple[int, int]:
        """Returns (inputs, outputs) of the product with the vocabulary on one GPU."""
        return self.hidden_size, self.vocabulary_size // self.tensor_parallel


@dataclass(frozen=True)
class StepTime:
    """Where the time of a decode step goes."""

    products_ms: float
    attention_ms: float
    rest_ms: float
    all_reduce_ms: float

    @property
    def total_ms(self) -> float:
        """Returns the whole step."""
        return self.products_ms + self.attention_ms + self.rest_ms + self.all_reduce_ms


def decode_step(
    measured: GpuMeasured,
    shape: StepShape,
    n_sequences: int,
    context_tokens: int,
    precision: KernelPrecision,
) -> StepTime:
    """Returns the predicted time of one decode step on one GPU of a replica, in ms.

    Raises:
        ValueError: matrix products were not measured in this precision.
    """
    n, kernel_ms = n_sequences, measured.graph_launch_ms or measured.launch_ms
    rates = next((r for r in measured.gemm if r.precision == precision), None)
    if rates is None:
        raise ValueError(f"no matrix product was measured in {precision}")
    products_ms = sum(_product_ms(rates, n, matrix, kernel_ms) for matrix in shape.matrices)
    n_streams = n * shape.n_own_kv_heads
    cache_bytes = 2.0 * n_streams * shape.head_dim * context_tokens * ELEMENT_BYTES[precision]
    reading = measured.decode_attention
    cache_bytes_per_ms = 1e6 * _at(n_streams, reading.n_streams, reading.reached_gb_per_s)
    traffic_elements = n * (10 * shape.hidden_size + 5 * shape.n_own_ffn)
    traffic_ms = traffic_elements * ELEMENT_BYTES[precision] / measured.memory_triad_gb_per_s / 1e6
    return StepTime(
        products_ms=shape.n_layers * products_ms + _product_ms(rates, n, shape.head, kernel_ms),
        attention_ms=shape.n_layers * (kernel_ms + cache_bytes / cache_bytes_per_ms),
        rest_ms=shape.n_layers * (N_SMALL_KERNELS * kernel_ms + traffic_ms) + kernel_ms,
        all_reduce_ms=2 * shape.n_layers * _sum_ms(measured, shape, n, precision),
    )


def _product_ms(rates: GemmRates, n_rows: int, matrix: tuple[int, int], kernel_ms: float) -> float:
    n_weights = rates.n_in * rates.n_out
    measured_ms = 2.0 * n_rows * n_weights / (_at(n_rows, rates.n_rows, rates.reached_tflops) * 1e9)
    return kernel_ms + max(measured_ms - kernel_ms, 0.0) * matrix[0] * matrix[1] / n_weights


def _sum_ms(
    measured: GpuMeasured, shape: StepShape, n_rows: int, precision: KernelPrecision
) -> float:
    """Returns the time of one all-reduce, 0 where it was not measured for so many GPUs."""
    n_bytes = n_rows * shape.hidden_size * ELEMENT_BYTES[precision]
    rate = next((r for r in measured.all_reduce if r.n_gpus == shape.tensor_parallel), None)
    return 0.0 if rate is None else rate.latency_ms + n_bytes / rate.gb_per_s / 1e6


def _at(x: float, known: Sequence[float], figures: Sequence[float]) -> float:
    """Returns a figure at x, log-log between the known ones and constant outside."""
    return float(np.exp(np.interp(np.log(x), np.log(known), np.log(figures))))
