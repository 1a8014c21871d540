"""What the length distributions of a class mix contribute to the step law.

Notation
    p_c    prompt tokens of class c that must be prefilled (cache hits removed)          tokens
    o_c    output tokens of class c, one decode step each (the first one with the prefill)  tokens
    k_c    mean context that a decode step of class c reads: E[prompt] + E[o^2]/(2 E[o])  tokens
    m_c    share of class c among the pool's requests, sum 1                              (C,)

The context is weighted by length because long answers are decoded for longer: a random decode
step of a class belongs to an answer of length o with density proportional to o, and stands on
average in its middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.workload import RequestShape


@dataclass(frozen=True)
class MixMoments:
    """The moments of one mix of requests that the queueing model needs."""

    prompt_tokens: float  # mean prefilled tokens
    prompt_tokens_sq: float  # mean of their square
    output_tokens: float  # mean
    output_cv_sq: float  # squared coefficient of variation
    context_tokens: float  # mean context of a random decode step

    @property
    def decode_ratio(self) -> float:
        """Returns the share of a request's steps that decode: all but the prefilling first one."""
        return 1.0 - 1.0 / self.output_tokens

    @classmethod
    def of_point(cls, input_tokens: float, output_tokens: float) -> MixMoments:
        """Returns the moments of requests of one fixed shape, as benchmarks send them.

        An answer has at least one token.
        """
        output = max(output_tokens, 1.0)
        return cls(input_tokens, input_tokens**2, output, 0.0, input_tokens + output / 2)


@dataclass(frozen=True)
class ClassMoments:
    """The same moments class by class; NaN where a class may not use the pool."""

    allowed: BoolArray  # (C,)
    prompt_tokens: FloatArray  # (C,)
    prompt_tokens_sq: FloatArray  # (C,)
    output_tokens: FloatArray  # (C,)
    output_tokens_sq: FloatArray  # (C,)
    context_tokens: FloatArray  # (C,)

    @classmethod
    def of(cls, shapes: Sequence[RequestShape | None]) -> ClassMoments:
        """Returns the moments of every class, (C,) each."""
        rows = [(np.nan,) * 5 if s is None else _moments(s) for s in shapes]
        table = np.array(rows, dtype=np.float64).reshape(len(shapes), 5)
        allowed = np.array([s is not None for s in shapes], dtype=np.bool_)
        return cls(allowed, *(table[:, i] for i in range(5)))

    def share(self, mix: FloatArray) -> FloatArray:
        """Returns the mix restricted to the allowed classes, (C,) summing to 1.

        A mix that is zero on all of them becomes the uniform one, so that a table exists for a
        pool that carries nothing yet.
        """
        share = np.where(self.allowed, np.maximum(mix, 0.0), 0.0)
        if share.sum() <= 0:
            share = self.allowed.astype(np.float64)
        total = share.sum()
        return np.asarray(share / total if total > 0 else share)

    def mixed(self, share: FloatArray) -> MixMoments:
        """Returns the moments of a random request of the mix; `share` (C,) sums to 1.

        Where no class is allowed, those of a request of one token each way.
        """
        if not self.allowed.any():
            return MixMoments.of_point(1.0, 1.0)

        def mean(values: FloatArray) -> float:
            return float(np.sum(share * np.where(self.allowed, values, 0.0)))

        output = mean(self.output_tokens)
        decoding = np.maximum(self.output_tokens - 1.0, 1e-9)
        return MixMoments(
            prompt_tokens=mean(self.prompt_tokens),
            prompt_tokens_sq=mean(self.prompt_tokens_sq),
            output_tokens=output,
            output_cv_sq=max(mean(self.output_tokens_sq) / output**2 - 1.0, 0.0),
            context_tokens=mean(decoding * self.context_tokens) / mean(decoding),
        )


def _moments(shape: RequestShape) -> tuple[float, ...]:
    prompt = np.asarray(shape.input_tokens, dtype=np.float64)
    fresh = prompt * (1.0 - shape.cached_input_ratio)
    output = np.maximum(np.asarray(shape.output_tokens, dtype=np.float64), 1.0)
    output_sq = float(np.mean(output**2))
    context = float(prompt.mean()) + output_sq / (2.0 * float(output.mean()))
    return (
        float(fresh.mean()),
        float(np.mean(fresh**2)),
        float(output.mean()),
        output_sq,
        context,
    )
