"""BOute as a method: its space, and what it finds on a small box whose truth is enumerated."""

import numpy as np
import pytest
from made_cases import GPU, enumerated, objectives_of, small

pytest.importorskip("torch")

from planner.choose import choose
from planner.named import boute as module
from planner.named.boute import explore_boute, whole_budget_usd_per_h
from planner.named.boute_space import UNITS, BouteSpace
from planner.named.candidates import candidates
from planner.named.fractions import Fractions


def space_of(objectives, budget=None):
    fractions = Fractions(objectives)
    budget = budget or whole_budget_usd_per_h(objectives)
    return BouteSpace(
        fractions, [candidates(fractions, g, budget) for g in fractions.groups], budget
    )


@pytest.fixture(scope="module")
def objectives(tmp_path_factory):
    return objectives_of(tmp_path_factory.mktemp("boute"), small(choose="best_quality"))


@pytest.mark.parametrize("short", [{"stock": {GPU: 0}}, {"budget_usd_per_h": 0.5}])
def test_what_no_stock_or_budget_serves_has_no_candidate(short, tmp_path):
    explored = explore_boute(objectives_of(tmp_path, small(**short)), "quick", 0)
    assert explored.evaluations == explored.front == () and explored.complete


def test_points_lie_in_the_search_space(objectives):
    space = space_of(objectives, budget=18.0)
    rng, box = np.random.default_rng(0), space.problem().box
    drawn = space.draw(60, rng)
    near = np.concatenate([space.near(z, 5, rng) for z in drawn[:10]])
    every = np.concatenate([drawn, near])
    assert len(drawn) > 30 and len(near) > 20
    assert box.admits(every).all()
    assert np.all(every[:, :2].sum(axis=1) == UNITS)
    rent = objectives.case.space.cost_usd_per_h(every[:, 2:])
    assert rent.max() <= 18.0 + 1e-9
    # A model without replicas gets no traffic.
    pools = [group.pools for group in space.fractions.groups]
    for m in range(2):
        without = ~every[:, 2 + pools[m]].any(axis=1)
        assert without.any() and not every[without, m].any()


def test_values_are_log_latency_and_logit_quality(objectives):
    space = space_of(objectives)
    point = np.array([40, 60, 1, 2])
    found = space.fractions.evaluate(point[2:], point[:2] / UNITS)
    outcome = space.evaluate(point)
    assert outcome.values[0] == pytest.approx(np.log(found.latency))
    assert outcome.values[1] == pytest.approx(-np.log(found.quality / (1 - found.quality)))
    assert outcome.violation == found.violation
    # Acceptable means: within the ceilings of the acquisition.
    ceilings = space.parts().ceilings
    good = outcome.violation <= 1e-9
    assert good == bool(np.all(outcome.values <= ceilings))
    overloaded = space.evaluate(np.array([100, 0, 0, 1]))
    assert overloaded.violation > 0.5 and overloaded.values[0] > space.problem().reference[0]


def test_the_kernel_sees_gpus_parallelism_and_preference(objectives):
    parts = space_of(objectives).parts()
    points = np.array([[30, 70, 1, 4], [100, 0, 2, 0]])
    assert parts.routing(points).tolist() == [[0.3], [1.0]]
    # One type of GPU: GPUs of the 70b and the 8b, then the log2 of the GPUs per replica.
    assert parts.deployment(points).tolist() == [[4.0, 4.0, 2.0, 0.0], [8.0, 0.0, 2.0, 0.0]]
    assert parts.preference(points).tolist() == [0.0, 0.0]  # nothing to prefer among one type


@pytest.mark.parametrize(
    "wanted", ["best_quality", pytest.param("cheapest", marks=pytest.mark.slow)]
)
def test_finds_what_enumeration_finds(wanted, tmp_path, monkeypatch):
    monkeypatch.setitem(module.EVALUATIONS, "quick", 14 if wanted == "best_quality" else 26)
    monkeypatch.setattr(module, "N_ROUNDS", 1)
    objectives = objectives_of(tmp_path, small(choose=wanted))
    truth, _ = choose(objectives, enumerated(objectives), None, signed=False)
    explored = explore_boute(objectives, "quick", 0)
    found, _ = choose(objectives, explored, None, signed=False)
    assert "BOute" in explored.method and explored.complete
    if wanted == "cheapest":
        assert found.cost_usd_per_h == pytest.approx(truth.cost_usd_per_h)
    else:
        assert found.score.quality == pytest.approx(truth.score.quality, abs=1e-3)


def test_an_interrupt_keeps_what_was_found(objectives):
    def stop(done, total, volume):
        if done == 3:
            raise KeyboardInterrupt

    explored = explore_boute(objectives, "quick", 0, stop)
    assert 1 <= len(explored.evaluations) <= 3 and not explored.complete
