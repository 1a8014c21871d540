"""What a person reads of what a plan survives."""

from __future__ import annotations

import io

from hand_plan import BIG

from planner.gate.diff import diff
from planner.report.console import make_console
from planner.report.data import diff_data
from planner.report.diff import render_diff
from planner.report.plan import render_plan
from planner.spec.plan import Plan, Survived

LOSS = f"without 1 of 6 {BIG}"


def text_of(plan: Plan) -> str:
    stream = io.StringIO()
    render_plan(plan, make_console(stream, 80))
    return stream.getvalue()


def survived(**changes: object) -> Survived:
    known = {
        "scenario": LOSS,
        "survives": True,
        "utilisation_ratio": 0.91,
        "latency_ratio": 0.87,
        "quality": 0.7,
        "unserved_ratio": 0.0,
    }
    return Survived.model_validate(known | changes)


def rows_of(plan: Plan, *found: Survived) -> str:
    text = text_of(plan.model_copy(update={"survives": found}))
    assert max(len(row) for row in text.splitlines()) <= 80
    return text.split("What it survives", 1)[1].split("\n\n", 1)[0]


def test_a_plan_that_is_asked_for_nothing_has_no_such_section(demo_plan: Plan) -> None:
    assert "What it survives" not in text_of(demo_plan)


def test_every_scenario_has_a_row_with_its_figures(demo_plan: Plan) -> None:
    rows = rows_of(demo_plan, survived(), survived(scenario="1.2 times the traffic"))
    assert LOSS in rows
    assert "1.2 times the traffic" in rows
    assert rows.count("91%") == rows.count("87%") == 2
    assert "simulated" not in rows


def test_what_is_not_survived_or_contradicted_is_marked(demo_plan: Plan) -> None:
    seen = {"simulated_latency_ratio": 1.31, "simulated_lost_ratio": 0.0}
    rows = rows_of(
        demo_plan,
        survived(scenario="a", survives=False),
        survived(scenario="b", verdict="missed", **seen),
        survived(scenario="c", verdict="met", **seen),
    )
    a, b, c = (next(r for r in rows.splitlines() if f" {name} " in r) for name in "abc")
    assert "NOT SURVIVED" in a
    assert "contradicted" in b
    assert "131%" in b
    assert "contradicted" not in c


def test_a_difference_tells_which_scenarios_only_one_plan_survives(demo_plan: Plan) -> None:
    missed = {"verdict": "missed", "simulated_latency_ratio": 1.3, "simulated_lost_ratio": 0.0}
    same, lost, new = survived(scenario="a"), survived(scenario="b"), survived(scenario="c")
    old_plan = demo_plan.model_copy(update={"survives": (same, lost)})
    new_plan = demo_plan.model_copy(
        update={"survives": (same, survived(scenario="b", **missed), new)}
    )
    found = diff(old_plan, new_plan)
    assert found.empty  # what is ordered is the same
    stream = io.StringIO()
    render_diff(found, make_console(stream, 80))
    rows = stream.getvalue().split("What is survived", 1)[1].splitlines()[1:]
    assert [row.strip() for row in rows if "->" in row] == [
        "- b: survived -> not survived",
        "- c: not asked -> survived",
    ]
    assert diff_data(found)["survives"] == [
        {"scenario": "b", "old": True, "new": False},
        {"scenario": "c", "old": None, "new": True},
    ]
    assert "survives" not in diff_data(diff(old_plan, old_plan))
