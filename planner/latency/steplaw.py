"""The step law: how long one engine step takes when n sequences are decoded together.

Notation
    n      sequences that are decoded together
    k      mean context a decode step reads per sequence                      tokens
    A      time of a step whatever is in it: weights, launches, host          ms
    b      per sequence: matrix work, sampling                                ms
    C      per token of context read from the KV cache                        ms
    s      sublinear part per square root of n: experts touched, kernels      ms
    D      per prompt token prefilled                                         ms
    t0     once per request, before its first token                           ms
    R(n)   measured / fitted decode step, log-PCHIP through the measured n, constant outside
    p, o   mean prompt and output tokens per request

Program
    step of n requests        g(n) = R(n) * (A + (b + C k) (1 - 1/o) n + s sqrt(n))
    per output token, n kept  t(n) = g(n) + D (p/o) n
    closed loop               X(n) = n / (o t(n)) requests per ms

In a closed loop of n requests each one sees o decode steps and the prefills of all n, once each:
that is the D term, and it is why a request in a closed loop needs o * t(n). One step in o
prefills instead of decoding, hence 1 - 1/o.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from planner.latency.moments import MixMoments
from planner.latency.pchip import Pchip
from planner.spec.arrays import FloatArray


@dataclass(frozen=True)
class StepLaw:
    """The coefficients of one replica's step time, all in ms and never negative."""

    step_ms: float  # A
    sequence_ms: float  # b
    context_token_ms: float  # C
    prompt_token_ms: float  # D
    root_ms: float  # s
    request_ms: float = 0.0  # t0
    residual: Pchip = field(default_factory=Pchip)  # log R over log n

    @property
    def theta(self) -> FloatArray:
        """Returns the coefficients (A, b, C, D, s, t0) in ms, (6,)."""
        return np.array(
            [
                self.step_ms,
                self.sequence_ms,
                self.context_token_ms,
                self.prompt_token_ms,
                self.root_ms,
                self.request_ms,
            ]
        )

    def residual_ratio(self, n: FloatArray) -> FloatArray:
        """Returns R(n), measured over fitted, same shape as n."""
        return np.exp(self.residual(np.log(np.maximum(n, 1e-9))))

    def decode_ms(self, n: FloatArray, mix: MixMoments) -> FloatArray:
        """Returns the decode step g(n) in ms, same shape as n."""
        smooth = self.step_ms + self.own_ms(mix.context_tokens) * mix.decode_ratio * n
        return np.asarray((smooth + self.root_ms * np.sqrt(n)) * self.residual_ratio(n))

    def own_ms(self, context_tokens: float) -> float:
        """Returns what one decoding sequence adds to a step, b + C k, in ms."""
        return self.sequence_ms + self.context_token_ms * context_tokens

    def token_ms(self, n: FloatArray, mix: MixMoments) -> FloatArray:
        """Returns the time per output token t(n) in ms when n requests are kept running."""
        prefill = self.prompt_token_ms * mix.prompt_tokens / mix.output_tokens * n
        return np.asarray(self.decode_ms(n, mix) + prefill)

    def scaled(self, ratio: float) -> StepLaw:
        """Returns the law of a machine that needs `ratio` times as long for everything."""
        return StepLaw(
            self.step_ms * ratio,
            self.sequence_ms * ratio,
            self.context_token_ms * ratio,
            self.prompt_token_ms * ratio,
            self.root_ms * ratio,
            self.request_ms * ratio,
            self.residual,
        )
