"""What became of one request: all that metrics, traces, logs and drift are made of."""

from __future__ import annotations

from typing import Literal, NamedTuple

Outcome = Literal["ok", "error", "cancelled", "refused"]
Operation = Literal["chat", "text_completion", "embeddings"]
"""As the semantic conventions for generative AI call them."""


class Usage(NamedTuple):
    """Tokens of an answer, as the engine counted them."""

    n_input: int
    n_output: int
    n_cached: int = 0  # of the input, found in the engine's prefix cache


class Served(NamedTuple):  # a frozen dataclass of as many fields takes three times as long to make
    """One request from its first byte to its end; of a cascade, what its user saw of both stages.

    Tokens are those of the answer that was delivered. Times are of the loop's clock.
    """

    request_id: str
    operation: Operation
    class_name: str | None  # of the plan; None: nothing told it
    asked_model: str  # as the client wrote it
    model_name: str | None  # who answered, by the plan's name; None: nobody was asked
    pool: str | None
    instance: str | None
    outcome: Outcome
    why: str  # empty for "ok"; else one word or two, few enough to be a label
    status: int  # that the client was sent; 499: it left before
    started_s: float
    ttft_s: float | None  # None: no byte came
    e2e_s: float
    n_input: int | None
    n_output: int | None
    usage_known: bool  # False: the tokens are estimates, or None
    n_tries: int  # instances asked; of a cascade, in both stages
    failed_tries: tuple[tuple[str, str], ...]  # pool and kind of each try that failed
    cascade: str | None  # "small, then large", where a cascade was played
    escalated: bool
    streamed: bool
    decision_s: float
    session: int | None = None
    priority: int = 1
    traceparent: str | None = None  # sent to the engine
    parent: str | None = None  # sent by the client
    decided_pool: str | None = None  # by the plan; in shadow mode not where the request went
    first_pool: str | None = None  # of an escalated request: who gave the answer not trusted
    first_usage: Usage | None = None  # and what it took
