"""Classes as prompts of a fleet, against the linear program over classes and pools (convex.py)."""

from __future__ import annotations

import numpy as np
import pytest
from routing_cases import limit, random_problem

from planner.exact.fleet import Fleet, read_fleet
from planner.exact.readings import Reading
from planner.exact.solve import Setting
from planner.routing.case import prepare
from planner.routing.convex import conservative, optimistic, solve_convex
from planner.routing.policies import prompts_of
from planner.routing.prices import Priced, route_all
from planner.routing.problem import RoutingProblem
from planner.routing.program import at_caps
from planner.space import Offer, Space

LIMITS = [(), (limit(None, 2500.0),), (limit(None, 2500.0), limit(None, 6000.0, "p95"))]


def fleet_of(problem: RoutingProblem, reading: Reading) -> Fleet:
    n = problem.replicas.size
    space = Space(
        pool_names=problem.workload.pool_names,
        lower=np.zeros(n, dtype=np.int64),
        upper=problem.replicas,
        rows=np.zeros((0, n)),
        limits=np.zeros(0),
        row_names=(),
        gpu_of=("gpu",) * n,
        gpus_per_replica=np.ones(n),
        offers={"gpu": (Offer(float(n), 1.0),)},
    )
    setting = Setting(problem.workload, problem.tables, space, problem.headroom_ratio)
    return read_fleet(setting, reading)


def as_prompts(problem: RoutingProblem, fleet: Fleet) -> Priced:
    workload = problem.workload
    work_s = np.stack([table.work_s for table in problem.tables], axis=1)
    prompts = prompts_of(workload.weights, workload.quality, workload.total_rps * work_s)
    return route_all(prompts, fleet.curves(problem.replicas))


@pytest.mark.parametrize("limits", LIMITS, ids=len)
@pytest.mark.parametrize("reading", ["conservative", "optimistic"])
def test_the_same_answer(limits: tuple, reading: Reading) -> None:
    n_feasible = 0
    for seed in range(12):
        problem = random_problem(seed, 5, 3, limits, demand=0.6)
        found = as_prompts(problem, fleet_of(problem, reading))
        case = prepare(problem)
        case = case if reading == "conservative" else case.relaxed()
        segments = conservative if reading == "conservative" else optimistic
        truth = solve_convex(case, segments(case)) if limits else at_caps(case)
        served = bool(truth.unserved.max() < 1e-9)
        assert found.feasible == served, seed
        n_feasible += served
        if served:
            assert found.value == pytest.approx(truth.value, abs=2e-6), seed
    assert n_feasible > 3


def test_pools_of_one_ratio_can_be_one_option() -> None:
    problem = random_problem(3, 5, 3, LIMITS[1], demand=0.6, same_work=True)
    workload = problem.workload
    quality = np.repeat(np.nanmax(workload.quality, axis=1)[:, None], 3, axis=1)
    work_s = np.stack([np.nan_to_num(t.work_s, nan=np.nanmax(t.work_s)) for t in problem.tables], 1)
    load = workload.total_rps * work_s
    fleet = fleet_of(problem, "conservative")
    apart = route_all(prompts_of(workload.weights, quality, load), fleet.curves(problem.replicas))
    ratio = (load / load[:, :1])[0]
    assert np.allclose(load, load[:, :1] * ratio)
    merged = fleet.merged(np.zeros(3, dtype=np.int64), ratio)
    one = prompts_of(workload.weights, quality[:, :1], load[:, :1])
    together = route_all(one, merged.curves(problem.replicas))
    assert apart.feasible and together.value == pytest.approx(apart.value, abs=2e-6)


def test_a_limit_of_one_class_is_refused() -> None:
    problem = random_problem(0, 3, 2, (limit("c0", 3000.0),))
    with pytest.raises(ValueError, match="operating tiers"):
        fleet_of(problem, "conservative")
