"""The plan (plan.json) and the routing table (routes.json): the answer, as frozen data."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from planner.spec.base import (
    Count,
    LatencyName,
    Metric,
    Name,
    NonNegative,
    Origin,
    Positive,
    PositiveCount,
    Ratio,
    Spec,
    Text,
)
from planner.spec.reasons import Reasons

MS_STEP = 0.1
"""Latencies in the file are whole tenths of a ms (§6)."""

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


class PlacedReplica(Spec):
    """Which GPUs one replica lies on: numbers of its kind of GPU, counted through node by node."""

    pool: Name
    replica: PositiveCount
    gpus: Annotated[tuple[Count, ...], Field(min_length=1)]


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
    """What may speak of cascades and the like: where it does not, it reads as before there were."""

    left_out_when_empty: ClassVar[tuple[str, ...]] = ("cascades",)

    @model_serializer(mode="wrap")
    def _without_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        data: dict[str, object] = handler(self)
        for name in self.left_out_when_empty:
            if not data.get(name):
                data.pop(name, None)
        return data


class Price(Spec):
    """A dual price: what one more unit of something is worth to the objective of the LP."""

    what: Text
    value: float
    unit: Text


class LatencyFigure(LatencyName):
    """One predicted latency statistic with its error band and, where there is one, its limit."""

    ms: NonNegative
    low_ms: NonNegative
    high_ms: NonNegative
    at_most_ms: Positive | None = None
    origin: Origin

    @property
    def is_missed(self) -> bool:
        """Returns whether it is above its limit by more than it is rounded by (§6)."""
        limit = self.at_most_ms
        return limit is not None and self.ms > limit * (1.0 + 1e-6) + 0.5 * MS_STEP


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


class SimulatedFigure(LatencyName):
    """One simulated latency statistic with its 95 % interval and, where there is one, its limit.

    Under a limit, requests that failed, were refused, or were answered in a time that nobody
    knows count as infinitely late (§2), written as one day; without a limit they are left out.
    """

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


class Survived(Spec):
    """What becomes of the plan in one scenario of the question's `robust`, by the tables.

    Where it was simulated, too, the verdict is that of the limit with the worst one.
    """

    scenario: Text
    survives: bool  # nothing unserved, every load, limit and floor held (planner/robust.py)
    utilisation_ratio: NonNegative  # of the fullest pool, of what its table allows
    latency_ratio: NonNegative | None  # largest predicted over allowed meanwhile; None: no limits
    quality: Ratio
    unserved_ratio: Ratio
    simulated_latency_ratio: NonNegative | None = None
    simulated_lost_ratio: Ratio | None = None  # of the requests: failed or refused
    verdict: Verdict | None = None  # None: not simulated


class Bound(Spec):
    """A proof about the fitted tables: how good the best answer can be at most (§5)."""

    objective: Literal["cost_usd_per_h", "quality", "latency_ratio", "latency_ms", "rate_factor"]
    value: float
    best_possible: float
    gap_ratio: NonNegative
    method: Text
    within_usd_per_h: NonNegative | None = None  # the proof holds for at most this money


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
    slower_ratio: tuple[
        Annotated[float, Field(ge=1, le=1e15, strict=True)], ...
    ]  # simulated / predicted

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


class QualityBasis(WithCascades):
    """What the plan's quality rests on: what its router can know, and a reference that none can."""

    left_out_when_empty: ClassVar[tuple[str, ...]] = ("per_prompt_bound",)

    by_class: QualityEstimate  # a router that knows the class alone, which is what the plan counts
    held_out: bool  # judged on prompts without a say in the routes; False: class means as stated
    n_prompts: Count
    per_prompt: QualityEstimate | None = None  # at the same loads; None: no estimator may be used
    gain_low: float | None = None  # 95 % interval of per_prompt over by_class, prompt by prompt
    gain_high: float | None = None
    why: Text  # why the per-prompt estimator is used, or is not
    oracle: Ratio | None = None  # each prompt to its luckiest model: nobody can reach it
    model_prices: dict[Name, NonNegative] = Field(default_factory=dict)
    """Of a replica-second of each deployed model in units of quality, for routing by prompt."""
    per_prompt_bound: Bound | None = None
    """Quality that the router expects of this deployment, prompt by prompt, and what it expects of
    none that costs no more; in the same scale as each other, not in that of `per_prompt`."""


class FrontPoint(Spec):
    """One deployment that nothing else on the front beats in every respect."""

    deployment: dict[Name, PositiveCount]
    cost_usd_per_h: NonNegative
    quality: Ratio
    latency_ratio: NonNegative | None
    latency_ms: NonNegative | None
    rate_factor: Positive | None = None
    simulated_latency_ratio: NonNegative | None = None  # None: not simulated, or no limits
    best_possible: NonNegative | None = None
    """Quality (rate factor where that is maximised) that no deployment of at most this cost and
    this latency exceeds, by the tables of this point (§5); None: nothing is proved."""
    gap_ratio: NonNegative | None = None  # of it over what this point reaches
    chosen: bool = False


class PeriodPlan(WithCascades):
    """What runs in one period, what goes where, and what is predicted for it."""

    left_out_when_empty: ClassVar[tuple[str, ...]] = ("cascades", "placement", "missed")

    name: Name
    start_h: NonNegative  # since the first hour of the round
    end_h: NonNegative
    n_changes: Count  # replicas started and stopped when it begins
    paid_usd_per_h: NonNegative
    """While it lasts, changes apart: reserved GPUs used or not, GPUs by the hour beyond them, and
    hosted requests. What is predicted prices the deployment by itself, at the cheapest offers."""
    deployment: tuple[DeployedPool, ...]
    routing: tuple[Route, ...]
    cascades: tuple[CascadeRoute, ...] = ()
    prices: tuple[Price, ...]
    predicted: Predicted
    placement: tuple[PlacedReplica, ...] = ()
    simulated_latency_ratio: NonNegative | None = None  # None: not simulated, or no limits
    missed: tuple[Text, ...] = ()  # limits that simulation missed for certain

    @property
    def n_hours(self) -> float:
        """Returns how long it is, in hours."""
        return self.end_h - self.start_h


class ReservedGpus(Spec):
    """GPUs of one kind that are paid for in all hours."""

    gpu: Name
    n_gpus: NonNegative
    usd_per_h: NonNegative


class PeriodsPlan(Spec):
    """The plan of a day or a week: a deployment for each period, and the money of all hours."""

    n_hours: Positive  # of one round
    repeats: bool
    usd_per_replica_change: NonNegative
    total_usd: NonNegative  # of one round: the sum of the four below
    reserved_usd: NonNegative
    by_the_hour_usd: NonNegative
    hosted_usd: NonNegative
    changes_usd: NonNegative
    cost_usd_per_h: NonNegative  # mean over all hours
    held_usd: NonNegative | None = None  # of the cheapest one deployment found for all hours
    reserved: tuple[ReservedGpus, ...]
    bound: Bound | None
    busiest: Name
    each: Annotated[tuple[PeriodPlan, ...], Field(min_length=1)]


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

    left_out_when_empty: ClassVar[tuple[str, ...]] = (
        "cascades",
        "placement",
        "survives",
        "reasons",
        "periods",
    )

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
    placement: tuple[PlacedReplica, ...] = ()
    """Of pools on GPUs that are shared, or on nodes where replicas leave gaps."""
    survives: tuple[Survived, ...] = ()
    reasons: Reasons | None = None
    """The sentences of `why` that speak of other questions and deployments, as data."""
    periods: PeriodsPlan | None = None
    """Of a question with periods: all else in the file is of the busiest of them."""
    provenance: Provenance

    @property
    def contradicted(self) -> bool:
        """Returns whether simulation missed a limit for certain, in any scenario or period (§9)."""
        missed = self.simulated is not None and bool(self.simulated.missed)
        missed = missed or any(each.verdict == "missed" for each in self.survives)
        return missed or any(p.missed for p in (self.periods.each if self.periods else ()))

    def in_period(self, period: PeriodPlan) -> Plan:
        """Returns what the plan orders and predicts in one of its periods, as a plan by itself."""
        own = ("deployment", "routing", "cascades", "prices", "predicted", "placement")
        update: dict[str, object] = {name: getattr(period, name) for name in own}
        whole = {"periods": None, "bound": None, "front": (), "simulated": None, "reasons": None}
        return self.model_copy(update={**update, **whole})


class PeriodRoutes(WithCascades):
    """What the runtime reads in one period."""

    name: Name
    start_h: NonNegative
    end_h: NonNegative
    classes: dict[Name, tuple[WeightedPool, ...]]
    cascades: dict[Name, tuple[CascadeEntry, ...]] = Field(default_factory=dict)
    load_prices: dict[Name, float]
    fallback: dict[Name, tuple[Name, ...]]


class Routes(WithCascades):
    """The part of a plan that the runtime reads (routes.json)."""

    left_out_when_empty: ClassVar[tuple[str, ...]] = ("cascades", "model_prices", "periods")

    version: Literal[1] = 1
    classes: dict[Name, tuple[WeightedPool, ...]]
    cascades: dict[Name, tuple[CascadeEntry, ...]] = Field(default_factory=dict)
    load_prices: dict[Name, float]
    model_prices: dict[Name, NonNegative] = Field(default_factory=dict)
    """Of a replica-second of each model in units of quality: empty, and left out of the file, where
    no estimator may choose by the prompt. A prompt goes where quality - price x work is largest."""
    fallback: dict[Name, tuple[Name, ...]]
    periods: tuple[PeriodRoutes, ...] = ()
    """Of a plan with periods: who is routed how in which hours; all else is of the busiest."""
    plan_hash: Sha256
