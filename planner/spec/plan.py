"""The plan (plan.json) and the routing table (routes.json): the answer, as frozen data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from planner.spec.base import (
    Count,
    Metric,
    Name,
    NonNegative,
    Origin,
    Positive,
    PositiveCount,
    Ratio,
    Spec,
    Statistic,
    Text,
)

Share = Annotated[float, Field(ge=0, le=1, strict=True)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class DeployedPool(Spec):
    """How many replicas of one pool are rented, and what they cost."""

    pool: Name
    model_name: Name
    gpu: Name | None
    tensor_parallel: PositiveCount
    replicas: PositiveCount
    n_gpus: NonNegative
    usd_per_h: NonNegative


class Route(Spec):
    """The long-run share of one class that goes to one pool (§1)."""

    class_name: Name = Field(alias="class")
    pool: Name
    share: Share


class Price(Spec):
    """A dual price: what one more unit of something is worth to the objective of the LP."""

    what: Text
    value: float
    unit: Text


class LatencyFigure(Spec):
    """One predicted latency statistic with its error band and, where there is one, its limit."""

    class_name: Name | None = Field(alias="class")
    metric: Metric
    statistic: Statistic
    ms: NonNegative
    low_ms: NonNegative
    high_ms: NonNegative
    at_most_ms: Positive | None = None
    origin: Origin


class PoolFigure(Spec):
    """What is predicted for one pool."""

    pool: Name
    utilisation_ratio: NonNegative
    rate_rps: NonNegative
    output_tokens_per_s: NonNegative
    goodput_rps: NonNegative
    usd_per_million_output_tokens: NonNegative | None
    extrapolated: bool


class Predicted(Spec):
    """The predicted outcome of a plan at its planned rate."""

    rate_rps: NonNegative
    class_rps: dict[Name, NonNegative]
    rate_factor: Positive | None = None
    cost_usd_per_h: NonNegative
    usd_per_million_output_tokens: NonNegative | None
    quality: Ratio
    class_quality: dict[Name, Ratio]
    latency: tuple[LatencyFigure, ...]
    latency_ratio: NonNegative | None
    pools: tuple[PoolFigure, ...]
    mix_shift_ratio: NonNegative
    origin: Origin


class Bound(Spec):
    """A proof about the fitted tables: how good the best answer can be at most (§5)."""

    objective: Literal["cost_usd_per_h", "quality", "latency_ratio", "rate_factor"]
    value: float
    best_possible: float
    gap_ratio: NonNegative
    method: Text


WorthUnit = Literal["usd_per_h", "quality", "rate_factor"]


class ToMeasure(Spec):
    """What knowing a pool's true speed would be worth to the plan, and the load that tells it."""

    pool: Name
    worth: NonNegative
    unit: WorthUnit
    band_ratio: NonNegative
    origin: Origin
    concurrency: Positive | None = None  # requests in flight on one replica, as the plan loads it


class FrontPoint(Spec):
    """One deployment that nothing else on the front beats in every respect."""

    deployment: dict[Name, PositiveCount]
    cost_usd_per_h: NonNegative
    quality: Ratio
    latency_ratio: NonNegative | None
    latency_ms: NonNegative | None
    rate_factor: Positive | None = None
    chosen: bool = False


class Provenance(Spec):
    """Where the plan comes from: enough to make the same bytes again."""

    rb_version: Text
    method: Text
    seed: Count
    effort: Text
    n_evaluations: Count
    inputs: dict[str, Sha256]


class Plan(Spec):
    """Deployment, routing, predicted outcome, bound and provenance."""

    version: Literal[1] = 1
    title: Text
    complete: bool
    deployment: tuple[DeployedPool, ...]
    routing: tuple[Route, ...]
    prices: tuple[Price, ...]
    predicted: Predicted
    bound: Bound | None = None
    front: tuple[FrontPoint, ...]
    why: tuple[Text, ...]
    measure_first: tuple[ToMeasure, ...] = ()
    provenance: Provenance


class WeightedPool(Spec):
    """One entry of a class's routing: a pool and its share."""

    pool: Name
    share: Share


class Routes(Spec):
    """The part of a plan that the runtime reads (routes.json)."""

    version: Literal[1] = 1
    classes: dict[Name, tuple[WeightedPool, ...]]
    load_prices: dict[Name, float]
    fallback: dict[Name, tuple[Name, ...]]
    plan_hash: Sha256
