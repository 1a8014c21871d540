"""A cluster while it runs: its pools, where each request is, and what has become of it.

What a request asks and when things happen to it stand in lists that all replicas share, by its
index. Cascades ask for further answers, whose indices follow those of all requests (cascading.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from planner.scheduling import least_delay
from planner.scheduling.balance import make_policy
from planner.scheduling.table import RoutingTable
from planner.simulate.barrier import Group
from planner.simulate.curves import curve_of
from planner.simulate.demand import Demand, TokenArrays
from planner.simulate.failures import Change
from planner.simulate.hosted import Hosted, HostedSettings
from planner.simulate.records import Outcome, Records, Usage
from planner.simulate.replica import Replica
from planner.simulate.replicas import LedgerRun, PolicyRun, PoolRun, Station, mean_answers
from planner.simulate.settings import Times, Tokens
from planner.spec.arrays import IntArray

if TYPE_CHECKING:
    from planner.simulate.cluster import Cluster, PoolSetup


@dataclass
class Asked:
    """What is asked of the cluster, by index: by whom, of which pool, and how many tokens."""

    pool_of: list[int]
    tokens: Tokens
    priority: list[int]
    class_of: list[int]


class Serving:
    """A cluster while it runs."""

    def __init__(
        self, cluster: Cluster, demand: Demand, table: RoutingTable, asked: Asked, seed: int
    ) -> None:
        n = len(asked.pool_of)
        self._cluster, self._demand, self._table = cluster, demand, table
        self._n_requests = demand.arrived_ps.size
        self._pool_of, self._tokens, self._class_of = asked.pool_of, asked.tokens, asked.class_of
        self._times = Times.none_yet(n)
        self._outcome = [int(Outcome.OK)] * n
        self._replica_of = [-1] * n
        self._pools: list[PoolRun] = []
        for p, setup in enumerate(cluster.pools):
            # Neither two pools of a run nor two runs may share random numbers.
            own, policy = np.random.SeedSequence([seed, p]).generate_state(2, np.uint64).tolist()
            stations = self._stations(setup, asked.priority, own)
            self._pools.append(self._pool_run(p, stations, policy))
        self._index = {pool.name: p for p, pool in enumerate(cluster.pools)}
        self._fallback: list[list[int]] = []
        self.follow(table)

    def follow(self, table: RoutingTable) -> None:
        """Falls back from now on as a routing table says."""
        self._fallback = [
            [self._index[name] for name in table.fallback.get(c, ()) if name in self._index]
            for c in self._cluster.class_names
        ]

    def _stations(self, setup: PoolSetup, priority: list[int], seed: int) -> list[Station]:
        """Returns the replicas of one pool, all empty."""
        engine = setup.engine
        if isinstance(engine, HostedSettings):
            return [
                Hosted(engine, self._tokens, self._times, seed) for _ in range(setup.n_replicas)
            ]
        kind = Group if engine.n_ranks > 1 else Replica
        return [kind(engine, self._tokens, self._times, priority) for _ in range(setup.n_replicas)]

    def _pool_run(self, p: int, stations: list[Station], seed: int) -> PoolRun:
        """Returns the replicas of one pool with the policy between them."""
        if self._cluster.balance != least_delay.NAME:
            return PolicyRun(stations, self._tokens, make_policy(self._cluster.balance, seed))
        setup, expected = self._cluster.pools[p], mean_answers(self._demand, p)
        return LedgerRun(
            stations,
            self._tokens,
            self._times,
            curve_of(setup.engine, setup.request_ps),
            setup.request_ps,
            lambda i: expected[self._class_of[i]],
        )

    def arrive(self, i: int, at_ps: int) -> None:
        """Takes request i at a moment."""
        self.send(i, at_ps)

    def send(self, i: int, at_ps: int, is_last: bool = False) -> None:
        """Sends request i to its pool at a moment.

        is_last: after every boundary of a replica at that moment, not before it.
        """
        p = self._pool_of[i]
        if not self._pools[p].n_up:
            p = self._fall_back(i)
            if p < 0:
                self._outcome[i] = Outcome.FAILED
                return
        pool = self._pools[p]
        r = pool.choose(i, at_ps + 1 if is_last else at_ps)
        self._replica_of[i] = r
        if not pool.submit(i, r, at_ps):
            self._outcome[i] = Outcome.REFUSED

    def _fall_back(self, i: int) -> int:
        """Returns the first pool with a replica that is up for a request, -1 if there is none."""
        request = i % self._n_requests
        for p in self._fallback[self._class_of[i]]:
            tokens = self._demand.tokens[p]
            if self._pools[p].n_up and tokens is not None and tokens.prompt[request] > 0:
                self._ask(i, p, tokens)
                return p
        return -1

    def _ask(self, i: int, p: int, tokens: TokenArrays) -> None:
        """Lets request i ask these tokens of a pool."""
        request = i % self._n_requests
        self._pool_of[i] = p
        self._tokens.prompt[i] = int(tokens.prompt[request])
        self._tokens.fresh[i] = int(tokens.fresh[request])
        self._tokens.output[i] = int(tokens.output[request])

    def change(self, change: Change) -> None:
        """Lets a replica die, slow down, return or take no more requests."""
        pool, r = self._pools[change.pool_index], change.replica_index
        if change.kind == "drain":
            pool.retire(r)
        elif change.kind == "die":
            for i in pool.take_down(r, change.at_ps):
                self._lose(i, change.at_ps)
        elif change.kind == "return":
            pool.bring_up(r, change.at_ps)
        else:
            pool.stations[r].slow(change.at_ps, change.ratio)

    def _lose(self, i: int, at_ps: int) -> None:
        """Decides what becomes of request i, whose replica died."""
        if self._times.first_ps[i] >= 0:
            self._outcome[i] = Outcome.FAILED
        else:
            self.send(i, at_ps)

    def drained(self) -> tuple[Records, Usage]:
        """Returns what the run leaves behind after every replica has emptied itself."""
        for pool in self._pools:
            for station in pool.stations:
                station.drain()
        return self._records(), self._usage()

    def _records(self) -> Records:
        """Returns the requests as their users saw them."""
        return self._answers(self._demand.arrived_ps)

    def _answers(self, arrived_ps: IntArray) -> Records:
        """Returns every answer that could be asked for, in order of index, with its arrival."""
        setups = self._cluster.pools
        pool_index = np.array(self._pool_of, dtype=np.int64)
        first_ps = np.array(self._times.first_ps, dtype=np.int64)
        done_ps = np.array(self._times.done_ps, dtype=np.int64)
        outcome = np.array(self._outcome, dtype=np.int64)
        untimed = np.array(
            [isinstance(s.engine, HostedSettings) and s.engine.is_untimed for s in setups]
        )
        outcome[(outcome == Outcome.OK) & untimed[pool_index]] = Outcome.UNTIMED
        request_ps = np.array([s.request_ps for s in setups], dtype=np.int64)[pool_index]
        return Records(
            class_names=self._cluster.class_names,
            pool_names=tuple(s.name for s in setups),
            class_index=np.array(self._class_of, dtype=np.int64),
            pool_index=pool_index,
            replica_index=np.array(self._replica_of, dtype=np.int64),
            arrived_ps=arrived_ps,
            first_ps=np.where(first_ps >= 0, first_ps + request_ps, first_ps),
            done_ps=np.where(done_ps >= 0, done_ps + request_ps, done_ps),
            input_tokens=np.array(self._tokens.prompt, dtype=np.int64),
            output_tokens=np.array(self._tokens.output, dtype=np.int64),
            n_preempted=np.array(self._times.n_preempted, dtype=np.int64),
            outcome=outcome,
        )

    def _usage(self) -> Usage:
        places = [(p, r) for p, pool in enumerate(self._pools) for r in range(len(pool.stations))]
        stations = [self._pools[p].stations[r] for p, r in places]

        def column(name: str) -> IntArray:
            return np.array([getattr(s, name) for s in stations], dtype=np.int64)

        return Usage(
            pool_index=np.array([p for p, _ in places], dtype=np.int64),
            replica_index=np.array([r for _, r in places], dtype=np.int64),
            busy_ps=column("busy_ps"),
            n_steps=column("n_steps"),
            n_decoded_tokens=column("n_decoded"),
            n_prefilled_tokens=column("n_prefilled_tokens"),
            barrier_idle_ps=column("barrier_idle_ps"),
            imbalance_tokens=np.array([s.imbalance_tokens for s in stations]),
            kv_capacity_tokens=column("kv_capacity_tokens"),
        )


def asked_of_pools(
    cluster: Cluster,
    demand: Demand,
    table: RoutingTable,
    later: Sequence[tuple[int, RoutingTable]] = (),
) -> Asked:
    """Returns what is asked of a cluster without cascades: the routing table alone decides.

    Args:
        cluster: its pools.
        demand: what comes.
        table: that is asked first.
        later: (moment in ps, table that is asked from then on), in order.
    """
    index = {pool.name: p for p, pool in enumerate(cluster.pools)}
    names, class_of = cluster.class_names, demand.class_index.tolist()
    ends = np.searchsorted(demand.arrived_ps, [at_ps for at_ps, _ in later], side="left").tolist()
    tables = [table, *(each for _, each in later)]
    pool_of = [
        index[each.pick(names[c])]
        for each, begin, end in zip(tables, [0, *ends], [*ends, len(class_of)], strict=True)
        for c in class_of[begin:end]
    ]
    tokens = _tokens_at(demand, np.array(pool_of, dtype=np.int64))
    return Asked(pool_of, tokens, demand.priority.tolist(), class_of)


def _tokens_at(demand: Demand, pool_of: IntArray) -> Tokens:
    """Returns the token counts of every request on its pool, as lists."""
    n = pool_of.size
    prompt, fresh, output = (np.zeros(n, dtype=np.int64) for _ in range(3))
    for p, tokens in enumerate(demand.tokens):
        here = pool_of == p
        if tokens is not None and here.any():
            prompt[here] = tokens.prompt[here]
            fresh[here] = tokens.fresh[here]
            output[here] = tokens.output[here]
    return Tokens(prompt.tolist(), fresh.tolist(), output.tolist())
