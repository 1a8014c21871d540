"""What a trained router is made of: names and arrays, nothing that runs.

Floor 0, so that planner.quality can learn and use a router and planner.files can write and read one
without knowing each other. Only numpy and the standard library: a proxy loads this.

Notation
    C   classes     M   models     F   surface features     B   buckets of hashed words
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from planner.spec.arrays import FloatArray, IntArray

Float32Array = npt.NDArray[np.float32]

FLEET, CLASS_MEAN, PER_PROMPT = 0, 1, 2
"""How far a class is trusted: not at all (fleet means), its own means, per-prompt terms too."""


@dataclass(frozen=True, eq=False)
class ClassMeans:
    """What each model is worth on each class, as far as its scores tell; finite but for raw."""

    mean: FloatArray  # (C, M) in [0, 1], shrunk
    low: FloatArray  # (C, M) lower end of the 95 % interval
    high: FloatArray  # (C, M)
    variance: FloatArray  # (C, M) of the shrunk mean
    raw: FloatArray  # (C, M) plain mean of the scores; NaN: nothing scored
    n_prompts: IntArray  # (C, M) scored prompts
    n_effective: FloatArray  # (C, M) as many independent yes-or-no scores would tell as much
    fleet: FloatArray  # (M,) what is believed of an unknown class
    strength: float  # how many prompts the prior counts for


@dataclass(frozen=True, eq=False)
class NaiveBayes:
    """Log-probabilities of hashed words by class, for traffic that does not say its class."""

    log_likelihood: Float32Array  # (B, C)
    log_prior: FloatArray  # (C,)
    temperature: float


@dataclass(frozen=True, eq=False)
class Contrast:
    """Per-prompt terms: what surface features add to the class means."""

    centre: FloatArray  # (F,)
    scale: FloatArray  # (F,)
    coefficient: FloatArray  # (F, M)


RuleKind = Literal["header", "system_prompt", "api_key_sha256", "pattern"]


@dataclass(frozen=True)
class Rule:
    """One sign that a request is of a class: a header, a key, or words that it contains."""

    class_name: str
    kind: RuleKind
    value: str  # a header's value, a regular expression, or the sha256 (hex) of a key
    header: str = ""  # the header's name, for that kind


@dataclass(frozen=True)
class GateResult:
    """Whether per-prompt terms have earned their use on held-out prompts; gains in points."""

    passed: bool
    gain: float  # points of quality at equal cost, mean over the range of costs
    gain_low: float
    gain_high: float
    gap_gain: float  # as a share of the oracle's gap
    gap_gain_low: float
    gap_gain_high: float
    n_prompts: int
    n_resamples: int
    why: str


@dataclass(frozen=True)
class Provenance:
    """What a router was made from."""

    rb_version: str
    seed: int
    n_prompts: int
    data_sha256: str


@dataclass(frozen=True, eq=False)
class AnswerLengths:
    """How long answers will be: a level by class times what surface features say, within bounds."""

    centre: FloatArray  # (F,)
    scale: FloatArray  # (F,)
    level: FloatArray  # (C, M) tokens at average features
    slope: FloatArray  # (F, C, M) of log tokens on scaled features
    fleet_level: FloatArray  # (M,) of an unknown class
    fleet_slope: FloatArray  # (F, M)
    shortest: FloatArray  # (M,) tokens that no prediction falls below
    longest: FloatArray  # (M,) or exceeds


@dataclass(frozen=True, eq=False)
class Router:
    """All that is believed of models on classes and prompts, ready for one request at a time."""

    class_names: tuple[str, ...]  # (C,)
    model_names: tuple[str, ...]  # (M,)
    means: ClassMeans
    class_tokens: FloatArray  # (C, M) mean tokens of an answer
    fleet_tokens: FloatArray  # (M,) the same, of an unknown class
    n_labels: IntArray  # (C,) prompts with at least one score
    trust: IntArray  # (C,) FLEET, CLASS_MEAN or PER_PROMPT
    prior: FloatArray  # (C,) what is believed of a request about which nothing is known
    confusion: FloatArray  # (C, C) share of row's prompts inferred, out of fold, as column
    bayes: NaiveBayes | None
    contrast: Contrast | None
    lengths: AnswerLengths | None
    rules: tuple[Rule, ...]
    usd_per_token: FloatArray  # (C, M) that the gate weighed quality against
    gate: GateResult
    provenance: Provenance
