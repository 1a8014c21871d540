"""Which deployment becomes the plan, against brute force over every deployment of the box."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cases import (
    GPU,
    GPU_USD_PER_H,
    enumerated,
    good,
    hosted_objectives,
    objectives_of,
    small,
    unlimited,
    z,
)

from planner.choose import MAX_FRONT, change_usd, choose, ranked, settled_front
from planner.explore import Explored
from planner.objectives import Evaluation, Objectives
from planner.settle import Settled, settle
from planner.spec.question import Keep

Asked = Callable[..., tuple[Objectives, Explored]]
Truth = Callable[[str, str], list[Settled]]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Makes the evaluations of a question, once for each kind of question."""

    @cache
    def make(kind: str, choose: str, n_gpus: int = 8) -> tuple[Objectives, Explored]:
        if choose == "best_quality" and kind != "hosted":
            objectives, explored = make(kind, "cheapest", n_gpus)  # the routing is the same
            return asking(objectives, choose), explored
        folder = tmp_path_factory.mktemp(f"{kind}-{choose}")
        changes: dict[str, Any] = {"choose": choose, "stock": {GPU: n_gpus}}
        if kind == "hosted":
            objectives = hosted_objectives(folder, **changes)
        elif kind == "unlimited":
            objectives = objectives_of(folder, unlimited(**changes))
        elif kind == "busy":
            question = unlimited(quality_at_least=0.5, **changes)
            for cls in question["classes"]:
                cls["rate_rps"] *= 2
            objectives = objectives_of(folder, question)
        elif kind == "rate":
            question = unlimited(maximise="rate_factor", budget_usd_per_h=24.0, **changes)
            objectives = objectives_of(folder, question)
        else:
            few = {"llama-3.1-8b-h100": {"max": 2}}
            objectives = objectives_of(folder, small(replicas=few, **changes))
        return objectives, enumerated(objectives)

    return make


def asking(objectives: Objectives, wanted: str) -> Objectives:
    """The same question with another choice."""
    question = objectives.case.question.model_copy(update={"choose": wanted})
    return replace(objectives, case=replace(objectives.case, question=question))


def answer(
    objectives: Objectives, explored: Explored, kept: Any = None, signed: bool = False
) -> Settled:
    found, _ = choose(objectives, explored, kept, signed)
    assert found is not None
    assert found.acceptable
    return found


@pytest.fixture(scope="module")
def truth(asked: Asked) -> Truth:
    """Every acceptable evaluation, settled: what a choice is held against."""

    @cache
    def make(kind: str, wanted: str) -> list[Settled]:
        if wanted == "best_quality" and kind != "hosted":
            return make(kind, "cheapest")  # the same evaluations, the same routing
        objectives, explored = asked(kind, wanted)
        found = [settle(objectives, e.replicas, e.level) for e in good(explored.evaluations)]
        return [s for s in found if s.acceptable]

    return make


@pytest.mark.parametrize("kind", ["limited", "unlimited", "hosted"])
def test_the_cheapest_costs_least(asked: Asked, truth: Truth, kind: str) -> None:
    objectives, explored = asked(kind, "cheapest")
    chosen = answer(objectives, explored, signed=True)
    least = min(s.cost_usd_per_h for s in truth(kind, "cheapest"))
    assert chosen.cost_usd_per_h == pytest.approx(least, abs=1e-3)


def test_among_the_cheapest_the_best_quality_is_taken(asked: Asked, truth: Truth) -> None:
    objectives, explored = asked("limited", "cheapest")
    chosen = answer(objectives, explored, signed=True)
    settled = truth("limited", "cheapest")
    least = min(s.cost_usd_per_h for s in settled)
    best = max(s.score.quality for s in settled if s.cost_usd_per_h <= least + 1e-6)
    assert chosen.score.quality >= best - 1e-6
    assert chosen.level == 0


@pytest.mark.parametrize("kind", ["limited", "unlimited", "hosted"])
def test_the_best_quality_is_the_best_and_the_cheapest_of_these(
    asked: Asked, truth: Truth, kind: str
) -> None:
    objectives, explored = asked(kind, "best_quality")
    chosen = answer(objectives, explored, signed=True)
    settled = truth(kind, "best_quality")
    best = max(s.score.quality for s in settled)
    assert chosen.score.quality == pytest.approx(best, abs=1e-6)
    least = min(s.cost_usd_per_h for s in settled if s.score.quality >= best - 1e-6)
    assert chosen.cost_usd_per_h == pytest.approx(least, abs=1e-3)


@pytest.mark.parametrize("kind", [pytest.param("limited", marks=pytest.mark.slow), "unlimited"])
def test_the_fastest_is_faster_than_all_others(asked: Asked, truth: Truth, kind: str) -> None:
    objectives, explored = asked(kind, "fastest")
    chosen = answer(objectives, explored, signed=True)
    least = min(s.latency for s in truth(kind, "fastest"))
    assert chosen.latency <= least * (1 + 1e-6)
    assert chosen.score.quality >= 0.75 - 1e-6


def test_the_fastest_gives_up_quality_down_to_the_floor(asked: Asked) -> None:
    objectives, explored = asked("limited", "fastest")
    chosen = answer(objectives, explored, signed=True)
    # Where it stands, no more speed can be had: a slightly tighter limit breaks a promise.
    tight = objectives.levels[0].with_limits_scaled(0.95 * chosen.latency)
    faster = settle(replace(objectives, levels=(objectives.levels[0], tight)), chosen.replicas, 1)
    assert not (faster.acceptable and faster.latency <= 0.95 * chosen.latency * (1 + 1e-6))


def test_the_knee_is_farthest_from_the_chord(asked: Asked) -> None:
    objectives, explored = asked("busy", "knee", 20)
    chosen = answer(objectives, explored)
    able = good(explored.evaluations)
    front = [
        e
        for e in able
        if not any(
            (o.cost_usd_per_h <= e.cost_usd_per_h + 1e-9 and o.quality > e.quality + 1e-6)
            or (o.cost_usd_per_h < e.cost_usd_per_h - 1e-6 and o.quality >= e.quality - 1e-6)
            for o in able
        )
    ]
    cost = np.array([e.cost_usd_per_h for e in front])
    quality = np.array([e.quality for e in front])
    assert len(set(cost.round(4))) >= 3
    above = (quality - quality.min()) / np.ptp(quality) - (cost - cost.min()) / np.ptp(cost)
    knees = [front[i].replicas.tolist() for i in np.flatnonzero(above >= above.max() - 1e-6)]
    assert chosen.replicas.tolist() in knees
    assert cost.min() < chosen.cost_usd_per_h < cost.max()


def test_faster_plans_do_not_bend_the_chord_of_the_knee(asked: Asked) -> None:
    objectives, explored = asked("busy", "knee", 20)
    only_first = replace(
        explored, evaluations=tuple(e for e in explored.evaluations if e.level == 0)
    )
    chosen, without = answer(objectives, explored), answer(objectives, only_first)
    assert chosen.replicas.tolist() == without.replicas.tolist()


def test_the_rate_factor_is_the_largest_and_then_the_cheapest(asked: Asked, truth: Truth) -> None:
    objectives, explored = asked("rate", "cheapest")
    chosen = answer(objectives, explored, signed=True)
    settled = truth("rate", "cheapest")
    most = max(s.rate_factor for s in settled)
    assert chosen.rate_factor == pytest.approx(most, abs=2e-6)
    least = min(s.cost_usd_per_h for s in settled if s.rate_factor >= most - 2e-6)
    assert chosen.cost_usd_per_h == pytest.approx(least)


def twin(e: Evaluation, replicas: Any, cost: float | None = None) -> Evaluation:
    """The same figures with other replicas."""
    return replace(e, replicas=replicas, cost_usd_per_h=e.cost_usd_per_h if cost is None else cost)


@pytest.mark.parametrize("wanted", ["cheapest", "best_quality", "fastest"])
def test_ties_go_to_the_cheaper_then_to_the_smaller_deployment(asked: Asked, wanted: Any) -> None:
    objectives, explored = asked("limited", "cheapest")
    objectives = asking(objectives, wanted)
    e = good(explored.evaluations)[0]
    dear = twin(e, z(0, 1), e.cost_usd_per_h + 1.0)
    equal = [twin(e, z(2, 1)), twin(e, z(1, 2)), dear, twin(e, z(1, 1))]
    for order in (equal, equal[::-1]):
        listed = [x.replicas.tolist() for x in ranked(objectives, order)]
        assert listed == [[1, 1], [1, 2], [2, 1], [0, 1]]


def test_what_misses_much_is_not_tried(asked: Asked) -> None:
    objectives, explored = asked("limited", "cheapest")
    listed = ranked(objectives, explored.evaluations)
    assert all(e.violation <= 0.05 for e in listed)
    assert len(listed) < len(explored.evaluations)


def test_where_nothing_is_acceptable_the_nearest_is_told(tmp_path: Path) -> None:
    objectives = objectives_of(tmp_path, small(quality_at_least=0.84))
    found, nearest = choose(objectives, enumerated(objectives), None)
    assert found is None
    assert nearest is not None
    assert not nearest.acceptable
    # 0.825 with everything on the 70b is the best there is.
    assert nearest.score.quality == pytest.approx(0.825, abs=1e-3)


def keeping(objectives: Objectives, usd: float) -> Objectives:
    keep = Keep(plan="../production", usd_per_replica_change=usd)
    question = objectives.case.question.model_copy(update={"keep": keep})
    return replace(objectives, case=replace(objectives.case, question=question))


def test_the_price_of_a_change_counts_every_replica(asked: Asked) -> None:
    objectives = keeping(asked("limited", "cheapest")[0], 0.5)
    question = objectives.case.question
    assert change_usd(question, z(2, 0), z(1, 3)) == 0.5 * (1 + 3)
    assert change_usd(question, z(1, 3), z(1, 3)) == 0.0
    assert change_usd(question, z(2, 0), None) == 0.0


@pytest.mark.parametrize(("usd", "moves"), [(0.0, True), (2.94, True), (2.96, False)])
def test_a_kept_plan_moves_only_for_what_it_saves(asked: Asked, usd: float, moves: bool) -> None:
    # In production: one 70b and two 8b. The cheapest is one of each: one replica less saves
    # 2.95 $/h.
    objectives, explored = asked("limited", "cheapest")
    kept = z(1, 2)
    chosen = answer(keeping(objectives, usd), explored, kept)
    assert chosen.replicas.tolist() == ([1, 1] if moves else [1, 2])


def test_a_kept_plan_that_breaks_a_promise_is_left(asked: Asked) -> None:
    objectives, explored = asked("limited", "cheapest")
    chosen = answer(keeping(objectives, 100.0), explored, z(0, 1))
    # Of the deployments that keep every promise, one 70b beside the 8b is the least change.
    assert chosen.replicas.tolist() == [1, 1]


def test_a_tie_of_quality_is_settled_for_the_kept_plan(asked: Asked) -> None:
    objectives, explored = asked("unlimited", "best_quality", 12)
    kept = z(3, 0)  # reaches what two replicas reach already
    assert answer(keeping(objectives, 13.0), explored, kept).replicas.tolist() == [3, 0]
    assert answer(keeping(objectives, 11.0), explored, kept).replicas.tolist() == [2, 0]


def only(explored: Explored, *wanted: Any) -> Explored:
    """An exploration that has seen some deployments only."""
    listed = [r.tolist() for r in wanted]
    few = tuple(e for e in explored.evaluations if e.replicas.tolist() in listed)
    front = tuple(e for e in explored.front if e.replicas.tolist() in listed)
    return replace(explored, evaluations=few, front=front)


def test_a_pool_without_traffic_is_not_rented(asked: Asked) -> None:
    # A search that has seen two 70b and an 8b only: the best quality leaves the 8b idle.
    objectives, explored = asked("unlimited", "best_quality", 12)
    seen = only(explored, z(2, 1))
    assert seen.evaluations
    chosen = answer(objectives, seen)
    assert chosen.replicas.tolist() == [2, 0]
    assert chosen.cost_usd_per_h == pytest.approx(8 * GPU_USD_PER_H)
    assert not any(p.what == "load:llama-3.1-8b-h100" for p in chosen.routing.prices)
    again = settle(objectives, chosen.replicas)
    assert again.acceptable
    assert again.score.quality == pytest.approx(chosen.score.quality, abs=1e-9)


def test_a_pool_that_the_question_asks_for_is_rented_without_traffic(tmp_path: Path) -> None:
    fixed = {"llama-3.1-8b-h100": {"min": 1}}
    question = unlimited(choose="best_quality", stock={GPU: 12}, replicas=fixed)
    objectives = objectives_of(tmp_path, question)
    chosen = answer(objectives, only(enumerated(objectives), z(2, 3)))
    assert chosen.replicas.tolist() == [2, 1]


@pytest.mark.parametrize(("usd", "stays"), [(2.0, False), (4.0, True)])
def test_an_idle_pool_in_production_stays_where_the_change_costs_more(
    asked: Asked, usd: float, stays: bool
) -> None:
    objectives, explored = asked("unlimited", "best_quality", 12)
    kept = z(2, 1)
    chosen = answer(keeping(objectives, usd), only(explored, kept), kept)
    assert chosen.replicas.tolist() == ([2, 1] if stays else [2, 0])


def figures(s: Settled) -> tuple[float, float, float]:
    return round(s.cost_usd_per_h, 4), -round(s.score.quality, 6), round(s.latency, 6)


@pytest.mark.parametrize(
    ("kind", "wanted"), [("limited", "cheapest"), ("unlimited", "fastest"), ("hosted", "cheapest")]
)
def test_the_front_holds_the_choice_and_nothing_dominated(
    asked: Asked, kind: str, wanted: str
) -> None:
    objectives, explored = asked(kind, wanted)
    chosen = answer(objectives, explored)
    front = settled_front(objectives, explored, chosen)
    assert sum(point is chosen for point in front) == 1
    assert 1 < len(front) <= MAX_FRONT + 1
    assert all(point.acceptable for point in front)
    vectors = [figures(point) for point in front]
    for a in vectors:
        assert not any(b != a and all(x <= y for x, y in zip(b, a, strict=True)) for b in vectors)
    assert [v[0] for v in vectors] == sorted(v[0] for v in vectors)


def test_no_point_is_on_the_front_twice(tmp_path: Path) -> None:
    # On the 8b alone no level binds: the three levels are one and the same plan.
    objectives = objectives_of(tmp_path, small(quality_at_least=0.5))
    explored = enumerated(objectives)
    equal = [e for e in explored.front if e.replicas.tolist() == [0, 3]]
    assert len(equal) == 3
    front = settled_front(objectives, explored, answer(objectives, explored))
    seen = [(tuple(p.replicas.tolist()), *figures(p)) for p in front]
    assert len(set(seen)) == len(seen)
    assert sum(p.replicas.tolist() == [0, 3] for p in front) == 1


def test_the_order_of_evaluations_does_not_matter(asked: Asked) -> None:
    objectives, explored = asked("unlimited", "cheapest")
    turned = replace(explored, evaluations=explored.evaluations[::-1], front=explored.front[::-1])
    one, two = answer(objectives, explored), answer(objectives, turned)
    assert one.replicas.tolist() == two.replicas.tolist()
    assert one.shares.tolist() == two.shares.tolist()
    fronts = [settled_front(objectives, e, one) for e in (explored, turned)]
    listed = [[(p.replicas.tolist(), p.shares.tolist()) for p in front] for front in fronts]
    assert listed[0] == listed[1]


def test_signing_never_makes_the_answer_worse(asked: Asked) -> None:
    for kind in ("limited", "hosted"):
        objectives, explored = asked(kind, "cheapest")
        rough = answer(objectives, explored)
        signed = answer(objectives, explored, signed=True)
        assert signed.cost_usd_per_h <= rough.cost_usd_per_h + 1e-6
