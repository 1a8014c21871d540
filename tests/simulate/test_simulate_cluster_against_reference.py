"""Whole random clusters, with failures, against the reference that takes every step."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from playing import totals
from random_clusters import ClusterCase, cluster_case
from reference_cluster import Fate, Happening, ReferenceCluster
from reference_engine import ReferenceReplica
from reference_policies import arrival_by, workers_of

from planner.scheduling.balance import make_policy
from planner.scheduling.table import RoutingTable
from planner.simulate.cluster import Cluster, PoolSetup, Run, run
from planner.simulate.demand import Demand, TokenArrays
from planner.simulate.failures import changes
from planner.simulate.records import Outcome
from planner.simulate.settings import Times
from planner.spec.plan import Routes, WeightedPool

N_CLUSTERS = 1_000
N_FAST = 300
BLOCK = 100
BLOCKS = [
    pytest.param(block, marks=[pytest.mark.slow] if block * BLOCK >= N_FAST else [])
    for block in range(N_CLUSTERS // BLOCK)
]


def pool_names(case: ClusterCase) -> list[str]:
    return [f"pool-{p}" for p in range(len(case.engines))]


def class_names(case: ClusterCase) -> list[str]:
    return [f"class-{c}" for c in range(len(case.shares))]


def routes(case: ClusterCase) -> Routes:
    names = pool_names(case)
    weighted, fallback = {}, {}
    for c, name in enumerate(class_names(case)):
        weighted[name] = tuple(
            WeightedPool(pool=names[p], share=share)
            for p, share in zip(case.usable[c], case.shares[c], strict=True)
        )
        fallback[name] = tuple(names[p] for p in case.fallback[c])
    return Routes(classes=weighted, load_prices={}, fallback=fallback, plan_hash="0" * 64)


def token_arrays(case: ClusterCase, pool: int) -> TokenArrays:
    """What the requests ask of a pool, with nothing where their class may not use it."""
    tokens = case.tokens[pool]
    may_use = np.array([pool in case.usable[c] for c in case.class_index])
    return TokenArrays(
        *(np.array(column) * may_use for column in (tokens.prompt, tokens.fresh, tokens.output))
    )


def engine_run(case: ClusterCase) -> Run:
    setups = zip(pool_names(case), case.engines, case.n_replicas, case.request_ps, strict=True)
    demand = Demand(
        arrived_ps=np.array(case.arrived_ps),
        class_index=np.array(case.class_index),
        priority=np.array(case.priority),
        tokens=tuple(token_arrays(case, pool) for pool in range(len(case.engines))),
    )
    cluster = Cluster(
        pools=tuple(PoolSetup(*setup) for setup in setups),
        routes=routes(case),
        class_names=tuple(class_names(case)),
        balance=case.balance,
    )
    return run(cluster, demand, case.failures)


@dataclass
class Told:
    """The reference's story of a case, in the words of the records."""

    records: list[tuple[int, ...]]
    usage: list[tuple[int, ...]]
    fates: list[Fate]


@cache
def reference_run(seed: int) -> Told:
    case = cluster_case(seed)
    times = Times.none_yet(len(case.arrived_ps))
    pools = [
        [
            ReferenceReplica(
                engine, tokens, times, case.priority, arrival_by(make_policy("vllm", 0))
            )
            for _ in range(n)
        ]
        for engine, tokens, n in zip(case.engines, case.tokens, case.n_replicas, strict=True)
    ]
    table, names = RoutingTable(routes(case)), pool_names(case)
    policies = [make_policy(case.balance, 0) for _ in pools]

    def route(index: int) -> list[int]:
        c = case.class_index[index]
        name = class_names(case)[c]
        tried = [names.index(pool) for pool in (table.pick(name), *table.fallback[name])]
        return [p for p in tried if p in case.usable[c]]

    def balance(pool: int, prompt: int, replicas, is_up) -> int:
        return policies[pool].pick(prompt, workers_of(replicas, is_up))

    happenings = [
        Happening(c.at_ps, c.pool_index, c.replica_index, c.kind, c.ratio)
        for c in changes(case.failures, names, case.n_replicas)
    ]
    fates = ReferenceCluster(pools, route, balance).run(case.arrived_ps, happenings)
    return Told(
        records=[record_of(case, fate, i, times) for i, fate in enumerate(fates)],
        usage=[
            (p, r, *totals(replica), replica.barrier_idle_ps)
            for p, replicas in enumerate(pools)
            for r, replica in enumerate(replicas)
        ],
        fates=fates,
    )


def record_of(case: ClusterCase, fate: Fate, index: int, times: Times) -> tuple[int, ...]:
    """A row of the records; what a request takes beside any step comes on top of the replica's."""

    def seen(ps: int) -> int:
        return ps if ps < 0 else ps + case.request_ps[fate.pool]

    return (
        fate.pool,
        fate.replica,
        seen(times.first_ps[index]),
        seen(times.done_ps[index]),
        times.n_preempted[index],
        Outcome[fate.outcome.upper()],
    )


def rows(*columns: np.ndarray) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("block", BLOCKS)
def test_clusters(block):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        told, ran = reference_run(seed), engine_run(cluster_case(seed))
        r, u = ran.records, ran.usage
        records = rows(
            r.pool_index, r.replica_index, r.first_ps, r.done_ps, r.n_preempted, r.outcome
        )
        assert records == told.records, seed
        usage = rows(
            u.pool_index,
            u.replica_index,
            u.busy_ps,
            u.n_steps,
            u.n_decoded_tokens,
            u.n_prefilled_tokens,
            u.barrier_idle_ps,
        )
        assert usage == told.usage, seed


@pytest.mark.parametrize("n", [N_FAST, pytest.param(N_CLUSTERS, marks=pytest.mark.slow)])
def test_the_random_clusters_meet_every_rule(n):
    """A rule that no case ever needs would be compared in vain."""
    met: Counter[str] = Counter()
    for seed in range(n):
        case, told = cluster_case(seed), reference_run(seed)
        met.update(Outcome(record[-1]).name for record in told.records)
        met["preempted"] += sum(record[4] for record in told.records)
        met["slow"] += sum(failure.slow_ratio is not None for failure in case.failures)
        met["return"] += sum(failure.until_s is not None for failure in case.failures)
        met["groups"] += sum(engine.n_ranks > 1 for engine in case.engines)
        for fate, record in zip(told.fates, told.records, strict=True):
            met["sent again and answered"] += fate.n_sent > 1 and record[3] >= 0
            met["by a fallback"] += fate.n_moved > 0
            met["nobody was up"] += fate.outcome == "failed" and fate.replica < 0
            met["cut off"] += fate.outcome == "failed" and record[2] >= 0
    wanted = LEAST if n == N_CLUSTERS else dict.fromkeys(LEAST, 1)
    assert not [rule for rule, least in wanted.items() if met[rule] < least], met


LEAST = {  # of all clusters
    "OK": 20_000,
    "FAILED": 1_000,
    "REFUSED": 300,
    "preempted": 800,
    "slow": 1_000,
    "return": 2_000,
    "groups": 300,
    "sent again and answered": 400,
    "by a fallback": 150,
    "nobody was up": 500,
    "cut off": 300,
}
