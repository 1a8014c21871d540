"""A hosted API as a place that requests go to: a delay that does not depend on our load.

Notation (request i of o tokens, submitted at t)
    x, y    lognormal with mean 1 and the spread of single requests around the provider's means
    first   t + x ttft                  done    first + (o - 1) y tpot

The provider's rate limit is the plan's business (capacity); here nothing queues. Where nobody
measured the provider's latency, requests are answered at once and marked untimed by the cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.latency.capacity import HOSTED_CV
from planner.simulate.settings import Times, Tokens
from planner.simulate.units import PS_PER_MS
from planner.spec.arrays import FloatArray


@dataclass(frozen=True)
class HostedSettings:
    """The mean latencies of a provider in ms; None where nobody measured them."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None

    @property
    def is_untimed(self) -> bool:
        """Returns whether nothing is known of the latency."""
        return self.ttft_ms is None or self.tpot_ms is None


class Hosted:
    """A provider, with the interface of a replica."""

    busy_ps = n_steps = n_decoded = n_prefilled_tokens = barrier_idle_ps = 0
    kv_capacity_tokens = kv_tokens = n_running = n_waiting = 0
    imbalance_tokens = float("nan")

    def __init__(self, settings: HostedSettings, tokens: Tokens, times: Times, seed: int) -> None:
        self._tokens, self._times, self._ratio = tokens, times, 1.0
        random, n = np.random.default_rng(seed), len(times.first_ps)
        self._first_ps = _spread(random, n, settings.ttft_ms or 0.0, HOSTED_CV["ttft"])
        self._token_ps = _spread(random, n, settings.tpot_ms or 0.0, HOSTED_CV["tpot"])

    def submit(self, i: int, at_ps: int) -> bool:
        """Answers request i in its time; a provider refuses nothing."""
        first_ps = at_ps + round(self._first_ps[i] * self._ratio)
        token_ps = round(self._token_ps[i] * self._ratio)
        self._times.first_ps[i] = first_ps
        self._times.done_ps[i] = first_ps + token_ps * (self._tokens.output[i] - 1)
        return True

    def advance(self, until_ps: int, to_completion: bool = False) -> bool:
        """Does nothing: a provider has no steps of ours."""
        return False

    def drain(self) -> None:
        """Does nothing."""

    def fail(self, at_ps: int) -> list[int]:
        """Returns what a provider loses when it goes away: what it has taken, it answers."""
        return []

    def slow(self, at_ps: int, ratio: float) -> None:
        """Makes every answer from now on take `ratio` times as long."""
        self._ratio = ratio


def _spread(random: np.random.Generator, n: int, mean_ms: float, cv: float) -> FloatArray:
    """Returns n lognormal times in ps around a mean in ms."""
    sigma_sq = np.log1p(cv**2)
    noise = np.exp(np.sqrt(sigma_sq) * random.standard_normal(n) - sigma_sq / 2.0)
    return np.asarray(mean_ms * PS_PER_MS * noise)
