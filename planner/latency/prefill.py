"""What prefills do to each other and to the sequences that are being decoded.

Every step prefills the prompts that came during the step before it, so steps feed on themselves
(a gated queue): with the decode part g of a step and compound Poisson prompts,

    x' = g + D (prompt tokens that came during x)

Notation (at each load)
    u     lam D p, the share of time that prefills take                          (K,)
    v2    lam D^2 E[p^2]                                                         ms
    x~    E[x^2]/E[x], the step that an arrival finds in progress                ms
    B     most tokens in one step: longer prompts need several
    b0    delay after the first token by the prompts that queued up behind it    ms

Program
    x~   = g/(1-u) + v2/(1-u^2)                          second moment of the recursion above
    wait = U x~ + u x~                                   the rest of the step in progress, then the
                                                         prompts that came with one's own
    TTFT = W + wait + g max(1, 1/2 + (q+p)/B) + D p + t0    q = u x~/D, tokens of the others
    Var  = v2 x~ (1 + (1/2 + u)^2/(1-u^2))               of the wait, beside U: the prompts in one's
                                                         own step, and the spread of the step found
    b0   = u (D p + u v2/(1-u^2)) / (1-u)                expected surplus of the backlog at the
                                                         first token, shrinking by u per step

Bursty arrivals bring c = (cv^2 - 1)/2 more prompts than Poisson shortly before a request and as
many behind it: c D p / (1-u) more in `wait` and in b0 each.

In `wait`, prompts comparable to B cannot share a step, so each takes part of a decode step along:
D is D + (g/B) min(1, E[p^2]/(p B)) there. Everything follows from Poisson arrivals seeing time
averages; checked against a step-by-step simulation in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.latency.moments import MixMoments
from planner.latency.steplaw import StepLaw
from planner.spec.arrays import FloatArray

MAX_LOAD = 0.95  # of the prefill budget; beyond it TTFT explodes and no table should go there


@dataclass(frozen=True)
class PrefillLoad:
    """The prefill work at K loads."""

    ratio: FloatArray  # (K,) u
    v2_ms: FloatArray  # (K,)
    surplus_ms: FloatArray  # (K,) u v2/(1-u^2), the backlog above its mean at a first token

    company_ms: float  # prefill time of the burst that a request comes with, on either side

    @classmethod
    def of(
        cls, law: StepLaw, mix: MixMoments, arrivals_per_ms: FloatArray, n_companions: float
    ) -> PrefillLoad:
        """Returns the prefill work of a mix at the given arrival rates, (K,)."""
        ratio = arrivals_per_ms * law.prompt_token_ms * mix.prompt_tokens
        v2_ms = arrivals_per_ms * law.prompt_token_ms**2 * mix.prompt_tokens_sq
        company_ms = n_companions * law.prompt_token_ms * mix.prompt_tokens
        return cls(ratio, v2_ms, ratio * v2_ms / (1.0 - ratio**2), company_ms)

    def delay_ms(self, own_ms: FloatArray) -> FloatArray:
        """Returns b0 for requests with own prefill times (C,) in ms; (C, K)."""
        backlog = self.ratio * (own_ms[:, None] + self.surplus_ms) + self.company_ms
        return np.asarray(backlog / (1.0 - self.ratio))

    def delay_variance(self, own_ms: FloatArray) -> FloatArray:
        """Returns about the variance of b0 in ms^2, (C, K)."""
        left = 1.0 - self.ratio
        arrivals = self.v2_ms * (own_ms[:, None] + self.surplus_ms) / left**2
        others = self.ratio * self.surplus_ms + self.company_ms
        return np.asarray(arrivals + (others / left) ** 2)

    def stall_variance(self) -> FloatArray:
        """Returns the variance per ms of decoding that arriving prefills add, in ms, (K,).

        A busy period that starts with work w lasts w/(1-u) with variance v2 w/(1-u)^3.
        """
        return np.asarray(self.v2_ms / (1.0 - self.ratio) ** 2)


@dataclass(frozen=True)
class PrefillWait:
    """The wait for others' prefills at K loads: a part that scales with g, and bursts."""

    per_step: FloatArray  # (K,) 1/(1-u'); the step in progress is g times this
    ratio: FloatArray  # (K,) u'
    presence: FloatArray  # (K,) probability of a burst
    burst_ms: FloatArray  # (K,) mean wait for bursts
    variance: FloatArray  # (K,) of the wait beside the place in the running step, ms^2
    others_tokens: FloatArray  # (K,) prompt tokens of others in one's own step

    @classmethod
    def of(
        cls,
        law: StepLaw,
        mix: MixMoments,
        arrivals_per_ms: FloatArray,
        *,
        step_ms: FloatArray,
        tokens_per_step: float,
        n_companions: float,
    ) -> PrefillWait:
        """Returns the wait at the given arrival rates and mean decode steps, (K,) each."""
        apart = min(1.0, mix.prompt_tokens_sq / (mix.prompt_tokens * tokens_per_step))
        token_ms = law.prompt_token_ms + step_ms / tokens_per_step * apart
        ratio = np.minimum(arrivals_per_ms * token_ms * mix.prompt_tokens, MAX_LOAD)
        burst = arrivals_per_ms * token_ms**2 * mix.prompt_tokens_sq / (1.0 - ratio**2)
        more = 1.0 + (0.5 + ratio) ** 2 / (1.0 - ratio**2)
        found = step_ms / (1.0 - ratio) + burst
        spread = ratio * token_ms * mix.prompt_tokens_sq / mix.prompt_tokens * found * more
        company = n_companions * token_ms * mix.prompt_tokens / (1.0 - ratio)
        return cls(
            per_step=1.0 / (1.0 - ratio),
            ratio=ratio,
            presence=1.0 - (1.0 - ratio) / (1.0 + 2.0 * n_companions),
            burst_ms=(0.5 + ratio) * burst + company,
            variance=spread + company**2,
            others_tokens=ratio * found / np.maximum(token_ms, 1e-300),
        )
