"""How long a request would take on an instance as it stands, and what it would cost the others.

An instance decodes all its sequences together, one token each per step, and prefills new prompts
in the same steps, so many tokens at a time ("chunked prefill"). Its steps are as long as the plan's
latency model says. Who holds a place now will not hold it for ever, and others come: how many
decode while one answer is made is what the prediction is about.

Notation
    S, C, B   places; tokens of KV cache; tokens a step takes at most           1, tokens, tokens
    g(n, K)   a decode step of n sequences that read K tokens                   ms
    D, t0     per prompt token; once per request beside any step                ms
    R, W      requests there that hold a place, and that wait for one           1
    P, L, K   tokens yet to prefill; yet to decode; in the cache                tokens
    U, u      how many decode there as a rule; share of the time for prefills   1
    f, p, o   of the request: prompt tokens to prefill; all; output tokens      tokens
    r         L / (R + W), what an answer there still has to come               tokens
    j         how many of those there must end before the request has a place   1
    a, b      steps that this takes; steps until its prompt is prefilled        1
    q         share of its own life that an answer there shares with it         1
    h         how many of those there are left when it is admitted              1
    n, k, k'  how many decode, itself included; what they read, and without it  1, tokens

Program (r and R are 1 at least; all times but t0 last slowness_ratio times as long)
    j     = max(0, R + W + 1 - S, (K + P + p - C) / max(K/R - r, K/(4 R), 1))
    a     = j r / R
    b     = ceil((f + P where j = 0) / (B - R)), at least 1
    wait  = a g(R, K) + D P                             where j > 0, else 0
    TTFT  = t0 + (1/2 + a + b) g(R, K) + D (P + f)      1/2: the step in progress
            t0 + b g(0, 0) + D f                        where nobody is there
    q     = (1 - exp(-(o - 1)/r)) r / (o - 1);          h = R + W, or R - 1 where j > 0
    n     = 1 + min(S - 1, h q + U (1 - q))
    k'    = min(C, (n - 1) (x + q (o - 1)/2));          x = (K + P)/(R + W), or p where nobody is
    k     = k' + p + (o - 1)/2
    TPOT  = g(n, k) / (1 - min(u, MOST_PREFILL_RATIO))
    E2E   = TTFT + (o - 1) TPOT
    added = h D f + (n - 1)(o - 1) [g(n, k) - g(n - 1, k')]

Why so. Lengths of answers are hardly known: what is left of each is taken as exponential with mean
r, whatever its age. So places become free at the rate R/r per step, and q is the chance to be there
still, averaged over the life of the new request. Those that end are replaced: the share 1 - q of
the way the instance is as it usually is. Where the cache is full, an end frees the prompt and what
was decoded of it, K/R, while the others grow by r in the same time: hence K/R - r.

The first token has no TPOT. `added` is of those there now and those that come as usual, not of the
queue that an instance near its capacity builds up: that is what a plan's price of load is for.
Where there is a queue, those who come later will wait in it as well; others_ms counts for them the
wait of the request QUEUE_WEIGHT times, with which joining the replica of least e2e + others was
best or as good as any in simulated pools: alike ones, a slow one among them, short of cache.

Checked against the simulated engine in tests/scheduling/test_delay_against_replicas.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, exp, inf
from typing import NamedTuple

UNBOUNDED = 1 << 50
"""Places or tokens where there is no limit."""

NOBODY = 0.01
"""Fewer expected requests than that are none."""

QUEUE_WEIGHT = 2.0
"""How many later requests a wait stands for."""

MOST_PREFILL_RATIO = 0.9  # of the time: more cannot last


@dataclass(frozen=True, slots=True)
class StepCurve:
    """How long the steps of one instance take, by knots.

    Between knots and below the first one it is linear, beyond the last one constant. Make one per
    pool and share it. Raises ValueError where there is no knot, the knots do not ascend from 0 or
    more, a time is negative or not finite, or there is room for nothing.
    """

    n: tuple[int, ...]  # sequences that decode in a step, ascending
    decode_ms: tuple[float, ...]  # a step of so many
    context_token_ms: tuple[float, ...]  # per token of context that they read together
    prompt_token_ms: float  # per token prefilled in it
    request_ms: float  # once per request, before its first token
    max_num_seqs: int
    kv_capacity_tokens: int
    max_num_batched_tokens: int
    is_fixed: bool = False  # as `fixed` makes it
    _base_ms: tuple[float, ...] = field(init=False, repr=False, compare=False)  # at 0, 1, 2, ..
    _token_ms: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.n or not len(self.n) == len(self.decode_ms) == len(self.context_token_ms):
            raise ValueError(
                "n, decode_ms and context_token_ms have one entry per knot, got "
                f"{len(self.n)}, {len(self.decode_ms)} and {len(self.context_token_ms)}"
            )
        if self.n[0] < 0 or any(b <= a for a, b in zip(self.n, self.n[1:], strict=False)):
            raise ValueError(f"n ascends from 0 or more, got {list(self.n)}")
        once = (self.prompt_token_ms, self.request_ms)
        if not all(0.0 <= ms < inf for ms in (*self.decode_ms, *self.context_token_ms, *once)):
            raise ValueError("times are finite and not negative")
        if min(self.max_num_seqs, self.kv_capacity_tokens, self.max_num_batched_tokens) < 1:
            raise ValueError("max_num_seqs, cache and tokens per step are at least 1")
        object.__setattr__(self, "_base_ms", _dense(self.n, self.decode_ms))
        object.__setattr__(self, "_token_ms", _dense(self.n, self.context_token_ms))

    @staticmethod
    def fixed(ttft_ms: float, tpot_ms: float) -> StepCurve:
        """Returns the curve of an instance whose times do not depend on its load: a hosted one."""
        return StepCurve(
            n=(1,),
            decode_ms=(tpot_ms,),
            context_token_ms=(0.0,),
            prompt_token_ms=0.0,
            request_ms=ttft_ms,
            max_num_seqs=UNBOUNDED,
            kv_capacity_tokens=UNBOUNDED,
            max_num_batched_tokens=UNBOUNDED,
            is_fixed=True,
        )

    def step_ms(self, n_sequences: float, context_tokens: float) -> float:
        """Returns how long a step is in which so many decode, reading so many tokens, ms."""
        base, token = self._base_ms, self._token_ms
        i = int(n_sequences)
        if i + 1 >= len(base):
            return base[-1] + token[-1] * context_tokens
        part = n_sequences - i
        low, token_low = base[i], token[i]
        token_ms = token_low + part * (token[i + 1] - token_low)
        return low + part * (base[i + 1] - low) + token_ms * context_tokens

    def one_more_ms(
        self, n_sequences: float, context_tokens: float, own_tokens: float
    ) -> tuple[float, float]:
        """Returns a step of so many, and one with one more that reads its own tokens, ms.

        The same as two calls of `step_ms`, in two thirds of the time.
        """
        base, token = self._base_ms, self._token_ms
        i = int(n_sequences)
        if i + 2 >= len(base):
            with_ms = self.step_ms(n_sequences + 1.0, context_tokens + own_tokens)
            return self.step_ms(n_sequences, context_tokens), with_ms
        part = n_sequences - i
        low, mid, token_mid = base[i], base[i + 1], token[i + 1]
        token_ms = token[i] + part * (token_mid - token[i])
        own_token_ms = token_mid + part * (token[i + 2] - token_mid)
        return (
            low + part * (mid - low) + token_ms * context_tokens,
            mid + part * (base[i + 2] - mid) + own_token_ms * (context_tokens + own_tokens),
        )


def _dense(knots: Sequence[int], values: Sequence[float]) -> tuple[float, ...]:
    """Returns the values at 0, 1, .. up to the last knot."""
    if len(knots) == 1:
        return (values[0],)
    dense, k = [], 0
    for n in range(knots[-1] + 1):
        if n > knots[k + 1]:
            k += 1
        slope = (values[k + 1] - values[k]) / (knots[k + 1] - knots[k])
        dense.append(max(values[k] + slope * (n - knots[k]), 0.0))
    return tuple(dense)


@dataclass(slots=True)
class Load:
    """What an instance has to do, and what it has to do as a rule. Numbers may be expectations."""

    n_running: float = 0.0  # those that hold a place, prefilling ones too
    n_waiting: float = 0.0
    prefill_tokens: float = 0.0  # yet to be prefilled, of those that wait too
    decode_tokens: float = 0.0  # yet to come, of those that wait too
    kv_tokens: float = 0.0  # in the cache
    slowness_ratio: float = 1.0  # its steps last so many times as long as the curve says
    usual_running: float = 0.0  # how many run there as a rule; 0: nobody else will come
    prefill_ratio: float = 0.0  # share of the time that prefills take as a rule


class Delay(NamedTuple):
    """What is predicted of one request on one instance."""

    wait_ms: float  # until it has a place
    ttft_ms: float  # from now on, the wait included
    tpot_ms: float
    e2e_ms: float
    added_ms: float  # by how much later others end because of it, summed over them

    @property
    def others_ms(self) -> float:
        """Returns what the request costs others, those to come too, ms summed over them."""
        return self.added_ms + QUEUE_WEIGHT * self.wait_ms


def predict_delay(
    curve: StepCurve, load: Load, fresh_tokens: float, input_tokens: float, output_tokens: float
) -> Delay:
    """Returns what a request would see on an instance, and what it would do to the others there.

    Args:
        curve: how fast the instance is.
        load: what it has to do already.
        fresh_tokens: prompt tokens that are not in its prefix cache.
        input_tokens: all prompt tokens.
        output_tokens: expected length of the answer.
    """
    # Called for every instance of every decision: a condition takes a fifth of min or max.
    later = output_tokens - 1.0 if output_tokens > 1.0 else 0.0
    if curve.is_fixed:
        return _of_fixed(curve, load.slowness_ratio, later)
    running = load.n_running
    left = there = running + load.n_waiting
    prefill_ms = curve.prompt_token_ms * fresh_tokens
    wait_ms = 0.0
    if there >= NOBODY:
        rest = load.decode_tokens / there  # r
        rest = rest if rest > 1.0 else 1.0
        held = load.kv_tokens + load.prefill_tokens
        read = held / there
        running = running if running > 1.0 else 1.0
        step_ms = curve.step_ms(running, load.kv_tokens)
        ahead_ms = curve.prompt_token_ms * load.prefill_tokens
        together = fresh_tokens + load.prefill_tokens
        ends = there + 1.0 - curve.max_num_seqs  # j
        short = held + input_tokens - curve.kv_capacity_tokens
        if short > 0.0:
            ends = max(ends, short / _freed_per_end(load.kv_tokens / running, rest))
        if ends > 0.0:
            ahead_ms += ends * rest / running * step_ms
            wait_ms = ahead_ms
            left, together = running - 1.0, fresh_tokens
        budget = curve.max_num_batched_tokens - running
        n_steps = (ceil(together / budget) if budget > 1.0 else together) or 1
        ttft_ms = ahead_ms + prefill_ms + (0.5 + n_steps) * step_ms
    else:
        rest, read = 1.0, input_tokens
        n_steps = ceil(fresh_tokens / curve.max_num_batched_tokens) or 1
        ttft_ms = n_steps * curve.step_ms(0.0, 0.0) + prefill_ms
    shared = rest * (1.0 - exp(-later / rest))  # q (o - 1)
    stays = shared / later if later else 1.0
    others = left * stays + load.usual_running * (1.0 - stays)  # n - 1
    most = curve.max_num_seqs - 1.0
    others = others if others < most else most
    others_read = others * (read + 0.5 * shared)
    most = curve.kv_capacity_tokens
    others_read = others_read if others_read < most else most
    own_read = input_tokens + 0.5 * later
    without_ms, step_ms = curve.one_more_ms(others, others_read, own_read)
    longer_ms = step_ms - without_ms if step_ms > without_ms else 0.0
    busy, slowness = load.prefill_ratio, load.slowness_ratio
    busy = busy if busy < MOST_PREFILL_RATIO else MOST_PREFILL_RATIO
    tpot_ms = step_ms * slowness / (1.0 - busy)
    ttft_ms = ttft_ms * slowness + curve.request_ms
    added_ms = (left * prefill_ms + others * later * longer_ms) * slowness
    return Delay(wait_ms * slowness, ttft_ms, tpot_ms, ttft_ms + later * tpot_ms, added_ms)


def _freed_per_end(held_tokens: float, rest_tokens: float) -> float:
    """Returns the cache that an end leaves to others when it is full, at least 1 token.

    Args:
        held_tokens: what each of those there holds.
        rest_tokens: what each has yet to decode.
    """
    return max(held_tokens - rest_tokens, 0.25 * held_tokens, 1.0)


def _of_fixed(curve: StepCurve, slowness_ratio: float, later_tokens: float) -> Delay:
    """Returns the delay of an instance that does not depend on its load."""
    tpot_ms = curve.decode_ms[0] * slowness_ratio
    return Delay(0.0, curve.request_ms, tpot_ms, curve.request_ms + later_tokens * tpot_ms, 0.0)
