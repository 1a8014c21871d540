"""Stories about seeds and bounds: what must follow when the question changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from exact_cases import (
    HEADROOM_RATIO,
    Joined,
    cost_bound,
    limit,
    make_box,
    make_workload,
    pool_table,
    random_joined,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.exact.bound import bound
from planner.exact.joint import Objective, build_joint
from planner.exact.near import repaired
from planner.exact.readings import read_tiers
from planner.exact.seeds import seeds
from planner.routing.linear import maximise, maximise_integer
from planner.space import Offer

SOME = settings(derandomize=True, max_examples=8, deadline=None)
cases = st.integers(0, 10_000)
objectives = st.sampled_from(["cost", "quality", "rate_factor"])


def least(joined: Joined, n_rounds: int = 1) -> float:
    """Returns the bound on cost; inf where it is proved that nothing is feasible."""
    found = bound(
        joined.workload, joined.tables, joined.space, HEADROOM_RATIO, "cost", n_rounds=n_rounds
    )
    assert found.infeasible or found.best_possible is not None
    return np.inf if found.best_possible is None else found.best_possible


def seeds_of(joined: Joined, objective: Objective = "cost", n_front: int = 2) -> list[list[int]]:
    found = seeds(joined.workload, joined.tables, joined.space, HEADROOM_RATIO, objective, n_front)
    return [n.tolist() for n in found]


def priced(joined: Joined, factor: float) -> Joined:
    offers = {
        gpu: tuple(Offer(o.count, o.usd_per_h * factor) for o in listed)
        for gpu, listed in joined.space.offers.items()
    }
    return replace(joined, space=replace(joined.space, offers=offers))


def stocked(joined: Joined, n: int) -> Joined:
    usd = [joined.space.offers[f"g{p}"][0].usd_per_h for p in range(2)]
    return replace(joined, space=make_box(usd, n))


@pytest.mark.parametrize("objective", ["cost", "quality", "rate_factor"])
def test_without_a_gpu_nothing_can_be_served(objective: Objective) -> None:
    joined = stocked(random_joined(0), 0)
    read = joined.workload, joined.tables, joined.space, HEADROOM_RATIO
    joint = build_joint(read_tiers(*read, "optimistic", 3), objective, None, integer=True)
    found = maximise_integer(joint.program, 1e-6, 100)
    if objective == "rate_factor":
        assert found.objective == pytest.approx(0.0, abs=1e-9)
    else:
        assert found.status == "none"


@SOME
@given(cases, objectives, st.sampled_from(["conservative", "optimistic"]))
def test_the_relaxation_bounds_the_whole_program(
    seed: int, objective: Objective, reading: str
) -> None:
    j = random_joined(seed)
    tiers = read_tiers(j.workload, j.tables, j.space, HEADROOM_RATIO, reading, 6)  # type: ignore[arg-type]
    floor = j.workload.quality_at_least
    values = []
    for integer, one_tier in ((False, False), (True, False), (True, True)):
        program = build_joint(tiers, objective, floor, integer, one_tier).program
        if integer:
            values.append(maximise_integer(program, 1e-6, 10_000).objective)
        else:
            values.append(maximise(program).objective)
    assert values[0] >= values[1] - 1e-6
    assert values[1] >= values[2] - 1e-6


@SOME
@given(cases)
def test_a_plan_of_the_conservative_reading_never_beats_the_optimistic_one(seed: int) -> None:
    j = random_joined(seed)
    tiers = read_tiers(j.workload, j.tables, j.space, HEADROOM_RATIO, "conservative", 6)
    joint = build_joint(tiers, "cost", j.workload.quality_at_least, True, True)
    plan = maximise_integer(joint.program, 1e-6, 10_000)
    if plan.found:
        assert -plan.objective * joint.unit >= least(j) - 1e-9


@SOME
@given(cases)
def test_doubling_every_price_doubles_the_bound_and_moves_no_seed(seed: int) -> None:
    j = random_joined(seed)
    assert least(priced(j, 2.0)) == pytest.approx(2.0 * least(j), rel=1e-6)
    assert seeds_of(priced(j, 2.0)) == seeds_of(j)


@SOME
@given(cases, st.floats(0.5, 0.95))
def test_tightening_a_limit_never_lowers_the_bound(seed: int, ratio: float) -> None:
    j = random_joined(seed)
    tight = replace(j, workload=j.workload.with_limits_scaled(ratio))
    assert least(tight) >= least(j) * (1.0 - 1e-3)


@SOME
@given(cases)
def test_more_stock_never_raises_the_bound(seed: int) -> None:
    j = random_joined(seed)
    costs = [least(stocked(j, n)) for n in (2, 3, 5)]
    assert all(b <= a * (1.0 + 1e-3) for a, b in pairwise(costs))


@SOME
@given(cases)
def test_a_finer_bound_is_never_worse(seed: int) -> None:
    j = random_joined(seed)
    assert least(j, 3) >= least(j, 1) - 1e-9


@SOME
@given(cases, objectives)
def test_seeds_are_unique_inside_the_box_and_the_same_again(
    seed: int, objective: Objective
) -> None:
    j = random_joined(seed)
    found = seeds_of(j, objective)
    assert found
    assert all(j.space.admits(np.array(n)) for n in found)
    assert len({tuple(n) for n in found}) == len(found)
    assert seeds_of(j, objective) == found


@SOME
@given(cases)
def test_seeds_keep_the_budget(seed: int) -> None:
    j = random_joined(seed)
    usd = [j.space.offers[f"g{p}"][0].usd_per_h for p in range(2)]
    budget = 0.8 * float(j.space.cost_usd_per_h(j.space.upper))
    tight = replace(j, space=make_box(usd, 4, budget))
    for objective in ("quality", "rate_factor"):
        found = seeds(tight.workload, tight.tables, tight.space, HEADROOM_RATIO, objective, 2)
        assert found
        assert all(float(tight.space.cost_usd_per_h(n)) <= budget + 1e-6 for n in found)


def test_no_limit_leaves_a_covering_problem() -> None:
    """Work 0.5 s at 10 req/s is 5 replicas at full load, 0.94 * 0.9 allowed: 6 replicas."""
    table = pool_table("p0", np.array([0.5]), 1000.0, [3000.0])
    workload = make_workload(np.array([10.0]), np.array([[0.5]]))
    j = Joined(workload, (table,), make_box([2.5], 9))
    assert cost_bound(workload, (table,), j.space, HEADROOM_RATIO) == pytest.approx(15.0, rel=1e-5)
    assert seeds_of(j)[0] == [6]


def test_the_rate_factor_without_limits_is_capacity_over_demand() -> None:
    table = pool_table("p0", np.array([0.5]), 1000.0, [3000.0])
    workload = make_workload(np.array([10.0]), np.array([[0.5]]))
    found = bound(workload, (table,), make_box([2.5], 9), HEADROOM_RATIO, "rate_factor")
    assert found.best_possible == pytest.approx(9 * 0.94 * 0.9 / 5.0, rel=1e-5)


def test_dearer_offers_are_taken_last() -> None:
    table = pool_table("p0", np.array([0.5]), 1000.0, [3000.0])
    workload = make_workload(np.array([10.0]), np.array([[0.5]]))
    steps = (Offer(4.0, 1.0), Offer(5.0, 3.0))
    space = replace(make_box([1.0], 9), offers={"g0": steps})
    found = cost_bound(workload, (table,), space, HEADROOM_RATIO)
    assert found == pytest.approx(4 * 1.0 + 2 * 3.0, rel=1e-5)


def test_hosted_requests_count_as_cost() -> None:
    """One request per second at a cent is 36 $/h; renting one replica at 5 $/h is cheaper."""
    tables = tuple(pool_table(f"p{p}", np.array([0.5]), 1000.0, [3000.0]) for p in range(2))
    usd = np.array([[0.0, 0.01]])
    workload = make_workload(np.array([1.0]), np.array([[0.5, 0.9]]), request_usd=usd)
    space = replace(
        make_box([5.0, 0.0], 3), gpu_of=("g0", None), gpus_per_replica=np.array([1.0, 0.0])
    )
    assert cost_bound(workload, tables, space, HEADROOM_RATIO) == pytest.approx(5.0, rel=1e-5)
    strict = replace(workload, quality_at_least=0.7)
    mixed = cost_bound(strict, tables, space, HEADROOM_RATIO)
    assert mixed == pytest.approx(5.0 + 18.0, rel=1e-4)


def test_a_known_best_value_ends_the_rounds() -> None:
    j = random_joined(3)
    free = bound(j.workload, j.tables, j.space, HEADROOM_RATIO, "cost")
    first = bound(j.workload, j.tables, j.space, HEADROOM_RATIO, "cost", n_rounds=1)
    assert free.best_possible is not None
    assert first.best_possible is not None
    told = bound(
        j.workload, j.tables, j.space, HEADROOM_RATIO, "cost", known=0.5 * first.best_possible
    )
    assert told == first
    assert free.best_possible >= first.best_possible


def test_without_enough_stock_seeds_use_what_there_is() -> None:
    table = pool_table("p0", np.array([0.5]), 1000.0, [3000.0])
    workload = make_workload(np.array([100.0]), np.array([[0.5]]), [limit("c0", 3000.0)])
    j = Joined(workload, (table,), make_box([2.5], 3))
    found = bound(workload, (table,), j.space, HEADROOM_RATIO, "cost")
    assert found.infeasible
    assert not found.proved
    assert seeds_of(j)[0] == [3]


def test_an_unreachable_limit_still_gives_seeds() -> None:
    j = random_joined(5)
    hard = replace(j, workload=j.workload.with_limits_scaled(0.01))
    assert least(hard) == np.inf
    assert seeds_of(hard)


def test_an_empty_box_has_no_seeds() -> None:
    j = random_joined(5)
    none = replace(j.space, upper=np.zeros(2, dtype=np.int64))
    assert seeds_of(replace(j, space=none)) == []
    crossed = replace(j.space, lower=np.full(2, 9, dtype=np.int64))
    assert bound(j.workload, j.tables, crossed, HEADROOM_RATIO, "cost").infeasible


def test_many_classes_have_a_bound_of_whole_replicas() -> None:
    n = 30
    random = np.random.default_rng(0)
    work = random.uniform(0.02, 0.08, (n, 2))
    limits = [limit(f"c{c}", 2500.0) for c in range(n)]
    tables = tuple(pool_table(f"p{p}", work[:, p], 1000.0, [2500.0]) for p in range(2))
    workload = make_workload(np.ones(n), random.uniform(0.3, 0.9, (n, 2)), limits, 0.5)
    j = Joined(workload, tables, make_box([1.0, 1.3], 6))
    found = bound(workload, tables, j.space, HEADROOM_RATIO, "cost")
    assert found.best_possible is not None
    best = min(float(j.space.cost_usd_per_h(np.array(s))) for s in seeds_of(j))
    assert 0.9 * best < found.best_possible <= best


def test_repair_takes_replicas_back_until_the_box_holds() -> None:
    space = make_box([2.0, 3.0], 4, budget=11.0)
    assert repaired(space, np.array([4, 4]), np.array([2.5, 1.2])).tolist() == [3, 1]
    assert repaired(space, np.array([9, 0]), np.array([9.0, 0.0])).tolist() == [4, 0]
    held = replace(space, lower=np.array([4, 4]))
    assert repaired(held, np.array([4, 4]), np.zeros(2)).tolist() == [4, 4]
