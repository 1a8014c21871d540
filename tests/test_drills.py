"""Scenarios played: what survives by the tables survives in simulation, what does not is missed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import pytest
from made_cases import GPU, OWN, z
from questions import inputs_of, small

from planner.case import make_case
from planner.confirm import Care, Stage, confirm, draft_of
from planner.drills import by_tables, played
from planner.explore import Explored
from planner.files.plans import plan_text, routes_of
from planner.gate.check import check, contradictions
from planner.gate.plan.survival import survival_findings
from planner.objectives import Objectives, make_objectives
from planner.ordered import rescore
from planner.plan import make_plan
from planner.robust import scenarios
from planner.settle import Settled, settle, with_survivals
from planner.simulate.rehearse import Options
from planner.simulate.scene import make_scene
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan, Simulated, Survived
from planner.spec.question import Robust

N_REQUESTS = 3000


@cache
def inputs() -> Inputs:
    return inputs_of(Path(mkdtemp()), small(stock={GPU: 16}))


@cache
def calm() -> Objectives:
    return make_objectives(make_case(inputs()))


def asked(**robust: object) -> Objectives:
    """The same question with something to survive."""
    plain = calm()
    question = plain.case.question.model_copy(update={"robust": Robust.model_validate(robust)})
    return replace(plain, case=replace(plain.case, question=question))


@cache
def stage() -> Stage:
    scene = make_scene(inputs().files, calm().case.models)
    return Stage(scene, Care(rounds=0, n_requests=N_REQUESTS, n_front=0), 0)


def runs_for(seconds: float) -> Callable[[float], Options]:
    return lambda factor: Options((0,), seconds, rate_factor=factor, n_processes=1)


def played_at(o: Objectives, settled: Settled, at: int) -> Simulated:
    scenario = scenarios(o.case, settled.replicas)[at]
    found = played(stage().scene, draft_of(o, settled), runs_for(100.0), scenario)
    assert found is not None
    return found


def test_a_plan_that_survives_any_lost_replica_does_so_in_simulation_and_another_does_not() -> None:
    """The same replicas with other shares: the best without failures misses a limit in one."""
    o = asked(failures="replica")
    careful, careless = settle(o, z(2, 1)), settle(calm(), z(2, 1))
    assert careful.acceptable
    assert careless.acceptable
    kept = stage().survived(o, careful)
    assert [s.scenario for s in kept] == [f"without 1 of 2 {OWN[0]}", f"without 1 of 1 {OWN[1]}"]
    assert all(s.survives and s.verdict != "missed" for s in kept)
    lost = stage().survived(o, with_survivals(o.case, careless))
    assert [s.survives for s in lost] == [False, True]
    assert [s.verdict for s in lost] == ["missed", "met"]


def test_a_plan_whose_scenario_is_missed_in_simulation_does_not_hold() -> None:
    o = asked(failures="replica")
    careless = with_survivals(o.case, settle(calm(), z(2, 1)))
    nothing = Explored((), (), "none", False, True)
    found = confirm(stage(), o, nothing, careless, "quick")
    assert found.simulated is not None
    assert not found.simulated.missed
    assert not found.holds
    assert found.latency_ratio > 1.0
    assert f"without 1 of 2 {OWN[0]}, a limit is at" in found.why[-1]


def test_more_of_one_class_comes_as_more_of_that_class() -> None:
    o = asked(rate_ratio=1.5, class_rate_ratio={"hard": 2.0})
    settled = settle(o, z(3, 4))
    every, hard = (played_at(o, settled, at) for at in (0, 1))
    assert every.class_rps["easy"] == pytest.approx(36.0, rel=0.1)
    assert every.class_rps["hard"] == pytest.approx(12.0, rel=0.1)
    assert hard.class_rps["easy"] == pytest.approx(24.0, rel=0.1)
    assert hard.class_rps["hard"] == pytest.approx(16.0, rel=0.1)


def test_error_bands_are_judged_by_tables_alone() -> None:
    o = asked(latency_band=True)
    settled = settle(o, z(3, 4))
    (said,) = stage().survived(o, settled)
    assert said.verdict is None
    assert (said,) == by_tables(settled.survivals)


def test_limits_count_longer_while_a_failure_lasts() -> None:
    careless = settle(calm(), z(2, 1))
    o, looser = asked(failures="replica"), asked(failures="replica", limits_ratio=3.0)
    strict = stage().survived(o, with_survivals(o.case, careless))
    loose = stage().survived(looser, with_survivals(looser.case, careless))
    assert strict[0].verdict == "missed"
    assert loose[0].verdict == "met"
    assert loose[0].simulated_latency_ratio == pytest.approx(
        (strict[0].simulated_latency_ratio or 0.0) / 3.0, rel=1e-4
    )


# ---- In the plan and at the gate -----------------------------------------------------------------


@cache
def robust_inputs() -> Inputs:
    question = small(
        stock={GPU: 10},
        robust={"failures": "replica"},
        replicas={OWN[0]: {"min": 2, "max": 2}, OWN[1]: {"min": 1, "max": 1}},
    )
    return inputs_of(Path(mkdtemp()), question)


@cache
def robust_plan() -> Plan:
    return make_plan(robust_inputs(), "quick")


def codes(plan: Plan, of: Inputs | None = None) -> list[str]:
    return [f.code for f in check(of or robust_inputs(), plan, routes_of(plan), ())]


def test_a_plan_says_what_it_survives_and_the_gate_finds_the_same() -> None:
    plan = robust_plan()
    assert {d.pool: d.replicas for d in plan.deployment} == {OWN[0]: 2, OWN[1]: 1}
    assert len(plan.survives) == 2
    assert all(s.survives and s.verdict in ("met", "too close to call") for s in plan.survives)
    assert any(
        text.startswith("surviving 2 scenarios costs +0.00 $/h and quality -") for text in plan.why
    )
    assert '"survives"' in plan_text(plan)
    assert codes(plan) == []


UNTRIED = {"verdict": None, "simulated_latency_ratio": None, "simulated_lost_ratio": None}


def test_the_gate_finds_what_a_plan_should_not_say() -> None:
    plan = robust_plan()
    case = make_case(robust_inputs(), learned=plan.learned)
    again = rescore(case, plan)
    first, second = plan.survives

    def found(*survives: Survived) -> list[str]:
        said = plan.model_copy(update={"survives": survives})
        wrong = survival_findings(case, said, again, inputs_changed=False)
        return [f.code for f in (*wrong, *contradictions(said))]

    assert found(first, second) == []
    assert found(first) == found(first, first, second) == ["survives-differ"]
    for changes in (
        {"latency_ratio": first.latency_ratio * 0.97},
        {"utilisation_ratio": first.utilisation_ratio - 0.01},
        {"quality": first.quality + 1e-4},
        {"survives": False},
        {"verdict": None},
        {"verdict": "met", "simulated_latency_ratio": 1.2},
        UNTRIED,
    ):
        assert found(first.model_copy(update=changes), second) == ["survives-differ"], changes
    missed = first.model_copy(update={"verdict": "missed"})
    assert found(missed, second) == ["simulated"]
    # And `rb plan` itself says so, as it does of a limit that is missed without any failure.
    assert not plan.contradicted
    assert plan.model_copy(update={"survives": (missed, second)}).contradicted


def test_the_gate_finds_shares_that_do_not_survive() -> None:
    careless = draft_of(calm(), settle(calm(), z(2, 1)))
    moved = robust_plan().model_copy(
        update={"routing": careless.routing, "predicted": careless.predicted}
    )
    assert "not-survived" in codes(moved)


def test_a_plan_that_is_asked_for_nothing_is_silent() -> None:
    plan = draft_of(calm(), settle(calm(), z(2, 1)))
    assert plan.survives == ()
    assert "survives" not in plan_text(plan)


@pytest.mark.slow
def test_the_cheapest_plan_that_survives_costs_more_and_holds_in_simulation() -> None:
    free = small(stock={GPU: 16})
    plain = make_plan(inputs_of(Path(mkdtemp()), free), "quick")
    careful = make_plan(
        inputs_of(Path(mkdtemp()), {**free, "robust": {"failures": "replica"}}), "quick"
    )
    assert careful.predicted.cost_usd_per_h > plain.predicted.cost_usd_per_h
    assert all(s.survives and s.verdict != "missed" for s in careful.survives)
    o = asked(failures="replica")
    replicas = {d.pool: d.replicas for d in plain.deployment}
    chosen = settle(calm(), z(*(replicas.get(pool, 0) for pool in OWN)))
    same = with_survivals(o.case, chosen)
    assert any(s.verdict == "missed" for s in stage().survived(o, same))
