"""Random clusters whose requests choose their instance, against the story told moment by moment."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from random_clusters import ClusterCase, cluster_case
from reference_choosing import Pace, ReferenceChoosing
from reference_cluster import Happening
from reference_engine import ReferenceReplica
from reference_policies import arrival_by
from test_simulate_cluster_against_reference import class_names, pool_names, routes, token_arrays

from planner.scheduling.balance import make_policy
from planner.scheduling.delay import predict_delay
from planner.scheduling.ledger import Ledger, Seen
from planner.simulate.choosing import Rhythm
from planner.simulate.cluster import Cluster, PoolSetup, Run, run
from planner.simulate.curves import curve_of
from planner.simulate.demand import Demand
from planner.simulate.failures import changes
from planner.simulate.records import Outcome
from planner.simulate.replicas import mean_answers
from planner.simulate.settings import Times
from planner.simulate.units import PS_PER_S

N_FAST = 60
N_SLOW = 600


class Listener:
    """Goes where it has heard least to be going on, and writes down all that it hears."""

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []
        self.in_flight: Counter[int] = Counter()
        self.at: dict[int, int] = {}
        self.said: dict[int, int] = {}

    def order(self, batch):
        return sorted(batch, key=lambda i: (-(i * 7 % 5), i))

    def choose(self, i, instances, now_s):
        self.log.append(("choose", i, tuple(instances), now_s))
        return min(
            instances, key=lambda k: (self.in_flight[k] + self.said.get(k, 0), (i + k) % 3, k)
        )

    def sent(self, i, instance, now_s):
        self.log.append(("sent", i, instance, now_s))
        self.in_flight[instance] += 1
        self.at[i] = instance

    def first_token(self, i, now_s):
        self.log.append(("first", i, now_s))

    def ended(self, i, now_s, output_tokens):
        self.log.append(("ended", i, now_s, output_tokens))
        self.in_flight[self.at.pop(i)] -= 1

    def seen(self, instance, report: Seen, now_s):
        self.log.append(("seen", instance, report, now_s))
        self.said[instance] = report.n_waiting


def pace_of(seed: int, unit_ps: int) -> Pace:
    random = Random(f"pace {seed}")
    every = random.choice([None, None, 0, unit_ps * 3 + 1, unit_ps * 40])
    return Pace(
        window_ps=random.choice([0, 0, unit_ps, 10 * unit_ps]),
        n_most=random.choice([1, 2, 5]),
        decision_ps=random.choice([0, 0, 1, unit_ps]),
        look_every_ps=every,
        look_age_ps=random.choice([0, 1, 2 * unit_ps]) if every else 0,
    )


def rhythm_of(pace: Pace) -> Rhythm:
    every_ps = pace.look_every_ps
    return Rhythm(
        window_s=pace.window_ps / PS_PER_S,
        n_most=pace.n_most,
        decision_s=pace.decision_ps / PS_PER_S,
        look_every_s=None if every_ps is None else every_ps / PS_PER_S,
        look_age_s=pace.look_age_ps / PS_PER_S,
    )


def unit_of(case: ClusterCase) -> int:
    return max(1, *(max(engine.steps.decode_ps) for engine in case.engines))


def demand_of(case: ClusterCase) -> Demand:
    return Demand(
        arrived_ps=np.array(case.arrived_ps),
        class_index=np.array(case.class_index),
        priority=np.array(case.priority),
        tokens=tuple(token_arrays(case, pool) for pool in range(len(case.engines))),
    )


def cluster_of(case: ClusterCase, balance: str) -> Cluster:
    setups = zip(pool_names(case), case.engines, case.n_replicas, case.request_ps, strict=True)
    return Cluster(
        pools=tuple(PoolSetup(*setup) for setup in setups),
        routes=routes(case),
        class_names=tuple(class_names(case)),
        balance=balance,
    )


def replicas_of(case: ClusterCase, times: Times) -> list[list[ReferenceReplica]]:
    return [
        [
            ReferenceReplica(
                engine, tokens, times, case.priority, arrival_by(make_policy("vllm", 0))
            )
            for _ in range(n)
        ]
        for engine, tokens, n in zip(case.engines, case.tokens, case.n_replicas, strict=True)
    ]


def happenings_of(case: ClusterCase) -> list[Happening]:
    return [
        Happening(c.at_ps, c.pool_index, c.replica_index, c.kind, c.ratio)
        for c in changes(case.failures, pool_names(case), case.n_replicas)
    ]


def told(seed: int) -> tuple[ReferenceChoosing, Listener]:
    case = cluster_case(seed)
    times, listener = Times.none_yet(len(case.arrived_ps)), Listener()
    reference = ReferenceChoosing(
        pools=replicas_of(case, times),
        request_ps=case.request_ps,
        times=times,
        usable=lambda i: case.usable[case.class_index[i]],
        chooser=listener,
        pace=pace_of(seed, unit_of(case)),
    )
    reference.run(case.arrived_ps, happenings_of(case))
    return reference, listener


def ran(seed: int) -> tuple[Run, Listener]:
    case, listener = cluster_case(seed), Listener()
    rhythm = rhythm_of(pace_of(seed, unit_of(case)))
    cluster = cluster_of(case, "round_robin")
    return run(cluster, demand_of(case), case.failures, chooser=listener, rhythm=rhythm), listener


def compare(seed: int) -> Counter[str]:
    (reference, wanted), (found, heard) = told(seed), ran(seed)
    assert heard.log == wanted.log, seed
    records = found.records
    for i, outcome in reference.outcome.items():
        late_ps = 0
        if i in reference.place_of:
            p, r = reference.place_of[i]
            assert (records.pool_index[i], records.replica_index[i]) == (p, r), (seed, i)
            late_ps = reference.request_ps[p]
        done_ps = reference.times.done_ps[i]
        assert records.done_ps[i] == (done_ps + late_ps if done_ps >= 0 else -1), (seed, i)
        assert Outcome(records.outcome[i]).name.lower() == outcome, (seed, i)
    met = Counter(str(entry[0]) for entry in wanted.log)
    met.update(Outcome(outcome).name for outcome in records.outcome)
    met["again"] = met["sent"] - len({entry[1] for entry in wanted.log if entry[0] == "sent"})
    met["lost"] = sum(entry[0] == "ended" and entry[3] is None for entry in wanted.log)
    return met


@pytest.mark.parametrize("n", [N_FAST, pytest.param(N_SLOW, marks=pytest.mark.slow)])
def test_clusters_that_choose(n):
    met: Counter[str] = Counter()
    for seed in range(n):
        met += compare(seed)
    rules = ("choose", "first", "ended", "seen", "OK", "FAILED", "REFUSED", "again", "lost")
    assert not [rule for rule in rules if met[rule] < n / 10], met


# ---- The replica of a pool by a ledger -----------------------------------------------------------


class ByHand:
    """The replica of least delay in each pool, worked out from a ledger that is told at once."""

    def __init__(self, case: ClusterCase, demand: Demand) -> None:
        self.case, self.demand = case, demand
        self.curves = [
            curve_of(engine, t0) for engine, t0 in zip(case.engines, case.request_ps, strict=True)
        ]
        self.first = np.cumsum([0, *case.n_replicas])
        pool_of = np.repeat(range(len(case.engines)), case.n_replicas)
        self.ledger = Ledger([self.curves[p] for p in pool_of])
        self.start = [0] * len(case.engines)
        self.tickets: dict[int, int] = {}
        self.pool_of = pool_of.tolist()

    def asked(self, i: int, p: int) -> tuple[int, int, float]:
        tokens = self.case.tokens[p]
        expected = mean_answers(self.demand, p)[self.case.class_index[i]]
        return tokens.prompt[i], tokens.fresh[i], expected

    def choose(self, i, instances, now_s):
        p = self.pool_of[instances[0]]
        n, first = self.case.n_replicas[p], self.first[p]
        prompt, fresh, expected = self.asked(i, p)
        costs = {}
        for turn in range(n):
            k = first + (self.start[p] + turn) % n
            if k in instances:
                load = self.ledger.load(int(k), now_s)
                delay = predict_delay(self.curves[p], load, fresh, prompt, expected)
                costs[int(k)] = delay.e2e_ms + delay.others_ms
        best = min(costs, key=costs.__getitem__)
        self.start[p] = (best - first + 1) % n
        return best

    def order(self, batch):
        return batch

    def sent(self, i, instance, now_s):
        prompt, fresh, expected = self.asked(i, self.pool_of[instance])
        self.tickets[i] = self.ledger.sent(instance, prompt, expected, now_s, fresh)

    def first_token(self, i, now_s):
        self.ledger.first_token(self.tickets[i], now_s)

    def ended(self, i, now_s, output_tokens):
        self.ledger.ended(self.tickets.pop(i), now_s, output_tokens)

    def seen(self, instance, report, now_s):
        raise AssertionError("nobody looked")


@pytest.mark.parametrize("seed", range(40))
def test_least_delay_between_replicas(seed):
    """Every request may use one pool alone, so the routes leave nothing to choose but a replica."""
    case = cluster_case(seed)
    case.usable[:] = [pools[:1] for pools in case.usable]
    case.shares[:] = [[1.0] for _ in case.shares]
    case.fallback[:] = [[] for _ in case.fallback]
    case.failures[:] = [f for f in case.failures if f.slow_ratio is not None]
    demand = demand_of(case)
    found = run(cluster_of(case, "least_delay"), demand, case.failures).records
    times = Times.none_yet(len(case.arrived_ps))
    reference = ReferenceChoosing(
        pools=replicas_of(case, times),
        request_ps=case.request_ps,
        times=times,
        usable=lambda i: case.usable[case.class_index[i]],
        chooser=ByHand(case, demand),
        pace=Pace(0, 1, 0, None, 0),
    )
    reference.run(case.arrived_ps, happenings_of(case))
    places = [reference.place_of[i] for i in range(len(case.arrived_ps))]
    assert list(zip(found.pool_index, found.replica_index, strict=True)) == places
