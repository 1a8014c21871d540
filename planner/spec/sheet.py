"""The serving sheet (serving.json): what a runtime must know of a plan beside its routes.

routes.json says where requests go. The sheet says what was expected of it: how fast an engine step
is, how long answers are, what they are worth, which rates and latencies were planned. With it a
runtime can predict what a request would wait on each instance, refuse what exceeds the plan, and
tell whether the traffic is still what was planned for.

All of it follows from the inputs and plan.json, so `rb check` makes it anew and compares.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from planner.spec.base import (
    Count,
    Metric,
    Name,
    NonNegative,
    Positive,
    PositiveCount,
    Ratio,
    Spec,
    Statistic,
    Text,
)
from planner.spec.plan import Sha256
from planner.spec.question import Limit


class StepKnots(Spec):
    """The time of one engine step at some numbers of sequences that decode in it.

    A step of n sequences that read k tokens of context takes decode_ms + k context_token_ms, both
    linear between the knots, and prompt_token_ms of the pool per prompt token in it. The first knot
    is 0, a step of prompts alone; the last one is the pool's max_num_seqs.
    """

    n: Annotated[tuple[Count, ...], Field(min_length=2)]
    decode_ms: tuple[NonNegative, ...]
    context_token_ms: tuple[NonNegative, ...]

    @model_validator(mode="after")
    def _a_time_per_knot(self) -> StepKnots:
        if not len(self.n) == len(self.decode_ms) == len(self.context_token_ms):
            raise ValueError("n, decode_ms and context_token_ms have one entry per knot")
        if self.n[0] != 0 or any(b <= a for a, b in pairwise(self.n)):
            raise ValueError(f"n ascends from 0, got {self.n}")
        return self


class PoolSheet(Spec):
    """One deployed pool: how fast its replicas are, and what the plan asks of it.

    What is of one engine (steps, max_num_seqs, max_num_batched_tokens, kv_capacity_tokens) is of
    one data-parallel rank where a replica has several.
    """

    model_name: Name
    scores_model_name: Name | None = None  # in scores, routers and prices; None: its own name
    n_replicas: PositiveCount
    n_ranks: PositiveCount = 1  # data-parallel ranks of a replica
    usd_per_h: NonNegative  # of one replica; 0 where requests are paid
    max_num_seqs: PositiveCount | None = None
    max_num_batched_tokens: PositiveCount | None = None
    kv_capacity_tokens: Positive | None = None  # None: nothing is known to bound it
    steps: StepKnots | None = None  # None: hosted, or only its capacity is known
    prompt_token_ms: NonNegative = 0.0
    request_ms: NonNegative = 0.0  # once per request, before its first token
    ttft_ms: NonNegative | None = None  # where no step is known: at any load
    tpot_ms: NonNegative | None = None
    low_ratio: NonNegative  # real over predicted latency: the band of the plan's figures here
    high_ratio: NonNegative
    utilisation_ratio: NonNegative  # planned; at most 1 - headroom_ratio
    max_load_ratio: Positive  # replica-seconds of work per second and replica at utilisation 1
    rate_rps: NonNegative  # planned, all replicas together
    usd_per_million_input_tokens: NonNegative | None = None
    usd_per_million_output_tokens: NonNegative | None = None
    max_rps: Positive | None = None  # that a provider allows

    @model_validator(mode="after")
    def _whole_engines(self) -> PoolSheet:
        engine = (self.steps, self.max_num_seqs, self.max_num_batched_tokens)
        if len({each is None for each in engine}) > 1:
            raise ValueError("steps, max_num_seqs and max_num_batched_tokens come together")
        if self.steps is not None and self.steps.n[-1] != self.max_num_seqs:
            raise ValueError(f"steps end at max_num_seqs {self.max_num_seqs}, got {self.steps.n}")
        return self

    @property
    def scored_as(self) -> str:
        """Returns the name of its model in scores, routers and the prices of models."""
        return self.scores_model_name or self.model_name

    @property
    def is_hosted(self) -> bool:
        """Returns whether requests are paid, and not replicas."""
        return self.usd_per_million_output_tokens is not None


class AnswerSheet(Spec):
    """What one pool's answers to one class are like, on average."""

    input_tokens: NonNegative  # of the prompt, as this model counts them, cached ones included
    output_tokens: Positive
    quality: Ratio
    work_s: NonNegative  # replica-seconds that one request takes
    work_s_per_input_token: NonNegative  # how that grows with the length of prompts ...
    work_s_per_output_token: NonNegative  # ... and of answers


class PredictedLatency(Spec):
    """One predicted latency statistic with its error band."""

    metric: Metric
    statistic: Statistic
    ms: NonNegative
    low_ms: NonNegative
    high_ms: NonNegative


class ClassSheet(Spec):
    """One class of requests: what was planned for it, and what was promised."""

    rate_rps: NonNegative  # planned: of the busiest minutes, where the rate varies
    mean_rate_rps: NonNegative
    priority: Count
    input_tokens: NonNegative  # mean over the pools as the plan sends it there
    cached_input_ratio: Ratio
    limits: tuple[Limit, ...]
    quality_at_least: Ratio | None = None
    quality: Ratio  # predicted
    latency: tuple[PredictedLatency, ...]
    answers: dict[Name, AnswerSheet]  # of every deployed pool that the class may use


class ServingSheet(Spec):
    """What a runtime must know of a plan beside its routes (serving.json)."""

    version: Literal[1] = 1
    plan_hash: Sha256
    title: Text
    period: Name | None = None  # of a plan with periods, the busiest: of which all this is
    headroom_ratio: Ratio
    arrivals: Literal["poisson", "gamma", "weibull", "square", "schedule", "trace"]
    arrival_cv: NonNegative  # of the gaps between requests; 1 is Poisson
    quality: Ratio  # predicted
    quality_at_least: Ratio | None = None
    limits: tuple[Limit, ...]  # over all traffic; those of classes are theirs
    latency: tuple[PredictedLatency, ...]  # of all traffic
    delay_price_per_s: NonNegative
    """Quality that a second of one request's latency is worth by the plan's limits; 0: unknown."""
    pools: Annotated[dict[Name, PoolSheet], Field(min_length=1)]
    classes: Annotated[dict[Name, ClassSheet], Field(min_length=1)]

    @model_validator(mode="after")
    def _answers_of_deployed_pools(self) -> ServingSheet:
        named = {pool for each in self.classes.values() for pool in each.answers}
        if strangers := sorted(named - set(self.pools)):
            raise ValueError(f"answers of pools that are not in pools: {', '.join(strangers)}")
        return self

    @property
    def rate_varies(self) -> bool:
        """Returns whether the question's rate changes over time, so that means take long to see."""
        return self.period is not None or self.arrivals in ("square", "schedule", "trace")
