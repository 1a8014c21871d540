"""Clusters with cascades against a reference that goes from boundary to boundary everywhere."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
import pytest
from random_clusters import ClusterCase, cluster_case, random_shares, request_tokens
from reference_cascades import Answer, CascadedReference, Way
from reference_cluster import Happening
from reference_engine import ReferenceReplica
from reference_policies import arrival_by, workers_of

from planner.scheduling.balance import make_policy
from planner.scheduling.table import RoutingTable
from planner.simulate.cluster import NO_PLAN, Cluster, PoolSetup, Run, run
from planner.simulate.demand import CascadeDemand, Demand, TokenArrays
from planner.simulate.failures import changes
from planner.simulate.records import Outcome
from planner.simulate.settings import Times, Tokens
from planner.spec.plan import CascadeEntry, Routes, WeightedPool

N_CLUSTERS, N_FAST, BLOCK = 400, 150, 50
BLOCKS = [
    pytest.param(block, marks=[pytest.mark.slow] if block * BLOCK >= N_FAST else [])
    for block in range(N_CLUSTERS // BLOCK)
]


@dataclass(frozen=True)
class CascadeCase:
    """One cascade of a class of a cluster case."""

    class_index: int
    first: list[tuple[int, float]]  # pools and their shares
    second: list[tuple[int, float]]
    escalated: list[bool]  # by request
    first_tokens: Tokens
    second_tokens: Tokens


@dataclass(frozen=True)
class Case:
    """A cluster case with cascades; `share` is what they have of their class together."""

    cluster: ClusterCase
    cascades: list[CascadeCase]
    cascade_share: list[float]  # by class


@cache
def case_of(seed: int) -> Case:
    random, cluster = Random(f"cascades {seed}"), cluster_case(seed)
    n = len(cluster.arrived_ps)
    cascades, shares = [], []
    for c, usable in enumerate(cluster.usable):
        n_cascades = random.choice([0, 1, 1, 2]) if c else random.choice([1, 2])
        shares.append(random.choice([0.5, 1.0, 0.8]) if n_cascades else 0.0)
        for _ in range(n_cascades):
            stages = [random.sample(usable, random.randint(1, len(usable))) for _ in range(2)]
            cut = random.choice([0.2, 0.5, 1.0])
            cascades.append(
                CascadeCase(
                    c,
                    *(positive_shares(random, pools) for pools in stages),
                    [random.random() < cut for _ in range(n)],
                    request_tokens(random, n),
                    request_tokens(random, n),
                )
            )
    return Case(cluster, cascades, shares)


def positive_shares(random: Random, pools: list[int]) -> list[tuple[int, float]]:
    found = zip(pools, random_shares(random, len(pools)), strict=True)
    return [(pool, share) for pool, share in found if share > 0]


def pool_name(p: int) -> str:
    return f"pool-{p}"


def routes(case: Case) -> Routes:
    cluster = case.cluster
    classes, cascades = {}, {}
    for c, usable in enumerate(cluster.usable):
        own = [cascade for cascade in case.cascades if cascade.class_index == c]
        rest = round(1.0 - case.cascade_share[c], 6)
        classes[f"class-{c}"] = tuple(
            WeightedPool(pool=pool_name(p), share=round(share * rest, 6))
            for p, share in zip(usable, cluster.shares[c], strict=True)
            if share * rest > 0
        )
        if own:
            cascades[f"class-{c}"] = tuple(entry(case, each, len(own)) for each in own)
    return Routes(
        classes=classes,
        cascades=cascades,
        load_prices={},
        fallback={
            f"class-{c}": tuple(map(pool_name, pools)) for c, pools in enumerate(cluster.fallback)
        },
        plan_hash=NO_PLAN,
    )


def entry(case: Case, cascade: CascadeCase, n_own: int) -> CascadeEntry:
    first, second = (
        tuple(WeightedPool(pool=pool_name(p), share=share) for p, share in stage)
        for stage in (cascade.first, cascade.second)
    )
    return CascadeEntry(
        share=case.cascade_share[cascade.class_index] / n_own,
        signal="sure",
        below=0.5,
        escalated_ratio=0.5,
        quality=0.5,
        first=first,
        second=second,
    )


def token_arrays(tokens: Tokens, counted: np.ndarray) -> TokenArrays:
    rows = (tokens.prompt, tokens.fresh, tokens.output)
    return TokenArrays(*(np.where(counted, np.array(row), 0) for row in rows))


def engine_run(case: Case) -> Run:
    cluster = case.cluster
    of_class = np.array(cluster.class_index)
    everywhere = range(len(cluster.engines))
    tokens = tuple(
        token_arrays(
            cluster.tokens[p],
            np.isin(of_class, [c for c, pools in enumerate(cluster.usable) if p in pools]),
        )
        for p in everywhere
    )

    def stage(cascade: CascadeCase, pools, asked: Tokens) -> tuple[TokenArrays | None, ...]:
        here, named = of_class == cascade.class_index, {p for p, _ in pools}
        return tuple(token_arrays(asked, here) if p in named else None for p in everywhere)

    setups = zip(
        map(pool_name, everywhere),
        cluster.engines,
        cluster.n_replicas,
        cluster.request_ps,
        strict=True,
    )
    demand = Demand(
        arrived_ps=np.array(cluster.arrived_ps),
        class_index=of_class,
        priority=np.array(cluster.priority),
        tokens=tokens,
        cascades=tuple(
            CascadeDemand(
                np.array(each.escalated),
                stage(each, each.first, each.first_tokens),
                stage(each, each.second, each.second_tokens),
            )
            for each in case.cascades
        ),
    )
    made = Cluster(
        pools=tuple(PoolSetup(*setup) for setup in setups),
        routes=routes(case),
        class_names=tuple(f"class-{c}" for c in range(len(cluster.usable))),
        balance=cluster.balance,
    )
    return run(made, demand, cluster.failures)


def ways_of(case: Case, table: RoutingTable) -> list[Way]:
    cluster, ways = case.cluster, []
    for i, c in enumerate(cluster.class_index):
        name = f"class-{c}"
        picked = table.pick_way(name)
        pool = int(picked.pool.removeprefix("pool-"))
        tried = [int(p.removeprefix("pool-")) for p in table.fallback[name]]
        alone = {p: row(cluster.tokens[p], i) for p in tried if p in cluster.usable[c]}
        if picked.cascade < 0:
            ways.append(Way(pool, row(cluster.tokens[pool], i), alone))
            continue
        own = [o for o, each in enumerate(case.cascades) if each.class_index == c]
        o = own[picked.cascade]
        cascade = case.cascades[o]
        second = {p: row(cascade.second_tokens, i) for p, _ in cascade.second}
        asks = row(cascade.first_tokens, i)
        ways.append(Way(pool, asks, alone, o, cascade.escalated[i], second))
    return ways


def row(tokens: Tokens, i: int) -> tuple[int, int, int]:
    return tokens.prompt[i], tokens.fresh[i], tokens.output[i]


@cache
def reference_run(seed: int) -> CascadedReference:
    case = case_of(seed)
    cluster = case.cluster
    n = 2 * len(cluster.arrived_ps)
    times = Times.none_yet(n)
    tokens = [Tokens([0] * n, [0] * n, [0] * n) for _ in cluster.engines]
    pools = [
        [
            ReferenceReplica(
                engine, asked, times, cluster.priority * 2, arrival_by(make_policy("vllm", 0))
            )
            for _ in range(n_replicas)
        ]
        for engine, asked, n_replicas in zip(
            cluster.engines, tokens, cluster.n_replicas, strict=True
        )
    ]
    table = RoutingTable(routes(case))
    policies = [make_policy(cluster.balance, 0) for _ in pools]

    def balance(pool: int, prompt: int, replicas, is_up) -> int:
        return policies[pool].pick(prompt, workers_of(replicas, is_up))

    def pick_second(o: int) -> int:
        c = case.cascades[o].class_index
        own = [k for k, each in enumerate(case.cascades) if each.class_index == c]
        return int(table.pick_second(f"class-{c}", own.index(o)).removeprefix("pool-"))

    names = [pool_name(p) for p in range(len(pools))]
    happenings = [
        Happening(c.at_ps, c.pool_index, c.replica_index, c.kind, c.ratio)
        for c in changes(cluster.failures, names, cluster.n_replicas)
    ]
    told = CascadedReference(
        pools, tokens, times, cluster.request_ps, balance, pick_second, ways_of(case, table)
    )
    told.run(cluster.arrived_ps, happenings)
    return told


def told_answer(told: CascadedReference, number: int) -> tuple[int, ...]:
    """Arrival, pool, replica, first token, done, preemptions, outcome and stage of an answer."""
    answer = told.answers[number]

    def seen(ps: int) -> int:
        return ps if ps < 0 else ps + told.request_ps[answer.pool]

    return (
        answer.at_ps,
        answer.pool,
        answer.replica,
        seen(told.times.first_ps[number]),
        seen(told.times.done_ps[number]),
        told.times.n_preempted[number],
        Outcome[answer.outcome.upper()],
        answer.stage,
    )


def told_request(told: CascadedReference, i: int) -> tuple[int, ...]:
    """What the user of request i sees, and the cascade that answered."""
    n = len(told.ways)
    first, last = told.answers[i], told.answers.get(n + i, told.answers[i])
    _, pool, replica, first_ps, done_ps, preempted, outcome, stage = told_answer(
        told, n + i if n + i in told.answers else i
    )
    if last is first and stage >= 0:
        first_ps = done_ps  # held back
    if last is not first:
        preempted += told.times.n_preempted[i]
    is_whole = first.stage >= 0 and last.stage >= 0
    cascade = told.ways[i].cascade if is_whole else -1
    return pool, replica, first_ps, done_ps, preempted, outcome, cascade


def rows(*columns: np.ndarray) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("block", BLOCKS)
def test_clusters_with_cascades(block):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        told, ran = reference_run(seed), engine_run(case_of(seed))
        r, n = ran.records, len(told.ways)
        columns = (r.pool_index, r.replica_index, r.first_ps, r.done_ps, r.n_preempted, r.outcome)
        assert rows(*columns, r.cascaded.cascade_index) == [
            told_request(told, i) for i in range(n)
        ], seed
        v = r.visits
        numbers = sorted(told.answers, key=lambda number: (told.answers[number].at_ps, number))
        columns = (
            *(v.arrived_ps, v.pool_index, v.replica_index, v.first_ps, v.done_ps),
            *(v.n_preempted, v.outcome, r.cascaded.visit_stage),
        )
        assert rows(*columns) == [told_answer(told, number) for number in numbers], seed
        u = ran.usage
        done = [(p, r, each) for p, pool in enumerate(told.pools) for r, each in enumerate(pool)]
        assert rows(
            *(u.pool_index, u.replica_index, u.busy_ps, u.n_steps),
            *(u.n_decoded_tokens, u.n_prefilled_tokens, u.barrier_idle_ps),
        ) == [
            (p, r, e.busy_ps, e.n_steps, e.n_decoded, e.n_prefilled_tokens, e.barrier_idle_ps)
            for p, r, e in done
        ], seed


@pytest.mark.parametrize("n_clusters", [N_FAST, pytest.param(N_CLUSTERS, marks=pytest.mark.slow)])
def test_the_random_clusters_meet_every_rule(n_clusters):
    """A rule that no case ever needs would be compared in vain."""
    met: Counter[str] = Counter()
    for seed in range(n_clusters):
        told = reference_run(seed)
        n = len(told.ways)
        met["groups"] += sum(len(pool[0].ranks) > 1 for pool in told.pools)
        for number, answer in told.answers.items():
            met.update(rules_of(told, n, number, answer))
        at = [(a.at_ps, a.pool) for number, a in told.answers.items() if number >= n]
        met["second answers at once"] += len(at) - len(set(at))
    wanted = LEAST if n_clusters == N_CLUSTERS else dict.fromkeys(LEAST, 1)
    assert not [rule for rule, least in wanted.items() if met[rule] < least], met


def rules_of(told: CascadedReference, n: int, number: int, answer: Answer) -> list[str]:
    if number >= n:
        met = ["second", f"second {answer.outcome}"]
        return [*met, "second by a fallback"] if answer.stage < 0 else met
    if told.ways[number].cascade is None:
        return ["alone"]
    met = ["first", f"first {answer.outcome}"]
    if answer.stage < 0 and answer.outcome == "ok":
        met.append("first by a fallback")
    if answer.n_died and answer.n_sent > 1 and answer.stage >= 0:
        met.append("first sent again")
    return met


LEAST = {  # of all clusters
    "alone": 2_000,
    "first": 6_000,
    "second": 2_000,
    "second ok": 2_000,
    "second failed": 50,
    "second refused": 20,
    "first failed": 100,
    "first refused": 50,
    "first by a fallback": 20,
    "second by a fallback": 20,
    "first sent again": 100,
    "second answers at once": 50,
    "groups": 50,
}
