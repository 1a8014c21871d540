"""A cluster, moment by moment: every replica is brought up to date before anything happens.

What a request is sent by is given: `route(i)` names its pool and that pool's stand-ins in order,
`balance(pool, tokens, replicas, is_up)` the replica. Nothing else is known of the cluster's code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reference_engine import ReferenceReplica

Route = Callable[[int], Sequence[int]]
"""A request -> the pools to try, in order."""

Balance = Callable[[int, int, Sequence[ReferenceReplica], Sequence[bool]], int]
"""(pool, prompt tokens, its replicas, which are up) -> one that is up."""


@dataclass(frozen=True)
class Happening:
    """A change of one replica from outside."""

    at_ps: int
    pool: int
    replica: int
    kind: Literal["die", "return", "slow", "restore"]
    ratio: float = 1.0

    def befall(self, replicas: Sequence[ReferenceReplica], is_up: list[bool]) -> list[int]:
        """Changes its replica, one of a pool's; returns whose answers are gone with it."""
        replica = replicas[self.replica]
        replica.slow(self.at_ps, self.ratio if self.kind == "slow" else 1.0)
        if self.kind in ("slow", "restore"):
            return []
        is_up[self.replica] = self.kind == "return"
        return replica.fail(self.at_ps) if self.kind == "die" else []


@dataclass
class Fate:
    """What became of a request beside its times."""

    pool: int  # of its route; then the one that took it last
    fallback: Sequence[int]
    replica: int = -1  # of that pool; -1: none took it
    outcome: Literal["ok", "failed", "refused"] = "ok"
    n_sent: int = 0
    n_moved: int = 0  # to another pool


@dataclass
class ReferenceCluster:
    """Pools of replicas; `run` tells the whole story and leaves one fate per request."""

    pools: Sequence[Sequence[ReferenceReplica]]
    route: Route
    balance: Balance
    fates: dict[int, Fate] = field(default_factory=dict)

    def run(self, arrived_ps: Sequence[int], happenings: Sequence[Happening]) -> list[Fate]:
        self.is_up = [[True] * len(replicas) for replicas in self.pools]
        moments = [(happening.at_ps, 0, happening) for happening in happenings]
        moments += [(at_ps, 1, index) for index, at_ps in enumerate(arrived_ps)]
        for at_ps, _, what in sorted(moments, key=lambda moment: moment[:2]):
            self.advance(at_ps)
            if isinstance(what, Happening):
                self.change(what)
            else:
                pool, *fallback = self.route(what)
                self.fates[what] = Fate(pool, fallback)
                self.send(what, at_ps)
        for replicas in self.pools:
            for replica in replicas:
                replica.drain()
        return [self.fates[index] for index in range(len(arrived_ps))]

    def advance(self, until_ps: int) -> None:
        for replicas in self.pools:
            for replica in replicas:
                replica.advance(until_ps)

    def send(self, index: int, at_ps: int) -> None:
        fate = self.fates[index]
        fate.n_sent += 1
        up = [pool for pool in (fate.pool, *fate.fallback) if any(self.is_up[pool])]
        if not up:
            fate.outcome = "failed"
            return
        fate.n_moved += up[0] != fate.pool
        pool = fate.pool = up[0]
        replicas = self.pools[pool]
        prompt = replicas[0].tokens.prompt[index]
        fate.replica = self.balance(pool, prompt, replicas, self.is_up[pool])
        if not replicas[fate.replica].submit(index, at_ps):
            fate.outcome = "refused"

    def change(self, what: Happening) -> None:
        replicas = self.pools[what.pool]
        for index in what.befall(replicas, self.is_up[what.pool]):
            if replicas[what.replica].times.first_ps[index] >= 0:
                self.fates[index].outcome = "failed"
            else:
                self.send(index, what.at_ps)
