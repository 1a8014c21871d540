"""How close the plan is to the best there can be: a proof about the fitted tables (§5)."""

from __future__ import annotations

from typing import Literal

from planner.exact.bound import bound
from planner.exact.joint import Objective as JointObjective
from planner.objectives import Objectives
from planner.settle import Settled
from planner.spec.plan import Bound

BoundName = Literal["cost_usd_per_h", "quality", "rate_factor"]

TOUCHING_RATIO = 1e-3

DIGITS: dict[BoundName, int] = {"cost_usd_per_h": 4, "quality": 6, "rate_factor": 6}


def proven_bound(objectives: Objectives, chosen: Settled) -> Bound | None:
    """Returns what no deployment and routing of the box can beat, None where nothing is proved.

    The proof is about the chosen plan's own tables: pools that it does not use have theirs at the
    mix of all traffic, and other plans would shift the mixes of theirs a little.
    """
    case = objectives.case
    wanted = _wanted(objectives)
    hosted = bool(case.workload.request_usd.any())
    if wanted is None or (hosted and case.question.budget_usd_per_h is not None):
        return None  # the joint program does not know that hosted requests use up the budget
    name, joint = wanted
    value = _value(name, chosen)
    proof = bound(
        case.workload,
        chosen.tables,
        case.space,
        case.question.headroom_ratio,
        joint,
        value,
    )
    if proof.best_possible is None:
        return None
    best = proof.best_possible
    beyond = best - value if name == "cost_usd_per_h" else value - best
    if beyond > TOUCHING_RATIO * abs(value):
        return None  # the plan lies outside what was proved about: say nothing rather than that
    # Rounded shares may miss a limit by a millionth and so touch the bound from the other side.
    best = value if beyond > 0 else best
    return Bound(
        objective=name,
        value=round(value, DIGITS[name]),
        best_possible=round(best, DIGITS[name]),
        gap_ratio=round(abs(value - best) / max(abs(value), 1e-12), 6),
        method=proof.method,
    )


def _wanted(objectives: Objectives) -> tuple[BoundName, JointObjective] | None:
    """Returns the figure that the question optimises and its name in the joint program."""
    if objectives.maximises_rate:
        return "rate_factor", "rate_factor"
    choose = objectives.case.question.choose
    if choose == "cheapest":
        return "cost_usd_per_h", "cost"
    return ("quality", "quality") if choose == "best_quality" else None


def _value(name: BoundName, chosen: Settled) -> float:
    values = {
        "cost_usd_per_h": chosen.cost_usd_per_h,
        "quality": chosen.score.quality,
        "rate_factor": chosen.rate_factor,
    }
    return values[name]
