"""A whole cluster, request by request: who is sent where, what that does to every replica.

Notation
    i    a request, in order of arrival                 (N,)
    p    a pool, r one of its replicas
    t    now, integer picoseconds

Program
    for each moment t at which a replica fails, slows down, returns, or a request arrives, in order
    (failures before requests at the same moment):
        request i     p = RoutingTable.pick(class of i)           §1: blind to prompt and state;
                      or through a cascade (cascading.py)
                      no replica of p is up: the first fallback pool with one, or FAILED
                      r = the pool's policy over the replicas that are up, as they stand at t
                      r.submit(i, t)
        r dies        what has no first token is routed again at t, in order of submission;
                      what has one is FAILED (§2)
    then every replica runs until it is empty

Where a chooser is given, routes and policies are not asked: it chooses among all instances, with
what a proxy would know (choosing.py).

A request that fits into no cache of its pool is REFUSED for good, as an engine would answer it.

A replica is advanced when somebody looks at it: policies that read no state (round robin, random)
leave the others where they are. Replicas do not act on each other, so that changes no figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from planner.scheduling.least_delay import NAMES
from planner.scheduling.table import RoutingTable
from planner.simulate.cascading import Cascading
from planner.simulate.choosing import AT_ONCE, Chooser, Choosing, Rhythm
from planner.simulate.demand import Demand
from planner.simulate.failures import Failure, changes
from planner.simulate.hosted import HostedSettings
from planner.simulate.phases import Phase, phase_changes
from planner.simulate.records import Records, Usage
from planner.simulate.serving import Serving, asked_of_pools
from planner.simulate.settings import EngineSettings
from planner.spec.plan import CascadeEntry, Routes, WeightedPool

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

    @property
    def cascades(self) -> tuple[tuple[str, int], ...]:
        """Returns class and place in it of every cascade, in the order of a demand's (O,)."""
        of_class = self.routes.cascades
        return tuple((c, k) for c in self.class_names for k in range(len(of_class.get(c, ()))))

    @staticmethod
    def of(
        pools: Sequence[PoolSetup],
        shares: Mapping[str, Mapping[str, float]],
        *,
        cascades: Mapping[str, Sequence[CascadeEntry]] | None = None,
        fallback: Mapping[str, Sequence[str]] | None = None,
        balance: str = "round_robin",
    ) -> Cluster:
        """Returns a cluster that belongs to no plan.

        Args:
            pools: in the order of the demand's token counts.
            shares: of each class, by pool; the classes are in this order.
            cascades: by class; their shares are of the class, beside those of its pools.
            fallback: by class, pools that serve it while the chosen one has no replica up.
            balance: what chooses between the replicas of a pool, one of
                `planner.scheduling.least_delay.NAMES`.

        Raises:
            ValueError: a share or a fallback is of a pool that is not there, there is no such
                policy, or the shares of a class do not add up to 1.
        """
        cascades, fallback = cascades or {}, fallback or {}
        known = {pool.name for pool in pools}
        named = {name for class_shares in shares.values() for name in class_shares}
        entries = [entry for of_class in cascades.values() for entry in of_class]
        named |= {each.pool for entry in entries for each in (*entry.first, *entry.second)}
        unknown = sorted((named | {name for names in fallback.values() for name in names}) - known)
        if unknown:
            raise ValueError(f"no pool is named {', '.join(unknown)}")
        if balance not in NAMES:
            raise ValueError(f"balance is one of {', '.join(NAMES)}, got {balance!r}")
        for class_name, class_shares in shares.items():
            total = sum(class_shares.values())
            total += sum(entry.share for entry in cascades.get(class_name, ()))
            if not math.isclose(total, 1.0, abs_tol=1e-6):
                raise ValueError(f"the shares of {class_name} add up to 1, got {class_shares}")
        routes = Routes(
            classes={
                class_name: tuple(
                    WeightedPool(pool=name, share=share) for name, share in class_shares.items()
                )
                for class_name, class_shares in shares.items()
            },
            cascades={name: tuple(entries) for name, entries in cascades.items()},
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


def run(
    cluster: Cluster,
    demand: Demand,
    failures: Sequence[Failure] = (),
    seed: int = 0,
    *,
    chooser: Chooser | None = None,
    rhythm: Rhythm = AT_ONCE,
    phases: Sequence[Phase] = (),
) -> Run:
    """Returns the records of every request of a demand, and what the replicas did.

    The same arguments give the same records. The seed is of random policies and hosted latencies.

    Args:
        chooser: chooses the instance of every request in place of the routes and of the policy
            between replicas; a new one for each run, as it remembers what it has heard.
        rhythm: when it decides, and what it is told of the engines.
        phases: the replicas and the routes over time, in place of all replicas and the cluster's
            routes; the first one from 0 on.

    Raises:
        InputError: a failure names a pool or replica that the cluster does not have.
        ValueError: the demand is not of as many pools or cascades as there are, or of more classes;
            or it is to be chosen for a cluster with cascades; or phases are no course of it.
    """
    n_classes = int(demand.class_index.max(initial=-1)) + 1
    if len(demand.tokens) != len(cluster.pools) or n_classes > len(cluster.class_names):
        raise ValueError(
            f"the demand is of {len(demand.tokens)} pools and at least {n_classes} classes, the "
            f"cluster of {len(cluster.pools)} and {len(cluster.class_names)}"
        )
    if len(demand.cascades) != len(cluster.cascades):
        raise ValueError(
            f"the demand knows of {len(demand.cascades)} cascades, the routes of "
            f"{len(cluster.cascades)}"
        )
    if chooser is not None and demand.cascades:
        raise ValueError("an instance is not chosen for a request that goes through a cascade")
    if phases and (chooser is not None or demand.cascades):
        raise ValueError("phases change the routes of single pools, without cascades or choosers")
    table = RoutingTable(phases[0].routes if phases else cluster.routes)
    later = [(phase.from_ps, RoutingTable(phase.routes)) for phase in phases[1:]]
    state: Serving
    if chooser is not None:
        state = Choosing(cluster, demand, chooser, rhythm, seed)
    elif demand.cascades:
        state = Cascading(cluster, demand, table, seed)
    else:
        asked = asked_of_pools(cluster, demand, table, later)
        state = Serving(cluster, demand, table, asked, seed)
    names = [pool.name for pool in cluster.pools]
    n_replicas = [pool.n_replicas for pool in cluster.pools]
    pending = changes(failures, names, n_replicas)
    if phases:
        pending = sorted(
            [*phase_changes(phases, n_replicas), *pending], key=lambda change: change.at_ps
        )
    next_change = 0
    for i, at_ps in enumerate(demand.arrived_ps.tolist()):
        while next_change < len(pending) and pending[next_change].at_ps <= at_ps:
            state.change(pending[next_change])
            next_change += 1
        while later and later[0][0] <= at_ps:
            state.follow(later.pop(0)[1])
        state.arrive(i, at_ps)
    for late in pending[next_change:]:
        state.change(late)
    return Run(*state.drained())
