"""The question (question.yaml): what must be served, within which limits, on which hardware."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, model_validator

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
    tail_ratio,
)
from planner.spec.periods import Periods


class Limit(Spec):
    """An upper limit on one latency statistic (§2)."""

    metric: Metric
    statistic: Statistic
    at_most_ms: Positive

    @property
    def label(self) -> str:
        """Returns the short name of what is limited, e.g. 'p95 e2e'."""
        return f"{self.statistic} {self.metric}"

    @property
    def tail_ratio(self) -> float | None:
        """Returns the share of requests allowed above the limit; None for a limit on the mean."""
        return tail_ratio(self.statistic)


class LatencyObjective(Spec):
    """The latency statistic that the front trades off when the question has no limit."""

    metric: Metric = "e2e"
    statistic: Statistic = "p95"


class Lengths(Spec):
    """A distribution of token counts: mean and coefficient of variation, or a file of lengths."""

    mean: Positive | None = None
    cv: Annotated[float, Field(ge=0, le=20, strict=True)] = 1.0
    max: Positive | None = None
    distribution: Literal["lognormal", "constant"] = "lognormal"
    file: Text | None = None

    @model_validator(mode="after")
    def _mean_or_file(self) -> Lengths:
        if (self.mean is None) == (self.file is None):
            raise ValueError("give either mean (with cv) or file")
        if self.mean is not None and self.max is not None and self.max < self.mean:
            raise ValueError("max is below mean")
        return self


class RequestClass(Spec):
    """One class of requests with its rate, lengths and promises."""

    name: Name
    rate_rps: Positive
    input_tokens: Lengths | None = None
    output_tokens: Lengths | None = None
    cached_input_ratio: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.0
    priority: Count = 1
    quality_at_least: Ratio | None = None
    pools: tuple[Name, ...] | None = None
    not_pools: tuple[Name, ...] = ()
    limits: tuple[Limit, ...] = ()


class Poisson(Spec):
    """Memoryless arrivals at the classes' rates."""

    process: Literal["poisson"] = "poisson"
    rate_factor: Positive = 1.0


class Bursty(Spec):
    """Renewal arrivals with a coefficient of variation of the gaps."""

    process: Literal["gamma", "weibull"]
    cv: Positive
    rate_factor: Positive = 1.0


class Square(Spec):
    """A rate that alternates between two levels; the classes' rates give the mix."""

    process: Literal["square"]
    low_rps: NonNegative
    high_rps: Positive
    period_s: Positive
    planning_rate: Literal["peak_5min", "mean"] = "peak_5min"

    @model_validator(mode="after")
    def _ordered(self) -> Square:
        if self.low_rps > self.high_rps:
            raise ValueError("low_rps is above high_rps")
        return self


class Schedule(Spec):
    """A total rate over time (start_s,rate_rps); the classes' rates give the mix."""

    process: Literal["schedule"]
    file: Text
    rate_factor: Positive = 1.0
    planning_rate: Literal["peak_5min", "mean"] = "peak_5min"


class Trace(Spec):
    """Recorded requests (timestamp_s,class,input_tokens,output_tokens), optionally sped up."""

    process: Literal["trace"] = "trace"
    trace: Text
    rate_factor: Positive = 1.0
    planning_rate: Literal["peak_5min", "mean"] = "peak_5min"


Arrivals = Poisson | Bursty | Square | Schedule | Trace


class Supply(Spec):
    """GPUs to be had at one price; several entries of one GPU are taken cheapest first."""

    gpu: Name
    count: PositiveCount
    usd_per_h: NonNegative
    kind: Literal["reserved", "on_demand", "spot"] = "on_demand"
    availability_ratio: Annotated[float, Field(ge=0, le=1, strict=True)] | None = None
    """Of spot GPUs: the share of them that is there at a time; None: all of them."""

    @model_validator(mode="after")
    def _only_spot_goes_away(self) -> Supply:
        if self.availability_ratio is not None and self.kind != "spot":
            raise ValueError(f"availability_ratio is for kind: spot, got kind: {self.kind}")
        return self

    @property
    def n_counted(self) -> int:
        """Returns the GPUs that a plan may count on: of spot those that are there, rounded down."""
        ratio = 1.0 if self.availability_ratio is None else self.availability_ratio
        return int(self.count * ratio + 1e-9)


class ReplicaRange(Spec):
    """How many replicas of a pool a deployment may have."""

    min: Count = 0
    max: Count | None = None

    @model_validator(mode="after")
    def _ordered(self) -> ReplicaRange:
        if self.max is not None and self.max < self.min:
            raise ValueError("max is below min")
        return self


class Keep(Spec):
    """The plan in production, and what a change of one replica must save to be worth it."""

    plan: Text
    usd_per_replica_change: NonNegative


class HeaderSign(Spec):
    """An HTTP header that tells the class of a request; its name in any case."""

    name: Text
    equals: Text


Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class RouterRule(Spec):
    """One sign by which requests are of a class: exactly one of the four.

    A key stands here as its sha256 (hex), never as itself. Regular expressions are Python's, and
    are searched for: in the system prompt, or (pattern) in the text of the prompt.
    """

    class_name: Name = Field(alias="class")
    header: HeaderSign | None = None
    system_prompt: Text | None = None
    api_key_sha256: Sha256 | None = None
    pattern: Text | None = None

    @model_validator(mode="after")
    def _one_sign(self) -> RouterRule:
        signs = (self.header, self.system_prompt, self.api_key_sha256, self.pattern)
        if sum(sign is not None for sign in signs) != 1:
            raise ValueError("give exactly one of header, system_prompt, api_key_sha256, pattern")
        for key in ("system_prompt", "pattern"):
            expression = getattr(self, key)
            try:
                re.compile(expression or "")
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"{key} is no regular expression: {error}") from error
        return self


class RouterSettings(Spec):
    """What the router may use: how it learns a request's class, and which methods are offered."""

    classes: Literal["declared", "inferred"] = "declared"
    rules: tuple[RouterRule, ...] = ()
    cascades: Literal["auto", "off"] = "auto"
    per_prompt: Literal["auto", "off"] = "auto"


class Robust(Spec):
    """What the plan is to survive beside its planned traffic (meaning: planner/robust.py)."""

    rate_ratio: Annotated[float, Field(ge=1, strict=True)] = 1.0
    class_rate_ratio: dict[Name, Positive] = Field(default_factory=dict)
    latency_band: bool = False
    failures: Literal["none", "replica", "node"] = "none"
    limits_ratio: Annotated[float, Field(ge=1, strict=True)] = 1.0

    @model_validator(mode="after")
    def _something(self) -> Robust:
        ratios = self.rate_ratio, *self.class_rate_ratio.values()
        if all(r == 1 for r in ratios) and not self.latency_band and self.failures == "none":
            raise ValueError(
                "asks for nothing: give rate_ratio above 1, class_rate_ratio other than 1, "
                "latency_band or failures"
            )
        if self.limits_ratio > 1 and self.failures == "none":
            raise ValueError("limits_ratio is of the limits while a failure lasts: give failures")
        return self


Choice = Literal["cheapest", "best_quality", "fastest", "knee"]


class Question(Spec):
    """What must be served, within which limits, on which hardware, and which answer is wanted."""

    version: Literal[1]
    title: Text = "untitled"
    classes: Annotated[tuple[RequestClass, ...], Field(min_length=1)]
    arrivals: Arrivals = Poisson()
    scores: Text | None = None
    class_scores: Text | None = None
    score_scale: Positive = 1.0
    prompts: Text | None = None
    limits: tuple[Limit, ...] = ()
    quality_at_least: Ratio | None = None
    budget_usd_per_h: Positive | None = None
    stock: dict[Name, Count] | None = None
    prices: dict[Name, NonNegative] = Field(default_factory=dict)
    supply: tuple[Supply, ...] = ()
    pools: tuple[Name, ...] | None = None
    replicas: dict[Name, ReplicaRange] = Field(default_factory=dict)
    maximise: Literal["none", "rate_factor"] = "none"
    latency_objective: LatencyObjective = LatencyObjective()
    choose: Choice = "cheapest"
    headroom_ratio: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.1
    keep: Keep | None = None
    robust: Robust | None = None
    periods: Periods | None = None
    router: RouterSettings = RouterSettings()

    @model_validator(mode="after")
    def _one_way_each(self) -> Question:
        if (self.scores is None) == (self.class_scores is None):
            raise ValueError("name exactly one of scores (per prompt) and class_scores (per class)")
        if bool(self.supply) == (self.stock is not None):
            raise ValueError("give exactly one of stock and supply: which GPUs exist")
        if self.supply and self.prices:
            raise ValueError("supply carries its own prices: remove prices")
        names = [c.name for c in self.classes]
        doubled = sorted({n for n in names if names.count(n) > 1})
        if doubled:
            raise ValueError(f"class names must differ, got {', '.join(doubled)} twice")
        strangers = sorted({rule.class_name for rule in self.router.rules} - set(names))
        if strangers:
            raise ValueError(f"router.rules name no class of the question: {', '.join(strangers)}")
        unknown = sorted(set(self.robust.class_rate_ratio if self.robust else ()) - set(names))
        if unknown:
            text = ", ".join(unknown)
            raise ValueError(f"robust.class_rate_ratio names no class of the question: {text}")
        return self

    @model_validator(mode="after")
    def _periods_alone(self) -> Question:
        """Refuses what has no meaning, or another one, where every period has a plan."""
        if self.periods is None:
            return self
        if not isinstance(self.arrivals, Poisson | Bursty):
            raise ValueError("periods say when traffic comes: arrivals must be poisson or bursty")
        if self.choose != "cheapest" or self.maximise != "none":
            raise ValueError("periods are planned for the least money: choose cheapest alone")
        if self.keep is not None:
            raise ValueError("keep has no meaning beside periods: give periods its own change cost")
        if self.robust is not None:
            raise ValueError("robust is not planned over periods: ask for one of the two")
        named = {name for span in self.periods.spans for name in span.class_rates}
        strangers = sorted(named - {c.name for c in self.classes})
        if strangers:
            text = ", ".join(strangers)
            raise ValueError(f"periods: class_rates name no class of the question: {text}")
        if named and self.router.classes == "inferred":
            raise ValueError("periods: class_rates need declared classes: give rate_factor instead")
        return self


class ClassScore(Spec):
    """Mean score and lengths of one model on one class (a row of class_scores.csv)."""

    class_name: Name = Field(alias="class")
    model_name: Name
    n_prompts: PositiveCount
    score: NonNegative
    input_tokens_mean: Positive
    input_tokens_cv: NonNegative = 0.0
    output_tokens_mean: Positive
    output_tokens_cv: NonNegative = 0.0
    output_tokens_p10: Positive | None = None
    output_tokens_p25: Positive | None = None
    output_tokens_p50: Positive | None = None
    output_tokens_p75: Positive | None = None
    output_tokens_p90: Positive | None = None
    output_tokens_p95: Positive | None = None
    output_tokens_p99: Positive | None = None
    output_tokens_max: Positive | None = None
    origin: Origin = "measured"
    source: Text


SIGNAL_PREFIX = "signal_"


class PromptScore(Spec):
    """The score of one answer of a model to a prompt (a row of scores.csv).

    Further columns signal_<name> hold what an answer's maker can tell about it without its score,
    a number or blank; larger: trust the answer more.
    """

    model_config = ConfigDict(
        json_schema_extra={"patternProperties": {f"^{SIGNAL_PREFIX}": {"type": ["number", "null"]}}}
    )

    prompt_id: Text
    class_name: Name = Field(alias="class")
    model_name: Name
    sample: Count = 1  # tells apart several answers of one model to one prompt
    score: NonNegative
    input_tokens: Positive
    output_tokens: NonNegative


class RatePoint(Spec):
    """The total arrival rate from start_s on (a row of a schedule file)."""

    start_s: NonNegative
    rate_rps: NonNegative
    source: str = ""


class TraceRow(Spec):
    """One recorded request; blank lengths mean those of its class."""

    timestamp_s: NonNegative
    class_name: Name | None = Field(default=None, alias="class")
    input_tokens: Positive | None = None
    output_tokens: Positive | None = None
