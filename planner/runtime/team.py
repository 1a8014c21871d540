"""The servers of one pool, and which of them takes a request.

Who may take one
    a server that is up                     always
    one that is suspected or returning      credit c >= 1; every choice in the pool adds share / n
                                            to c, up to MOST_CREDIT, and being chosen takes 1: it
                                            gets at most `share` times an even part of the requests
    one that is half-open                   when nobody has probed it for REQUEST_PROBE_S: the
                                            request is the probe
    nobody of these                         those not ejected, whatever their credit
    nobody at all                           the one that failed longest ago, so that all are tried
                                            in turn; PANIC_TRIES of them for one request

The last line is for a pool of which everything is ejected: whoever asks is told within the time of
two refused connections, and a server that is back is found by the first request that meets it.

Which of them: least_delay (by the plan's latency model) or a name of scheduling/balance.py. Where
the plan does not know how fast a pool is, least_delay is fewest_requests. A server of several
data-parallel ranks counts as one, as loaded as its ranks are on average; then an arrival policy
chooses the rank, least_kv by default, or the request is held until one is free (ranks.py).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from math import inf

from planner.runtime.ask import Ask, Size
from planner.runtime.health import Health, State
from planner.runtime.instance import Backend, Instance
from planner.runtime.ranks import Hold
from planner.scheduling.balance import Policy, Workers, make_policy
from planner.scheduling.delay import Delay, Load, StepCurve, predict_delay
from planner.scheduling.least_delay import LeastDelay, cost_ms
from planner.scheduling.ledger import Ledger

REQUEST_PROBE_S = 5.0
PANIC_TRIES = 2
MOST_CREDIT = 2.0  # more than 1, or what is left over each time would be lost
DECISION_S = 0.005  # what was predicted for a request when it came holds for so long

_ENOUGH = 1.0 - 1e-9  # of a credit: sums of shares are not exact
_IDLE = Load()
_LOAD_FIELDS = tuple(each.name for each in fields(Load))


class Events:
    """How often anything has happened after which a load may be another one than before."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


@dataclass(slots=True)
class Group:
    """One server of a pool: its ranks, or itself."""

    backend: Backend
    ranks: tuple[Instance, ...]
    policy: Policy | None  # chooses the rank; None: there is only one
    hold: Hold | None = None  # where requests wait for a rank; None: they do not
    credit: float = 0.0

    @property
    def health(self) -> Health:
        """Returns the health of the server."""
        return self.backend.health

    def is_tried(self, tried: Collection[int]) -> bool:
        """Returns whether a request has been to this server."""
        return any(rank.index in tried for rank in self.ranks)

    def load(self, ledger: Ledger, now_s: float) -> Load:
        """Returns what the server has to do: its ranks' mean, those that are held included."""
        if self.policy is None:
            return ledger.load(self.ranks[0].index, now_s)
        loads = [ledger.load(rank.index, now_s) for rank in self.ranks]
        n = len(loads)
        mean = Load(*(sum(getattr(each, name) for each in loads) / n for name in _LOAD_FIELDS))
        if self.hold is not None and len(self.hold):
            there, n_held = mean.n_running + mean.n_waiting, len(self.hold) / n
            # A held answer is taken to be as long as what is left of those that run: lengths that
            # are hardly known are as good as exponential (delay.py).
            mean.decode_tokens *= 1.0 + n_held / max(there, 1.0)
            mean.prefill_tokens += self.hold.tokens / n
            mean.n_waiting += n_held
        return mean

    def rank(self, size: Size, ledger: Ledger, now_s: float) -> Instance:
        """Returns the rank that a request goes to."""
        if self.policy is None:
            return self.ranks[0]
        workers = workers_of([ledger.load(rank.index, now_s) for rank in self.ranks])
        return self.ranks[self.policy.pick(round(size.input_tokens), workers)]


class Team:
    """All servers of one pool."""

    def __init__(
        self,
        pool: str,
        groups: Sequence[Group],
        curve: StepCurve | None,
        policy: str,
        seed: int,
        ledger: Ledger,
        events: Events,
    ) -> None:
        """Builds the team.

        Args:
            pool: its name.
            groups: its servers; may be none.
            curve: how fast each is, if the plan knows.
            policy: of least_delay.NAMES.
            seed: of the policies that draw.
            ledger: tells the load of an instance.
            events: counts what happens in the ledger.
        """
        self.pool = pool
        self.groups = tuple(groups)
        self.curve = curve
        self._healths = tuple(group.health for group in groups)
        self._has_credits = False  # some may be left of servers that are up by now
        self._ledger, self._events = ledger, events
        self._least_delay = LeastDelay(curve) if policy == "least_delay" and curve else None
        name = "fewest_requests" if policy == "least_delay" else policy
        self._policy = make_policy(name, seed)
        self._predicted: list[Delay] = []
        self._costs_ms: list[float] = []  # of what was predicted
        self._predicted_for: Ask | None = None
        self._predicted_s, self._predicted_after = 0.0, 0

    def choose(
        self,
        ask: Ask,
        home: tuple[int, float] | None,
        now_s: float,
        tried: Collection[int] = (),
        last_resort: bool = True,
    ) -> Instance | None:
        """Returns who takes a request now; None: nobody (is left).

        Args:
            ask: the request.
            home: the instance that has this session's tokens in its cache, and how many.
            now_s: the time.
            tried: indices of the instances to which the request has been.
            last_resort: whether to take one that is known not to answer, rather than nobody.
        """
        group = self.server(ask, home, now_s, tried, last_resort)
        if group is None or group.policy is None:
            return None if group is None else group.ranks[0]
        return group.rank(ask.size_at(self.pool), self._ledger, now_s)

    def server(
        self,
        ask: Ask,
        home: tuple[int, float] | None,
        now_s: float,
        tried: Collection[int] = (),
        last_resort: bool = True,
    ) -> Group | None:
        """Returns the server that takes a request now; arguments are those of `choose`."""
        self._earn(now_s)
        is_open = self._open(now_s, tried)
        n_open = is_open.count(True)
        if n_open == 0:
            return self._least_bad(tried) if last_resort else None
        g = is_open.index(True) if n_open == 1 else self._pick(ask, home, now_s, is_open)
        group = self.groups[g]
        group.credit -= 1.0
        return group

    def prospects(self, now_s: float, tried: Collection[int] = ()) -> list[tuple[Instance, Load]]:
        """Returns the instances that may take a request now, with their loads."""
        load = self._ledger.load
        return [
            (rank, load(rank.index, now_s))
            for group, is_open in zip(self.groups, self._open(now_s, tried), strict=True)
            if is_open
            for rank in group.ranks
        ]

    def delay(self, ask: Ask, home: tuple[int, float] | None, now_s: float) -> Delay | None:
        """Returns what is predicted where the request, and what it adds to others, is least.

        None: nobody takes requests now, or the plan does not know how fast the pool is.
        """
        if self.curve is None:
            return None
        costs_ms = self._costs(ask, home, now_s, self._open(now_s, ()))
        least_ms = min(costs_ms, default=inf)
        return None if least_ms == inf else self._predicted[costs_ms.index(least_ms)]

    def is_up(self, now_s: float) -> bool:
        """Returns whether any of the servers is not ejected."""
        return any(each.is_clear or each.share_ratio(now_s) > 0.0 for each in self._healths)

    def n_up(self, now_s: float) -> int:
        """Returns how many of the servers are not ejected."""
        return sum(each.share_ratio(now_s) > 0.0 for each in self._healths)

    def _earn(self, now_s: float) -> None:
        """Gives those that get a part of the requests their credit for one more choice."""
        is_clear = [each.is_clear for each in self._healths]
        if False not in is_clear and not self._has_credits:
            return
        n = len(self.groups)
        for group in self.groups:
            if group.health.is_clear:
                group.credit = 0.0
                continue
            share = group.health.share_ratio(now_s)
            group.credit = min(max(group.credit, 0.0) + share / n, MOST_CREDIT)
        self._has_credits = False in is_clear

    def _open(self, now_s: float, tried: Collection[int]) -> list[bool]:
        """Returns which servers may take a request by their health."""
        is_open = [each.is_clear for each in self._healths]
        if tried or False in is_open:
            is_open = [
                (is_clear or self._is_let_in(group, now_s)) and not group.is_tried(tried)
                for group, is_clear in zip(self.groups, is_open, strict=True)
            ]
        if True in is_open:
            return is_open
        return [
            group.health.share_ratio(now_s) > 0.0 and not group.is_tried(tried)
            for group in self.groups
        ]

    def _is_let_in(self, group: Group, now_s: float) -> bool:
        health = group.health
        if health.retry_at_s is not None:
            return health.may_probe(now_s) and now_s >= health.retry_at_s + REQUEST_PROBE_S
        return health.state(now_s) is State.UP or group.credit >= _ENOUGH

    def _least_bad(self, tried: Collection[int]) -> Group | None:
        left = [group for group in self.groups if not group.is_tried(tried)]
        if not left or len(self.groups) - len(left) >= PANIC_TRIES:
            return None
        return min(left, key=lambda group: group.health.failed_s)

    def _pick(
        self, ask: Ask, home: tuple[int, float] | None, now_s: float, is_open: list[bool]
    ) -> int:
        if self._least_delay is not None:
            return self._least_delay.least(self._costs(ask, home, now_s, is_open))
        loads = [
            group.load(self._ledger, now_s) if may else _IDLE
            for group, may in zip(self.groups, is_open, strict=True)
        ]
        size = ask.size_at(self.pool)
        return self._policy.pick(round(size.input_tokens), workers_of(loads, is_open))

    def _costs(
        self, ask: Ask, home: tuple[int, float] | None, now_s: float, is_open: list[bool]
    ) -> list[float]:
        """Returns what the request costs on each server, ms; inf where it may not go.

        For one decision they are asked for up to three times: whether to admit the request, which
        pool is worth most to it, and who of that pool takes it. So they are kept, until anything
        happens.
        """
        is_known = self._predicted_for is ask and self._predicted_after == self._events.n
        if not is_known or now_s - self._predicted_s > DECISION_S:
            self._predicted_for, self._predicted_after = ask, self._events.n
            self._predicted_s = now_s
            self._predicted = self._predict(ask, home, now_s)
            self._costs_ms = [cost_ms(delay) for delay in self._predicted]
        if False not in is_open:
            return self._costs_ms
        pairs = zip(self._costs_ms, is_open, strict=True)
        return [each_ms if may else inf for each_ms, may in pairs]

    def _predict(self, ask: Ask, home: tuple[int, float] | None, now_s: float) -> list[Delay]:
        curve, ledger = self.curve, self._ledger
        assert curve is not None  # else nobody asks
        input_tokens, fresh_tokens, output_tokens = size = ask.size_at(self.pool)
        loads = [group.load(ledger, now_s) for group in self.groups]
        if home is None:
            return [
                predict_delay(curve, load, fresh_tokens, input_tokens, output_tokens)
                for load in loads
            ]
        return [
            predict_delay(curve, load, self._fresh(g, size, home), input_tokens, output_tokens)
            for g, load in enumerate(loads)
        ]

    def _fresh(self, g: int, size: Size, home: tuple[int, float]) -> float:
        """Returns the prompt tokens that a server has to prefill."""
        if all(rank.index != home[0] for rank in self.groups[g].ranks):
            return size.fresh_tokens
        return max(min(size.fresh_tokens, size.input_tokens - home[1]), 1.0)


def workers_of(loads: Sequence[Load], is_up: Sequence[bool] | None = None) -> Workers:
    """Returns what an arrival policy sees of some loads: whole requests and tokens."""
    return Workers(
        n_running=[round(load.n_running) for load in loads],
        n_waiting=[round(load.n_waiting) for load in loads],
        kv_tokens=[round(load.kv_tokens + load.prefill_tokens) for load in loads],
        is_up=[True] * len(loads) if is_up is None else list(is_up),
    )
