"""GPUs and models: datasheet facts, each entry with its source (gpus.yaml, models.yaml)."""

from __future__ import annotations

import datetime

from planner.spec.base import Name, Positive, PositiveCount, Spec, Text


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
