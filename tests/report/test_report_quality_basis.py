"""What the quality of a plan rests on, as a person reads it."""

from __future__ import annotations

import io

from hand_plan import hand_plan

from planner.report.console import make_console
from planner.report.plan import render_plan
from planner.spec.inputs import Inputs
from planner.spec.plan import Bound, Plan, QualityBasis, QualityEstimate

BOUND = Bound(
    objective="quality",
    value=0.6512,
    best_possible=0.6634,
    gap_ratio=0.018735,
    method="cuts",
    within_usd_per_h=20.0,
)


def text_of(plan: Plan) -> str:
    stream = io.StringIO()
    render_plan(plan, make_console(stream, 80))
    return " ".join(stream.getvalue().split())


def test_what_a_router_by_prompt_reaches_and_what_none_exceeds(demo_inputs: Inputs) -> None:
    by_class = QualityEstimate(quality=0.61, low=0.59, high=0.63)
    by_prompt = QualityEstimate(quality=0.64, low=0.62, high=0.66)
    basis = QualityBasis(
        by_class=by_class, held_out=True, n_prompts=1200, why="terms gain", oracle=0.8
    )
    plan = hand_plan(demo_inputs)
    text = text_of(plan.model_copy(update={"quality_basis": basis}))
    assert "the class 0.6100 0.5900 0.6300 held out, 1,200 prompts" in text
    assert "choosing by the prompt itself: terms gain" in text
    assert "the prompt, too" not in text and "router expects" not in text
    more = {
        "per_prompt": by_prompt, "gain_low": 0.01, "gain_high": 0.05, "per_prompt_bound": BOUND,
    }  # fmt: skip
    text = text_of(plan.model_copy(update={"quality_basis": basis.model_copy(update=more)}))
    assert "the prompt, too 0.6400 0.6200 0.6600 +1.00 to +5.00 points" in text
    assert "expects 0.6512 of this deployment, and at most 0.6634 of any that costs no more" in text
