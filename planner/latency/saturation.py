"""Where one replica saturates, and how much of it one request of each class takes.

Notation
    n*     sequences at saturation: the cap, or less where throughput falls before it
    g*     decode step there                                        ms
    R      residual ratio of the law at n*
    s_c    work of a request of class c                             replica-ms

Program
    s_c = D p_c + (o_c - 1) R (b + C k_c) + o_c v_c R (A + s sqrt n*) / n*
    v_c = 1 where places bind, k_c / k where the KV cache binds

so that sum_c m_c s_c = D p + o g*/n*: arrivals with sum_c lambda_c s_c = 1 saturate the replica.
A class pays for the fixed part of a step by the scarce thing it holds: a place, or cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.latency.moments import ClassMoments, MixMoments
from planner.latency.steplaw import StepLaw
from planner.spec.arrays import FloatArray


@dataclass(frozen=True)
class Caps:
    """The most sequences that may run, by cause."""

    n_seqs: int  # engine setting, or twice the largest measured concurrency
    kv_tokens: float  # KV cache; inf where nothing bounds it

    def places(self, context_tokens: float) -> tuple[int, bool]:
        """Returns the sequences that fit at a mean context, and whether the cache binds."""
        cache = self.kv_tokens / context_tokens
        if cache < self.n_seqs:
            return max(int(cache), 1), True
        return self.n_seqs, False


@dataclass(frozen=True)
class Saturation:
    """The saturated replica at one mix."""

    n: int  # n*
    step_ms: float  # g*
    cache_binds: bool
    work_ms: float  # mean work per request of the mix


def saturation(law: StepLaw, mix: MixMoments, caps: Caps) -> Saturation:
    """Returns the state of the largest throughput at a mix."""
    places, cache_binds = caps.places(mix.context_tokens)
    n = np.arange(1, places + 1, dtype=np.float64)
    step_ms = decode_curve_ms(law, n, mix)
    best = int(np.argmax(n / step_ms))
    work_ms = law.prompt_token_ms * mix.prompt_tokens + mix.output_tokens * step_ms[best] / n[best]
    return Saturation(
        best + 1, float(step_ms[best]), cache_binds and best + 1 == places, float(work_ms)
    )


def decode_curve_ms(law: StepLaw, n: FloatArray, mix: MixMoments) -> FloatArray:
    """Returns the decode step in ms for ascending n, never falling with n."""
    return np.maximum.accumulate(law.decode_ms(n, mix))


def work_ms(law: StepLaw, classes: ClassMoments, share: FloatArray, at: Saturation) -> FloatArray:
    """Returns the replica-ms that one request of every class takes, (C,), NaN where not allowed.

    `share` (C,) is the mix at which `at` was computed; sum_c share_c work_c is `at.work_ms`.
    """
    mix = classes.mixed(share)
    n = float(at.n)
    ratio = float(law.residual_ratio(np.array([n]))[0])
    own = (law.sequence_ms + law.context_token_ms * classes.context_tokens) * ratio
    decoding = (classes.output_tokens - 1.0) * own
    mean_own = law.own_ms(mix.context_tokens) * mix.decode_ratio * ratio
    # The running maximum in the curve can lift g* above the law: the rest is shared like A.
    shared = at.step_ms / n - mean_own
    held = classes.output_tokens * (classes.context_tokens if at.cache_binds else 1.0)
    held_by_mix = float(np.sum(np.where(classes.allowed, share * held, 0.0))) or 1.0
    fixed = held / held_by_mix * mix.output_tokens * shared
    return np.asarray(law.prompt_token_ms * classes.prompt_tokens + decoding + fixed)
