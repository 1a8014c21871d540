"""A cluster whose requests choose among all of its instances, by what a proxy in front would know.

Notation
    i        a request, in order of arrival
    k        an instance: a replica of any pool, numbered pool by pool
    W, B     time from the first request of a batch to its decision; most requests of one     ps, 1
    d        what deciding takes, per request; one batch at a time                            ps
    T, a     time between two looks at the engines; age of what is seen when it is heard      ps

Program
    a request waits from its arrival until its batch closes at
        c = max(decider free, min(first of the batch + W, arrival of its B-th))
    at c        every first token and end before c has been heard, in order of time, and every look
                whose answer is there by then
                for i of the batch in the chooser's order
                    k = chooser.choose(i, instances that are up and that i may use, c)
                    chooser.sent(i, k, c)
    at c + n d  the n requests of the batch go to their instances; the decider is free
    a replica dies    what has no first token waits again; the chooser has heard of its end

A proxy sees a first token when the client does: t0 after the engine made it. A chooser that keeps
a ledger of what it hears knows as much here as behind `rb serve`, and no more.

With W = 0, B = 1, d = 0 each request is sent when it comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from planner.scheduling.ledger import Seen
from planner.scheduling.table import RoutingTable
from planner.simulate.demand import Demand
from planner.simulate.failures import Change
from planner.simulate.heard import Heard
from planner.simulate.records import Outcome, Records, Usage
from planner.simulate.replica import NEVER
from planner.simulate.replicas import PoolRun, Station
from planner.simulate.serving import Asked, Serving
from planner.simulate.settings import Tokens
from planner.simulate.units import PS_PER_S

if TYPE_CHECKING:
    from planner.simulate.cluster import Cluster


class Chooser(Protocol):
    """A way to choose an instance for each request. It hears, and sees nothing else."""

    def order(self, batch: Sequence[int]) -> Sequence[int]:
        """Returns the requests of a batch in the order in which they are to be decided."""

    def choose(self, i: int, instances: Sequence[int], now_s: float) -> int:
        """Returns one of the instances, which are up and may serve request i."""

    def sent(self, i: int, instance: int, now_s: float) -> None:
        """Hears that request i was decided to go to an instance."""

    def first_token(self, i: int, now_s: float) -> None:
        """Hears the first token of request i."""

    def ended(self, i: int, now_s: float, output_tokens: int | None) -> None:
        """Hears that request i ended after so many tokens; None: it was lost or refused."""

    def seen(self, instance: int, report: Seen, now_s: float) -> None:
        """Hears what an instance said of itself a while ago."""


@dataclass(frozen=True)
class Rhythm:
    """When a proxy decides and when it looks at engines; by default at once, and never."""

    window_s: float = 0.0  # W
    n_most: int = 1  # B
    decision_s: float = 0.0  # d
    look_every_s: float | None = None  # T; 0: at every decision; None: never
    look_age_s: float = 0.0  # a; of looks at decisions none

    def __post_init__(self) -> None:
        if min(self.window_s, self.decision_s, self.look_every_s or 0.0, self.look_age_s) < 0:
            raise ValueError("times are not negative")
        if self.n_most < 1:
            raise ValueError(f"a batch has at least one request, got n_most = {self.n_most}")


AT_ONCE = Rhythm()


class Choosing(Serving):
    """A cluster while it runs, its requests sent where a chooser says; its routes are not used."""

    def __init__(
        self, cluster: Cluster, demand: Demand, chooser: Chooser, rhythm: Rhythm, seed: int
    ) -> None:
        n = demand.arrived_ps.size
        asked = Asked(
            pool_of=[0] * n,
            tokens=Tokens([0] * n, [0] * n, [0] * n),
            priority=demand.priority.tolist(),
            class_of=demand.class_index.tolist(),
        )
        super().__init__(cluster, demand, RoutingTable(cluster.routes), asked, seed)
        self._chooser = chooser
        self._window_ps, self._decision_ps = _ps(rhythm.window_s), _ps(rhythm.decision_s)
        self._n_most, self._age_ps = rhythm.n_most, _ps(rhythm.look_age_s)
        self._looks_when_deciding = rhythm.look_every_s == 0.0
        self._every_ps = _ps(rhythm.look_every_s or 0.0)
        self._look_ps = self._every_ps or NEVER  # when the next look is due
        self._reports: deque[tuple[int, list[Seen]]] = deque()  # when heard, one per instance
        self._waiting: deque[tuple[int, int]] = deque()  # since when, who
        self._decided: list[tuple[int, int]] = []  # request and instance, to be sent at _free_ps
        self._free_ps = 0
        self._heard = Heard(self._times)
        self._engines = [station for pool in self._pools for station in pool.stations]
        self._where = [
            (p, r) for p, pool in enumerate(self._pools) for r in range(len(pool.stations))
        ]
        self._usable = _usable(demand, self._where)

    def _pool_run(self, p: int, stations: list[Station], seed: int) -> PoolRun:
        """Returns the replicas of one pool; it is not the pool that chooses."""
        return PoolRun(stations)

    # What happens from outside

    def arrive(self, i: int, at_ps: int) -> None:
        """Takes request i at a moment."""
        self._go_on(at_ps)
        self._waiting.append((at_ps, i))

    def change(self, change: Change) -> None:
        """Lets a replica die, slow down or return."""
        self._go_on(change.at_ps)
        self._look_until(change.at_ps)
        self._hear(change.at_ps)
        super().change(change)

    def _lose(self, i: int, at_ps: int) -> None:
        """Decides what becomes of request i, whose replica died."""
        self._heard.lost(i)
        self._chooser.ended(i, at_ps / PS_PER_S, None)
        if self._times.first_ps[i] >= 0:
            self._outcome[i] = Outcome.FAILED
        else:
            self._waiting.append((at_ps, i))

    def drained(self) -> tuple[Records, Usage]:
        """Returns what the run leaves behind after the last request was sent and answered."""
        self._go_on(NEVER)
        return super().drained()

    # Deciding and sending

    def _go_on(self, until_ps: int) -> None:
        """Closes batches and sends them, as far as that is due before a moment."""
        while (at_ps := self._next_ps()) < until_ps:
            if self._decided:
                self._send(at_ps)
            else:
                self._decide(at_ps)

    def _next_ps(self) -> int:
        """Returns when a batch is to be sent or closed next."""
        if self._decided:
            return self._free_ps
        if not self._waiting:
            return NEVER
        closes_ps = self._waiting[0][0] + self._window_ps
        if len(self._waiting) >= self._n_most:
            closes_ps = min(closes_ps, self._waiting[self._n_most - 1][0])
        return max(closes_ps, self._free_ps)

    def _decide(self, at_ps: int) -> None:
        """Chooses for a batch."""
        self._look_until(at_ps)
        self._hear(at_ps)
        if self._looks_when_deciding:
            self._tell(self._look(at_ps), at_ps)
        chooser, now_s = self._chooser, at_ps / PS_PER_S
        n = min(len(self._waiting), self._n_most)
        batch = [self._waiting.popleft()[1] for _ in range(n)]
        if n > 1:
            batch = list(chooser.order(batch))
        for i in batch:
            instances = self._instances(i)
            if not instances:
                self._outcome[i] = Outcome.FAILED
                continue
            k = chooser.choose(i, instances, now_s)
            chooser.sent(i, k, now_s)
            self._decided.append((i, k))
        self._free_ps = at_ps + n * self._decision_ps

    def _instances(self, i: int) -> Sequence[int]:
        """Returns the instances that are up and may serve a request."""
        usable = self._usable[i]
        if all(pool.n_up == len(pool.stations) for pool in self._pools):
            return usable
        where, pools = self._where, self._pools
        return [k for k in usable if pools[where[k][0]].is_up[where[k][1]]]

    def _send(self, at_ps: int) -> None:
        """Sends what was decided."""
        self._look_until(at_ps)
        decided, self._decided = self._decided, []
        for i, k in decided:
            p, r = self._where[k]
            tokens = self._demand.tokens[p]
            assert tokens is not None  # else the instance would not have been usable
            self._ask(i, p, tokens)
            self._replica_of[i] = r
            if not self._pools[p].is_up[r]:  # it has died since
                self._lose(i, at_ps)
                continue
            station = self._engines[k]
            station.advance(at_ps)
            if station.submit(i, at_ps):
                self._heard.sent(i, self._cluster.pools[p].request_ps)
            else:
                self._outcome[i] = Outcome.REFUSED
                self._chooser.ended(i, at_ps / PS_PER_S, None)

    # Hearing

    def _look_until(self, at_ps: int) -> None:
        """Lets the chooser hear all looks up to a moment, those first that were due first."""
        while True:
            due_ps = self._reports[0][0] if self._reports else NEVER
            moment_ps = min(due_ps, self._look_ps)
            if moment_ps > at_ps:
                return
            self._hear(moment_ps)
            if due_ps == moment_ps:
                self._tell(self._reports.popleft()[1], moment_ps)
            else:
                self._reports.append((moment_ps + self._age_ps, self._look(moment_ps)))
                self._look_ps += self._every_ps

    def _hear(self, at_ps: int) -> None:
        """Lets the chooser hear the first tokens and ends before a moment."""
        for station in self._engines:
            station.advance(at_ps)
        chooser, output = self._chooser, self._tokens.output
        for heard_ps, is_end, i in self._heard.before(at_ps):
            if is_end:
                chooser.ended(i, heard_ps / PS_PER_S, output[i])
            else:
                chooser.first_token(i, heard_ps / PS_PER_S)

    def _look(self, at_ps: int) -> list[Seen]:
        """Returns what every instance says of itself."""
        at_s = at_ps / PS_PER_S
        return [Seen(s.n_running, s.n_waiting, s.kv_tokens, at_s) for s in self._engines]

    def _tell(self, reports: Sequence[Seen], at_ps: int) -> None:
        for k, report in enumerate(reports):
            p, r = self._where[k]
            if self._pools[p].is_up[r]:
                self._chooser.seen(k, report, at_ps / PS_PER_S)


def _usable(demand: Demand, where: Sequence[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Returns by request the instances of the pools that its class may use."""
    n = demand.arrived_ps.size
    may_use = [
        [False] * n if tokens is None else (tokens.prompt > 0).tolist() for tokens in demand.tokens
    ]
    kinds = list(zip(*may_use, strict=True))
    instances = {kind: tuple(k for k, (p, _) in enumerate(where) if kind[p]) for kind in set(kinds)}
    return [instances[kind] for kind in kinds]


def _ps(seconds: float) -> int:
    return round(seconds * PS_PER_S)
