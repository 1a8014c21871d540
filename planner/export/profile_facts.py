"""What an engine is told of one measured pool, and what an operator should know of it."""

from __future__ import annotations

from planner.latency.memory import USABLE_RATIO, Memory, weights_gib_per_gpu
from planner.spec.export import EngineName
from planner.spec.pool import Profile

BLOCK_TOKENS = 16
COMPUTED_CACHE_RATIO = 0.9
"""Of a KV cache that nobody measured: what a single request is let to fill of it."""


def engine_name(engine: str | None) -> EngineName | None:
    """Returns the engine that a profile means, of those that can be started."""
    name = (engine or "").lower()
    if name.startswith("vllm"):
        return "vllm"
    return "sglang" if name.startswith(("sglang", "sgl")) else None


def measured_with(profile: Profile) -> str | None:
    """Returns the engine of a profile with its version, as far as somebody wrote them down."""
    engine, version = profile.pool.engine, profile.pool.engine_version
    return None if engine is None else f"{engine} {version}" if version else engine


def memory_ratio(profile: Profile, memory_gib: float) -> float:
    """Returns the part of a GPU's memory that an engine may take: what latency/memory.py counts."""
    share = profile.pool.share
    part = 1.0 if share is None else min(share.memory_gib / memory_gib, 1.0)
    return round(USABLE_RATIO * part, 4)


def kv_tokens(profile: Profile) -> int | None:
    """Returns the tokens that the plan lets a replica's KV cache hold; None where nobody knows."""
    tokens = Memory.of(profile).kv_capacity_tokens
    return int(tokens) if tokens < float("inf") else None


def max_model_len(profile: Profile, longest_tokens: int) -> int | None:
    """Returns the most tokens that one request may have; None: the engine reads it off the model.

    The model's context, or what is sure of one rank's KV cache where that is smaller; for longer
    requests of the question all of the cache. Never more than the cache holds: an engine that is
    told more does not start at all.

    Args:
        profile: of the pool.
        longest_tokens: of the requests that come to it; 0: not known.
    """
    context = profile.facts.max_context_tokens if profile.facts is not None else None
    cache = rank_tokens(profile)
    if cache is None:
        return context
    sure, whole = (n if context is None else min(n, context) for n in cache)
    return max(sure, min(_blocks_for(longest_tokens), whole))


def rank_tokens(profile: Profile) -> tuple[int, int] | None:
    """Returns the tokens of a rank's KV cache in whole blocks: those that are sure, and all of it.

    None where nobody knows. All of a cache that was measured is sure.
    """
    tokens = kv_tokens(profile)
    if tokens is None:
        return None
    sure = 1.0 if profile.pool.kv_capacity_tokens is not None else COMPUTED_CACHE_RATIO
    whole = tokens / profile.pool.data_parallel
    return _whole_blocks(whole * sure), _whole_blocks(whole)


def _whole_blocks(tokens: float) -> int:
    return int(tokens) // BLOCK_TOKENS * BLOCK_TOKENS


def _blocks_for(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS) * BLOCK_TOKENS


def weights_gib(profile: Profile) -> float | None:
    """Returns the GiB of one copy of a model's weights; None where its size is not known."""
    pool, facts = profile.pool, profile.facts
    if facts is None:
        return None
    parts = pool.tensor_parallel * pool.pipeline_parallel
    return round(weights_gib_per_gpu(pool, facts) * parts, 3)
