"""A whole cluster, request by request: who is sent where, what that does to every replica.

Notation
    i    a request, in order of arrival                 (N,)
    p    a pool, r one of its replicas
    t    now, integer picoseconds

Program
    for each moment t at which a replica fails, slows down, returns, or a request arrives, in order
    (failures before requests at the same moment):
        request i     p = RoutingTable.pick(class of i)           §1: blind to prompt and state
                      no replica of p is up: the first fallback pool with one, or FAILED
                      r = the pool's policy over the replicas that are up, as they stand at t
                      r.submit(i, t)
        r dies        what has no first token is routed again at t, in order of submission;
                      what has one is FAILED (§2)
    then every replica runs until it is empty

A request that fits into no cache of its pool is REFUSED for good, as an engine would answer it.

A replica is advanced when somebody looks at it: policies that read no state (round robin, random)
leave the others where they are. Replicas do not act on each other, so that changes no figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.scheduling.balance import POLICIES, Workers, make_policy
from planner.scheduling.table import RoutingTable
from planner.simulate.barrier import Group
from planner.simulate.demand import Demand
from planner.simulate.failures import Change, Failure, changes
from planner.simulate.hosted import Hosted, HostedSettings
from planner.simulate.records import Outcome, Records, Usage
from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, Times, Tokens
from planner.spec.arrays import IntArray
from planner.spec.plan import Routes, WeightedPool

Station = Replica | Group | Hosted

NO_PLAN = "0" * 64
"""In place of the hash of a plan."""


@dataclass(frozen=True)
class PoolSetup:
    """One pool of a cluster: its engine and how many of it there are."""

    name: str
    engine: EngineSettings | HostedSettings
    n_replicas: int
    request_ps: int = 0  # what a request takes before its first token beside any step (t0)


@dataclass(frozen=True)
class Cluster:
    """The pools, in the order of the demand's token counts, and how requests reach them."""

    pools: tuple[PoolSetup, ...]
    routes: Routes
    class_names: tuple[str, ...]
    balance: str = "round_robin"  # name of the policy between the replicas of a pool

    @staticmethod
    def of(
        pools: Sequence[PoolSetup],
        shares: Mapping[str, Mapping[str, float]],
        *,
        fallback: Mapping[str, Sequence[str]] | None = None,
        balance: str = "round_robin",
    ) -> Cluster:
        """Returns a cluster that belongs to no plan.

        Args:
            pools: in the order of the demand's token counts.
            shares: of each class, by pool; the classes are in this order.
            fallback: by class, pools that serve it while the chosen one has no replica up.
            balance: a policy of `planner.scheduling.balance.POLICIES`.

        Raises:
            ValueError: a share or a fallback is of a pool that is not there, there is no such
                policy, or the shares of a class do not add up to 1.
        """
        fallback = fallback or {}
        known = {pool.name for pool in pools}
        named = {name for class_shares in shares.values() for name in class_shares}
        unknown = sorted((named | {name for names in fallback.values() for name in names}) - known)
        if unknown:
            raise ValueError(f"no pool is named {', '.join(unknown)}")
        if balance not in POLICIES:
            raise ValueError(f"balance is one of {', '.join(POLICIES)}, got {balance!r}")
        for class_name, class_shares in shares.items():
            if not math.isclose(sum(class_shares.values()), 1.0, abs_tol=1e-6):
                raise ValueError(f"the shares of {class_name} add up to 1, got {class_shares}")
        routes = Routes(
            classes={
                class_name: tuple(
                    WeightedPool(pool=name, share=share) for name, share in class_shares.items()
                )
                for class_name, class_shares in shares.items()
            },
            load_prices={},
            fallback={name: tuple(pools) for name, pools in fallback.items()},
            plan_hash=NO_PLAN,
        )
        return Cluster(tuple(pools), routes, tuple(shares), balance)


@dataclass(frozen=True)
class Run:
    """What a run of a cluster leaves behind."""

    records: Records
    usage: Usage


def run(cluster: Cluster, demand: Demand, failures: Sequence[Failure] = (), seed: int = 0) -> Run:
    """Returns the records of every request of a demand, and what the replicas did.

    The same arguments give the same records. The seed is of random policies and hosted latencies.

    Raises:
        InputError: a failure names a pool or replica that the cluster does not have.
        ValueError: the demand is not of as many pools as there are, or of more classes.
    """
    n_classes = int(demand.class_index.max(initial=-1)) + 1
    if len(demand.tokens) != len(cluster.pools) or n_classes > len(cluster.class_names):
        raise ValueError(
            f"the demand is of {len(demand.tokens)} pools and at least {n_classes} classes, the "
            f"cluster of {len(cluster.pools)} and {len(cluster.class_names)}"
        )
    state = _Run(cluster, demand, seed)
    names = [pool.name for pool in cluster.pools]
    pending = changes(failures, names, [pool.n_replicas for pool in cluster.pools])
    next_change = 0
    for i, at_ps in enumerate(demand.arrived_ps.tolist()):
        while next_change < len(pending) and pending[next_change].at_ps <= at_ps:
            state.change(pending[next_change])
            next_change += 1
        state.send(i, at_ps)
    for late in pending[next_change:]:
        state.change(late)
    return state.drained()


class _Run:
    """A cluster while it runs."""

    def __init__(self, cluster: Cluster, demand: Demand, seed: int) -> None:
        n = demand.arrived_ps.size
        self._cluster, self._demand = cluster, demand
        table = RoutingTable(cluster.routes)
        self._pool_of = _destinations(cluster, demand, table)
        self._tokens = _tokens_at(demand, np.array(self._pool_of, dtype=np.int64))
        self._times = Times.none_yet(n)
        self._outcome = [int(Outcome.OK)] * n
        self._replica_of = [-1] * n
        priority: list[int] = demand.priority.tolist()
        self._pools = []
        for p, setup in enumerate(cluster.pools):
            # Neither two pools of a run nor two runs may share random numbers.
            own, policy = np.random.SeedSequence([seed, p]).generate_state(2, np.uint64).tolist()
            stations = self._stations(setup, priority, own)
            self._pools.append(_PoolRun(stations, cluster.balance, policy))
        index = {pool.name: p for p, pool in enumerate(cluster.pools)}
        self._fallback = [
            [index[name] for name in table.fallback.get(c, ()) if name in index]
            for c in cluster.class_names
        ]
        self._class_of: list[int] = demand.class_index.tolist()

    def _stations(self, setup: PoolSetup, priority: list[int], seed: int) -> list[Station]:
        """Returns the replicas of one pool, all empty."""
        engine = setup.engine
        if isinstance(engine, HostedSettings):
            return [
                Hosted(engine, self._tokens, self._times, seed) for _ in range(setup.n_replicas)
            ]
        kind = Group if engine.n_ranks > 1 else Replica
        return [kind(engine, self._tokens, self._times, priority) for _ in range(setup.n_replicas)]

    def send(self, i: int, at_ps: int) -> None:
        """Routes request i at a moment."""
        p = self._pool_of[i]
        if not self._pools[p].n_up:
            p = self._fall_back(i)
            if p < 0:
                self._outcome[i] = Outcome.FAILED
                return
        pool = self._pools[p]
        r = pool.choose(at_ps, self._tokens.prompt[i])
        self._replica_of[i] = r
        if not pool.stations[r].submit(i, at_ps):
            self._outcome[i] = Outcome.REFUSED

    def _fall_back(self, i: int) -> int:
        """Returns the first pool with a replica that is up for a request, -1 if there is none."""
        for p in self._fallback[self._class_of[i]]:
            tokens = self._demand.tokens[p]
            if self._pools[p].n_up and tokens is not None and tokens.prompt[i] > 0:
                self._pool_of[i] = p
                self._tokens.prompt[i] = int(tokens.prompt[i])
                self._tokens.fresh[i] = int(tokens.fresh[i])
                self._tokens.output[i] = int(tokens.output[i])
                return p
        return -1

    def change(self, change: Change) -> None:
        """Lets a replica die, slow down or return."""
        pool, r = self._pools[change.pool_index], change.replica_index
        if change.kind == "die":
            for i in pool.take_down(r, change.at_ps):
                if self._times.first_ps[i] >= 0:
                    self._outcome[i] = Outcome.FAILED
                else:
                    self.send(i, change.at_ps)
        elif change.kind == "return":
            pool.bring_up(r, change.at_ps)
        else:
            pool.stations[r].slow(change.at_ps, change.ratio)

    def drained(self) -> Run:
        """Returns the run after every replica has emptied itself."""
        for pool in self._pools:
            for station in pool.stations:
                station.drain()
        return Run(self._records(), self._usage())

    def _records(self) -> Records:
        demand, setups = self._demand, self._cluster.pools
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
            class_index=demand.class_index,
            pool_index=pool_index,
            replica_index=np.array(self._replica_of, dtype=np.int64),
            arrived_ps=demand.arrived_ps,
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


class _PoolRun:
    """The replicas of one pool while a cluster runs."""

    def __init__(self, stations: list[Station], balance: str, seed: int) -> None:
        self.stations = stations
        n = len(stations)
        self._policy = make_policy(balance, seed)
        self._workers = Workers([0] * n, [0] * n, [0] * n, [True] * n)
        self.n_up = n

    def choose(self, at_ps: int, request_tokens: int) -> int:
        """Returns the replica for a request at a moment, advanced to it."""
        workers, stations = self._workers, self.stations
        if not self._policy.reads_state:
            r = self._policy.pick(request_tokens, workers)
            stations[r].advance(at_ps)
            return r
        for r, station in enumerate(stations):
            station.advance(at_ps)
            workers.n_running[r] = station.n_running
            workers.n_waiting[r] = station.n_waiting
            workers.kv_tokens[r] = station.kv_tokens
        return self._policy.pick(request_tokens, workers)

    def take_down(self, r: int, at_ps: int) -> list[int]:
        """Returns what a replica loses by dying now, in order of submission."""
        if not self._workers.is_up[r]:
            return []
        self._workers.is_up[r] = False
        self.n_up -= 1
        return self.stations[r].fail(at_ps)

    def bring_up(self, r: int, at_ps: int) -> None:
        """Lets a dead replica take requests again: it is empty, and of its normal speed."""
        if not self._workers.is_up[r]:
            self._workers.is_up[r] = True
            self.n_up += 1
            self.stations[r].slow(at_ps, 1.0)


def _destinations(cluster: Cluster, demand: Demand, table: RoutingTable) -> list[int]:
    """Returns the pool of every request by the routing table alone, (N,)."""
    index = {pool.name: p for p, pool in enumerate(cluster.pools)}
    names = cluster.class_names
    return [index[table.pick(names[c])] for c in demand.class_index.tolist()]


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
