"""The workload as arrays: what the question asks for, class by class and pool by pool.

Notation
    C   number of request classes          P   number of pools
    c   a class                            p   a pool
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.base import Origin
from planner.spec.question import Limit


@dataclass(frozen=True)
class RequestShape:
    """The token counts of one class on one pool, as equally likely nodes of their distributions."""

    input_tokens: FloatArray  # (n_in,) ascending, before prefix-cache hits
    output_tokens: FloatArray  # (n_out,) ascending, at least 1
    cached_input_ratio: float = 0.0

    @property
    def mean_output_tokens(self) -> float:
        """Returns the mean answer length in tokens."""
        return float(self.output_tokens.mean())


@dataclass(frozen=True)
class ScopedLimit:
    """A latency limit with its scope: one class, or all traffic when class_name is None (§2)."""

    class_name: str | None
    limit: Limit

    @property
    def label(self) -> str:
        """Returns a short unique name, e.g. 'p95 e2e of math' or 'mean tpot of all traffic'."""
        return f"{self.limit.label} of {self.class_name or 'all traffic'}"


@dataclass(frozen=True)
class Workload:
    """What must be served; immutable, one row per class, one column per pool."""

    class_names: tuple[str, ...]
    pool_names: tuple[str, ...]
    rate_rps: FloatArray  # (C,) planned rate
    mean_rate_rps: FloatArray  # (C,) long-run mean rate, for money per token
    quality: FloatArray  # (C, P) mean score in [0, 1]; NaN where the pool is not allowed
    allowed: BoolArray  # (C, P)
    shapes: tuple[tuple[RequestShape | None, ...], ...]  # (C, P); None where not allowed
    limits: tuple[ScopedLimit, ...]
    quality_at_least: float | None
    class_quality_at_least: FloatArray  # (C,) NaN = no floor
    priority: FloatArray  # (C,) who is shed last has the largest
    request_usd: FloatArray  # (C, P) price of one request on a hosted pool, 0 on own GPUs
    origin: Origin  # of scores and lengths

    @property
    def n_classes(self) -> int:
        """Returns the number of request classes."""
        return len(self.class_names)

    @property
    def n_pools(self) -> int:
        """Returns the number of pools."""
        return len(self.pool_names)

    @property
    def total_rps(self) -> float:
        """Returns the planned rate of all classes together, in requests per second."""
        return float(self.rate_rps.sum())

    @property
    def weights(self) -> FloatArray:
        """Returns the traffic share of each class, (C,), summing to 1."""
        return np.asarray(self.rate_rps / self.rate_rps.sum(), dtype=np.float64)

    def with_limits_scaled(self, ratio: float) -> Workload:
        """Returns the same workload with every latency limit multiplied by ratio."""
        scaled = tuple(
            ScopedLimit(
                s.class_name,
                s.limit.model_copy(update={"at_most_ms": s.limit.at_most_ms * ratio}),
            )
            for s in self.limits
        )
        return replace(self, limits=scaled)
