"""Replicas that come and go by plan, and routes that become others, while a cluster serves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.arrivals import poisson
from planner.simulate.cluster import Cluster, PoolSetup, run
from planner.simulate.demand import Demand
from planner.simulate.failures import Change, Failure
from planner.simulate.phases import Phase, joined, most_replicas, phase_changes
from planner.simulate.records import Outcome, Records
from planner.simulate.settings import EngineSettings, StepTimes
from planner.simulate.units import PS_PER_S

ENGINE = EngineSettings(
    StepTimes.linear(8, 10.0, sequence_ms=0.5, prompt_token_ms=0.02),
    8,
    max_num_batched_tokens=2048,
    kv_blocks=10_000,
)
POOLS = ("a", "b")


def cluster(n_a: int, n_b: int, share_a: float = 1.0, **more: str) -> Cluster:
    setups = [PoolSetup(name, ENGINE, n) for name, n in zip(POOLS, (n_a, n_b), strict=True)]
    shares = {"chat": {"a": share_a, "b": 1.0 - share_a}}
    return Cluster.of(setups, shares, fallback={"chat": POOLS}, **more)


def demand(rate_rps: float = 8.0, duration_s: float = 60.0, seed: int = 0) -> Demand:
    arrived_s = poisson(rate_rps, seed=seed, duration_s=duration_s)
    random = np.random.default_rng(seed)
    prompt = random.integers(1, 400, arrived_s.size)
    answer = random.integers(1, 150, arrived_s.size)
    return Demand.of(arrived_s, prompt, answer, n_pools=2)


def served_by(records: Records, pool: int, replica: int) -> np.ndarray:
    return (records.pool_index == pool) & (records.replica_index == replica)


def test_one_phase_of_everything_is_a_run_without_phases() -> None:
    here, comes = cluster(2, 1, 0.7), demand()
    plain = run(here, comes).records
    assert run(here, comes, phases=[Phase(0.0, (2, 1), here.routes)]).records.same_as(plain)
    assert set(plain.pool_index.tolist()) == {0, 1}


def test_traffic_goes_by_the_routes_of_the_time_it_arrives_in() -> None:
    old, new, comes = cluster(2, 2, 1.0), cluster(2, 2, 0.25), demand()
    phases = [Phase(0.0, (2, 2), old.routes), Phase(20.0, (2, 2), new.routes)]
    records = run(old, comes, phases=phases).records
    after = records.arrived_ps >= 20 * PS_PER_S
    assert (records.pool_index[~after] == 0).all()
    n = int(after.sum())
    assert n > 200 and abs(int((records.pool_index[after] == 0).sum()) - n / 4) < 1
    assert (records.outcome == Outcome.OK).all()


@pytest.mark.parametrize("balance", ["round_robin", "fewest_requests", "least_delay"])
def test_a_draining_replica_answers_what_it_has_and_takes_nothing(balance: str) -> None:
    here, comes = cluster(2, 1, balance=balance), demand()
    phases = [Phase(0.0, (2, 1), here.routes), Phase(30.0, (1, 1), here.routes)]
    records = run(here, comes, phases=phases).records
    last = served_by(records, 0, 1)
    assert (records.outcome == Outcome.OK).all()  # stopped by plan: nobody is lost
    assert records.arrived_ps[last].max() < 30 * PS_PER_S < records.done_ps[last].max()
    assert served_by(records, 0, 0)[records.arrived_ps >= 30 * PS_PER_S].all()


def test_one_that_dies_while_it_drains_loses_what_it_has() -> None:
    here, comes = cluster(2, 1), demand()
    phases = [Phase(0.0, (2, 1), here.routes), Phase(30.0, (1, 1), here.routes)]
    records = run(here, comes, [Failure("a", 2, 30.1)], phases=phases).records
    failed = records.outcome == Outcome.FAILED
    assert failed.any()
    assert served_by(records, 0, 1)[failed].all()
    assert (records.arrived_ps[failed] < 30 * PS_PER_S).all()


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 50), st.integers(0, 9))
def test_one_that_starts_late_is_one_that_was_dead_until_then(
    n: int, ready_s: int, seed: int
) -> None:
    here, comes = cluster(n + 1, 1), demand(seed=seed)
    phases = [Phase(0.0, (n, 1), here.routes), Phase(float(ready_s), (n + 1, 1), here.routes)]
    late = run(here, comes, phases=phases).records
    dead = run(here, comes, [Failure("a", n + 1, 0.0, float(ready_s))]).records
    assert late.same_as(dead)


def test_a_pool_that_is_not_there_yet_falls_back() -> None:
    here, comes = cluster(1, 1, 0.0), demand()
    phases = [Phase(0.0, (1, 0), here.routes), Phase(30.0, (1, 1), here.routes)]
    records = run(here, comes, phases=phases).records
    after = records.arrived_ps >= 30 * PS_PER_S
    assert (records.pool_index[~after] == 0).all() and (records.pool_index[after] == 1).all()


def test_fallback_is_that_of_the_phase() -> None:
    here, comes = cluster(1, 1, 0.0), demand()
    alone = here.routes.model_copy(update={"fallback": {}})
    phases = [Phase(0.0, (1, 0), here.routes), Phase(30.0, (1, 0), alone)]
    records = run(here, comes, phases=phases).records
    failed = records.outcome == Outcome.FAILED
    assert (failed == (records.arrived_ps >= 30 * PS_PER_S)).all() and failed.any()


def test_the_replicas_that_come_and_go() -> None:
    routes = cluster(3, 2).routes
    phases = [Phase(0.0, (2, 0), routes), Phase(5.0, (3, 2), routes), Phase(9.0, (1, 2), routes)]
    assert most_replicas(phases) == (3, 2)
    found = [(c.at_ps // PS_PER_S, POOLS[c.pool_index], c.replica_index, c.kind) for c in
             phase_changes(phases, (3, 2))]  # fmt: skip
    assert found == [
        (0, "a", 2, "drain"), (0, "b", 0, "drain"), (0, "b", 1, "drain"),
        (5, "a", 2, "return"), (5, "b", 0, "return"), (5, "b", 1, "return"),
        (9, "a", 1, "drain"), (9, "a", 2, "drain"),
    ]  # fmt: skip
    assert phase_changes(phases[:1], (2, 0)) == []
    assert Change(0, 0, 2, "drain") in phase_changes(phases, (3, 2))


@pytest.mark.parametrize(
    "phases", [[(1.0, (1, 1))], [(0.0, (1, 1)), (0.0, (1, 1))], [(0.0, (9, 1))]]
)
def test_what_is_no_course_of_a_cluster_is_refused(
    phases: list[tuple[float, tuple[int, int]]],
) -> None:
    here = cluster(2, 1)
    with pytest.raises(ValueError, match="phase"):
        run(here, demand(), phases=[Phase(at, n, here.routes) for at, n in phases])


# ---- The traffic of two plans --------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 5), st.integers(1, 59))
def test_joined_traffic_is_the_first_until_a_moment_and_then_the_second(
    seed: int, at_s: int
) -> None:
    first, second = demand(3.0, seed=seed), demand(9.0, seed=seed + 100)
    both = joined(first, second, at_s * PS_PER_S, [1], [0])
    kept = int((first.arrived_ps < at_s * PS_PER_S).sum())
    assert (both.arrived_ps[:kept] == first.arrived_ps[:kept]).all()
    assert (both.arrived_ps[kept:] == second.arrived_ps + at_s * PS_PER_S).all()
    assert (np.diff(both.arrived_ps) >= 0).all()
    assert both.class_index.tolist() == [1] * kept + [0] * second.arrived_ps.size
    for p, (one, other) in enumerate(zip(first.tokens, second.tokens, strict=True)):
        tokens = both.tokens[p]
        assert tokens is not None and one is not None and other is not None
        for name in ("prompt", "fresh", "output"):
            expected = [*getattr(one, name)[:kept], *getattr(other, name)]
            assert getattr(tokens, name).tolist() == expected


def test_a_pool_that_only_one_traffic_may_use_has_no_tokens_of_the_other() -> None:
    first, second = demand(3.0), demand(9.0, seed=1)
    alone = replace(first, tokens=(first.tokens[0], None))
    both = joined(alone, replace(second, tokens=(None, None)), 30 * PS_PER_S, [0], [0])
    assert both.tokens[1] is None
    tokens = both.tokens[0]
    assert tokens is not None
    after = both.arrived_ps >= 30 * PS_PER_S
    assert (tokens.prompt[after] == 0).all() and (tokens.prompt[~after] > 0).all()
