"""RouterWise: its projection, packing, list of set-ups and ascent against enumeration."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_cases import GPU, enumerated, hosted_objectives, objectives_of, small, unlimited

from planner.choose import choose
from planner.named import setups as setups_module
from planner.named.ascent import Ascent, on_simplex
from planner.named.fractions import Fractions
from planner.named.routerwise import explore_routerwise
from planner.named.setups import GAMMA, list_setups, packs
from planner.spec.pool import GpuShare


@pytest.fixture(scope="module")
def objectives(tmp_path_factory):
    return objectives_of(tmp_path_factory.mktemp("rw"), small(choose="best_quality"))


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=6), st.integers(1, 63))
def test_the_projection_is_the_nearest_point(values, mask):
    point = np.array(values)
    there = np.array([bool(mask >> i & 1) for i in range(point.size)])
    there[0] |= not there.any()
    found = on_simplex(point, there)
    assert found.min() >= 0 and found.sum() == pytest.approx(1.0)
    assert not found[~there].any()
    # Nearest: what moves towards any corner moves away (variational inequality).
    for corner in np.flatnonzero(there):
        assert (point - found) @ (np.eye(point.size)[corner] - found) <= 1e-9


def best_on_grid(fractions, replicas, n=41):
    """The best acceptable quality over a grid of load fractions of two models; -inf for none."""
    found = [fractions.evaluate(replicas, np.array([w, 1.0 - w])) for w in np.linspace(0.0, 1.0, n)]
    return max((e.quality for e in found if e.violation <= 1e-9), default=-np.inf)


@pytest.mark.parametrize("limited", [True, False])
def test_the_ascent_is_close_to_the_best_on_a_grid(limited, tmp_path):
    question = small(quality_at_least=None) if limited else unlimited(quality_at_least=None)
    fractions = Fractions(objectives_of(tmp_path, question))
    for replicas in np.array([[1, 1], [2, 0]]):
        best = best_on_grid(fractions, replicas)
        found = Ascent(fractions).evaluate(replicas)
        assert found.violation <= 1e-9
        assert best - 0.01 <= found.quality <= best + 0.01


def test_a_limit_that_binds_is_used_up_and_kept(objectives):
    fractions = Fractions(objectives)
    weights = objectives.case.workload.weights
    mixes = np.tile(weights, (2, 1))
    ascent, replicas = Ascent(fractions), np.array([1, 1], dtype=np.int64)
    free = ascent.solve(replicas, mixes, tau=10.0)
    tight = 0.95 * ascent.solve(replicas, mixes).latency
    bound = ascent.solve(replicas, mixes, tau=tight)
    assert free.quality > bound.quality
    assert 0.97 <= bound.latency <= 1.0 + 1e-6


def test_every_setup_within_the_box_is_listed(objectives):
    fractions, case = Fractions(objectives), objectives.case
    found = list_setups(fractions, 1000, 0, uses_all=False)
    every = [
        n
        for n in itertools.product(*[range(u + 1) for u in case.space.upper])
        if any(n) and case.space.admits(np.array(n))
    ]
    assert sorted(map(tuple, found.replicas.tolist())) == sorted(every)
    assert found.complete
    rent = case.space.cost_usd_per_h(found.replicas)
    assert np.all(np.diff(rent) >= 0)
    full = list_setups(fractions, 1000, 0, uses_all=True).replicas
    use = found.replicas @ case.space.gpus_per_replica
    assert len(full) == np.sum(use >= GAMMA * use.max())


def test_too_many_setups_are_drawn(objectives, monkeypatch):
    fractions = Fractions(objectives)
    part = list_setups(fractions, 4, 1, uses_all=False)
    assert len(part.replicas) == 4 and not part.complete
    monkeypatch.setattr(setups_module, "MOST_LISTED", 1)
    drawn = list_setups(fractions, 5, 1, uses_all=False)
    assert 1 <= len(drawn.replicas) <= 5 and not drawn.complete
    assert all(objectives.case.space.admits(n) for n in drawn.replicas)
    again = list_setups(fractions, 5, 1, uses_all=False)
    assert np.array_equal(drawn.replicas, again.replicas)


def shared(objectives, *memory_gib):
    """The case with pools that take a part of each GPU's memory."""
    case = objectives.case
    pools = tuple(
        replace(p, pool=p.pool.model_copy(update={"share": GpuShare(memory_gib=gib)}))
        for p, gib in zip(case.pools, memory_gib, strict=True)
    )
    return replace(case, pools=pools)


def test_packing_by_memory(objectives):
    # Eight GPUs of 80 GiB; the first pool's replica puts a shard on four of them.
    case = shared(objectives, 50.0, 30.0)
    assert packs(case, np.array([2, 8]))
    assert not packs(case, np.array([3, 0]))  # no two shards of one model on one GPU
    assert not packs(case, np.array([2, 9]))
    assert not packs(shared(objectives, 50.0, 31.0), np.array([2, 1]))
    assert packs(shared(objectives, 50.0, 31.0), np.array([1, 4]))
    assert packs(objectives.case, np.array([1, 4]))
    assert not packs(objectives.case, np.array([1, 5]))


@pytest.mark.parametrize(
    "wanted", ["best_quality", pytest.param("cheapest", marks=pytest.mark.slow)]
)
def test_finds_what_enumeration_finds(wanted, tmp_path):
    objectives = objectives_of(tmp_path, small(choose=wanted))
    truth, _ = choose(objectives, enumerated(objectives), None, signed=False)
    seen = []
    explored = explore_routerwise(objectives, "quick", 0, lambda *at: seen.append(at))
    found, _ = choose(objectives, explored, None, signed=False)
    assert "RouterWise" in explored.method and explored.complete
    assert len(seen) == len(explored.evaluations) and seen[-1][2] > 0
    if wanted == "cheapest":
        assert found.cost_usd_per_h == pytest.approx(truth.cost_usd_per_h)
    else:
        assert found.score.quality == pytest.approx(truth.score.quality, abs=1e-3)


def test_an_interrupt_keeps_what_was_found(objectives):
    def stop(done, total, volume):
        if done == 2:
            raise KeyboardInterrupt

    explored = explore_routerwise(objectives, "quick", 0, stop)
    assert len(explored.evaluations) == 2 and not explored.complete


def test_hosted_pools_are_one_more_option(tmp_path):
    objectives = hosted_objectives(tmp_path, choose="cheapest")
    explored = explore_routerwise(objectives, "quick", 0)
    assert any(e.replicas[0] == 1 and e.routing.hosted_usd_per_h > 0 for e in explored.evaluations)


@pytest.mark.parametrize("n_gpus", [0, 3])  # no pool fits, or none that the first class may use
def test_what_no_stock_serves_has_no_setup(n_gpus, tmp_path):
    question = small(stock={GPU: n_gpus})
    question["classes"][0]["pools"] = ["llama-3.1-70b-h100-tp4"]
    explored = explore_routerwise(objectives_of(tmp_path, question), "quick", 0)
    assert explored.evaluations == explored.front == () and explored.complete
