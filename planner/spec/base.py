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
        defer_build=True,  # a command needs a few of all types, and builds those as it meets them
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

FOREVER_MS = 86_400_000.0
"""How a file writes a time that is not finite, e.g. of an answer that never came (§2): one day."""

LatencyKey = tuple[str | None, Metric, Statistic]
"""Which latency a figure is of: class, or None for all traffic, metric, statistic."""


def latency_label(class_name: str | None, metric: Metric, statistic: Statistic) -> str:
    """Returns what a latency is called, e.g. 'p95 e2e of math', 'mean tpot of all traffic'."""
    return f"{statistic} {metric} of {class_name or 'all traffic'}"


class LatencyName(Spec):
    """Which latency a figure in a file is of."""

    class_name: Name | None = Field(alias="class")
    metric: Metric
    statistic: Statistic

    @property
    def key(self) -> LatencyKey:
        """Returns what two figures of the same latency have in common."""
        return self.class_name, self.metric, self.statistic

    @property
    def label(self) -> str:
        """Returns what it is called in messages, e.g. 'p95 e2e of math'."""
        return latency_label(*self.key)

    @property
    def short_label(self) -> str:
        """Returns the same for tables, in which all traffic goes without saying."""
        return self.label if self.class_name else f"{self.statistic} {self.metric}"


def tail_ratio(statistic: Statistic) -> float | None:
    """Returns the share of requests allowed above a limit (p95: 0.05); None for the mean."""
    return None if statistic == "mean" else round(1.0 - int(statistic[1:]) / 100.0, 10)
