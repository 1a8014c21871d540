"""serving.json held against its plan: of another plan, of other inputs, or as it should be."""

from __future__ import annotations

from typing import Any

import pytest
from hand_plan import BIG, SMALL

from planner.files.plans import routes_of
from planner.gate import check as gate_check
from planner.gate import sheet as gate_sheet
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.sheet import ServingSheet


@pytest.fixture
def made_once(monkeypatch: pytest.MonkeyPatch, demo_sheet: ServingSheet) -> None:
    """The sheet that today's inputs give is the one that all tests share."""
    monkeypatch.setattr(gate_sheet, "make_sheet", lambda *_: demo_sheet)


def found(inputs: Inputs, plan: Plan, sheet: ServingSheet) -> list[tuple[str, str, str]]:
    findings = gate_sheet.sheet_findings(inputs, plan, sheet, None, True)
    return [(f.severity, f.code, f.where) for f in findings]


def with_pool(sheet: ServingSheet, **changes: Any) -> ServingSheet:
    pool = sheet.pools[SMALL].model_copy(update=changes)
    return sheet.model_copy(update={"pools": {**sheet.pools, SMALL: pool}})


def test_a_check_of_the_plan_holds_it_against_it(
    demo_inputs: Inputs,
    demo_plan: Plan,
    demo_sheet: ServingSheet,
    made_once: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With nothing else to find; of plans with their own sheets, test_period_plans.py has one."""
    monkeypatch.setattr(gate_check, "case_of", lambda *_: None)
    monkeypatch.setattr(gate_check, "operation_findings", lambda *_, inputs_changed: [])
    routes, edited = routes_of(demo_plan), with_pool(demo_sheet, n_replicas=9)
    assert gate_check.check(demo_inputs, demo_plan, routes, sheet=demo_sheet) == ()
    assert gate_check.check(demo_inputs, demo_plan, routes, sheet=None) == ()
    (finding,) = gate_check.check(demo_inputs, demo_plan, routes, sheet=edited)
    assert finding.where == f"serving.json:pools.{SMALL}.n_replicas"


@pytest.mark.usefixtures("made_once")
def test_that_of_another_plan_is_told_by_its_hash(
    demo_inputs: Inputs, demo_plan: Plan, demo_sheet: ServingSheet
) -> None:
    other = demo_sheet.model_copy(update={"plan_hash": "0" * 64, "quality": 0.1})
    wanted = [("error", "sheet-differs", "serving.json:plan_hash")]
    assert found(demo_inputs, demo_plan, other) == wanted


@pytest.mark.usefixtures("made_once")
@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"n_replicas": 9}, f"serving.json:pools.{SMALL}.n_replicas"),
        ({"utilisation_ratio": 0.3}, f"serving.json:pools.{SMALL}.utilisation_ratio"),
    ],
)
def test_an_edited_figure_is_found(
    demo_inputs: Inputs,
    demo_plan: Plan,
    demo_sheet: ServingSheet,
    changes: dict[str, Any],
    where: str,
) -> None:
    assert found(demo_inputs, demo_plan, with_pool(demo_sheet, **changes)) == [
        ("error", "sheet-differs", where)
    ]


@pytest.mark.usefixtures("made_once")
def test_what_differs_everywhere_is_told_in_a_few_places(
    demo_inputs: Inputs, demo_plan: Plan, demo_sheet: ServingSheet
) -> None:
    steps = demo_sheet.pools[SMALL].steps
    assert steps is not None
    slower = steps.model_copy(update={"decode_ms": tuple(2 * ms for ms in steps.decode_ms)})
    findings = found(demo_inputs, demo_plan, with_pool(demo_sheet, steps=slower))
    assert [where for *_, where in findings] == [
        *(f"serving.json:pools.{SMALL}.steps.decode_ms[{k}]" for k in range(3)),
        "serving.json",
    ]
    gone = demo_sheet.model_copy(update={"pools": {BIG: demo_sheet.pools[BIG]}})
    assert found(demo_inputs, demo_plan, gone) == [("error", "sheet-differs", "serving.json:pools")]


@pytest.mark.usefixtures("made_once")
def test_the_last_digits_of_another_machine_are_no_difference(
    demo_inputs: Inputs, demo_plan: Plan, demo_sheet: ServingSheet
) -> None:
    used = demo_sheet.pools[SMALL].utilisation_ratio
    assert found(demo_inputs, demo_plan, with_pool(demo_sheet, utilisation_ratio=used + 1e-6)) == []


def test_a_plan_that_must_be_made_anew_is_not_asked_for_its_figures_twice(
    demo_inputs: Inputs, demo_plan: Plan, demo_sheet: ServingSheet
) -> None:
    edited = with_pool(demo_sheet, utilisation_ratio=0.3)
    assert gate_sheet.sheet_findings(demo_inputs, demo_plan, edited, None, False) == []
