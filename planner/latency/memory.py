"""What fits into the GPUs of one replica: weights, and the KV cache that is left.

Notation (per GPU)
    M     memory                                                       GiB
    w     weights: parameters * bytes / (tensor_parallel * pipeline_parallel)   GiB
    kv    cache per token: 2 * layers/pp * max(kv_heads/tp, 1) * head_dim * bytes
    capacity_tokens = (0.9 M - w - margin) / kv * data_parallel

A key-value head cannot be split, so with more GPUs than heads every GPU keeps a whole one.
"""

from __future__ import annotations

from dataclasses import dataclass

from planner.spec.hardware import ModelFacts
from planner.spec.pool import BYTES_PER_PARAMETER, Pool, Profile

GIB = 2.0**30
USABLE_RATIO = 0.9  # the share of GPU memory that engines claim unless told otherwise
ACTIVATION_GIB = 1.0  # activations, graphs and the runtime itself, per GPU


@dataclass(frozen=True)
class Memory:
    """The memory of one replica, as far as it is known."""

    weights_gib_per_gpu: float  # 0 for a hosted pool or unknown facts
    kv_capacity_tokens: float  # inf where nothing bounds it
    fits: bool  # the weights and at least some cache fit

    @classmethod
    def of(cls, profile: Profile) -> Memory:
        """Returns the memory of a profile's pool; a measured cache size wins over arithmetic."""
        pool, gpu, facts = profile.pool, profile.gpu, profile.facts
        stated = float(pool.kv_capacity_tokens or 0)
        if gpu is None or facts is None:
            return cls(0.0, stated or float("inf"), True)
        weights_gib = weights_gib_per_gpu(pool, facts)
        memory_gib = pool.share.memory_gib if pool.share else gpu.memory_gib
        free_gib = USABLE_RATIO * memory_gib - weights_gib - ACTIVATION_GIB
        tokens = max(free_gib, 0.0) * GIB / kv_bytes_per_token_and_gpu(pool, facts)
        tokens *= pool.data_parallel
        # A measured cache proves that the pool ran, whatever the arithmetic says.
        return cls(weights_gib, stated or tokens, stated > 0 or free_gib > 0)


def bytes_per_parameter(pool: Pool, facts: ModelFacts) -> float:
    """Returns the bytes that one weight takes on this pool."""
    if pool.weight_precision is None:
        return facts.bytes_per_parameter
    return BYTES_PER_PARAMETER[pool.weight_precision]


def weights_gib_per_gpu(pool: Pool, facts: ModelFacts) -> float:
    """Returns the GiB of weights on each GPU of a replica."""
    parts = pool.tensor_parallel * pool.pipeline_parallel
    return facts.n_parameters * bytes_per_parameter(pool, facts) / parts / GIB


def kv_bytes_per_token_and_gpu(pool: Pool, facts: ModelFacts) -> float:
    """Returns the bytes that one cached token takes on each GPU of a replica."""
    heads = max(facts.n_kv_heads / pool.tensor_parallel, 1.0)
    layers = facts.n_layers / pool.pipeline_parallel
    precision = BYTES_PER_PARAMETER[pool.kv_precision] if pool.kv_precision else 2.0
    return 2.0 * layers * heads * facts.head_dim * precision
