"""The searches over deployments: what they look at, how often, and what they find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cases import enumerated, good, hosted_objectives, objectives_of, small, unlimited, z

from planner.errors import InputError
from planner.exact.front import Grid, certified_front
from planner.explore import (
    BUDGETS,
    Budget,
    Explored,
    explore,
    explore_again,
    explore_narrowly,
)
from planner.memo import Memo, search_problem
from planner.objectives import Evaluation, Objectives, make_objectives
from planner.search import local_search, pareto
from planner.spec.arrays import IntArray
from planner.spec.plan import Learned

Point = tuple[tuple[int, ...], int]


class Counted(Objectives):
    """Objectives that write down every evaluation, and may interrupt one."""

    calls: list[Point]  # by the fast method
    careful_calls: list[Point]
    stop_at: int

    def evaluate(self, replicas: IntArray, level: int = 0, method: Any = "fast") -> Evaluation:
        if len(self.calls) + len(self.careful_calls) == self.stop_at:
            raise KeyboardInterrupt
        calls = self.careful_calls if method == "careful" else self.calls
        calls.append((tuple(replicas.tolist()), level))
        return super().evaluate(replicas, level, method)


def counted(objectives: Objectives, stop_at: int = -1) -> Counted:
    """The same objectives, counted."""
    made = Counted(objectives.case, objectives.levels, objectives.tables, objectives.unserved_usd)
    object.__setattr__(made, "calls", [])
    object.__setattr__(made, "careful_calls", [])
    object.__setattr__(made, "stop_at", stop_at)
    return made


def points(explored: Explored) -> list[Point]:
    return [(tuple(e.replicas.tolist()), e.level) for e in explored.evaluations]


@pytest.fixture(autouse=True)
def low_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick effort, smaller still."""
    few = Budget(Grid(7, 5e-3, 50), local=50, focus=40, exact=2, enumerate=150, looks=4)
    monkeypatch.setitem(BUDGETS, "quick", few)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    return objectives_of(tmp_path_factory.mktemp("base"), unlimited())


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    """A box of some hundreds: too large for auto at low effort, small enough to enumerate."""
    question = unlimited(stock={"h100-sxm-80g": 36})
    for cls in question["classes"]:
        cls["rate_rps"] *= 3
    return objectives_of(tmp_path_factory.mktemp("wide"), question)


@pytest.fixture(scope="module")
def wide_truth(wide: Objectives) -> Explored:
    return enumerated(wide)


def test_the_memo_evaluates_a_point_once(base: Objectives) -> None:
    objectives = counted(base)
    memo = Memo(objectives)
    first, again = memo(np.array([1, 1, 0])), memo(np.array([1, 1, 0]))
    assert np.array_equal(first.values, again.values)
    memo(np.array([1, 1, 1]))
    assert objectives.calls == [((1, 1), 0), ((1, 1), 1)]


@pytest.mark.parametrize("method", ["auto", "exact", "local", "random"])
def test_no_search_evaluates_a_point_twice(wide: Objectives, method: Any) -> None:
    objectives = counted(wide)
    explored = explore(objectives, "quick", method, 1)
    for found in (objectives.calls, objectives.careful_calls):
        assert len(set(found)) == len(found)
    assert points(explored) == objectives.calls
    assert set(objectives.careful_calls) <= set(objectives.calls)
    assert bool(objectives.careful_calls) == (method in ("auto", "exact"))


def test_enumeration_covers_exactly_the_box(base: Objectives) -> None:
    found = points(enumerated(base))
    lower, upper = base.case.space.lower, base.case.space.upper
    ranges = [range(low, high + 1) for low, high in zip(lower, upper, strict=True)]
    box = [(r, level) for r in product(*ranges) for level in range(3) if 4 * r[0] + r[1] <= 8]
    assert sorted(found) == sorted(box)
    assert len(found) == len(set(found))


def test_enumeration_of_too_large_a_box_is_refused(tmp_path: Path) -> None:
    question = small(stock={"h100-sxm-80g": 2000}, maximise="rate_factor")
    objectives = counted(objectives_of(tmp_path, question))
    with pytest.raises(InputError, match="50,000") as caught:
        explore(objectives, "quick", "enumerate", 0)
    assert "--method auto" in str(caught.value)
    assert objectives.calls == []


def test_auto_enumerates_a_small_box(base: Objectives) -> None:
    explored = explore(base, "quick", "auto", 0)
    assert explored.method == "enumeration"
    assert explored.exhaustive
    assert explored.complete
    assert points(explored) == points(enumerated(base))


def test_auto_goes_through_stages_in_a_large_box(
    wide: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[str] = []

    def stage(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **_: Any) -> Any:
            stages.append(name)
            return real(*arguments)

        return run

    monkeypatch.setattr("planner.explore.certified_front", stage("front", certified_front))
    monkeypatch.setattr("planner.search.local_search.search", stage("local", local_search.search))
    explored = explore(wide, "quick", "auto", 0)
    assert stages == ["front", "local", "local"]
    assert explored.method == "exact front, then local search"
    assert not explored.exhaustive
    assert explored.complete
    stages.clear()
    alone = explore(wide, "quick", "exact", 0)
    assert stages == ["front"]
    assert alone.method == "exact front"
    assert len(alone.evaluations) < len(explored.evaluations)
    assert set(points(alone)) <= set(points(explored))


def test_every_evaluated_point_lies_in_the_box(wide: Objectives, wide_truth: Explored) -> None:
    box = set(points(wide_truth))
    for method in ("local", "random", "exact"):
        found = points(explore(wide, "quick", method, 5))  # type: ignore[arg-type]
        assert set(found) <= box
        budget = BUDGETS["quick"]
        assert len(found) <= budget.local + budget.focus


def test_a_start_outside_the_box_is_left_out(base: Objectives) -> None:
    objectives = counted(base)
    explored = explore(objectives, "quick", "local", 0, start=[z(9, 9), z(1, 1)])
    assert objectives.calls[0] == ((1, 1), 0)
    assert ((9, 9), 0) not in points(explored)


@pytest.mark.parametrize("choose", ["cheapest", "best_quality"])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("method", ["auto", "exact"])
def test_the_exact_front_finds_the_best_that_enumeration_finds(
    wide: Objectives, wide_truth: Explored, choose: Any, seed: int, method: Any
) -> None:
    assert len(wide_truth.evaluations) > BUDGETS["quick"].enumerate
    case = replace(wide.case, question=wide.case.question.model_copy(update={"choose": choose}))
    explored = explore(replace(wide, case=case), "quick", method, seed)
    assert len(explored.evaluations) < len(wide_truth.evaluations)
    best, found = good(wide_truth.evaluations), good(explored.evaluations)
    if choose == "cheapest":
        least = min(e.cost_usd_per_h for e in best)
        assert min(e.cost_usd_per_h for e in found) == pytest.approx(least, abs=1e-9)
    else:
        most = max(e.quality for e in best)
        assert max(e.quality for e in found) == pytest.approx(most, abs=1e-4)


def test_a_narrow_search_finds_the_cheapest_too(wide: Objectives, wide_truth: Explored) -> None:
    least = min(good(wide_truth.evaluations), key=lambda e: e.cost_usd_per_h)
    near = np.minimum(least.replicas + 1, wide.case.space.upper)
    explored = explore_narrowly(wide, 60, [near])
    found = min(e.cost_usd_per_h for e in good(explored.evaluations))
    assert found == pytest.approx(least.cost_usd_per_h, abs=1e-9)
    assert {e.level for e in explored.evaluations} == {0}


def test_the_front_is_acceptable_and_not_dominated(wide: Objectives, wide_truth: Explored) -> None:
    def vector(e: Evaluation) -> list[float]:
        return [e.cost_usd_per_h, -e.quality, e.latency]

    able = good(wide_truth.evaluations)
    everything = np.array([vector(e) for e in able])
    front = {id(e) for e in wide_truth.front}
    assert front <= {id(e) for e in able}
    for e in able:
        v = np.array(vector(e))
        beaten = bool((np.all(everything <= v, axis=1) & np.any(everything < v, axis=1)).any())
        assert (id(e) in front) == (not beaten)
    assert pareto.non_dominated(np.array([vector(e) for e in wide_truth.front])).all()


@pytest.mark.parametrize("method", ["enumerate", "local", "random", "auto"])
def test_an_interrupt_keeps_what_was_found(wide: Objectives, method: Any) -> None:
    objectives = counted(wide, stop_at=25)
    explored = explore(objectives, "quick", method, 0)
    assert not explored.complete
    assert not explored.exhaustive
    assert points(explored) == objectives.calls
    assert len(objectives.calls) + len(objectives.careful_calls) == 25


def test_an_interrupt_in_the_last_stage_is_not_complete(wide: Objectives) -> None:
    whole = counted(wide)
    assert explore(whole, "quick", "auto", 0).complete
    cut = counted(wide, stop_at=len(whole.calls) + len(whole.careful_calls) - 1)
    explored = explore(cut, "quick", "auto", 0)
    assert not explored.complete
    assert (cut.calls, cut.careful_calls) in (
        (whole.calls, whole.careful_calls[:-1]),
        (whole.calls[:-1], whole.careful_calls),
    )


def test_an_interrupt_before_anything_was_found_is_an_answer_too(base: Objectives) -> None:
    explored = explore(counted(base, stop_at=0), "quick", "enumerate", 0)
    assert explored.evaluations == ()
    assert explored.front == ()
    assert not explored.complete


def test_the_same_seed_looks_at_the_same_points(wide: Objectives) -> None:
    runs = [points(explore(wide, "quick", "local", seed)) for seed in (3, 3, 4)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


# ---- After something was learned -----------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Objectives:
    """Deadlines that decide what is rented, and a box that is too large for auto."""
    question = small(stock={"h100-sxm-80g": 20})
    question["classes"][0]["limits"][0]["at_most_ms"] = 6000
    for cls in question["classes"]:
        cls["rate_rps"] *= 2
    return objectives_of(tmp_path_factory.mktemp("limited"), question)


@pytest.fixture(scope="module")
def slower(limited: Objectives) -> Objectives:
    """The same where both pools turned out to be half as slow again."""
    entry = {"class": None, "metric": "e2e", "load_ratio": (0.5,), "slower_ratio": (1.5,)}
    learned = [Learned.model_validate(entry | {"pool": p.name}) for p in limited.case.pools]
    return make_objectives(replace(limited.case, learned=tuple(learned)))


def cheapest(explored: Explored) -> float:
    return min(e.cost_usd_per_h for e in good(explored.evaluations))


@pytest.mark.slow
def test_a_box_that_was_enumerated_is_enumerated_again(
    slower: Objectives, monkeypatch: pytest.MonkeyPatch
) -> None:
    upper = np.minimum(slower.case.space.upper, [3, 4])
    case = replace(slower.case, space=replace(slower.case.space, upper=upper))
    slower = replace(slower, case=case)
    before = enumerated(make_objectives(replace(case, learned=())))
    few = replace(BUDGETS["quick"], enumerate=20)
    assert len(before.evaluations) > few.enumerate  # auto would not do it
    monkeypatch.setitem(BUDGETS, "quick", few)
    again = explore_again(slower, before, "quick")
    assert again.exhaustive
    assert again.complete
    assert again.method == before.method
    assert points(again) == points(before)
    assert cheapest(again) > cheapest(before)
    for now in again.evaluations:
        own = slower.evaluate(now.replicas, now.level)
        assert (now.cost_usd_per_h, now.violation) == (own.cost_usd_per_h, own.violation)


@pytest.mark.slow
def test_another_search_begins_with_the_front_of_the_one_before(
    limited: Objectives, slower: Objectives
) -> None:
    first = explore(limited, "quick", "local", 0)
    assert not first.exhaustive
    objectives, told = counted(slower), list[tuple[int, int]]()
    again = explore_again(
        objectives, first, "quick", lambda done, total, _: told.append((done, total))
    )
    front = {(tuple(e.replicas.tolist()), e.level) for e in first.front}
    assert set(objectives.calls[: len(front)]) == front
    assert (again.exhaustive, again.complete, again.method) == (False, True, "local search")
    mixed = explore_again(slower, replace(first, method="random search"), "quick")
    assert mixed.method == "random search, then local search"
    budget = BUDGETS["quick"]
    # What is on a front already is looked at first, and not charged for.
    assert len(objectives.calls) <= budget.local // 4 + len(front) + budget.focus
    assert len(objectives.careful_calls) <= budget.exact
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len({total for _, total in told}) == 1
    # And it finds the cheapest that enumeration finds.
    assert cheapest(again) == pytest.approx(cheapest(enumerated(slower)))


def test_another_search_without_a_front_before_begins_anew(slower: Objectives) -> None:
    nothing = Explored((), (), "local search", exhaustive=False, complete=True)
    assert good(explore_again(slower, nothing, "quick").evaluations)


def test_another_search_that_is_interrupted_is_not_complete(
    limited: Objectives, slower: Objectives
) -> None:
    first = explore(limited, "quick", "local", 0)
    again = explore_again(counted(slower, stop_at=25), first, "quick")
    assert not again.complete
    assert len(again.evaluations) == 25


def test_rent_is_known_beforehand_and_hosted_cost_is_not(base: Objectives, tmp_path: Path) -> None:
    own = search_problem(base, Memo(base))
    assert own.known is not None
    at = np.array([[1, 1, 0], [2, 0, 1]])
    known = own.known(at)
    assert known[:, 0] == pytest.approx([14.75, 23.6])
    assert np.isnan(known[:, 1:]).all()
    hosted = hosted_objectives(tmp_path)
    problem = search_problem(hosted, Memo(hosted))
    assert problem.known is not None
    assert np.isnan(problem.known(np.array([[1, 0, 1, 0]]))).all()


@pytest.mark.parametrize(("price", "max_rps", "used"), [(0.4, 50.0, True), (4.0, 50.0, False)])
def test_a_hosted_pool_is_used_where_it_is_cheaper(
    price: float, max_rps: float, used: bool, tmp_path: Path
) -> None:
    objectives = hosted_objectives(tmp_path, price=price, max_rps=max_rps)
    explored = enumerated(objectives)
    able = good(explored.evaluations)
    best = min(able, key=lambda e: e.cost_usd_per_h)
    assert bool(best.routing.shares[:, 0].any()) == used
    without = min(e.cost_usd_per_h for e in able if e.replicas[0] == 0)
    assert (best.cost_usd_per_h < without) == used


def test_a_hosted_pool_carries_no_more_than_its_provider_allows(tmp_path: Path) -> None:
    objectives = hosted_objectives(tmp_path, price=0.1, max_rps=5.0, quality_at_least=None)
    carried = [
        float(np.array([24.0, 8.0]) @ e.routing.shares[:, 0])
        for e in enumerated(objectives).evaluations
    ]
    assert max(carried) == pytest.approx(4.5, rel=1e-3)  # 10 % headroom
