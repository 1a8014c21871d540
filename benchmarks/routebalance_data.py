"""The cluster that RouteBalance (arXiv 2606.17949) was measured on, as far as it is published.

Published: instances, prices, TTFT and TPOT at low load, the law of answer lengths, arrivals.
Assumed here, for want of figures: how much a step grows with a sequence (between the bounds that
the low-load figures leave), the law of prompt lengths (from the spread of TTFT at low load, and
from the cheapest cost per request), places per instance, and memory that never runs out.

Quality is not published but for aggregates. Two kinds of prompts stand in for theirs:
    published_like   scores and estimates made up, with the published mix of models and best quality
    zeroeval         real scores of Qwen2.5 3B, 7B, 32B (for 14B), 72B on CRUXEval and MATH level 5,
                     with estimates that a router learned from other prompts
What is believed of the quality of real prompts, all learned from other folds:
    class        that of their class: what the router ships here, as its gate finds no gain in more
    prompt       with the per-prompt terms that the gate refuses
    neighbours   the mean of 100 prompts of the class whose predicted lengths are nearest
Lengths of both: the published lognormal law on every model; who is longer than whom, and how alike
the models are in that, as in the zeroeval answers; predicted out of fold, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from router_quality_data import data_sets

from planner.quality.folds import fold_of
from planner.quality.router import estimate
from planner.quality.scores import Scores
from planner.quality.train import cross_fit, train_router
from planner.simulate.choosers import Believed
from planner.simulate.choosing import Rhythm
from planner.simulate.cluster import Cluster, PoolSetup
from planner.simulate.demand import Demand, TokenArrays
from planner.simulate.settings import EngineSettings, StepTimes
from planner.simulate.units import PS_PER_S
from planner.spec.arrays import FloatArray, IntArray

N_REQUESTS = 3534
MOST_OUTPUT_TOKENS = 1024
MEAN_OUTPUT_TOKENS, SIGMA_OUTPUT = 130.0, 1.2
MEDIAN_INPUT_TOKENS, SIGMA_INPUT = 117.0, 0.7
N_PLACES = 64
ESTIMATES = ("class", "prompt", "neighbours")
N_NEIGHBOURS = 100
# Window and decision time that give the published overhead: 130 ms at 12 req/s, 231 ms at 30.
PUBLISHED = Rhythm(window_s=0.08, n_most=32, decision_s=0.0275, look_every_s=0.0)
# Scores that are made up: means by model, spread of a prompt over all models and of each model.
LIKELY_MEAN = np.array([0.38, 0.35, 0.39, 0.38])
LIKELY_PROMPT_SPREAD, LIKELY_MODEL_SPREAD = 0.15, 0.03


@dataclass(frozen=True)
class Tier:
    """One model of the cluster and its instances."""

    name: str
    n_instances: int
    usd_per_million_input_tokens: float
    usd_per_million_output_tokens: float
    step_ms: float  # a: of a step with one sequence
    sequence_ms: float  # s: by which each further one lengthens it
    prompt_token_ms: float
    constant_tpot_ms: float  # of the published arm whose latency is one number per tier


TIERS = (
    Tier("3B", 3, 0.06, 0.06, 12.0, 0.28, 0.094, 12.3),
    Tier("7B", 5, 0.07, 0.07, 20.6, 0.30, 0.183, 20.6),
    Tier("14B", 3, 0.15, 0.15, 18.0, 0.80, 0.265, 18.4),
    Tier("72B", 2, 0.38, 0.40, 46.7, 0.40, 0.265, 47.4),
)


def cluster() -> Cluster:
    """Returns the thirteen instances; the shares are of no use to a chooser."""
    pools = [PoolSetup(tier.name, _engine(tier), tier.n_instances) for tier in TIERS]
    return Cluster.of(pools, {"all": {tier.name: 1 / len(TIERS) for tier in TIERS}})


def _engine(tier: Tier) -> EngineSettings:
    steps = StepTimes.linear(
        N_PLACES,
        tier.step_ms - tier.sequence_ms,
        sequence_ms=tier.sequence_ms,
        prompt_token_ms=tier.prompt_token_ms,
    )
    return EngineSettings(steps, N_PLACES, max_num_batched_tokens=2048, kv_blocks=1 << 20)


@dataclass(frozen=True, eq=False)
class Prompts:
    """What may be asked, by prompt and tier, (n, 4) each but the first."""

    input_tokens: IntArray  # (n,)
    output_tokens: IntArray
    believed_tokens: FloatArray
    score: FloatArray
    believed_score: FloatArray

    def usd(self, output_tokens: FloatArray | IntArray) -> FloatArray:
        """Returns what answers of these lengths cost, (n, 4)."""
        per_input = np.array([t.usd_per_million_input_tokens for t in TIERS]) * 1e-6
        per_output = np.array([t.usd_per_million_output_tokens for t in TIERS]) * 1e-6
        return np.asarray(self.input_tokens[:, None] * per_input + output_tokens * per_output)

    def take(self, rows: IntArray) -> Prompts:
        """Returns some prompts, by index."""
        return Prompts(
            self.input_tokens[rows],
            self.output_tokens[rows],
            self.believed_tokens[rows],
            self.score[rows],
            self.believed_score[rows],
        )

    def drawn(self, n: int, seed: int) -> Prompts:
        """Returns n of them in random order, none more than once more often than another."""
        random = np.random.default_rng([seed, 1])
        size = self.input_tokens.size
        rounds = [random.permutation(size) for _ in range(-(-n // size))]
        return self.take(np.concatenate(rounds)[:n])

    def knowing_lengths(self) -> Prompts:
        """Returns the same with every length known in advance: the oracle."""
        return replace(self, believed_tokens=self.output_tokens.astype(np.float64))

    @property
    def believed(self) -> Believed:
        """Returns what a chooser may know of them."""
        return Believed(self.believed_score, self.believed_tokens, self.usd(self.believed_tokens))


def demand(prompts: Prompts, arrived_s: FloatArray) -> Demand:
    """Returns the prompts as requests that arrive at these moments."""
    n = arrived_s.size
    return Demand(
        arrived_ps=np.rint(arrived_s * PS_PER_S).astype(np.int64),
        class_index=np.zeros(n, dtype=np.int64),
        priority=np.zeros(n, dtype=np.int64),
        tokens=tuple(
            TokenArrays(prompts.input_tokens, prompts.input_tokens, prompts.output_tokens[:, m])
            for m in range(len(TIERS))
        ),
    )


def zeroeval(folder: Path, estimates: str = ESTIMATES[0]) -> Prompts:
    """Returns the real prompts: scores as they were, lengths by rank under the published law."""
    (found,) = (d for d in data_sets(folder) if d.name == "zeroeval Qwen2.5")
    tokens, asked = found.scores.output_tokens, found.scores.input_tokens
    assert tokens is not None and asked is not None
    output = np.column_stack(
        [_by_rank(column, MEAN_OUTPUT_TOKENS, SIGMA_OUTPUT) for column in tokens.T]
    )
    mean_input = MEDIAN_INPUT_TOKENS * np.exp(SIGMA_INPUT**2 / 2)
    scores = replace(found.scores, output_tokens=output.astype(np.float64))
    quality, lengths = _as_shipped(scores, found.usd_per_token)
    lengths = np.clip(lengths, 1.0, MOST_OUTPUT_TOKENS)
    if estimates == "prompt":
        per_prompt = cross_fit(scores).prompt_quality
        assert per_prompt is not None
        quality = per_prompt
    elif estimates == "neighbours":
        quality = _of_neighbours(scores, np.log(lengths).mean(axis=1))
    return Prompts(_by_rank(asked, mean_input, SIGMA_INPUT), output, lengths, scores.score, quality)


def _as_shipped(scores: Scores, usd_per_token: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns quality and lengths, (n, 4) each, by routers that have not seen the prompt."""
    fold, quality = fold_of(scores), np.zeros_like(scores.score)
    lengths = np.zeros_like(quality)
    for k in np.unique(fold):
        judged = scores.take(fold == k)
        assert judged.text is not None
        router = train_router(scores.take(fold != k), usd_per_token)
        declared = np.eye(judged.n_classes)[judged.class_code]
        found = estimate(router, judged.text, declared)
        quality[fold == k], lengths[fold == k] = found.quality, found.output_tokens
    return quality, lengths


def _of_neighbours(scores: Scores, place: FloatArray) -> FloatArray:
    """Returns the mean scores (n, 4) of the nearest prompts of the same class in other folds."""
    fold, quality = fold_of(scores), np.zeros_like(scores.score)
    for i in range(place.size):
        others = (fold != fold[i]) & (scores.class_code == scores.class_code[i])
        rows = np.flatnonzero(others)
        near = np.argsort(np.abs(place[rows] - place[i]), kind="stable")[:N_NEIGHBOURS]
        quality[i] = scores.score[rows[near]].mean(axis=0)
    return quality


def published_like(real: Prompts, seed: int = 0) -> Prompts:
    """Returns the prompts with made-up scores in place of the real ones.

    What is believed of a prompt scatters about a mean per model; the answer is scored by that.
    """
    random = np.random.default_rng([seed, 2])
    n = real.input_tokens.size
    believed = LIKELY_MEAN + LIKELY_MODEL_SPREAD * random.standard_normal((n, len(TIERS)))
    believed += LIKELY_PROMPT_SPREAD * random.standard_normal((n, 1))
    believed = np.clip(believed, 0.0, 1.0)
    score = (random.random((n, 1)) < believed).astype(np.float64)
    return replace(real, score=score, believed_score=believed)


def _by_rank(values: FloatArray, mean: float, sigma: float) -> IntArray:
    """Returns lognormal lengths of a mean (capped) that are ordered as the values are, (n,)."""
    n = values.size
    rank = np.empty(n)
    rank[np.argsort(values, kind="stable")] = (np.arange(n) + 0.5) / n
    normal = NormalDist()
    shape = np.exp(sigma * np.array([normal.inv_cdf(u) for u in rank]))
    low, high = 0.0, 10.0 * mean
    for _ in range(60):  # the scale at which the capped mean is right
        middle = (low + high) / 2
        at = np.clip(middle * shape, 1.0, MOST_OUTPUT_TOKENS).mean()
        low, high = (middle, high) if at < mean else (low, middle)
    return np.rint(np.clip(low * shape, 1.0, MOST_OUTPUT_TOKENS)).astype(np.int64)
