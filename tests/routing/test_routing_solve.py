"""solve: properties that hold for every problem, and the cases at the edge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_cases import LOADS, limit, pool_table, random_problem, workload

from planner.routing.problem import Objective, Routing, RoutingProblem
from planner.routing.rounding import round_shares
from planner.routing.solve import solve
from planner.routing.truth import class_means, limit_met, loads

SOME = settings(derandomize=True, max_examples=25, deadline=None)
seeds = st.integers(0, 10_000)
objectives = st.sampled_from(["quality", "cost", "rate_factor"])
LIMITS = {
    "none": (),
    "all": (limit(None, 4000.0), limit(None, 12000.0, "p95")),
    "class": (limit("c0", 3000.0), limit("c1", 9000.0, "p90")),
    "both": (limit(None, 4000.0), limit("c0", 3000.0)),
}
scopes = st.sampled_from(sorted(LIMITS))


def problem_of(seed: int, scope: str, objective: Objective, demand: float = 0.5) -> RoutingProblem:
    return random_problem(seed, 4, 3, LIMITS[scope], objective, demand)


def composite(problem: RoutingProblem, routing: Routing) -> float:
    """Returns quality minus the penalty on unserved traffic."""
    return routing.quality - 1000.0 * float(problem.workload.weights @ routing.unserved)


def one_pool(work_s: float = 0.2, **changes: object) -> RoutingProblem:
    table = pool_table("p0", np.array([work_s]), np.array([1000.0]), [3000.0])
    problem = RoutingProblem(
        workload(np.array([1.0]), np.array([[0.5]])), (table,), np.array([1]), 0.1
    )
    return replace(problem, **changes)  # type: ignore[arg-type]


@SOME
@given(seeds, scopes, objectives)
def test_rows_sum_and_everything_holds_in_the_truth(
    seed: int, scope: str, objective: Objective
) -> None:
    problem = problem_of(seed, scope, objective)
    routing = solve(problem)
    w = problem.workload
    assert (routing.shares >= 0).all()
    assert routing.shares.sum(axis=1) + routing.unserved == pytest.approx(1.0, abs=1e-9)
    assert (routing.shares[~w.allowed] == 0).all()
    scaled = replace(w, rate_rps=w.rate_rps * routing.rate_factor)
    load = loads(scaled, problem.tables, problem.replicas, routing.shares)
    assert load == pytest.approx(routing.loads, abs=1e-5)
    assert (load <= 0.95 * 0.9 * (1 + 1e-6)).all()
    for scoped in w.limits:
        assert limit_met(w, problem.tables, load, routing.shares, scoped)
    assert routing.feasible == (routing.unserved.max() == 0.0)
    assert all(price.value > 0 and price.unit for price in routing.prices)
    quality = float((w.weights[:, None] * np.nan_to_num(w.quality) * routing.shares).sum())
    assert routing.quality == pytest.approx(quality)


@SOME
@given(seeds, scopes, objectives)
def test_rounded_shares_still_keep_the_limits(seed: int, scope: str, objective: Objective) -> None:
    problem = problem_of(seed, scope, objective, demand=0.4)
    routing = solve(problem)
    if not routing.feasible:
        return
    rounded = round_shares(routing.shares)
    w = problem.workload
    scaled = replace(w, rate_rps=w.rate_rps * routing.rate_factor)
    load = loads(scaled, problem.tables, problem.replicas, rounded)
    assert np.abs(load - routing.loads).max() < 1e-4
    for scoped in w.limits:
        wider = replace(
            scoped,
            limit=scoped.limit.model_copy(
                update={"at_most_ms": scoped.limit.at_most_ms * (1 + 1e-4)}
            ),
        )
        assert limit_met(w, problem.tables, load, rounded, wider)


@SOME
@given(seeds, st.sampled_from(["none", "all"]), objectives, st.integers(0, 2))
def test_one_more_replica_never_hurts(
    seed: int, scope: str, objective: Objective, pool: int
) -> None:
    problem = random_problem(seed, 4, 3, LIMITS[scope], objective, 0.8, by_class=True)
    more = replace(problem, replicas=problem.replicas + (np.arange(3) == pool))
    before, after = solve(problem, "exact"), solve(more, "exact")
    slack = 1e-6 if scope == "none" else 2e-3
    if objective == "quality":
        assert composite(more, after) >= composite(problem, before) - slack
    elif objective == "rate_factor":
        assert after.rate_factor >= before.rate_factor * (1 - slack)
    elif before.feasible:
        assert after.feasible
        assert after.hosted_usd_per_h <= before.hosted_usd_per_h * (1 + slack) + 1e-6


@SOME
@given(seeds, st.sampled_from(["all", "class", "both"]), st.floats(0.5, 0.95))
def test_a_tighter_limit_never_helps(seed: int, scope: str, ratio: float) -> None:
    problem = problem_of(seed, scope, "quality", demand=0.35)
    tighter = replace(problem, workload=problem.workload.with_limits_scaled(ratio))
    loose, tight = solve(problem), solve(tighter)
    if tight.feasible and loose.feasible:
        assert tight.quality <= loose.quality + 0.01  # what the local search may leave
    proven = solve(problem, "exact") if scope == "all" else None
    if tight.feasible and proven is not None and proven.bound is not None:
        assert tight.quality <= proven.bound + 1e-6


@SOME
@given(seeds)
def test_nothing_is_left_unserved_that_could_be_served(seed: int) -> None:
    problem = random_problem(seed, 4, 3, demand=0.9)
    factor = solve(replace(problem, objective="rate_factor")).rate_factor
    routing = solve(problem)
    assert routing.feasible == (factor >= 1.0 - 1e-9)
    assert (routing.unserved.max() > 0) == (factor < 1.0 - 1e-9)


def test_unserved_only_what_does_not_fit() -> None:
    routing = solve(one_pool(work_s=2.0))
    assert routing.unserved == pytest.approx([1 - 0.855 / 2])
    assert routing.quality == pytest.approx(0.5 * 0.855 / 2)
    assert not routing.feasible
    assert routing.status == "infeasible"


def test_rate_factor_by_hand() -> None:
    routing = solve(one_pool(objective="rate_factor"))
    assert routing.rate_factor == pytest.approx(0.855 / 0.2)
    assert routing.loads == pytest.approx([0.855])
    assert routing.shares == pytest.approx(np.ones((1, 1)))
    assert routing.bound == pytest.approx(routing.rate_factor)


@pytest.mark.parametrize("objective", ["quality", "cost", "rate_factor"])
@pytest.mark.parametrize("method", ["fast", "exact"])
@pytest.mark.parametrize("scope", sorted(LIMITS))
def test_no_replicas_at_all(objective: Objective, method: str, scope: str) -> None:
    problem = replace(problem_of(1, scope, objective), replicas=np.zeros(3, dtype=np.int64))
    routing = solve(problem, method)  # type: ignore[arg-type]
    assert routing.shares.sum() == 0
    assert routing.unserved.tolist() == [1.0] * 4
    assert not routing.feasible
    assert routing.quality == 0.0
    assert routing.prices == ()


@pytest.mark.parametrize("method", ["fast", "exact"])
@pytest.mark.parametrize("scope", sorted(LIMITS))
def test_a_class_without_any_pool_is_unserved_alone(method: str, scope: str) -> None:
    problem = random_problem(2, 4, 3, LIMITS[scope], demand=0.2)
    quality = problem.workload.quality.copy()
    quality[2] = np.nan
    w = replace(problem.workload, quality=quality, allowed=np.isfinite(quality))
    routing = solve(replace(problem, workload=w), method)  # type: ignore[arg-type]
    assert routing.unserved[2] == 1.0
    assert routing.unserved.sum() == pytest.approx(1.0)
    assert solve(replace(problem, workload=w, objective="rate_factor")).rate_factor == 0.0


def test_a_pool_that_may_carry_no_load_carries_none() -> None:
    tiny = pool_table("p0", np.array([0.2]), np.array([1000.0]), loads=np.array([0.0, 1e-9]))
    routing = solve(one_pool(tables=(tiny,)))
    assert routing.unserved[0] == pytest.approx(1.0, abs=1e-6)
    assert not routing.feasible


def test_capacity_only_pools_carry_no_limited_class() -> None:
    work = np.array([0.1, 0.1])
    tables = (
        pool_table("p0", work, np.array([1000.0, 1000.0]), [3000.0]),
        pool_table("p1", work, np.array([1.0, 1.0]), [3000.0], has_latency=False),
    )
    quality = np.array([[0.5, 0.9], [0.5, 0.9]])
    rates, replicas = np.array([1.0, 1.0]), np.array([1, 1])
    for limits, on_p1 in (
        ((), [1.0, 1.0]),
        ((limit("c0", 2000.0),), [0.0, 1.0]),
        ((limit(None, 2000.0),), [0.0, 0.0]),
    ):
        problem = RoutingProblem(workload(rates, quality, limits), tables, replicas, 0.1)
        assert solve(problem).shares[:, 1] == pytest.approx(on_p1, abs=1e-7)


def test_lower_priority_is_shed_first_and_keeps_a_full_class() -> None:
    work = np.array([0.5, 0.1])
    table = pool_table("p0", work, np.array([1000.0, 1000.0]))
    w = workload(np.array([1.5, 1.5]), np.array([[0.5], [0.5]]), priority=np.array([2, 1]))
    routing = solve(RoutingProblem(w, (table,), np.array([1]), 0.1))
    assert routing.unserved[0] == 0.0
    assert routing.unserved[1] == pytest.approx(1 - (0.855 - 0.75) / 0.15)


def test_cost_takes_own_gpus_first_and_the_best_quality_among_equal_costs() -> None:
    work = np.array([0.4])
    tables = tuple(pool_table(f"p{p}", work, np.array([1000.0])) for p in range(3))
    usd = np.array([[0.0, 0.0, 0.01]])
    w = workload(np.array([2.0]), np.array([[0.4, 0.6, 0.9]]), request_usd=usd)
    base = RoutingProblem(w, tables, np.array([1, 1, 1]), 0.1, "cost", unserved_usd=0.1)
    routing = solve(base)
    assert routing.hosted_usd_per_h == pytest.approx(0.0, abs=1e-6)
    assert routing.loads == pytest.approx([0.0, 0.8, 0.0], abs=1e-6)
    floored = solve(replace(base, workload=replace(w, quality_at_least=0.7)))
    assert floored.quality == pytest.approx(0.7)
    assert floored.hosted_usd_per_h == pytest.approx(2.0 * 3600 * 0.01 / 3, rel=1e-6)


def test_mix_shift_is_repaired_in_the_truth() -> None:
    repaired = 0
    for seed in range(20):
        problem = random_problem(seed, 4, 3, (limit(None, 2500.0),), demand=0.6)
        routing = solve(problem)
        load = loads(problem.workload, problem.tables, problem.replicas, routing.shares)
        mean = class_means(problem.tables, load, routing.shares, "e2e")
        if routing.feasible:
            assert problem.workload.weights @ mean <= 2500.0 * (1 + 1e-5)
            repaired += 1
    assert repaired >= 5


def test_falling_latency_is_taken_at_its_running_maximum() -> None:
    problem = one_pool()
    table = problem.tables[0]
    mean = 1000.0 * np.where(LOADS < 0.15, 3.0, 1.0 / (1.0 - LOADS))[None, :]
    bent = replace(table, mean_ms={"e2e": mean})
    w = replace(problem.workload, limits=(limit("c0", 2500.0),))
    routing = solve(replace(problem, tables=(bent,), workload=w))
    assert routing.unserved[0] == pytest.approx(1.0)  # 3000 ms when idle counts at every load
    w = replace(problem.workload, limits=(limit("c0", 3000.0),))
    assert solve(replace(problem, tables=(bent,), workload=w)).feasible


@pytest.mark.parametrize("scope", ["c0", None])
def test_falling_latency_proves_nothing_that_is_not_so(scope: str | None) -> None:
    problem = one_pool()
    table = problem.tables[0]
    mean = 1000.0 * np.where(LOADS < 0.15, 3.0, 1.0 / (1.0 - LOADS))[None, :]
    bent = replace(table, mean_ms={"e2e": mean})
    w = replace(problem.workload, limits=(limit(scope, 2500.0),))
    routing = solve(replace(problem, tables=(bent,), workload=w), "exact")
    load = np.array([0.2])
    assert limit_met(w, (bent,), load, np.ones((1, 1)), w.limits[0])  # the truth serves it all
    assert routing.status == "unserved"  # the running maximum does not, and is no proof


def test_same_problem_same_bytes() -> None:
    for scope in sorted(LIMITS):
        one, two = (solve(problem_of(5, scope, "quality")) for _ in range(2))
        np.testing.assert_array_equal(one.shares, two.shares)
        assert one.prices == two.prices


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"headroom_ratio": 1.0}, "headroom_ratio"),
        ({"replicas": np.array([1, 2])}, "one per pool"),
        ({"objective": "cost"}, "unserved"),
        ({"tables": (pool_table("other", np.ones(1), np.ones(1)),)}, "order"),
    ],
)
def test_problems_that_fit_nowhere_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        one_pool(**changes)
