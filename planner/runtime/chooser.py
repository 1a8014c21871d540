"""Who answers a request: its class, what it wants, and the pools that are to be tried for it.

    class    declared by header, else by the name rb/CLASS, else read by the router where there is
             one, else the only class there is, else unknown
    shares   the pool or cascade whose turn it is (book.py)
    prices   the pool with the largest quality - price x work - price of time, by the router's
             estimates for this prompt
    routebalance:PRESET   the instance with the largest RouteBalance score

A request by shares that asks for more quality, less money or less time than the pool of its turn
gives goes to the best pool that does, by the same worth as with prices.

In shadow mode the plan's choice is only noted, also for requests that name a model. They go where
they asked to go, and rb/auto to the first pool of the class's fallback order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from planner.runtime.ask import Ask, Refused, Wants, session_number
from planner.runtime.book import PREFIX, Book, Books, Names, Path
from planner.runtime.worth import Delays, Estimates, Worths, wants_anything

if TYPE_CHECKING:
    from planner.runtime.ask import Headers
    from planner.runtime.body import Call
    from planner.runtime.lengths import Lengths
    from planner.runtime.prices import PlanPrices
    from planner.runtime.reader import Reader
    from planner.runtime.setup import Setup

_LOOK_S = 1.0  # how often the hour is looked at, where the plan has periods


class Choice(NamedTuple):
    """Who is to answer a request."""

    ask: Ask
    path: Path
    book: Book
    estimates: Estimates | None
    decided_pool: str | None  # of the plan, in shadow mode
    is_scored: bool  # the instance is chosen by RouteBalance's score


class Chooser:
    """Chooses for each request by the plan in force."""

    def __init__(
        self,
        setup: Setup,
        lengths: Lengths,
        prices: PlanPrices | None,
        hours: Callable[[], float] | None,
        now_s: float,
    ) -> None:
        options = setup.options
        self.names = Names(setup)
        self.worths = Worths(setup)
        self._books = Books(setup)
        self._lengths = lengths
        self._prices = prices
        self._hours = hours
        self._book = self._books.at(0.0)
        self._look_s = now_s
        self._shadow = options.shadow
        self._by_score = options.route_by.startswith("routebalance:")
        self._by_estimates = self._by_score or options.route_by == "prices"
        self._reader = _reader(setup)
        sheet = setup.sheet
        self._priority = {} if sheet is None else {n: c.priority for n, c in sheet.classes.items()}

    def book(self, now_s: float) -> Book:
        """Returns the routes in force."""
        if now_s >= self._look_s and self._hours is not None and self._books.has_periods:
            self._book = self._books.at(self._hours())
            self._look_s = now_s + _LOOK_S
        return self._book

    def choose(
        self, call: Call, headers: Headers, wants: Wants, delays: Delays, now_s: float
    ) -> Choice:
        """Returns who is to answer a request.

        Raises:
            Refused: there is no model of that name.
        """
        names, book = self.names, self.book(now_s)
        named = None if names.is_auto(call.model) else self._named(call.model)
        by_plan = named is None or self._shadow
        class_name, estimates = self._read(call, headers, wants, by_plan)
        ask = self._ask(call, wants, class_name, estimates)
        path, decided_pool = named, None
        if path is None or self._shadow:
            path = self._by_plan(ask, book, delays, now_s, estimates)
        if self._shadow:
            decided_pool, path = path.pools[0], named or Path(book.pools(class_name))
        if path.cascade is not None and call.operation == "embeddings":
            path = Path(path.pools)  # there is nothing to judge
        is_scored = by_plan and self._by_score and not self._shadow
        return Choice(ask, path, book, estimates, decided_pool, is_scored)

    def pools_now(self, model: str, class_name: str | None, now_s: float) -> tuple[str, ...]:
        """Returns where a request may go by the routes of now, if it began under others."""
        named = self.names.path(model)
        if named is not None:
            return named.pools
        return self.book(now_s).pools(class_name) if model.startswith(PREFIX) else ()

    def _read(
        self, call: Call, headers: Headers, wants: Wants, by_plan: bool
    ) -> tuple[str | None, Estimates | None]:
        """Returns the class of a request, and what a router believes of the answers to it."""
        known, reader = self.names.class_names, self._reader
        name = wants.class_name or self.names.class_of(call.model)
        estimates = None
        if reader is not None and by_plan:
            if self._by_estimates:
                read, estimates = reader.read(call, headers, name)
                name = name or read
            elif name is None:
                name = reader.class_of(call, headers)
        elif name is None and len(known) == 1:
            name = known[0]
        return (name if name in known else None), estimates

    def _ask(
        self, call: Call, wants: Wants, class_name: str | None, estimates: Estimates | None
    ) -> Ask:
        session = wants.session or (call.user if "user" in call.fields else None)
        priority = wants.priority
        if priority is None:
            priority = 1 if class_name is None else self._priority.get(class_name, 1)
        return Ask(
            class_name,
            priority,
            None if session is None else session_number(session),
            wants.deadline_ms,
            wants.quality_at_least,
            wants.budget_usd,
            call.prompt.tokens,
            1 if call.operation == "embeddings" else call.max_tokens,
            self._lengths,
            None if estimates is None else estimates.output_tokens,
            call.n_answers,
        )

    def _by_plan(
        self, ask: Ask, book: Book, delays: Delays, now_s: float, estimates: Estimates | None
    ) -> Path:
        pools = book.pools(ask.class_name)
        if self._by_score:
            return Path(pools)
        if self._prices is None:
            path = book.path(ask.class_name)
            if not wants_anything(ask) or self.worths.fits(path, ask, delays, now_s):
                return path
            now: Mapping[str, float] | None = None
        else:
            now = self._prices.by_model()
        best = self.worths.best(pools, ask, delays, now_s, estimates, now)
        if best is None:
            return Path(pools)
        return Path((best, *(pool for pool in pools if pool != best)))

    def _named(self, model: str) -> Path:
        path = self.names.path(model)
        if path is None:
            what = f"there is no model {model[:80]!r}; GET /v1/models lists what there is"
            raise Refused(404, "model_not_found", what)
        return path


def _reader(setup: Setup) -> Reader | None:
    """Returns the router at work, where there is one that can tell anything."""
    if setup.router is None:
        return None
    if setup.options.route_by == "shares" and len(setup.routes.classes) == 1:
        return None  # the class is known without reading prompts
    from planner.runtime.reader import Reader

    return Reader(setup.router)
