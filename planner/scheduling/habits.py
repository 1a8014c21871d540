"""What is usual on an instance: how many run, how long prompts and answers are, how slow it is.

Notation
    tau      MEMORY_S, how far back averages over time reach                     s
    x        what is averaged: requests there; 1 while it prefills, else 0       1
    W        weight of the time there has been, towards 1                        1

Program, when a time t has passed with x
    mean  <- mean + (1 - exp(-t / tau)) (x - mean);  W <- W + (1 - exp(-t / tau)) (1 - W)
    usual  = mean / max(W, LEAST_WEIGHT)
    a prompt that takes so many ms to prefill adds ms / tau to its mean at once

Slowness. When an answer ends, the steps that the curve had for its time stand against the tokens
that came, each as sums A and T in which older answers weigh less:

    pace   = (A of all instances of the curve) / T      over some POOL_TOKENS, from 1 at
                                                        POOL_PRIOR_TOKENS on
    ratio  = (PRIOR_TOKENS pace + A) / (PRIOR_TOKENS + T), from FASTEST_RATIO to SLOWEST_RATIO
                                                        over its own last RECENT_TOKENS and FORGET_S

So a curve that is wrong for all tells none of them apart, and as its own A and T fade with time,
one that was slow once is tried again.
"""

from __future__ import annotations

from math import exp, inf

MEMORY_S = 30.0
LEAST_WEIGHT = 0.1
PRIOR_TOKENS = 500.0
POOL_PRIOR_TOKENS = 20.0  # so few that the first to answer does not look better than all others
RECENT_TOKENS = 10_000.0
POOL_TOKENS = 50_000.0
FORGET_S = 120.0
SLOWEST_RATIO, FASTEST_RATIO = 8.0, 0.125
USUAL_WEIGHT = 0.05  # of the newest request in what is usual of requests


class Pace:
    """How many times as long as their curve says the steps of some instances take, on average."""

    __slots__ = ("_nominal", "_tokens", "ratio")

    def __init__(self) -> None:
        self._nominal = self._tokens = POOL_PRIOR_TOKENS
        self.ratio = 1.0

    def answered(self, nominal_steps: float, tokens: float) -> None:
        """Notes an answer of one of them."""
        kept = POOL_TOKENS / (POOL_TOKENS + tokens)
        self._nominal = (self._nominal + nominal_steps) * kept
        self._tokens = (self._tokens + tokens) * kept
        self.ratio = self._nominal / self._tokens


class Habits:
    """What is usual on one instance."""

    __slots__ = (
        "_nominal", "_prefill", "_running", "_tokens", "_weight", "at_s", "input_tokens",
        "output_tokens", "pace", "prefill_ratio", "running",
    )  # fmt: skip

    def __init__(self, pace: Pace) -> None:
        self._running = self._prefill = self._weight = 0.0
        self.at_s = -inf
        """Until when they are told."""
        self.running = 0.0
        """How many requests are there."""
        self.prefill_ratio = 0.0
        """Which share of the time prefills take."""
        self.input_tokens = 0.0
        """A usual prompt."""
        self.output_tokens = 0.0
        """A usual answer, as expected."""
        self.pace = pace
        """Of all instances of its curve."""
        self.forget_slowness()

    def forget_slowness(self) -> None:
        """Forgets how slow the instance was: it has another curve."""
        self._nominal = self._tokens = 0.0

    @property
    def slowness_ratio(self) -> float:
        """Returns how many times as long as its curve says its steps take."""
        nominal = PRIOR_TOKENS * self.pace.ratio + self._nominal
        ratio = nominal / (PRIOR_TOKENS + self._tokens)
        if ratio > SLOWEST_RATIO:
            return SLOWEST_RATIO
        return ratio if ratio > FASTEST_RATIO else FASTEST_RATIO

    def passed(self, now_s: float, n_there: float) -> None:
        """Notes that so many requests were there until now."""
        passed_s = now_s - self.at_s if self.at_s > -inf else 0.0
        self.at_s = now_s
        lost = 1.0 - exp(-passed_s / MEMORY_S)
        self._running += lost * (n_there - self._running)
        self._weight += lost * (1.0 - self._weight)
        self._prefill -= lost * self._prefill
        weight = max(self._weight, LEAST_WEIGHT)
        self.running, self.prefill_ratio = self._running / weight, self._prefill / weight
        remembered = exp(-passed_s / FORGET_S)
        self._nominal *= remembered
        self._tokens *= remembered

    def came(self, input_tokens: float, output_tokens: float, prefill_ms: float) -> None:
        """Notes a request that takes so long to prefill."""
        weight = USUAL_WEIGHT if self.output_tokens else 1.0
        self.input_tokens += weight * (input_tokens - self.input_tokens)
        self.output_tokens += weight * (output_tokens - self.output_tokens)
        self._prefill += prefill_ms / (1e3 * MEMORY_S)
        self.prefill_ratio = self._prefill / max(self._weight, LEAST_WEIGHT)

    def answered(self, nominal_steps: float, tokens: float) -> None:
        """Notes an answer of so many tokens, in a time for which the curve has so many steps."""
        kept = RECENT_TOKENS / (RECENT_TOKENS + tokens)
        self._nominal = (self._nominal + nominal_steps) * kept
        self._tokens = (self._tokens + tokens) * kept
        self.pace.answered(nominal_steps, tokens)
