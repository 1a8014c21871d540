"""Conflicts are proved, and giving up any one promise of them resolves them: by enumeration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_cases import GPU, enumerated, make_objectives
from questions import inputs_of, small

from planner.case import make_case
from planner.choose import choose
from planner.errors import Infeasible
from planner.reasons.asked import Asked
from planner.reasons.conflict import find_conflict, is_impossible, promises_of
from planner.reasons.relax import CARE, infeasible
from planner.spec.question import Question


def asked_of(folder: Path, question: dict[str, Any]) -> Asked:
    inputs = inputs_of(folder, question)
    return Asked(inputs, make_objectives(make_case(inputs)), None, (), None, CARE)


def has_answer(asked: Asked, question: Question) -> bool:
    """Whether any deployment of the whole box keeps everything."""
    objectives = asked.of(question)
    if objectives is None:
        return False
    return choose(objectives, enumerated(objectives), None, signed=False)[0] is not None


def with_limit(at_most_ms: float, **changes: Any) -> dict[str, Any]:
    question = small(**changes)
    question["classes"][0]["limits"][0]["at_most_ms"] = at_most_ms
    return question


CONFLICTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "money against quality": (
        small(budget_usd_per_h=9.0),
        {"quality at least 0.75", "a budget of 9 $/h"},
    ),
    "a quality that no model has": (
        small(quality_at_least=0.95),
        {"quality at least 0.95"},
    ),
    "GPUs against quality": (
        small(stock={GPU: 4}),
        {"quality at least 0.75", f"4 {GPU} in stock"},
    ),
    "a limit that nothing meets": (
        with_limit(20.0),
        {"p95 e2e of easy at most 20 ms"},
    ),
    "replicas that are too few": (
        small(replicas={"llama-3.1-70b-h100-tp4": {"min": 0, "max": 0}}),
        {"quality at least 0.75", "replicas of llama-3.1-70b-h100-tp4"},
    ),
}


FAST = "money against quality"


@pytest.mark.parametrize(
    "name",
    [name if name == FAST else pytest.param(name, marks=pytest.mark.slow) for name in CONFLICTS],
)
def test_a_conflict_is_found_and_no_part_of_it_is_one(name: str, tmp_path: Path) -> None:
    question, expected = CONFLICTS[name]
    asked = asked_of(tmp_path, question)
    assert not has_answer(asked, asked.question)
    conflict = find_conflict(asked)
    assert {promise.what for promise in conflict} == expected
    for promise in conflict:
        assert not is_impossible(asked, promise.without(asked.question))
        if name != "a limit that nothing meets":
            assert has_answer(asked, promise.without(asked.question))


def test_what_has_an_answer_is_never_called_impossible(tmp_path: Path) -> None:
    asked = asked_of(tmp_path, small())
    assert has_answer(asked, asked.question)
    assert find_conflict(asked) == ()


def test_every_promise_can_be_given_up_alone(tmp_path: Path) -> None:
    question = small(budget_usd_per_h=30.0, replicas={"llama-3.1-8b-h100": {"min": 1}})
    question["limits"] = [{"metric": "ttft", "statistic": "p95", "at_most_ms": 9000}]
    question["classes"][1]["quality_at_least"] = 0.5
    asked = asked_of(tmp_path, question)
    promises = promises_of(asked.question)
    kinds = [promise.kind for promise in promises]
    assert kinds == ["range", "limit", "limit", "limit", "class floor", "floor", "stock", "budget"]
    for promise in promises:
        left = {p.what for p in promises_of(promise.without(asked.question))}
        gone = {p.what for p in promises} - left
        assert gone == {promise.what}


@pytest.mark.slow
def test_the_refusal_names_the_conflict_and_ways_out_of_it_only(tmp_path: Path) -> None:
    asked = asked_of(tmp_path, small(stock={GPU: 4}))
    objectives = asked.objectives
    explored = enumerated(objectives)
    nearest = choose(objectives, explored, None)[1]
    refused: Infeasible = infeasible(objectives, explored, nearest, asked.inputs)
    assert set(refused.conflict) == {"quality at least 0.75", f"4 {GPU} in stock"}
    assert "proved to conflict with this traffic: " in str(refused)
    text = " ".join(refused.relaxations)
    assert "instead of" not in text  # limits are no part of it
    assert f"more {GPU} in stock" in text
    assert "is the best within the other promises" in text
