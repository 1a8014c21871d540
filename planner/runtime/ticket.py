"""One request while it is under way, as those who decide know it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from planner.runtime.served import Outcome, Served, Usage

if TYPE_CHECKING:
    from planner.runtime.ask import Ask, Refusal
    from planner.runtime.body import Call
    from planner.runtime.book import Book, Cascade
    from planner.runtime.instance import Instance
    from planner.runtime.prices import PlanPrices
    from planner.runtime.worth import Estimates


class Charge(NamedTuple):
    """What a model was charged for a try."""

    prices: PlanPrices  # of the plan that it was made under
    pool: str  # that was decided for: in shadow mode not where the request is
    work_s: float


class Try(NamedTuple):
    """A request at one instance, from being sent until its answer or failure."""

    instance: Instance
    model_name: str  # by the plan that it was sent by
    fleet_ticket: int
    charge: Charge | None = None


class First(NamedTuple):
    """The first answer of a cascade, which was not trusted."""

    made: Try
    answer: bytes  # as its client would see it
    usage: Usage | None


@dataclass(slots=True, eq=False)
class Ticket:
    """A request from begin to end."""

    request_id: str
    call: Call
    ask: Ask
    book: Book  # a request keeps to the routes that it began with
    pools: tuple[str, ...]  # to be tried in this order
    cascade: Cascade | None
    plan: bytes  # 12 hex digits of its hash
    started_s: float
    estimates: Estimates | None = None
    decided_pool: str | None = None
    is_scored: bool = False
    """Whether the instance is chosen by RouteBalance's score."""
    traceparent: str | None = None
    parent: str | None = None
    decision_s: float = 0.0
    is_buffered: bool = False
    """Whether the next answer is the first one of a cascade, to be read whole and judged."""
    drop_usage: bool = False
    """Whether usage was asked for, in the last body, that the client did not ask for."""
    hide_logprobs: bool = False
    """Whether the last body asked for log-probabilities that the client did not ask for."""
    is_done: bool = False
    at: Try | None = None
    last: Try | None = None  # the one that was made last
    first: First | None = None
    judged_usage: Usage | None = None
    tried: set[int] = field(default_factory=set)
    n_tries: int = 0
    n_tries_of_stage: int = 0
    failed_tries: tuple[tuple[str, str], ...] = ()
    first_token_s: float | None = None

    @property
    def first_answer(self) -> bytes | None:
        """Returns the answer that was not trusted, for when nobody gives a better one."""
        return None if self.first is None else self.first.answer

    def response_headers(self, instance: Instance) -> list[tuple[bytes, bytes]]:
        """Returns what an answer of an instance says of how it came to be."""
        headers = [
            (b"x-request-id", self.request_id.encode("latin-1")),
            (b"x-rb-pool", instance.pool.encode()),
            (b"x-rb-instance", instance.name.encode()),
            (b"x-rb-plan", self.plan),
        ]
        if self.ask.class_name is not None:
            headers.append((b"x-rb-class", self.ask.class_name.encode()))
        return headers


def served_of(
    ticket: Ticket, now_s: float, outcome: Outcome, why: str, usage: Usage | None, status: int
) -> Served:
    """Returns what became of a request; its usage is that of the answer that was delivered."""
    ask, call, first, last = ticket.ask, ticket.call, ticket.first, ticket.last
    n_input, n_output = (None, None) if usage is None else (usage.n_input, usage.n_output)
    if usage is None and outcome == "ok" and last is not None:
        size = ask.size_at(last.instance.pool)
        n_input, n_output = round(size.input_tokens), round(size.output_tokens)
    begun_s = now_s if outcome == "ok" and ticket.first_token_s is None else ticket.first_token_s
    return Served(
        request_id=ticket.request_id,
        operation=call.operation,
        class_name=ask.class_name,
        asked_model=call.model,
        model_name=None if last is None else last.model_name,
        pool=None if last is None else last.instance.pool,
        instance=None if last is None else last.instance.name,
        outcome=outcome,
        why=why,
        status=status,
        started_s=ticket.started_s,
        ttft_s=None if begun_s is None else begun_s - ticket.started_s,
        e2e_s=now_s - ticket.started_s,
        n_input=n_input,
        n_output=n_output,
        usage_known=usage is not None,
        n_tries=ticket.n_tries,
        failed_tries=ticket.failed_tries,
        cascade=None if ticket.cascade is None else ticket.cascade.label,
        escalated=first is not None,
        streamed=call.streams,
        decision_s=ticket.decision_s,
        session=ask.session,
        priority=ask.priority,
        traceparent=ticket.traceparent,
        parent=ticket.parent,
        decided_pool=ticket.decided_pool,
        first_pool=None if first is None else first.made.instance.pool,
        first_usage=None if first is None else first.usage,
    )


def refused_of(
    request_id: str,
    parent: str | None,
    call: Call,
    ask: Ask | None,
    refusal: Refusal,
    now_s: float,
) -> Served:
    """Returns what became of a request that was not taken."""
    return Served(
        request_id=request_id,
        operation=call.operation,
        class_name=None if ask is None else ask.class_name,
        asked_model=call.model,
        model_name=None,
        pool=None,
        instance=None,
        outcome="refused",
        why=refusal.code,
        status=refusal.status,
        started_s=now_s,
        ttft_s=None,
        e2e_s=0.0,
        n_input=None,
        n_output=None,
        usage_known=False,
        n_tries=0,
        failed_tries=(),
        cascade=None,
        escalated=False,
        streamed=call.streams,
        decision_s=0.0,
        session=None if ask is None else ask.session,
        priority=1 if ask is None else ask.priority,
        parent=parent,
    )
