"""A pool: one way to run one model, and what was measured of ONE replica of it (its profile)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.spec.base import (
    Count,
    Metric,
    Name,
    NonNegative,
    Origin,
    Positive,
    PositiveCount,
    Spec,
    Statistic,
    Text,
)
from planner.spec.hardware import Gpu, ModelFacts

Precision = Literal[
    "fp32", "bfloat16", "fp16", "fp8", "int8", "fp4", "int4", "mxfp4", "awq", "gptq"
]

BYTES_PER_PARAMETER: dict[Precision, float] = {
    "fp32": 4.0,
    "bfloat16": 2.0,
    "fp16": 2.0,
    "fp8": 1.0,
    "int8": 1.0,
    "fp4": 0.5,
    "int4": 0.5,
    "mxfp4": 0.5,
    "awq": 0.5,
    "gptq": 0.5,
}


class GpuShare(Spec):
    """The part of each GPU that a replica takes when it shares the GPU with others.

    A profile measured alone on its part knows nothing of neighbours, who slow each other down by
    what no part divides (memory bandwidth, caches): all its times are `slowdown_ratio` as long.
    """

    compute_ratio: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    memory_gib: Positive
    slowdown_ratio: Annotated[float, Field(ge=1, le=100, strict=True)] = 1.0
    slowdown_origin: Literal["measured", "assumed"] = "assumed"


class HostedPrice(Spec):
    """What a hosted API charges."""

    usd_per_million_input_tokens: NonNegative
    usd_per_million_output_tokens: NonNegative


class Pool(Spec):
    """One way to run one model: model, GPU, parallelism, engine settings (pool.yaml)."""

    name: Name
    model_name: Name
    scores_model_name: Name | None = None
    gpu: Name | None = None
    tensor_parallel: PositiveCount = 1
    pipeline_parallel: PositiveCount = 1
    data_parallel: PositiveCount = 1
    weight_precision: Precision | None = None
    kv_precision: Precision | None = None
    engine: Name | None = None
    engine_version: Text | None = None
    max_num_seqs: PositiveCount | None = None
    max_num_batched_tokens: PositiveCount | None = None
    kv_capacity_tokens: PositiveCount | None = None
    spans_nodes: bool = False
    share: GpuShare | None = None
    price: HostedPrice | None = None
    max_rps: Positive | None = None
    origin: Origin = "measured"
    error_ratio: Positive | None = None
    """Of an estimate: 9 in 10 true figures lie between it / (1 + this) and it * (1 + this)."""
    source: Text

    @model_validator(mode="after")
    def _hosted_or_own(self) -> Pool:
        if (self.gpu is None) == (self.price is None):
            raise ValueError("a pool names either a gpu (own hardware) or a price (hosted API)")
        if self.price is not None and self.max_rps is None:
            raise ValueError("a hosted pool needs max_rps, the rate its provider allows")
        return self

    @property
    def scored_as(self) -> str:
        """Returns the model name under which this pool's answers are scored."""
        return self.scores_model_name or self.model_name

    @property
    def replica_gpus(self) -> int:
        """Returns the GPUs that one replica lies on, whole or in part."""
        return self.tensor_parallel * self.pipeline_parallel * self.data_parallel

    @property
    def n_gpus(self) -> float:
        """Returns the GPUs that one replica takes, fractional for a pool that shares GPUs."""
        if self.gpu is None:
            return 0.0
        return self.replica_gpus * (self.share.compute_ratio if self.share else 1.0)


class PoolSettings(Spec):
    """What a person says of the pool that was measured (rb-pool.yaml beside results, or options).

    The keys are those of pool.yaml, none of them required.
    """

    name: Name | None = None
    model_name: Name | None = None
    scores_model_name: Name | None = None
    gpu: Name | None = None
    tensor_parallel: PositiveCount | None = None
    pipeline_parallel: PositiveCount | None = None
    data_parallel: PositiveCount | None = None
    weight_precision: Precision | None = None
    kv_precision: Precision | None = None
    engine: Name | None = None
    engine_version: Text | None = None
    max_num_seqs: PositiveCount | None = None
    max_num_batched_tokens: PositiveCount | None = None
    kv_capacity_tokens: PositiveCount | None = None
    spans_nodes: bool | None = None
    share: GpuShare | None = None
    price: HostedPrice | None = None
    max_rps: Positive | None = None
    n_replicas: PositiveCount | None = None
    """Replicas behind the measured address; a profile is of one, so loads are divided by it."""

    def said(self) -> dict[str, object]:
        """Returns what is said, by key; n_replicas too, which is no key of pool.yaml."""
        return {key: value for key, value in self if value is not None}


class Point(Spec):
    """One measured load level of one replica (a row of points.csv); None is 'not measured'."""

    input_tokens: Positive
    output_tokens: Positive
    mode: Literal["open", "closed", "batch"]
    concurrency: Positive | None = None
    offered_rps: Positive | None = None
    achieved_rps: Positive | None = None
    output_tokens_per_s: Positive | None = None
    ttft_mean_ms: Positive | None = None
    ttft_p50_ms: Positive | None = None
    ttft_p90_ms: Positive | None = None
    ttft_p95_ms: Positive | None = None
    ttft_p99_ms: Positive | None = None
    tpot_mean_ms: Positive | None = None
    tpot_p50_ms: Positive | None = None
    tpot_p90_ms: Positive | None = None
    tpot_p95_ms: Positive | None = None
    tpot_p99_ms: Positive | None = None
    itl_mean_ms: Positive | None = None
    itl_p50_ms: Positive | None = None
    itl_p90_ms: Positive | None = None
    itl_p95_ms: Positive | None = None
    itl_p99_ms: Positive | None = None
    e2e_mean_ms: Positive | None = None
    e2e_p50_ms: Positive | None = None
    e2e_p90_ms: Positive | None = None
    e2e_p95_ms: Positive | None = None
    e2e_p99_ms: Positive | None = None
    n_requests: PositiveCount | None = None
    n_failed: Count | None = None
    duration_s: Positive | None = None
    estimated: str = ""
    origin: Origin = "measured"
    source: Text

    def figure_ms(self, metric: Metric, statistic: Statistic) -> float | None:
        """Returns the measured latency in ms of one metric and statistic, None if not measured."""
        value: float | None = getattr(self, f"{metric}_{statistic}_ms")
        return value


def point_faults(point: Point) -> Iterator[tuple[str, str, str]]:
    """Yields (column, what, fix) where a point does not say at which load it was measured."""
    if point.mode != "open" and point.concurrency is None:
        what = f"is missing, a {point.mode} point is made at a concurrency, got nothing"
        yield "concurrency", what, "give the requests in flight"
    if point.mode == "open" and point.offered_rps is None and point.achieved_rps is None:
        what = "is missing, an open point is made at a rate in requests/s, got nothing"
        yield "offered_rps", what, "give the offered rate"
    for column in point.estimated.split():
        if getattr(point, column, None) is None:
            yield "estimated", f"names a column without a figure, got {column}", "correct it"


class CapacityPoint(Spec):
    """A load that one replica sustains at one request shape, nothing known of its latency."""

    input_tokens: Positive
    output_tokens: Positive
    max_rps: Positive
    origin: Origin = "measured"
    source: Text


@dataclass(frozen=True)
class Profile:
    """A pool with its measurements and the facts of its GPU and model."""

    pool: Pool
    gpu: Gpu | None
    facts: ModelFacts | None
    points: tuple[Point, ...] = ()
    capacity: tuple[CapacityPoint, ...] = ()

    @property
    def name(self) -> str:
        """Returns the pool's name."""
        return self.pool.name
