"""Where replicas lie, as a person reads it."""

from __future__ import annotations

import io

import pytest
from hand_plan import BIG, SMALL, hand_plan

from planner.report.console import make_console
from planner.report.placement import ranges
from planner.report.plan import render_plan
from planner.spec.inputs import Inputs
from planner.spec.plan import PlacedReplica, Plan

TITLE = "What lies on which GPU"


def text_of(plan: Plan) -> str:
    stream = io.StringIO()
    render_plan(plan, make_console(stream, 80))
    return stream.getvalue()


def test_gpus_that_carry_the_same_are_one_line(demo_inputs: Inputs) -> None:
    plan = hand_plan(demo_inputs)
    places = (
        PlacedReplica(pool=BIG, replica=1, gpus=(0, 1, 2, 3)),
        PlacedReplica(pool=SMALL, replica=1, gpus=(2,)),
        PlacedReplica(pool=SMALL, replica=2, gpus=(3,)),
        PlacedReplica(pool=BIG, replica=2, gpus=(4, 5, 6, 7)),
    )
    text = text_of(plan.model_copy(update={"placement": places}))
    lines = text.split(TITLE, 1)[1].split("\n\n", 1)[0].splitlines()[1:]
    assert [row.strip() for row in lines] == [
        f"h100-sxm-80g 0-1, 4-7: {BIG}",
        f"h100-sxm-80g 2-3: {BIG}, {SMALL}",
    ]
    assert TITLE not in text_of(plan)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([0, 1], "0-1"), ([0, 1, 2, 5, 7, 8], "0-2, 5, 7-8")],
)
def test_neighbours_are_drawn_together(numbers: list[int], text: str) -> None:
    assert ranges(numbers) == text
