"""What a plan survives: scenarios, who takes over, and the same verdict as a score made by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from made_cases import GPU, OWN, hosted_objectives, objectives_of, z
from pydantic import ValidationError
from questions import small

from planner.answer import make_answer, make_provenance
from planner.exact.bound import BoundResult
from planner.files.plans import routes_of
from planner.objectives import Objectives
from planner.proofs.certify import proven_bound
from planner.robust import (
    fallback_order,
    fallen_back,
    on_one_node,
    scenarios,
    survivals,
    survive,
    threats,
)
from planner.score import score
from planner.settle import Settled, settle
from planner.space import make_space
from planner.spec.pool import GpuShare
from planner.spec.question import Question, Robust
from planner.spec.scenario import Scenario
from planner.spec.stress import Stress, at_upper_band, stressed

BIG, SMALL = 0, 1  # the order of OWN


def objectives(**robust: Any) -> Objectives:
    """The small question with something to survive, on twice its GPUs."""
    plain = on_16_gpus()
    asked = Robust.model_validate(robust) if robust else None
    question = plain.case.question.model_copy(update={"robust": asked})
    return replace(plain, case=replace(plain.case, question=question))


@cache
def on_16_gpus() -> Objectives:
    return objectives_of(Path(mkdtemp()), small(stock={GPU: 16}))


def split(easy_on_big: float, hard_on_big: float) -> np.ndarray:
    return np.array([[easy_on_big, 1 - easy_on_big], [hard_on_big, 1 - hard_on_big]])


def labels(o: Objectives, *replicas: int) -> list[str]:
    return [s.label for s in scenarios(o.case, z(*replicas))]


# ---- What is asked -------------------------------------------------------------------------------


def test_without_robust_nothing_is_asked_for() -> None:
    o = objectives()
    assert scenarios(o.case, z(2, 2)) == ()
    assert threats(o.case) is None
    assert settle(o, z(2, 2)).survivals == ()


@pytest.mark.parametrize(
    "robust",
    [
        {},
        {"limits_ratio": 1.5, "rate_ratio": 1.2},
        {"rate_ratio": 0.9},
        {"failures": "rack"},
        {"failures": "replica", "limits_ratio": 0.5},
        {"class_rate_ratio": {"easy": 0.0}},
        {"class_rate_ratio": {"easy": 1.0}},
    ],
)
def test_what_makes_no_sense_is_refused(robust: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Robust.model_validate(robust)


def test_a_class_that_is_not_there_is_refused() -> None:
    asked = small(robust={"class_rate_ratio": {"eazy": 2.0}})
    with pytest.raises(ValidationError, match="eazy"):
        Question.model_validate(asked)


def test_every_scenario_is_named_once_and_in_order() -> None:
    o = objectives(
        rate_ratio=1.2, class_rate_ratio={"hard": 1.5}, latency_band=True, failures="replica"
    )
    assert labels(o, 2, 0) == [
        "1.2 times the traffic",
        "1.5 times the requests of hard",
        "latencies at the upper end of their error bands",
        f"without 1 of 2 {OWN[BIG]}",
    ]


def test_a_hosted_pool_does_not_fail(tmp_path: Path) -> None:
    o = hosted_objectives(tmp_path, robust={"failures": "replica"})
    found = scenarios(o.case, z(1, 2, 3))
    assert [s.lost.tolist() for s in found] == [[0, 1, 0], [0, 0, 1]]


def test_a_node_takes_whatever_fits_on_it() -> None:
    """Nodes of 8 GPUs; replicas of 4 and of 1: by every way to fill one, the worst are asked."""
    o, replicas = objectives(failures="node"), z(3, 5)
    asked = {tuple(s.lost.tolist()) for s in scenarios(o.case, replicas)}
    every = [m for m in product(range(4), range(6)) if any(m) and 4 * m[0] + m[1] <= 8]
    assert asked <= set(every)
    for loss in every:  # each is no worse than one that is asked: as much of each pool or more
        gone = [n == lost for n, lost in zip(replicas, loss, strict=True)]
        alike = [a for a in asked if [n == k for n, k in zip(replicas, a, strict=True)] == gone]
        assert any(all(x >= y for x, y in zip(a, loss, strict=True)) for a in alike), loss


def test_no_node_fails_where_nothing_is_deployed() -> None:
    assert labels(objectives(failures="node"), 0, 0) == []


def test_a_node_holds_no_two_shards_of_one_pool_on_a_gpu() -> None:
    """A quarter of a GPU each: 32 would fit on a node of 8 by compute, 8 can lie there."""
    o = objectives(failures="node")
    small_pool = o.case.pools[SMALL]
    part = small_pool.pool.model_copy(
        update={"share": GpuShare(compute_ratio=0.25, memory_gib=20.0)}
    )
    pools = (o.case.pools[BIG], replace(small_pool, pool=part))
    space = make_space(o.case.question, pools, (True, True), z(50, 50))
    case = replace(o.case, pools=pools, space=space)
    assert on_one_node(case).tolist() == [2, 8]
    asked = {tuple(s.lost.tolist()) for s in scenarios(case, z(0, 30))}
    assert asked == {(0, 8)}


# ---- Who takes over ------------------------------------------------------------------------------


def plan_of(o: Objectives, settled: Settled):
    return make_answer(o.case, settled, (), (), make_provenance("by hand", 0, "quick", 0, {}), True)


@pytest.mark.parametrize("replicas", [(2, 1), (1, 3), (2, 4)])
def test_the_fallback_order_is_that_of_routes_json(replicas: tuple[int, int]) -> None:
    o = objectives()
    settled = settle(o, z(*replicas))
    routes = routes_of(plan_of(o, settled))
    for c, name in enumerate(o.case.workload.class_names):
        order = fallback_order(
            o.case.workload, settled.replicas, settled.shares[c], settled.score.utilisation
        )
        assert tuple(o.case.space.pool_names[p] for p in order) == routes.fallback[name]


def test_requests_of_a_pool_that_is_gone_go_to_the_other_one_and_no_others_move() -> None:
    w = objectives().case.workload
    moved = fallen_back(w, z(1, 2), z(0, 2), split(0.25, 1.0), np.array([0.5, 0.5]))
    assert moved.tolist() == [[0.0, 1.0], [0.0, 1.0]]
    stays = fallen_back(w, z(2, 2), z(1, 2), split(0.25, 1.0), np.array([0.5, 0.5]))
    assert (stays == split(0.25, 1.0)).all()


def test_requests_that_no_pool_may_take_have_no_place() -> None:
    o = objectives(failures="replica")
    w = replace(o.case.workload, allowed=np.array([[True, True], [True, False]]))
    (loss,) = [s for s in scenarios(o.case, z(1, 2)) if s.lost[BIG]]
    found = survive(w, o.tables, z(1, 2), split(0.0, 1.0), loss)
    assert found.unserved_ratio == pytest.approx(8 / 32, abs=1e-5)
    assert not found.holds
    assert any("no place" in text for text in found.problems)


# ---- The verdict ---------------------------------------------------------------------------------


def by_hand(o: Objectives, shares: np.ndarray, replicas: np.ndarray, s: Scenario) -> bool:
    """Returns whether a scenario is survived, by the score of what it leaves."""
    w = o.case.workload
    factor = s.class_rate_ratio
    left = replicas - s.lost
    moved = shares.copy()
    for p in range(2):
        if replicas[p] and not left[p]:
            moved[:, 1 - p] += moved[:, p]
            moved[:, p] = 0.0
    limits = tuple(
        replace(
            each,
            limit=each.limit.model_copy(
                update={"at_most_ms": each.limit.at_most_ms * s.limits_ratio}
            ),
        )
        for each in w.limits
    )
    rates = w.rate_rps * factor
    busier = replace(w, rate_rps=rates, mean_rate_rps=rates, limits=limits)
    tables = [at_upper_band(t) if s.latency_band else t for t in o.tables]
    kept_free = 0.05  # half of the question's headroom
    return not score(
        busier, tables, left, moved, kept_free, o.case.question.latency_objective
    ).problems


@pytest.mark.parametrize(
    "robust",
    [
        {"failures": "replica", "limits_ratio": 1.3},
        {"rate_ratio": 1.4, "class_rate_ratio": {"hard": 1.6}, "latency_band": True},
    ],
    ids=["failures", "traffic"],
)
def test_the_verdict_is_that_of_the_score_of_what_is_left(robust: dict[str, Any]) -> None:
    o = objectives(**robust)
    seen = set()
    for replicas in (z(2, 2), z(1, 2), z(3, 1)):
        for easy, hard in product((0.0, 0.3, 1.0), (0.5, 1.0)):
            shares = split(easy, hard)
            for found in survivals(o.case, o.case.workload, o.tables, replicas, shares):
                assert found.holds == by_hand(o, shares, replicas, found.scenario)
                assert found.holds == (found.miss <= 0)
                seen.add(found.holds)
    assert seen == {True, False}


# ---- Shares that survive -------------------------------------------------------------------------


def best_on_grid(o: Objectives, replicas: np.ndarray) -> float:
    """Returns the best quality of shares on a grid that survive everything, -inf without one."""
    best = -np.inf
    w, q = o.case.workload, o.case.question
    for easy, hard in product(np.linspace(0, 1, 7), repeat=2):
        shares = split(easy, hard)
        quality = float(w.weights @ (shares * w.quality).sum(axis=1))
        if quality <= best:
            continue
        fine = score(w, o.tables, replicas, shares, q.headroom_ratio, q.latency_objective)
        if fine.problems:
            continue
        found = survivals(o.case, w, o.tables, replicas, shares)
        best = quality if all(s.holds for s in found) else best
    return best


@pytest.mark.parametrize("replicas", [(2, 2), (3, 2), (1, 2)])
def test_shares_are_found_where_some_on_a_grid_survive(replicas: tuple[int, int]) -> None:
    o = objectives(failures="replica")
    truth = best_on_grid(o, z(*replicas))
    found = o.evaluate(z(*replicas))
    if truth == -np.inf:
        assert found.violation > 0
        return
    assert found.violation <= 1e-9
    assert found.quality >= truth - 0.01


def test_what_survives_is_asked_at_no_less_than_without() -> None:
    """More to survive never costs less and never reaches more."""
    calm, robust = objectives(), objectives(failures="replica")
    for replicas in (z(2, 2), z(3, 2)):
        plain, careful = settle(calm, replicas), settle(robust, replicas)
        assert careful.score.quality <= plain.score.quality + 1e-6
        assert all(s.holds for s in careful.survivals) == careful.acceptable


def test_a_settled_deployment_tells_what_it_does_not_survive() -> None:
    settled = settle(objectives(failures="replica"), z(1, 2))
    assert not settled.acceptable
    assert any(text.startswith(f"without 1 of 1 {OWN[BIG]}") for text in settled.score.problems)


def test_a_question_without_limits_is_settled_at_every_level(tmp_path: Path) -> None:
    """Levels of its front have a limit that the question, and so no scenario, has."""
    o = hosted_objectives(tmp_path, robust={"failures": "replica"})
    assert len(o.levels) > 1
    settled = settle(o, z(1, 1, 1), level=len(o.levels) - 1)
    assert [s.latency_ratio for s in settled.survivals] == [None, None]


def test_a_proof_that_the_plan_beats_gives_way_to_the_one_without_scenarios(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plan may survive by tables at a scenario's own mix, and a proof does not know those."""
    o = objectives(failures="replica")
    settled = settle(o, z(2, 1))
    beaten = BoundResult(1.1 * settled.cost_usd_per_h, 0.0, False, "beaten")
    monkeypatch.setattr("planner.proofs.certify.robust_bound", lambda *_: beaten)
    found = proven_bound(o, settled)
    assert found is not None
    assert found == proven_bound(objectives(), settled)
    assert found.best_possible <= settled.cost_usd_per_h


# ---- Tables under stress -------------------------------------------------------------------------


def test_a_stressed_table_is_the_worst_of_its_stresses() -> None:
    table = objectives().tables[BIG]
    worst = stressed(table, [Stress(1.5), Stress(2.0, 1 / 1.5)], 0.4 * table.max_load)
    assert worst.max_load == pytest.approx(0.4 * table.max_load)
    t = table.times_ms["e2e"]
    within = t * 1.5 < t[-1]
    for load in worst.loads[1:-1].tolist():
        now = worst.survival_at("e2e", load)
        more = table.survival_at("e2e", 1.5 * load)
        assert (now >= more - 1e-9).all()
        longer = table.survival_at("e2e", 2.0 * load)
        later = np.array([np.interp(np.log(1.5 * t), np.log(t), row) for row in longer])
        assert (now >= later - 1e-9)[:, within].all()
        assert (now <= np.maximum(more, later) + 1e-9)[:, within].all()


def test_stresses_with_grids_of_one_length_are_read_at_their_own_times() -> None:
    """Both grids grow by as many times, one further than the other."""
    table = objectives().tables[BIG]
    long, longer = Stress(1.0, 1.3), Stress(1.0, 1.31)
    at_most = 0.4 * table.max_load
    shorter, alone = (stressed(table, [each], at_most) for each in (long, longer))
    assert shorter.times_ms["e2e"].size == alone.times_ms["e2e"].size
    assert shorter.times_ms["e2e"][-1] < alone.times_ms["e2e"][-1]
    for both in ([long, longer], [longer, long]):
        found = stressed(table, both, at_most)
        assert found.times_ms["e2e"] == pytest.approx(alone.times_ms["e2e"])
        assert found.survival["e2e"] == pytest.approx(alone.survival["e2e"], abs=1e-9)


def test_the_upper_band_is_as_much_later_as_the_band_is_wide() -> None:
    table = objectives().tables[SMALL]
    upper = at_upper_band(table)
    ratio = upper.statistic_ms("e2e", "p95") / table.statistic_ms("e2e", "p95")
    asked = np.broadcast_to(1.0 + table.band_ratio["e2e"], ratio.shape)
    assert ratio == pytest.approx(asked, rel=0.02)
