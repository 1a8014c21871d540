"""Stories of cascades in the routing program, and what must hold for any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cascade_cases import limits_of, random_cascades, toy
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_cases import limit

from planner.routing import truth
from planner.routing.case import prepare
from planner.routing.problem import Objective, RoutingProblem
from planner.routing.program import at_caps
from planner.routing.solve import _normalised, solve


def alone(problem: RoutingProblem, small_quality: float = 0.5) -> RoutingProblem:
    """Returns the toy without its cascade."""
    w = problem.workload
    direct = replace(w.without(w.cascades), quality=np.array([[small_quality, 0.8]]))
    tables = tuple(table.taking(w.rows_without(w.cascades)) for table in problem.tables)
    return replace(problem, workload=direct, tables=tables)


@pytest.mark.parametrize("statistic", [None, "mean", "p95"])
def test_without_escalation_it_is_the_first_model_with_another_quality(statistic) -> None:
    limits = [limit("c0", 4000.0, statistic)] if statistic else []
    for quality in (0.4, 0.6, 0.9):
        problem = toy(limits, 0.0, quality, rate_rps=0.8)
        ours, theirs = solve(problem), solve(alone(problem, max(0.5, quality)))
        assert ours.feasible and theirs.feasible
        assert ours.quality == pytest.approx(theirs.quality, abs=1e-6)
        np.testing.assert_allclose(ours.loads, theirs.loads, atol=1e-4)


def test_who_escalates_everything_loads_both_models() -> None:
    problem = toy((), 1.0, 0.9, rate_rps=0.4)
    routing = solve(problem)
    np.testing.assert_allclose(routing.shares, [[0, 0], [1, 0], [0, 1]], atol=1e-9)
    np.testing.assert_allclose(routing.loads, [0.4 * 0.4, 0.4 * 1.8])
    assert routing.quality == pytest.approx(0.9)


def test_as_much_traffic_as_its_stages_carry() -> None:
    """A floor that only the cascade reaches: the rate factor is that of its fuller stage."""
    problem = toy((), 0.5, 0.85, rate_rps=1.0)
    floored = replace(problem.workload, quality_at_least=0.85)
    routing = solve(replace(problem, workload=floored, objective="rate_factor"))
    assert routing.rate_factor == pytest.approx(min(0.95 / 0.4, 0.95 / (0.5 * 1.8)), rel=1e-6)
    assert routing.feasible


@pytest.mark.parametrize("quality", [0.3, 0.5, 0.6])
def test_a_useless_cascade_is_never_used(quality: float) -> None:
    """Escalating 30 % costs as much of the large pool as sending 36 % there: worth 0.608."""
    problem = toy((), 0.3, quality, rate_rps=0.9)
    routing, without = solve(problem), solve(alone(problem))
    assert not routing.shares[1:].any()
    assert routing.quality == pytest.approx(without.quality, abs=1e-9)


def test_a_cascade_that_is_worth_it_is_used() -> None:
    problem = toy((), 0.3, 0.62, rate_rps=0.9)
    assert solve(problem).quality > solve(alone(problem)).quality + 1e-3


@pytest.mark.parametrize("missing", [0, 1])
def test_a_stage_without_replicas_takes_the_whole_cascade_away(missing: int) -> None:
    replicas = (0, 1) if missing == 0 else (1, 0)
    routing = solve(toy((), 0.3, 0.99, rate_rps=0.3, replicas=replicas))
    assert not routing.shares[1:].any()
    assert routing.feasible


def test_a_pool_without_latency_carries_no_stage_of_what_is_limited() -> None:
    problem = toy([limit("c0", 9000.0)], 0.3, 0.99, rate_rps=0.3)
    tables = problem.tables[0], replace(problem.tables[1], has_latency=False)
    routing = solve(replace(problem, tables=tables))
    assert routing.feasible
    assert not routing.shares[1:].any()


@pytest.mark.parametrize("kind", ["class p95", "all mean"])
def test_twice_the_traffic_on_twice_the_replicas_changes_nothing(kind: str) -> None:
    problem = random_cascades(3, limits_of(kind, 1.5), demand=0.5)
    w = problem.workload
    doubled = replace(w, rate_rps=2.0 * w.rate_rps, mean_rate_rps=2.0 * w.mean_rate_rps)
    twice = solve(replace(problem, workload=doubled, replicas=2 * problem.replicas))
    once = solve(problem)
    assert once.shares[w.n_classes :].any()
    assert twice.quality == pytest.approx(once.quality, rel=1e-6)
    np.testing.assert_allclose(twice.loads, once.loads, atol=1e-5)


@pytest.mark.parametrize(("statistic", "at_ms"), [("mean", 2500.0), ("p95", 9000.0)])
def test_of_one_class_a_limit_on_all_traffic_is_one_on_the_class(statistic, at_ms) -> None:
    of_class = solve(toy([limit("c0", at_ms, statistic)], 0.3, 0.75, rate_rps=0.7))
    of_all = solve(toy([limit(None, at_ms, statistic)], 0.3, 0.75, rate_rps=0.7))
    assert of_class.shares[1].any()
    assert of_all.quality == pytest.approx(of_class.quality, abs=1e-6)


def test_the_price_of_a_limit_is_what_a_millisecond_more_is_worth() -> None:
    def of(at_ms: float):
        return solve(toy([limit("c0", at_ms)], 0.3, 0.75, rate_rps=0.7), "exact")

    at_ms, step_ms = 2000.0, 10.0
    slope = (of(at_ms + step_ms).quality - of(at_ms - step_ms).quality) / (2 * step_ms)
    prices = {price.what: price.value for price in of(at_ms).prices}
    assert of(at_ms).shares[1].any()
    assert prices["limit:mean e2e of c0"] == pytest.approx(slope, rel=0.05)


@pytest.mark.parametrize("kind", ["all mean", "all p95"])
def test_a_limit_on_a_class_that_never_binds_changes_nothing(kind: str) -> None:
    for seed in range(3):
        problem = random_cascades(seed, limits_of(kind, 0.7), demand=0.6)
        loose = (*problem.workload.limits, limit("c0", 1e9))
        both = replace(problem, workload=replace(problem.workload, limits=loose))
        assert solve(problem).quality == pytest.approx(solve(both).quality, abs=2e-4)


def test_what_the_solver_leaves_between_two_stages_is_gone_in_the_answer() -> None:
    case = prepare(toy((), 0.3, 0.9, rate_rps=0.5))
    point = at_caps(case)
    assert case.column_row.tolist() == [0, 0, 1, 2]
    uneven = replace(point, shares=np.array([0.1, 0.2, 0.7, 0.7 + 1e-7]))
    np.testing.assert_allclose(_normalised(case, uneven)[0][1:], [[0.7, 0], [0, 0.7]], atol=1e-15)
    for crumb in ([0.3, 0.7, 0.0, 1e-8], [0.3, 0.7, 1e-8, 0.0]):
        shares = _normalised(case, replace(point, shares=np.array(crumb)))[0]
        np.testing.assert_allclose(shares, [[0.3, 0.7], [0, 0], [0, 0]], atol=1e-15)


OBJECTIVES: tuple[Objective, ...] = ("quality", "cost", "rate_factor")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["class mean", "class p95", "all mean", "all p95", "both"]),
    ratio=st.floats(0.5, 3.0),
    demand=st.floats(0.3, 1.1),
    objective=st.sampled_from(OBJECTIVES),
)
def test_what_is_feasible_keeps_every_limit_in_the_truth(
    seed: int, kind: str, ratio: float, demand: float, objective: Objective
) -> None:
    problem = random_cascades(seed, limits_of(kind, ratio), objective, demand)
    w, routing = problem.workload, solve(problem)
    by_row = routing.shares.sum(axis=1)
    for cascade in w.cascades:
        assert by_row[cascade.first_row] == pytest.approx(by_row[cascade.second_row], abs=1e-12)
    served = truth.served_shares(routing.shares, w.cascades)
    np.testing.assert_allclose(served, 1.0 - routing.unserved, atol=1e-9)
    assert not routing.shares[~w.allowed].any()
    if not routing.feasible:
        return
    at = replace(w, rate_rps=w.rate_rps * routing.rate_factor)
    loads = truth.loads(at, problem.tables, problem.replicas, routing.shares)
    np.testing.assert_allclose(loads, routing.loads, atol=1e-6)
    room = np.array([table.max_load for table in problem.tables]) * (1.0 - problem.headroom_ratio)
    assert (loads <= room * (1.0 + 1e-6)).all()
    for scoped in w.limits:
        assert truth.limit_met(at, problem.tables, loads, routing.shares, scoped)
        value = truth.limit_value(at, problem.tables, loads, routing.shares, scoped)
        assert value <= scoped.limit.at_most_ms * (1.0 + 1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_the_exact_method_is_as_good_and_within_its_bound(seed: int) -> None:
    problem = random_cascades(seed, limits_of("class p95", 1.2), demand=0.6)
    fast, exact = solve(problem), solve(problem, "exact")
    assert exact.quality >= fast.quality - 1e-6 or exact.feasible > fast.feasible
    assert exact.bound is None or exact.bound >= exact.quality - 1e-9
