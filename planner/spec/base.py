"""The base of every file type: frozen, closed to unknown keys, finite numbers only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints


class Spec(BaseModel):
    """One entry of a planning file; immutable, unknown keys are errors, no NaN, no infinity."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        strict=False,
        validate_default=True,
        protected_namespaces=(),
    )


# An identifier is used in file names, row names of the LP and metric labels, so it is narrow.
Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$", min_length=1, max_length=80)
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
# Strict: whole and broken numbers are numbers, but true, "3" and dates are not.
Positive = Annotated[float, Field(gt=0, le=1e15, strict=True)]
NonNegative = Annotated[float, Field(ge=0, le=1e15, strict=True)]
Ratio = Annotated[float, Field(ge=0, le=1, strict=True)]
Count = Annotated[int, Field(ge=0, le=1_000_000_000, strict=True)]
PositiveCount = Annotated[int, Field(ge=1, le=10**15, strict=True)]

Origin = Literal["measured", "simulated", "estimated", "assumed"]
"""How a number came to be (§8)."""

# From best to worst: a figure made of several numbers is as good as the worst of them.
ORIGINS: tuple[Origin, ...] = ("measured", "simulated", "estimated", "assumed")


def worst_origin(*origins: Origin) -> Origin:
    """Returns the least trustworthy of the given origins (§8)."""
    return max(origins, key=ORIGINS.index, default="measured")


Metric = Literal["ttft", "tpot", "e2e"]
"""Latency per request: time to first token, mean time per further token, end to end (§2)."""

METRICS: tuple[Metric, ...] = ("ttft", "tpot", "e2e")

Statistic = Literal["mean", "p50", "p90", "p95", "p99"]
STATISTICS: tuple[Statistic, ...] = ("mean", "p50", "p90", "p95", "p99")


def tail_ratio(statistic: Statistic) -> float | None:
    """Returns the share of requests allowed above a limit (p95: 0.05); None for the mean."""
    return None if statistic == "mean" else round(1.0 - int(statistic[1:]) / 100.0, 10)
