"""serving.json held against its plan: of another plan, of other inputs, or as it should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hand_plan import BIG, SMALL

from planner.files.plans import routes_of
from planner.gate.check import check
from planner.gate.plan.sheet import sheet_findings
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.sheet import ServingSheet

Found = Callable[[ServingSheet], list[tuple[str, str, str]]]


@pytest.fixture
def found(demo_plan: Plan, demo_sheet: ServingSheet) -> Found:
    """What is found of a sheet where today's inputs give the one that all tests share."""

    def of(sheet: ServingSheet) -> list[tuple[str, str, str]]:
        findings = sheet_findings(demo_plan, sheet, lambda: demo_sheet)
        return [(f.severity, f.code, f.where) for f in findings]

    return of


def with_pool(sheet: ServingSheet, **changes: Any) -> ServingSheet:
    pool = sheet.pools[SMALL].model_copy(update=changes)
    return sheet.model_copy(update={"pools": {**sheet.pools, SMALL: pool}})


def test_a_check_of_the_plan_holds_it_against_it(
    demo_inputs: Inputs, demo_plan: Plan, demo_sheet: ServingSheet
) -> None:
    """The sheet was made from all candidates, the check fits those of the plan alone."""
    routes, edited = routes_of(demo_plan), with_pool(demo_sheet, n_replicas=9)
    assert check(demo_inputs, demo_plan, routes, sheet=demo_sheet) == ()
    assert check(demo_inputs, demo_plan, routes, sheet=None) == ()
    (finding,) = check(demo_inputs, demo_plan, routes, sheet=edited)
    assert finding.where == f"serving.json:pools.{SMALL}.n_replicas"


def test_that_of_another_plan_is_told_by_its_hash(found: Found, demo_sheet: ServingSheet) -> None:
    other = demo_sheet.model_copy(update={"plan_hash": "0" * 64, "quality": 0.1})
    assert found(other) == [("error", "sheet-differs", "serving.json:plan_hash")]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"n_replicas": 9}, f"serving.json:pools.{SMALL}.n_replicas"),
        ({"utilisation_ratio": 0.3}, f"serving.json:pools.{SMALL}.utilisation_ratio"),
    ],
)
def test_an_edited_figure_is_found(
    found: Found, demo_sheet: ServingSheet, changes: dict[str, Any], where: str
) -> None:
    assert found(with_pool(demo_sheet, **changes)) == [("error", "sheet-differs", where)]


def test_what_differs_everywhere_is_told_in_a_few_places(
    found: Found, demo_sheet: ServingSheet
) -> None:
    steps = demo_sheet.pools[SMALL].steps
    assert steps is not None
    slower = steps.model_copy(update={"decode_ms": tuple(2 * ms for ms in steps.decode_ms)})
    findings = found(with_pool(demo_sheet, steps=slower))
    assert [where for *_, where in findings] == [
        *(f"serving.json:pools.{SMALL}.steps.decode_ms[{k}]" for k in range(3)),
        "serving.json",
    ]
    gone = demo_sheet.model_copy(update={"pools": {BIG: demo_sheet.pools[BIG]}})
    assert found(gone) == [("error", "sheet-differs", "serving.json:pools")]


def test_the_last_digits_of_another_machine_are_no_difference(
    found: Found, demo_sheet: ServingSheet
) -> None:
    used = demo_sheet.pools[SMALL].utilisation_ratio
    assert found(with_pool(demo_sheet, utilisation_ratio=used + 1e-6)) == []


def test_a_plan_that_must_be_made_anew_is_not_asked_for_its_figures_twice(
    demo_plan: Plan, demo_sheet: ServingSheet
) -> None:
    edited = with_pool(demo_sheet, utilisation_ratio=0.3)
    assert sheet_findings(demo_plan, edited, None) == []
