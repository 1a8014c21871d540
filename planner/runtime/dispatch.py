"""All that the proxy knows of deciding: one request from its headers to what became of it.

    begin          who it is, what it wants, where it is to go; or why it is not taken
    next_instance  who gets it now; again after a failure, before any byte of an answer has gone out
    judge          of the first answer of a cascade: deliver it, or ask the second model
    ended          once for each request, whatever became of it

What was sent where is kept exact: every try is opened when its instance is named, and closed by
exactly one of failed_try, judge and ended, whichever comes first.

A reload replaces routes, prices and names between two requests. What is under way keeps to the
routes it began with as long as anybody of them is left; what was learned of lengths, and what
instances that stay have to do, is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Literal, Protocol

from planner.errors import InputError
from planner.runtime.ask import Headers, Refusal, Refused, read_wants
from planner.runtime.chooser import Chooser
from planner.runtime.fleet import Fleet
from planner.runtime.lengths import Lengths
from planner.runtime.served import Outcome, Served, Usage
from planner.runtime.setup import Setup, setup_faults
from planner.runtime.signals import judge
from planner.runtime.ticket import Charge, First, Ticket, Try, refused_of, served_of

if TYPE_CHECKING:
    from planner.runtime.admission import Admission
    from planner.runtime.body import Call
    from planner.runtime.health import FailureKind
    from planner.runtime.instance import Instance
    from planner.runtime.presets import Scored
    from planner.runtime.prices import PlanPrices

FailedTry = Literal["connect", "timeout", "reset", "status", "busy"]
"""How an instance did not answer; a busy one said so itself, and is none the worse for it."""

_FAILURES: Mapping[str, FailureKind] = {
    "connect": "connect",
    "timeout": "timeout",
    "reset": "reset",
    "cut": "reset",
}
OUR_BUG = "bug"
"""Why a request ended that no instance is to blame for."""
_SERVER_ERROR = 500
_NOT_OFFERED = 501
_MOST_ID_BYTES = 128


class Traces(Protocol):
    """Who gives requests their place in a trace."""

    def begin(self, parent: str | None) -> str:
        """Returns what is sent upstream as traceparent, given what the client sent."""
        ...


class Dispatcher:
    """Decides for every request of one process."""

    def __init__(
        self,
        setup: Setup,
        now_s: float,
        observers: Sequence[Callable[[Served], None]] = (),
        *,
        hours: Callable[[], float] | None = None,
        spans: Traces | None = None,
    ) -> None:
        """Starts to serve a plan.

        Args:
            setup: the plan, its endpoints and how to serve it.
            now_s: the time.
            observers: are told what became of each request.
            hours: returns the hours since a Monday 0:00 in the time zone of the plan's periods.
            spans: gives requests their place in a trace.

        Raises:
            InputError: with every fault of the setup.
        """
        self._observers = tuple(observers)
        self._hours, self._spans = hours, spans
        self._numbers = count(1)
        self._refuses_usage: set[str] = set()
        self.setup = _checked(setup, hours)
        self.fleet = Fleet(_to_serve(setup), now_s)
        self._lengths = Lengths(setup)
        self._prices = _prices(setup, now_s)
        self._decide_by(setup, now_s)

    def renew(self, setup: Setup, now_s: float) -> None:
        """Takes another setup for all requests that begin from now on.

        Raises:
            InputError: with every fault of the setup; all stays as it was.
        """
        before, self.setup = self.setup, _checked(setup, self._hours)
        self.fleet.renew(_to_serve(setup), now_s)
        self._lengths.renew(setup)
        if not _have_the_same_prices(before, setup):
            self._prices = _prices(setup, now_s)
        self._decide_by(setup, now_s)

    def _decide_by(self, setup: Setup, now_s: float) -> None:
        self._chooser = Chooser(setup, self._lengths, self._prices, self._hours, now_s)
        self._admission = _admission(setup)
        self._scored = _scored(setup)
        self._plan = setup.routes.plan_hash[:12].encode()

    # ---- What the proxy asks ---------------------------------------------------------------------

    def begin(self, call: Call, headers: Headers, now_s: float) -> Ticket | Refusal:
        """Returns the ticket of a request, or why it is not taken; observers know of that then."""
        request_id, parent = self._heard(headers)
        try:
            wants = read_wants(headers)
            choice = self._chooser.choose(call, headers, wants, self.fleet, now_s)
        except Refused as refused:
            self._tell(refused_of(request_id, parent, call, None, refused.refusal, now_s))
            return refused.refusal
        wait_s = None
        if self._admission is not None:
            wait_s = self._admission.admit(choice.ask, self.fleet, choice.path.pools, now_s)
        if wait_s is not None:
            what = f"the plan's capacity is exceeded; try again in {wait_s:g} s"
            refusal = Refusal(429, "capacity", what, wait_s)
            self._tell(refused_of(request_id, parent, call, choice.ask, refusal, now_s))
            return refusal
        path = choice.path
        return Ticket(
            request_id=request_id,
            call=call,
            ask=choice.ask,
            book=choice.book,
            pools=path.pools,
            cascade=path.cascade,
            plan=self._plan,
            started_s=now_s,
            estimates=choice.estimates,
            decided_pool=choice.decided_pool,
            is_scored=choice.is_scored,
            traceparent=parent if self._spans is None else self._spans.begin(parent),
            parent=parent,
            is_buffered=path.cascade is not None,
        )

    def next_instance(self, ticket: Ticket, now_s: float) -> Instance | None:
        """Returns who gets a request now; None: nobody is left who may.

        Never the same instance twice. Where the pool of a first stage has nobody, another pool
        answers alone, as if there were no cascade.
        """
        if ticket.n_tries_of_stage >= self.setup.options.max_tries:
            return None
        instance = self._best_scored(ticket, now_s) if ticket.is_scored else None
        if instance is not None:
            return self._sent(ticket, instance, now_s)
        instance = self._of_pools(ticket, now_s)
        if instance is None and self._is_moved(ticket, now_s):
            instance = self._of_pools(ticket, now_s)
        return None if instance is None else self._sent(ticket, instance, now_s)

    def holds(self, ticket: Ticket) -> bool:
        """Returns whether the next instance is chosen for a batch of requests, which takes time."""
        return any(self.fleet.holds(pool) for pool in ticket.pools)

    async def held_instance(self, ticket: Ticket, clock: Callable[[], float]) -> Instance | None:
        """Returns who gets a request, once its turn has come; None: nobody is left who may."""
        if ticket.n_tries_of_stage >= self.setup.options.max_tries:
            return None
        self._is_moved(ticket, clock())
        # Those that are down come last: `held` asks them too, rather than nobody.
        for pool in sorted(ticket.pools, key=lambda pool: not self.fleet.is_up(pool, clock())):
            if self.fleet.holds(pool):
                instance = await self.fleet.held(pool, ticket.ask, clock, ticket.tried)
            else:
                instance = self.fleet.choose(pool, ticket.ask, clock(), ticket.tried)
            if instance is not None:
                return self._sent(ticket, instance, clock())
        return None

    def body_for(self, ticket: Ticket, instance: Instance) -> bytes:
        """Returns the body as an instance is to get it."""
        call, cascade = ticket.call, ticket.cascade
        ticket.drop_usage = (
            call.streams and not call.usage_asked and instance.url not in self._refuses_usage
        )
        ticket.hide_logprobs = (
            ticket.is_buffered
            and cascade is not None
            and cascade.needs_logprobs
            and not call.logprobs_asked
        )
        return call.encoded(
            instance.served_model_name, usage=ticket.drop_usage, logprobs=ticket.hide_logprobs
        )

    def refuses_usage(self, instance: Instance) -> None:
        """Remembers an instance that does not know stream_options: it is not asked again."""
        self._refuses_usage.add(instance.url)

    def model_names(self) -> Sequence[str]:
        """Returns the names that a client may ask for."""
        return self._chooser.names.all

    def prices(self) -> Mapping[str, float]:
        """Returns what a replica-second of each model costs now, in quality; {} but by prices."""
        return {} if self._prices is None else self._prices.by_model()

    def is_ready(self, now_s: float) -> bool:
        """Returns whether somebody is up for every class."""
        by_class = self._chooser.book(now_s).pools_by_class
        return all(any(self.fleet.is_up(p, now_s) for p in pools) for pools in by_class.values())

    # ---- What the proxy tells --------------------------------------------------------------------

    def first_token(self, ticket: Ticket, now_s: float) -> None:
        """Hears that an answer has begun, be it buffered or not."""
        if ticket.at is None:
            return
        self.fleet.first_token(ticket.at.fleet_ticket, now_s)
        if self._prices is not None:
            self._prices.settle()
        if not ticket.is_buffered and ticket.first_token_s is None:
            ticket.first_token_s = now_s

    def failed_try(self, ticket: Ticket, instance: Instance, now_s: float, kind: FailedTry) -> None:
        """Hears that an instance gave no answer; only the first word on a try counts."""
        at = ticket.at
        if at is None or at.instance is not instance:
            return
        ticket.failed_tries += ((instance.pool, kind),)
        if kind != "busy":
            self.fleet.failed(instance, now_s, kind, at.fleet_ticket)
        self._close(ticket, at, now_s, None, realised_s=0.0)

    def judge(self, ticket: Ticket, answer: bytes, is_stream: bool, now_s: float) -> bytes | None:
        """Returns what is delivered of the first answer of a cascade; None: ask the next model."""
        at, cascade = ticket.at, ticket.cascade
        if at is None or cascade is None or not ticket.is_buffered:
            return answer
        judged = judge(
            answer,
            is_stream,
            cascade.test,
            hide_logprobs=ticket.hide_logprobs,
            hide_usage=ticket.drop_usage,
        )
        self.fleet.succeeded(at.instance, now_s, at.fleet_ticket)
        self._learn(ticket, at, judged.usage)
        self._close(ticket, at, now_s, judged.usage)
        if judged.is_good:
            ticket.judged_usage = judged.usage
            return judged.answer
        ticket.first = First(at, judged.answer, judged.usage)
        ticket.pools = ticket.book.second(cascade)
        ticket.is_buffered, ticket.n_tries_of_stage = False, 0
        return None

    def ended(
        self,
        ticket: Ticket,
        now_s: float,
        outcome: Outcome,
        why: str = "",
        usage: Usage | None = None,
        status: int = 200,
    ) -> None:
        """Hears what became of a request; only the first word on it counts."""
        if ticket.is_done:
            return
        ticket.is_done = True
        at = ticket.at
        if at is not None:
            if outcome == "ok":
                self.fleet.succeeded(at.instance, now_s, at.fleet_ticket)
                self._learn(ticket, at, usage)
            elif outcome == "error":
                self._blame(at, now_s, why, status)
            self._close(ticket, at, now_s, usage)
        elif outcome == "ok" and ticket.first is not None:
            ticket.last, usage = ticket.first.made, ticket.first.usage
        elif outcome == "ok":
            usage = usage or ticket.judged_usage
        self._tell(served_of(ticket, now_s, outcome, why, usage, status))

    # ---- Inside ----------------------------------------------------------------------------------

    def _heard(self, headers: Headers) -> tuple[str, str | None]:
        """Returns a request's id, the client's or a new one, and the client's traceparent."""
        request_id, parent = "", None
        for name, value in headers:
            if name == b"x-request-id" and _is_plain(value):
                request_id = value.decode("ascii")
            elif name == b"traceparent":
                parent = value.decode("latin-1")
        return request_id or f"{self.setup.options.request_prefix}{next(self._numbers)}", parent

    def _of_pools(self, ticket: Ticket, now_s: float) -> Instance | None:
        """Returns who of a request's pools is next; one known not to answer only at last."""
        for last_resort in (False, True):
            for pool in ticket.pools:
                instance = self.fleet.choose(pool, ticket.ask, now_s, ticket.tried, last_resort)
                if instance is not None:
                    return instance
        return None

    def _is_moved(self, ticket: Ticket, now_s: float) -> bool:
        """Returns whether a request goes by other routes now, since a reload took all its pools.

        One with a first answer at hand has no need to.
        """
        if ticket.first is not None or not set(ticket.pools).isdisjoint(self.setup.pools):
            return False
        ticket.pools = self._chooser.pools_now(ticket.call.model, ticket.ask.class_name, now_s)
        ticket.is_buffered, ticket.cascade = False, None
        return bool(ticket.pools)

    def _best_scored(self, ticket: Ticket, now_s: float) -> Instance | None:
        if self._scored is None:
            return None
        return self._scored.pick(
            ticket.pools,
            ticket.ask,
            ticket.estimates,
            self._chooser.worths,
            self.fleet,
            now_s,
            ticket.tried,
        )

    def _sent(self, ticket: Ticket, instance: Instance, now_s: float) -> Instance:
        """Opens a try."""
        if ticket.is_buffered and instance.pool != ticket.pools[0]:
            ticket.is_buffered, ticket.cascade = False, None
        charge = self._charge(ticket, ticket.decided_pool or instance.pool, now_s)
        model, sent = self.setup.model_of(instance.pool), self.fleet.sent
        ticket.at = ticket.last = Try(instance, model, sent(instance, ticket.ask, now_s), charge)
        ticket.tried.add(instance.index)
        ticket.n_tries += 1
        ticket.n_tries_of_stage += 1
        return instance

    def _close(
        self,
        ticket: Ticket,
        at: Try,
        now_s: float,
        usage: Usage | None,
        realised_s: float | None = None,
    ) -> None:
        """Closes a try: the load it was is over, and its model is charged what it came to."""
        ticket.at = None
        self.fleet.ended(at.fleet_ticket, now_s, None if usage is None else usage.n_output)
        charge = at.charge
        if charge is None:
            return
        charge.prices.settle()
        if usage is not None:
            worths = self._chooser.worths
            realised_s = worths.work_s(ticket.ask, charge.pool, usage.n_input, usage.n_output)
        if realised_s is not None:
            charge.prices.ended(charge.pool, charge.work_s, realised_s)

    def _charge(self, ticket: Ticket, pool: str, now_s: float) -> Charge | None:
        """Charges the model of a pool with a request; None: nobody goes by prices."""
        prices = self._prices
        if prices is None:
            return None
        size = ticket.ask.size_at(pool)
        work_s = self._chooser.worths.work_s(
            ticket.ask, pool, size.input_tokens, size.output_tokens
        )
        prices.sent(pool, work_s, now_s)
        return Charge(prices, pool, work_s)

    def _learn(self, ticket: Ticket, at: Try, usage: Usage | None) -> None:
        if usage is not None:
            self._lengths.learn(ticket.ask, at.instance.pool, usage.n_input, usage.n_output)

    def _blame(self, at: Try, now_s: float, why: str, status: int) -> None:
        """Tells the health of an instance what an error says of it.

        A 4xx is the client's, and so is 501: what a server does not offer it need not be well for.
        """
        if why == OUR_BUG:
            return
        kind = _FAILURES.get(why)
        if kind is None and status >= _SERVER_ERROR and status != _NOT_OFFERED:
            kind = "status"
        if kind is None:
            self.fleet.succeeded(at.instance, now_s, at.fleet_ticket)
        else:
            self.fleet.failed(at.instance, now_s, kind, at.fleet_ticket)

    def _tell(self, served: Served) -> None:
        for observer in self._observers:
            observer(served)


def _checked(setup: Setup, hours: Callable[[], float] | None) -> Setup:
    faults = setup_faults(setup)
    if faults:
        raise InputError(faults)
    if setup.routes.periods and hours is None:
        raise ValueError("routes with periods need to be told the hour")
    return setup


def _to_serve(setup: Setup) -> Setup:
    """Returns a setup as its fleet is to see it: in shadow mode instances take turns."""
    if not setup.options.shadow:
        return setup
    return replace(setup, options=replace(setup.options, policy="round_robin"))


def _prices(setup: Setup, now_s: float) -> PlanPrices | None:
    if setup.options.route_by != "prices":
        return None
    from planner.runtime.prices import PlanPrices

    return PlanPrices(setup, now_s)


def _have_the_same_prices(one: Setup, other: Setup) -> bool:
    """Returns whether prices that were moved under one setup are as right under another."""
    of_plan = [(s.routes.plan_hash, s.routes.model_prices, s.sheet) for s in (one, other)]
    return of_plan[0] == of_plan[1] and one.options.route_by == other.options.route_by


def _admission(setup: Setup) -> Admission | None:
    if not setup.options.admission or setup.sheet is None or setup.options.shadow:
        return None
    from planner.runtime.admission import Admission

    return Admission(setup)


def _scored(setup: Setup) -> Scored | None:
    """Returns the rule of --route-by routebalance:PRESET."""
    kind, _, preset = setup.options.route_by.partition(":")
    if kind != "routebalance":
        return None
    from planner.runtime.presets import Scored

    return Scored(preset)


def _is_plain(value: bytes) -> bool:
    """Returns whether a client's id may stand in headers and logs as it is."""
    return 0 < len(value) <= _MOST_ID_BYTES and value.isascii() and value.decode().isprintable()
