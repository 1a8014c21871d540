"""What load fractions achieve: splits against a grid, and the same figures as the case's tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_cases import objectives_of, small, unlimited, z

from planner.errors import InputError
from planner.named.boute import explore_boute
from planner.named.fractions import Fractions, best_of_each
from planner.named.routerwise import explore_routerwise
from planner.objectives import Objectives
from planner.routing import truth

B200 = ["llama-3.1-8b-b200", "llama-3.1-8b-h100", "llama-3.1-70b-h100-tp4"]


@pytest.fixture(scope="module")
def objectives(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    stock = {"h100-sxm-80g": 8, "b200-sxm-180g": 2}
    return objectives_of(tmp_path_factory.mktemp("two"), small(pools=B200, stock=stock))


def test_models_are_the_scored_names(objectives):
    fractions = Fractions(objectives)
    names = objectives.case.space.pool_names
    assert [g.name for g in fractions.groups] == ["llama-3.1-70b", "llama-3.1-8b"]
    assert {names[p] for p in fractions.groups[1].pools} == {B200[0], B200[1]}
    assert fractions.group_of[fractions.groups[0].pools].tolist() == [0]


def test_an_evaluation_is_that_of_its_routing(objectives):
    fractions = Fractions(objectives)
    workload = objectives.case.workload
    replicas = np.ones(3, dtype=np.int64)
    found = fractions.evaluate(replicas, np.array([0.3, 0.7]))
    routing = found.routing
    assert np.allclose(routing.shares.sum(axis=1) + routing.unserved, 1.0)
    large = fractions.groups[0].pools
    assert workload.weights @ routing.shares[:, large].sum(axis=1) == pytest.approx(0.3)
    # The 70b gains most on hard prompts, so they come first.
    assert routing.shares[workload.class_names.index("hard"), large].sum() == pytest.approx(1.0)
    loads = truth.loads(workload, objectives.tables, replicas, routing.shares)
    assert np.allclose(loads, routing.loads)
    assert found.quality == pytest.approx(np.nansum(
        workload.weights[:, None] * workload.quality * routing.shares
    ))  # fmt: skip
    ratios = [
        truth.limit_value(workload, objectives.tables, loads, routing.shares, scoped)
        / scoped.limit.at_most_ms
        for scoped in workload.limits
    ]
    assert found.latency == pytest.approx(max(ratios))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_split_over_pools_is_the_fairest(objectives, scale):
    """No split on a fine grid makes the worse of the two pools better."""
    workload = objectives.case.workload
    faster = replace(workload, rate_rps=workload.rate_rps * scale)
    case = replace(objectives.case, workload=faster)
    fractions = Fractions(replace(objectives, case=case, levels=(faster,)))
    small_model = fractions.groups[1].pools
    replicas = z(1, 1, 1)
    shares = fractions.evaluate(replicas, np.array([0.2, 0.8])).routing.shares
    flow = faster.rate_rps * shares[:, small_model].sum(axis=1)

    def worst(parts):
        figures = []
        for p, part in zip(small_model.tolist(), parts, strict=True):
            load = part * flow @ objectives.tables[p].work_s / replicas[p]
            curve = fractions.figures(p, flow)
            inside = load <= fractions.caps[p] + 1e-9
            figures.append(np.interp(load, objectives.tables[p].loads, curve) if inside else np.inf)
        return max(figures)

    parts = shares[0, small_model] / shares[0, small_model].sum()
    grid = [worst((part, 1.0 - part)) for part in np.linspace(0.0, 1.0, 201)]
    assert worst(parts) <= min(grid) + 1e-9


def test_what_no_replica_can_carry_is_unserved(objectives):
    fractions = Fractions(objectives)
    found = fractions.evaluate(np.zeros(3, dtype=np.int64), np.array([0.5, 0.5]))
    assert found.routing.unserved.tolist() == [1.0, 1.0]
    assert found.violation >= 1.0 and not found.routing.feasible
    large = fractions.groups[0].pools[0]
    one = np.eye(3, dtype=np.int64)[large]
    overloaded = fractions.evaluate(one, np.array([1.0, 0.0]))
    assert overloaded.routing.loads[large] == pytest.approx(fractions.caps[large])
    assert 0.0 < overloaded.routing.unserved[0] < 1.0


def test_without_limits_the_latency_objective_is_the_figure(tmp_path: Path):
    objectives = objectives_of(tmp_path, unlimited())
    fractions = Fractions(objectives)
    flow = objectives.case.workload.class_rate_rps
    table = objectives.tables[1]
    asked = table.statistic_ms("e2e", "p95")
    figures = fractions.figures(1, flow)
    assert asked.min() <= figures[0] <= asked[:, 0].max()
    assert np.all(np.diff(figures) >= 0)


def test_best_of_each_keeps_one_evaluation_per_deployment(objectives):
    fractions = Fractions(objectives)
    replicas = z(1, 1, 1)
    every = [fractions.evaluate(replicas, np.array([w, 1 - w])) for w in (0.1, 0.3, 0.2)]
    kept = best_of_each(objectives, every, "a method", True)
    assert len(kept.evaluations) == 1
    best = min(every, key=lambda e: (e.violation, -e.quality))
    assert kept.evaluations[0] is best
    assert best_of_each(objectives, [], "a method", False).evaluations == ()


@pytest.mark.parametrize("method", [explore_boute, explore_routerwise])
def test_largest_traffic_is_refused(method, tmp_path: Path):
    objectives = objectives_of(tmp_path, unlimited(maximise="rate_factor"))
    with pytest.raises(InputError, match=method.__name__.removeprefix("explore_")) as refused:
        method(objectives, "quick", 0)
    assert "rate_factor" in str(refused.value)
