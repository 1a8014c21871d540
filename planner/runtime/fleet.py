"""All instances of a plan: which one takes a request, what each has to do, which of them answer.

One Fleet per process. It puts together the ledger of what was sent (scheduling/ledger.py), the
health of the servers (health.py), and how one of a pool is chosen (team.py). It reads no clock and
opens no connection: whoever does tells it what came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

from planner.runtime.health import FailureKind, Health, State
from planner.runtime.instance import (
    Backend,
    Instance,
    Key,
    backends_of,
    curve_of,
    instances_of,
    ranks_together,
)
from planner.runtime.ledger import reconcile
from planner.runtime.ranks import BATCH_POLICIES, Hold, make_batch_policy
from planner.runtime.team import Events, Group, Team
from planner.scheduling.affinity import Affinity
from planner.scheduling.balance import make_policy
from planner.scheduling.delay import Delay, Load, StepCurve, predict_delay
from planner.scheduling.ledger import Ledger

if TYPE_CHECKING:
    from planner.runtime.ask import Ask
    from planner.runtime.setup import Setup

_NOT_HELD: tuple[None, int] = (None, 0)


class _Sent(NamedTuple):
    """A request on its way."""

    instance: Instance
    health: Health
    epoch: int  # of the server's health when it was sent
    is_probe: bool
    input_tokens: float


class Fleet:
    """The instances, as they are now."""

    def __init__(self, setup: Setup, now_s: float) -> None:
        """Builds the fleet; nothing was sent yet, and everybody is taken to be up."""
        self.instances: list[Instance] = []
        self.backends: dict[str, Backend] = {}
        self.version = 0
        """Grows with every reload."""
        self._by_key: dict[Key, Instance] = {}
        self._teams: dict[str, Team] = {}
        self._curves: dict[str, StepCurve | None] = {}
        self._holds: dict[int, tuple[Hold, int]] = {}  # and which of its ranks, by instance
        self._free_index = 0
        self._events = Events()
        self._ledger = Ledger([])
        self._sent: dict[int, _Sent] = {}
        self._sessions = Affinity()
        self.renew(setup, now_s)

    # Who takes a request

    def choose(
        self,
        pool: str,
        ask: Ask,
        now_s: float,
        tried: Collection[int] = (),
        last_resort: bool = True,
    ) -> Instance | None:
        """Returns who takes a request now; None: nobody of the pool, or nobody untried.

        The last resort is a server that is known not to answer.
        """
        team = self._teams.get(pool)
        if team is None:
            return None
        return team.choose(ask, self._home(ask), now_s, tried, last_resort)

    def holds(self, pool: str) -> bool:
        """Returns whether requests to a pool wait here for a rank: ask `held`, not `choose`."""
        team = self._teams.get(pool)
        return team is not None and any(group.hold is not None for group in team.groups)

    async def held(
        self, pool: str, ask: Ask, clock: Callable[[], float], tried: Collection[int] = ()
    ) -> Instance | None:
        """Returns who takes a request as soon as a rank has a place; None as of `choose`.

        Call `sent` before anything is awaited. May be cancelled at any time.
        """
        while (team := self._teams.get(pool)) is not None:
            now_s = clock()
            group = team.server(ask, self._home(ask), now_s, tried)
            if group is None:
                return None
            if group.hold is None:
                return group.rank(ask.size_at(pool), self._ledger, now_s)
            rank = await group.hold.place(round(ask.size_at(pool).input_tokens))
            if rank is not None:
                return group.ranks[rank]
        return None

    def delay(self, pool: str, ask: Ask, now_s: float) -> Delay | None:
        """Returns what the request would see on the best instance of a pool.

        None: nobody there takes requests now, or the plan does not know how fast the pool is.
        """
        team = self._teams.get(pool)
        if team is None:
            return None
        return team.delay(ask, self._home(ask), now_s)

    def offers(
        self, pool: str, ask: Ask, now_s: float, tried: Collection[int] = ()
    ) -> list[tuple[Instance, Load]]:
        """Returns the instances of a pool that may take a request now, with their loads."""
        team = self._teams.get(pool)
        return [] if team is None else team.prospects(now_s, tried)

    def curve(self, pool: str) -> StepCurve | None:
        """Returns how fast an instance of a pool is; None where the plan does not know."""
        return self._curves.get(pool)

    def n_up(self, pool: str, now_s: float) -> int:
        """Returns how many servers of a pool are not ejected."""
        team = self._teams.get(pool)
        return 0 if team is None else team.n_up(now_s)

    def is_up(self, pool: str, now_s: float) -> bool:
        """Returns whether anybody of a pool takes requests."""
        team = self._teams.get(pool)
        return team is not None and team.is_up(now_s)

    # What becomes of it

    def sent(self, instance: Instance, ask: Ask, now_s: float) -> int:
        """Returns the ticket of a request that goes to an instance now."""
        self._events.n += 1
        size = ask.size_at(instance.pool)
        ticket = self._ledger.sent(
            instance.index, size.input_tokens, size.output_tokens, now_s, size.fresh_tokens
        )
        if ask.session is not None:
            tokens = size.input_tokens + size.output_tokens
            self._sessions.went(ask.session, instance.index, tokens)
        health = self.backends[instance.backend].health
        is_probe = not health.is_clear and health.probe(now_s)
        self._sent[ticket] = _Sent(instance, health, health.epoch, is_probe, size.input_tokens)
        return ticket

    def first_token(self, ticket: int, now_s: float) -> None:
        """Notes that an answer has begun, which is a success of its instance."""
        sent = self._sent[ticket]
        self._events.n += 1
        self._ledger.first_token(ticket, now_s)
        sent.health.succeeded(now_s, sent.epoch)
        hold, rank = self._holds.get(sent.instance.index, _NOT_HELD)
        if hold is not None and hold.decoding is not None:
            hold.decoding.began(ticket, rank, round(sent.input_tokens), now_s)

    def ended(self, ticket: int, now_s: float, output_tokens: float | None = None) -> None:
        """Notes, once for each request, that it is over: answered, cancelled or failed.

        Raises:
            KeyError: the ticket was never given, or has ended before.
        """
        sent = self._sent.pop(ticket)
        self._events.n += 1
        self._ledger.ended(ticket, now_s, output_tokens)
        if sent.is_probe and sent.health.epoch == sent.epoch:
            sent.health.give_up_probe()
        hold, _ = self._holds.get(sent.instance.index, _NOT_HELD)
        if hold is not None:
            if hold.decoding is not None:
                hold.decoding.ended(ticket, now_s, output_tokens)
            hold.poke()

    def succeeded(self, instance: Instance, now_s: float, ticket: int | None = None) -> None:
        """Notes that an instance has answered; with the ticket: the request of that ticket."""
        health, epoch = self._health(instance, ticket)
        if health is not None:
            health.succeeded(now_s, epoch)

    def failed(
        self, instance: Instance, now_s: float, kind: FailureKind, ticket: int | None = None
    ) -> None:
        """Notes that an instance has not answered; call it before `ended`.

        With the ticket, a request that was sent before the last ejection does not count again.
        """
        health, epoch = self._health(instance, ticket)
        if health is not None:
            health.failed(now_s, kind, epoch)
            hold, _ = self._holds.get(instance.index, _NOT_HELD)
            if hold is not None and health.retry_at_s is not None:
                hold.release()

    def observed(self, backend: Backend, text: str, at_s: float, now_s: float) -> bool:
        """Returns whether a server's /metrics page, made at a moment, is one of a known engine.

        What it says goes into the ledger.
        """
        self._events.n += 1
        first = backend.instances[0]
        hold, _ = self._holds.get(first.index, _NOT_HELD)
        if hold is not None:
            hold.poke()
        curve = self._curves.get(first.pool)
        return reconcile(self._ledger, backend, text, curve, at_s, now_s)

    # Reload and status

    def renew(self, setup: Setup, now_s: float) -> None:
        """Takes another plan, or other servers; who stays keeps what it has to do and its health.

        Requests on their way to instances that are gone end as they would have; those that wait
        for a rank choose anew.
        """
        former = [hold for hold, rank in self._holds.values() if rank == 0]
        indices = {key: instance.index for key, instance in self._by_key.items()}
        self._by_key = instances_of(setup, indices, self._free_index)
        self.instances = list(self._by_key.values())
        self.backends = backends_of(setup, self.instances, self.backends)
        sheet = setup.sheet
        pools = setup.servers()
        self._curves = {
            pool: curve_of(known, ranks_together(known, servers))
            if sheet and (known := sheet.pools.get(pool))
            else None
            for pool, servers in pools.items()
        }
        self._teams = {pool: self._team(setup, pool) for pool in pools}
        self._free_index = max([self._free_index, *(i.index + 1 for i in self.instances)])
        curves: list[StepCurve | None] = [None] * self._free_index
        for instance in self.instances:
            curves[instance.index] = self._curves[instance.pool]
        before = set(indices.values())
        kept = {i.index: i.index for i in self.instances if i.index in before}
        self._ledger.renewed(kept, curves)
        self._holds = {
            rank.index: (group.hold, place)
            for team in self._teams.values()
            for group in team.groups
            if group.hold is not None
            for place, rank in enumerate(group.ranks)
        }
        for hold in former:
            hold.release()
        self.version += 1

    def status(self, now_s: float) -> list[dict[str, object]]:
        """Returns what there is to show of every instance, in plain types."""
        return [self._status(instance, now_s) for instance in self.instances]

    def _status(self, instance: Instance, now_s: float) -> dict[str, object]:
        backend = self.backends[instance.backend]
        state = backend.health.state(now_s)
        load = self._ledger.load(instance.index, now_s)
        curve = self._curves[instance.pool]
        is_up = state not in (State.EJECTED, State.HALF_OPEN)
        wait_ms = None if curve is None else predict_delay(curve, load, 1.0, 1.0, 1.0).ttft_ms
        hold, _ = self._holds.get(instance.index, _NOT_HELD)
        return {
            "pool": instance.pool,
            "instance": instance.name,
            "url": instance.url,
            "state": state.value,
            "up": is_up,
            "n_running": load.n_running,
            "n_waiting": load.n_waiting,
            "kv_tokens": load.kv_tokens,
            "predicted_delay_s": None if wait_ms is None or not is_up else wait_ms / 1e3,
            "n_held": 0 if hold is None else len(hold),  # at its server, for any of its ranks
            "n_in_flight": self._ledger.n_in_flight(instance.index),
            "n_failed": backend.health.n_failed,
            "telemetry_age_s": None if backend.seen_s is None else now_s - backend.seen_s,
        }

    def _team(self, setup: Setup, pool: str) -> Team:
        """Returns the servers of a pool, each with its ranks, in their order."""
        by_server: dict[str, list[Instance]] = {}
        for instance in self.instances:
            if instance.pool == pool:
                by_server.setdefault(instance.name.partition("#")[0], []).append(instance)
        # Workers of one machine must not draw alike, or they would all choose the same.
        seed = crc32(f"{setup.options.request_prefix} {pool}".encode())
        rank_policy = setup.options.rank_policy
        groups = [self._group(tuple(ranks), rank_policy, seed) for ranks in by_server.values()]
        policy, curve = setup.options.policy, self._curves[pool]
        return Team(pool, groups, curve, policy, seed, self._ledger, self._events)

    def _group(self, ranks: tuple[Instance, ...], rank_policy: str, seed: int) -> Group:
        """Returns a server with the way one of its ranks is chosen."""
        backend, curve = self.backends[ranks[0].backend], self._curves[ranks[0].pool]
        if len(ranks) == 1:
            return Group(backend, ranks, None)
        if rank_policy not in BATCH_POLICIES:
            return Group(backend, ranks, make_policy(rank_policy, seed))
        arrival = make_policy("least_kv", seed)  # where nothing tells how many places there are
        if curve is None or curve.is_fixed:
            return Group(backend, ranks, arrival)

        def loads(now_s: float) -> list[Load]:
            return [self._ledger.load(rank.index, now_s) for rank in ranks]

        hold = Hold(len(ranks), curve, make_batch_policy(rank_policy), loads)
        return Group(backend, ranks, arrival, hold)

    def _home(self, ask: Ask) -> tuple[int, float] | None:
        """Returns where the request's session is at home, and its tokens that are cached there."""
        return None if ask.session is None else self._sessions.home(ask.session)

    def _health(self, instance: Instance, ticket: int | None) -> tuple[Health | None, int | None]:
        """Returns the health of an instance's server, and the epoch that a request is of."""
        sent = None if ticket is None else self._sent.get(ticket)
        if sent is not None:
            return sent.health, sent.epoch
        backend = self.backends.get(instance.backend)
        return (None, None) if backend is None else (backend.health, None)
