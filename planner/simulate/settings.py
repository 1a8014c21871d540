"""What one replica is and what it is asked to do: the types that every part of simulate/ shares.

Notation
    n       sequences that decode in a step                               1
    K       tokens of KV context that they read                           tokens
    P       prompt tokens prefilled in the step                           tokens
    c, x    tokens of one prefill chunk; tokens of its request before it  tokens
    F, C    tables over n: a step; per token of context                   ps, ps/token
    D, E    per prompt token; per pair of a prompt token and one before   ps/token, ps/token^2

A step lasts F[n] + C[n]*K + D*P + the sum over its chunks of E*c*(2x + c)//2 picoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from planner.simulate.units import PS_PER_MS

Prefill = Literal["chunked", "pausing", "elsewhere"]

NOT_YET = -1


@dataclass(frozen=True)
class StepTimes:
    """What one step of the engine takes; raises ValueError on a negative time."""

    decode_ps: tuple[int, ...]  # F[n], n = 0..max_num_seqs; F[0] is a step of prefills alone
    context_ps: tuple[int, ...]  # C[n] per token of context, n = 0..max_num_seqs
    prompt_token_ps: int  # D
    attention_ps: int = 0  # E

    def __post_init__(self) -> None:
        if len(self.decode_ps) != len(self.context_ps) or len(self.decode_ps) < 2:
            raise ValueError(
                "decode_ps and context_ps are as long as one another, n = 0..max_num_seqs, "
                f"got {len(self.decode_ps)} and {len(self.context_ps)}"
            )
        if min(*self.decode_ps, *self.context_ps, self.prompt_token_ps, self.attention_ps) < 0:
            raise ValueError("a step takes no negative time")

    @staticmethod
    def linear(
        max_num_seqs: int,
        step_ms: float,
        *,
        sequence_ms: float = 0.0,
        context_token_ms: float = 0.0,
        prompt_token_ms: float = 0.0,
    ) -> StepTimes:
        """Returns the times of an engine whose steps grow evenly with what is in them.

        Args:
            max_num_seqs: up to so many sequences.
            step_ms: a step whatever is in it.
            sequence_ms: per sequence that decodes.
            context_token_ms: per token of KV context that these read.
            prompt_token_ms: per prompt token.
        """
        n = range(max_num_seqs + 1)
        return StepTimes(
            decode_ps=tuple(round((step_ms + sequence_ms * each) * PS_PER_MS) for each in n),
            context_ps=(round(context_token_ms * PS_PER_MS),) * len(n),
            prompt_token_ps=round(prompt_token_ms * PS_PER_MS),
        )

    def scaled(self, ratio: float) -> StepTimes:
        """Returns the times of a replica that is `ratio` times as slow, each rounded to 1 ps."""
        if ratio == 1.0:
            return self
        return StepTimes(
            decode_ps=tuple(round(ps * ratio) for ps in self.decode_ps),
            context_ps=tuple(round(ps * ratio) for ps in self.context_ps),
            prompt_token_ps=round(self.prompt_token_ps * ratio),
            attention_ps=round(self.attention_ps * ratio),
        )


@dataclass(frozen=True)
class EngineSettings:
    """How one replica batches; raises ValueError when the figures contradict one another."""

    steps: StepTimes
    max_num_seqs: int
    max_num_batched_tokens: int
    kv_blocks: int
    block_tokens: int = 16
    prefill: Prefill = "chunked"
    reserve_prompt: bool = True  # chunked: admitted only when the whole prompt has free blocks
    waiting_ratio: float = 0.3  # pausing: waiting per running request that calls for a prefill
    most_decode_steps: int = 20  # pausing: after these a prefill step has its turn
    lag_steps: Literal[0, 1] = 0  # 1: async scheduling, a step is decided one step early
    by_priority: bool = False
    n_ranks: int = 1  # data-parallel ranks under one step barrier

    def __post_init__(self) -> None:
        at_least_one = {
            "max_num_seqs": self.max_num_seqs,
            "kv_blocks": self.kv_blocks,
            "block_tokens": self.block_tokens,
            "n_ranks": self.n_ranks,
        }
        for name, value in at_least_one.items():
            if value < 1:
                raise ValueError(f"{name} is at least 1, got {value}")
        if len(self.steps.decode_ps) != self.max_num_seqs + 1:
            raise ValueError(
                f"the tables of step times have max_num_seqs + 1 = {self.max_num_seqs + 1} "
                f"entries, got {len(self.steps.decode_ps)}"
            )
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                "max_num_batched_tokens is at least max_num_seqs: every running request decodes "
                f"in every step, got {self.max_num_batched_tokens} and {self.max_num_seqs}"
            )
        if self.prefill not in {"chunked", "pausing", "elsewhere"}:
            raise ValueError(f"prefill is chunked, pausing or elsewhere, got {self.prefill!r}")
        if not self.waiting_ratio >= 0 or self.most_decode_steps < 0:
            raise ValueError("waiting_ratio and most_decode_steps are not negative")
        if self.lag_steps not in {0, 1}:
            raise ValueError(f"lag_steps is 0 or 1, got {self.lag_steps}")


@dataclass
class Tokens:
    """What each request asks of a pool, by request index."""

    prompt: list[int]
    fresh: list[int]  # prompt tokens to prefill: the prompt less its prefix-cache hits, >= 1
    output: list[int]  # tokens to generate, >= 1

    def __post_init__(self) -> None:
        if not len(self.prompt) == len(self.fresh) == len(self.output):
            raise ValueError("prompt, fresh and output have one entry per request")
        for row in zip(self.prompt, self.fresh, self.output, strict=True):
            prompt, fresh, output = row
            if not (1 <= fresh <= prompt and output >= 1) and any(row):
                raise ValueError(
                    "a request has 1 <= fresh <= prompt and output >= 1, or all are 0 where it "
                    f"may not come, got prompt {prompt}, fresh {fresh}, output {output}"
                )


@dataclass
class Times:
    """When things happened, by request index; NOT_YET before."""

    first_ps: list[int] = field(default_factory=list)
    done_ps: list[int] = field(default_factory=list)
    n_preempted: list[int] = field(default_factory=list)

    @staticmethod
    def none_yet(n_requests: int) -> Times:
        """Returns the times of n_requests of which nothing has happened."""
        return Times([NOT_YET] * n_requests, [NOT_YET] * n_requests, [0] * n_requests)
