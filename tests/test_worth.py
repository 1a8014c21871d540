"""What more would buy is what the changed question is answered with, over its whole box."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from changed_questions import Answered, able, cheapest
from made_cases import GPU, objectives_of, small, unlimited

from planner.reasons.asked import Asked
from planner.reasons.what_if import INTERRUPTED, what_if
from planner.reasons.worth import LESS_QUALITY, one_more, what_more_buys, worth_sentences
from planner.space import Packing
from planner.space.parts import Part
from planner.spec.reasons import Worth

TOLERANCE_USD = 0.01


@pytest.fixture(scope="module")
def frugal(tmp_path_factory: pytest.TempPathFactory) -> Answered:
    return Answered(tmp_path_factory.mktemp("frugal"), small())


@pytest.fixture(scope="module")
def found(frugal: Answered) -> dict[str, Worth]:
    worth = what_more_buys(frugal.asked, frugal.chosen, frugal.bound, "thorough")
    return {each.what: each for each in worth}


def test_ctrl_c_leaves_a_plan_without_answers_to_other_questions(
    frugal: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("planner.reasons.what_if.what_more_buys", interrupted)
    said, sentences = what_if(
        frugal.inputs,
        frugal.objectives,
        frugal.explored,
        frugal.chosen,
        frugal.bound,
        None,
        "quick",
    )
    assert not said and sentences == [INTERRUPTED]


def test_a_lower_floor_saves_what_the_lower_floor_costs_less(
    frugal: Answered, found: dict[str, Worth], tmp_path: Path
) -> None:
    then = cheapest(able(objectives_of(tmp_path, small(quality_at_least=0.75 - LESS_QUALITY))))
    worth = found["quality floor"]
    assert worth.change == "0.74 instead of 0.75"
    assert worth.gain == pytest.approx(frugal.chosen.cost_usd_per_h - then, abs=TOLERANCE_USD)
    assert worth.at_most is not None
    assert worth.at_most >= frugal.chosen.cost_usd_per_h - then - TOLERANCE_USD


@pytest.mark.slow
def test_every_binding_limit_is_asked_about_and_answered_right(
    frugal: Answered, found: dict[str, Worth], tmp_path: Path
) -> None:
    binding = {f.label for f in frugal.chosen.score.figures if f.ratio >= 0.97}
    assert binding
    assert {what for what in found if " of " in what and "stock" not in what} == binding
    for f in frugal.chosen.score.figures:
        if f.label not in binding or f.at_most_ms is None:
            continue
        question = small()
        for cls in question["classes"]:
            if cls["name"] == f.class_name:
                cls["limits"][0]["at_most_ms"] = 1.1 * f.at_most_ms
        then = cheapest(able(objectives_of(tmp_path / f.label.replace(" ", "_"), question)))
        saved = frugal.chosen.cost_usd_per_h - then
        assert found[f.label].gain == pytest.approx(saved, abs=TOLERANCE_USD)
        assert found[f.label].at_most is not None
        assert found[f.label].at_most >= saved - TOLERANCE_USD


def test_gpus_that_would_cost_more_than_the_plan_buy_nothing(
    frugal: Answered, found: dict[str, Worth]
) -> None:
    # Nine GPUs cost more than the plan, which has less: nothing needs to be solved to know.
    assert frugal.chosen.cost_usd_per_h < 9 * 2.95
    worth = found[f"stock of {GPU}"]
    assert worth.gain == 0.0
    assert frugal.bound is not None
    gap = frugal.bound.value - frugal.bound.best_possible
    assert worth.at_most == pytest.approx(gap, abs=1e-3)


def test_one_more_gpu_is_asked_about_where_places_decide(
    frugal: Answered, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Replicas of 3 and 2 have no places on nodes of 4 and 1, but on 4 and 2: six GPUs, five rented.
    parts = tuple(Part(n, name, 1.0, 1.0, False) for n, name in ((3, "70b"), (2, "8b")))
    packings = {n: Packing(n, 4, parts) for n in (5, 6)}
    assert [packings[n].used([1, 1])[1] for n in (5, 6)] == [False, True]
    case = frugal.objectives.case
    case = replace(case, space=replace(case.space, packings={GPU: packings[5]}))
    asked = replace(frugal.asked, objectives=replace(frugal.objectives, case=case))
    changed: list[dict[str, object]] = []
    monkeypatch.setattr(Asked, "otherwise", lambda _, **update: changed.append(update))
    worth = what_more_buys(asked, frugal.chosen, frugal.bound, "thorough")
    assert one_more(asked.question, GPU) in changed
    assert f"stock of {GPU}" not in {each.what for each in worth}


@pytest.mark.slow
def test_one_more_gpu_buys_the_quality_of_the_larger_box(tmp_path: Path) -> None:
    question = unlimited(choose="best_quality", quality_at_least=None, stock={GPU: 7})
    best = Answered(tmp_path / "now", question)
    larger = able(objectives_of(tmp_path / "then", {**question, "stock": {GPU: 8}}))
    gained = max(s.score.quality for s in larger) - best.chosen.score.quality
    assert gained > 0.01  # room for a second 70b
    (worth,) = what_more_buys(best.asked, best.chosen, best.bound, "standard")
    assert worth.what == f"stock of {GPU}"
    assert worth.gain == pytest.approx(gained, abs=1e-3)
    assert worth.at_most is not None
    assert worth.at_most >= gained - 1e-6
    (said,) = worth_sentences([worth])
    assert said.startswith(f"one more {GPU} in stock would buy quality +{worth.gain:.4f}, for ")


def test_more_gpus_come_at_the_price_of_the_dearest(tmp_path: Path) -> None:
    supply = [
        {"gpu": GPU, "count": 2, "usd_per_h": 1.5, "kind": "reserved"},
        {"gpu": GPU, "count": 6, "usd_per_h": 3.0},
    ]
    objectives = objectives_of(tmp_path, small(stock=None, supply=supply))
    more = one_more(objectives.case.question, GPU, 3)
    assert isinstance(more["supply"], tuple)
    added = more["supply"][-1]
    assert (added.count, added.usd_per_h, len(more["supply"])) == (3, 3.0, 3)


def test_nothing_is_asked_where_several_figures_are_traded(frugal: Answered) -> None:
    question = frugal.asked.question.model_copy(update={"choose": "knee"})
    case = replace(frugal.objectives.case, question=question)
    asked = replace(frugal.asked, objectives=replace(frugal.objectives, case=case))
    assert what_more_buys(asked, frugal.chosen, None, "standard") == ()


def test_sentences_say_what_is_proved() -> None:
    def worth(what: str, gain: float, at_most: float | None) -> Worth:
        return Worth(
            what=what, change="a", gain=gain, at_most=at_most, unit="usd_per_h", cost_usd_per_h=9.0
        )

    assert worth_sentences(
        [
            worth("p95 e2e of math", 1.6, 1.6),
            worth("quality floor", 2.0, 2.5),
            worth("mean e2e of math", 1.0, None),
            worth("stock of b200", 0.0, 0.0),
            worth("stock of h100", 0.0, 3.0),
        ]
    ) == [
        "p95 e2e of math at a would save 1.60 $/h (no plan gains more)",
        "a quality floor of a would save 2.00 $/h (at most 2.50)",
        "mean e2e of math at a would save 1.00 $/h",
        "would save nothing, by these tables: one more b200 in stock",
        "would save nothing, as far as was looked: one more h100 in stock",
    ]
