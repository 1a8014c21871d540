"""The plan (plan.json) and the routing table (routes.json): the answer, as frozen data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

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


class WeightedPool(Spec):
    """One entry of a class's routing: a pool and its share."""

    pool: Name
    share: Share


class CascadeEntry(Spec):
    """A share of a class that goes to a first model, and on to a second where a signal is low.

    Shares of the pools are of the requests that come to a stage: they sum to 1 in each.
    """

    share: Share
    signal: Text
    below: float  # the second model is asked where the signal of the first answer is below
    escalated_ratio: Ratio  # of the requests: how often that was so when it was measured
    quality: Ratio  # mean score of what its users get
    first: Annotated[tuple[WeightedPool, ...], Field(min_length=1)]
    second: Annotated[tuple[WeightedPool, ...], Field(min_length=1)]


class _OfClass(Spec):
    class_name: Name = Field(alias="class")


class CascadeRoute(CascadeEntry, _OfClass):  # in this order, the class comes first in the file
    """One cascade of a plan, of one class (§1)."""

    @property
    def entry(self) -> CascadeEntry:
        """Returns the cascade without its class."""
        return CascadeEntry.model_validate(self.model_dump(exclude={"class_name"}))


class WithCascades(Spec):
    """A file that may speak of cascades: where it does not, it reads as before there were any."""

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        data: dict[str, object] = handler(self)
        if not data.get("cascades"):
            data.pop("cascades", None)
        return data


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


Verdict = Literal["met", "missed", "too close to call"]
"""Where the whole 95 % interval lies: within the limit, above it, or on both sides (§9)."""


class SimulatedFigure(Spec):
    """One simulated latency statistic with its 95 % interval and, where there is one, its limit.

    Under a limit, requests that failed, were refused, or were answered in a time that nobody
    knows count as infinitely late (§2), written as one day; without a limit they are left out.
    """

    class_name: Name | None = Field(alias="class")
    metric: Metric
    statistic: Statistic
    ms: NonNegative
    low_ms: NonNegative
    high_ms: NonNegative
    at_most_ms: Positive | None = None
    verdict: Verdict | None = None


class SimulatedPool(Spec):
    """What one pool did, on average over the runs."""

    pool: Name
    rate_rps: NonNegative
    output_tokens_per_s: NonNegative
    goodput_rps: NonNegative
    usd_per_million_output_tokens: NonNegative | None
    busy_ratio: Ratio  # of the time in which a replica had something to do; 0 for a hosted pool
    n_in_flight_mean: NonNegative  # requests in one replica, waiting ones included
    n_decoding_mean: NonNegative  # of them, those whose answer is being written
    kv_ratio: NonNegative | None  # of the KV cache, held by answers being written
    n_preempted: NonNegative  # per run
    imbalance_tokens: NonNegative | None = None  # data parallel: max - min KV load of the ranks
    barrier_idle_ratio: Ratio | None = None  # data parallel: of the ranks' time


class Simulated(Spec):
    """The simulated outcome of a plan under its arrivals: per run means with 95 % intervals."""

    rate_rps: NonNegative
    class_rps: dict[Name, NonNegative]
    rate_factor: Positive = 1.0
    cost_usd_per_h: NonNegative
    usd_per_million_output_tokens: NonNegative | None
    quality: Ratio
    class_quality: dict[Name, Ratio]
    goodput_rps: NonNegative  # answers within every percentile limit on them
    goodput_low_rps: NonNegative
    goodput_high_rps: NonNegative
    class_goodput_rps: dict[Name, NonNegative]
    latency: tuple[SimulatedFigure, ...]
    latency_ratio: NonNegative | None
    pools: tuple[SimulatedPool, ...]
    n_requests: Count  # that count, in all runs
    n_failed: Count
    n_refused: Count
    n_preempted: Count
    seeds: Annotated[tuple[Count, ...], Field(min_length=1)]
    counted_from_s: NonNegative  # in each run: what arrives then counts, to its end
    duration_s: NonNegative  # for so long
    settled: bool  # false: latency still rose or fell at the end, a longer run would say otherwise
    balance: Text
    failures: tuple[Text, ...] = ()

    @property
    def missed(self) -> tuple[SimulatedFigure, ...]:
        """Returns the limits that are missed for certain."""
        return tuple(f for f in self.latency if f.verdict == "missed")


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


class Learned(Spec):
    """How much slower than the formula a pool was in simulation, over the load of a replica (§9).

    Of one class, or of every class that is not named for this pool where class is null.
    """

    pool: Name
    class_name: Name | None = Field(alias="class")
    metric: Metric
    load_ratio: Annotated[tuple[NonNegative, ...], Field(min_length=1)]  # per replica
    slower_ratio: tuple[Positive, ...]  # simulated / predicted, at least 1

    @model_validator(mode="after")
    def _one_ratio_per_load(self) -> Learned:
        loads = self.load_ratio
        if len(loads) != len(self.slower_ratio) or list(loads) != sorted(set(loads)):
            raise ValueError("load_ratio ascends, and each has one slower_ratio")
        return self


class QualityEstimate(Spec):
    """A mean score over the traffic, with its 95 % interval."""

    quality: Ratio
    low: Ratio
    high: Ratio


class QualityBasis(Spec):
    """What the plan's quality rests on: what its router can know, and a reference that none can."""

    by_class: QualityEstimate  # a router that knows the class alone, which is what the plan counts
    held_out: bool  # judged on prompts without a say in the routes; False: class means as stated
    n_prompts: Count
    per_prompt: QualityEstimate | None = None  # at the same loads; None: no estimator may be used
    gain_low: float | None = None  # 95 % interval of per_prompt over by_class, prompt by prompt
    gain_high: float | None = None
    why: Text  # why the per-prompt estimator is used, or is not
    oracle: Ratio | None = None  # each prompt to its luckiest model: nobody can reach it
    model_prices: dict[Name, NonNegative] = Field(default_factory=dict)
    """Of a replica-second of each model in units of quality, for routing prompt by prompt."""


class FrontPoint(Spec):
    """One deployment that nothing else on the front beats in every respect."""

    deployment: dict[Name, PositiveCount]
    cost_usd_per_h: NonNegative
    quality: Ratio
    latency_ratio: NonNegative | None
    latency_ms: NonNegative | None
    rate_factor: Positive | None = None
    simulated_latency_ratio: NonNegative | None = None  # None: not simulated, or no limits
    chosen: bool = False


class Provenance(Spec):
    """Where the plan comes from: enough to make the same bytes again."""

    rb_version: Text
    method: Text
    seed: Count
    effort: Text
    n_evaluations: Count
    inputs: dict[str, Sha256]


class Plan(WithCascades):
    """Deployment, routing, predicted outcome, bound and provenance."""

    version: Literal[1] = 1
    title: Text
    complete: bool
    deployment: tuple[DeployedPool, ...]
    routing: tuple[Route, ...]
    cascades: tuple[CascadeRoute, ...] = ()
    prices: tuple[Price, ...]
    predicted: Predicted
    simulated: Simulated | None = None
    bound: Bound | None = None
    front: tuple[FrontPoint, ...]
    why: tuple[Text, ...]
    quality_basis: QualityBasis | None = None
    measure_first: tuple[ToMeasure, ...] = ()
    learned: tuple[Learned, ...] = ()
    provenance: Provenance


class Routes(WithCascades):
    """The part of a plan that the runtime reads (routes.json)."""

    version: Literal[1] = 1
    classes: dict[Name, tuple[WeightedPool, ...]]
    cascades: dict[Name, tuple[CascadeEntry, ...]] = Field(default_factory=dict)
    load_prices: dict[Name, float]
    fallback: dict[Name, tuple[Name, ...]]
    plan_hash: Sha256
