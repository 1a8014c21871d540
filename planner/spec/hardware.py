"""GPUs and models: datasheet facts, each entry with its source (gpus.yaml, models.yaml)."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.spec.base import Name, NonNegative, Origin, Positive, PositiveCount, Spec, Text

KernelPrecision = Literal["fp32", "fp16", "bfloat16", "fp8"]
"""The precisions in which kernels are measured; sums are kept in a wider one."""

Counts = Annotated[tuple[PositiveCount, ...], Field(min_length=1)]
Figures = Annotated[tuple[Positive, ...], Field(min_length=1)]


class GemmRates(Spec):
    """What products of (rows, n_in) activations and (n_in, n_out) weights reach, cold weights."""

    precision: KernelPrecision
    n_in: PositiveCount
    n_out: PositiveCount
    n_rows: Counts
    reached_tflops: Figures

    @model_validator(mode="after")
    def _is_a_curve(self) -> GemmRates:
        _check_curve(self.n_rows, self.reached_tflops, "n_rows", "reached_tflops")
        return self


class DecodeAttentionRates(Spec):
    """How fast attention of one new token per sequence reads its cache.

    A stream is one KV head of one sequence: what a kernel can read at the same time.
    """

    precision: KernelPrecision
    n_streams: Counts
    reached_gb_per_s: Figures

    @model_validator(mode="after")
    def _is_a_curve(self) -> DecodeAttentionRates:
        _check_curve(self.n_streams, self.reached_gb_per_s, "n_streams", "reached_gb_per_s")
        return self


class AllReduceRate(Spec):
    """Time of a sum over GPUs: `latency_ms`, plus the message at `gb_per_s`."""

    n_gpus: PositiveCount
    latency_ms: NonNegative
    gb_per_s: Positive


class GpuMeasured(Spec):
    """What one device reached in micro-benchmarks (`rb profile gpu`), beside its data sheet."""

    device_name: Text
    n_multiprocessors: PositiveCount | None = None
    driver: Text | None = None
    torch_version: Text
    memory_copy_gb_per_s: Positive
    memory_triad_gb_per_s: Positive
    launch_ms: Positive
    graph_launch_ms: Positive | None = None
    gemm: Annotated[tuple[GemmRates, ...], Field(min_length=1)]
    decode_attention: DecodeAttentionRates
    prefill_attention_tflops: Positive
    all_reduce: tuple[AllReduceRate, ...] = ()
    spread_ratio: NonNegative
    origin: Origin = "measured"
    as_of: datetime.date


class Gpu(Spec):
    """One kind of GPU and what an hour of it costs."""

    name: Name
    memory_gib: Positive
    fp16_tflops: Positive
    memory_gb_per_s: Positive
    gpus_per_node: PositiveCount = 8
    interconnect_gb_per_s: Positive | None = None
    usd_per_h: Positive | None = None
    source: Text
    as_of: datetime.date
    measured: GpuMeasured | None = None


class ModelFacts(Spec):
    """Architecture facts of one LLM, from which memory and work per token follow."""

    name: Name
    n_parameters: Positive
    n_active_parameters: Positive
    n_layers: PositiveCount
    hidden_size: PositiveCount
    n_heads: PositiveCount
    n_kv_heads: PositiveCount
    head_dim: PositiveCount
    bytes_per_parameter: Positive
    max_context_tokens: PositiveCount
    source: Text


def _check_curve(
    counts: Sequence[int], figures: Sequence[float], counted: str, figure: str
) -> None:
    """Raises ValueError unless there is one figure per count, and the counts rise."""
    if len(counts) != len(figures):
        raise ValueError(f"{counted} and {figure} must have the same number of entries")
    if any(a >= b for a, b in pairwise(counts)):
        raise ValueError(f"{counted} must rise")
