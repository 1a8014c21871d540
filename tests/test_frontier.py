"""Proofs of points, knees and the fastest against every deployment of small boxes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_cases import enumerated, good, objectives_of, small, unlimited

from planner.choose import choose, settled_front
from planner.exact.solve import Setting, Solved, Want
from planner.explore import Explored
from planner.objectives import Objectives
from planner.proofs.frontier import front_proofs, traded_bound
from planner.settle import Settled


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    return objectives_of(tmp_path_factory.mktemp("limited"), small())


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    return objectives_of(tmp_path_factory.mktemp("free"), unlimited())


@pytest.fixture(scope="module")
def all_limited(limited: Objectives) -> Explored:
    return enumerated(limited)


@pytest.fixture(scope="module")
def cheapest(limited: Objectives, all_limited: Explored) -> Settled:
    return chosen_of(limited, all_limited)


def choosing(objectives: Objectives, choose: str) -> Objectives:
    question = objectives.case.question.model_copy(update={"choose": choose})
    return replace(objectives, case=replace(objectives.case, question=question))


def chosen_of(objectives: Objectives, explored: Explored) -> Settled:
    """The chosen deployment, on the tables of the search: those that enumeration knows."""
    chosen, _ = choose(objectives, explored, None, signed=False)
    assert chosen is not None
    return replace(chosen, tables=objectives.tables)


@pytest.mark.parametrize("which", ["limited", "free"])
def test_no_deployment_beats_the_proof_of_a_point(
    which: str, request: pytest.FixtureRequest
) -> None:
    objectives: Objectives = request.getfixturevalue(which)
    explored = enumerated(objectives)
    chosen = chosen_of(objectives, explored)
    front = settled_front(objectives, explored, chosen)
    on_these = [replace(point, tables=objectives.tables) for point in front]
    proofs = front_proofs(objectives, on_these, "standard")
    assert sum(proof is not None for proof in proofs) >= len(front) - 1
    is_limited = bool(objectives.levels[0].limits)
    for point, proof in zip(front, proofs, strict=True):
        if proof is None:
            continue
        assert proof.gain == point.score.quality
        assert proof.gap_ratio >= 0.0
        latency = point.latency if is_limited else float(np.log2(point.latency))
        able = [
            e.quality
            for e in good(explored.evaluations)
            if e.cost_usd_per_h <= point.cost_usd_per_h + 1e-9 and e.latency <= latency
        ]
        assert max(able, default=0.0) <= proof.best_possible + 1e-9


def test_the_knee_has_a_proof_at_its_own_cost(limited: Objectives, all_limited: Explored) -> None:
    objectives = choosing(limited, "knee")
    chosen, explored = chosen_of(objectives, all_limited), all_limited
    bound = traded_bound(objectives, chosen, "standard")
    assert bound is not None
    assert (bound.objective, bound.value) == ("quality", round(chosen.score.quality, 6))
    assert bound.within_usd_per_h == pytest.approx(chosen.cost_usd_per_h, abs=1e-4)
    able = [e for e in good(explored.evaluations) if e.level == 0]
    able = [e for e in able if e.cost_usd_per_h <= chosen.cost_usd_per_h + 1e-9]
    assert max(e.quality for e in able) <= bound.best_possible + 1e-6
    assert bound.gap_ratio < 0.1


@pytest.mark.parametrize("which", ["limited", "free"])
def test_nothing_is_faster_than_what_the_fastest_is_proved_to_be(
    which: str, request: pytest.FixtureRequest
) -> None:
    objectives = choosing(request.getfixturevalue(which), "fastest")
    explored = enumerated(objectives)
    chosen = chosen_of(objectives, explored)
    bound = traded_bound(objectives, chosen, "standard")
    assert bound is not None
    fastest = min(e.latency for e in good(explored.evaluations))
    if which == "free":
        assert bound.objective == "latency_ms"
        fastest = float(2.0**fastest)
    else:
        assert bound.objective == "latency_ratio"
    assert 0.0 < bound.best_possible <= fastest * (1.0 + 1e-3)
    assert bound.best_possible <= bound.value
    assert bound.gap_ratio == pytest.approx(1.0 - bound.best_possible / bound.value, abs=1e-3)


def test_other_choices_have_their_bound_elsewhere(limited: Objectives, cheapest: Settled) -> None:
    assert traded_bound(limited, cheapest, "quick") is None


def solved(status: Any, best: float | None) -> Solved:
    return Solved(status, np.zeros(2, dtype=np.int64), None, best, 0.0, 0.0, "made up")


@pytest.mark.parametrize(
    ("status", "ratio"), [("none", None), ("unknown", None), ("found", 0.9)], ids=str
)
def test_a_point_outside_what_was_proved_about_has_no_proof(
    limited: Objectives,
    cheapest: Settled,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    ratio: float | None,
) -> None:
    best = None if ratio is None else ratio * cheapest.score.quality
    monkeypatch.setattr("planner.proofs.frontier.solve_joint", lambda *_: solved(status, best))
    assert front_proofs(limited, [cheapest], "quick") == (None,)


def test_an_interrupt_leaves_the_rest_without_proofs(
    limited: Objectives, cheapest: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Want] = []

    def interrupted(_: Setting, want: Want) -> Solved:
        calls.append(want)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return solved("found", 0.9)

    monkeypatch.setattr("planner.proofs.frontier.solve_joint", interrupted)
    proofs = front_proofs(limited, [cheapest] * 3, "quick")
    assert [proof is None for proof in proofs] == [False, True, True]
    assert proofs[0] is not None and proofs[0].best_possible == 0.9


def test_a_latency_that_nobody_measured_limits_nothing(
    free: Objectives, cheapest: Settled, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = replace(cheapest, score=replace(cheapest.score, latency_ratio=None, objective_ms=900.0))
    unknown = replace(known, score=replace(known.score, objective_ms=np.inf))
    asked: list[Setting] = []

    def seen(setting: Setting, _: Want) -> Solved:
        asked.append(setting)
        return solved("found", 1.0)

    monkeypatch.setattr("planner.proofs.frontier.solve_joint", seen)
    front_proofs(free, [known, unknown], "quick")
    assert [len(setting.workload.limits) for setting in asked] == [1, 0]
