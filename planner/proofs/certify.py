"""How close the plan is to the best there can be: a proof about the fitted tables (§5)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from planner.exact.bound import BoundResult, bound
from planner.exact.joint import Objective as JointObjective
from planner.exact.rent import Change
from planner.exact.robust import robust_bound
from planner.exact.solve import Setting, Want
from planner.keeping import change_of
from planner.objectives import Objectives
from planner.robust import threats
from planner.settle import Settled
from planner.spec.arrays import IntArray
from planner.spec.plan import Bound

BoundName = Literal["cost_usd_per_h", "quality", "rate_factor"]

TOUCHING_RATIO = 1e-3
ROBUST_GAP_RATIO = 2e-3  # of the program with scenarios: its tiers leave more open than that

DIGITS: dict[BoundName, int] = {"cost_usd_per_h": 4, "quality": 6, "rate_factor": 6}


def proven_bound(
    objectives: Objectives, chosen: Settled, kept: IntArray | None = None
) -> Bound | None:
    """Returns what no deployment and routing of the box can beat, None where nothing is proved.

    The proof is about the chosen plan's own tables: pools that it does not use have theirs at the
    mix of all traffic, and other plans would shift the mixes of theirs a little. Where a deployment
    (P,) is kept, what moving away from it costs is part of the money, of the plan and of all.
    """
    wanted = optimised(objectives)
    if wanted is None:
        return None
    name, joint = wanted
    change = change_of(objectives, kept) if name == "cost_usd_per_h" else None
    value = _value(name, chosen) + (change.usd_per_h(chosen.replicas) if change else 0.0)
    proof = _proof(objectives, chosen, joint, value, change)
    if proof.best_possible is None:
        return None
    best = proof.best_possible
    if _is_beaten(joint, best, value):
        return None  # the plan lies outside what was proved about: say nothing rather than that
    # Rounded shares may miss a limit by a millionth and so touch the bound from the other side.
    best = min(best, value) if joint == "cost" else max(best, value)
    return Bound(
        objective=name,
        value=round(value, DIGITS[name]),
        best_possible=round(best, DIGITS[name]),
        gap_ratio=round(abs(value - best) / max(abs(value), 1e-12), 6),
        method=proof.method + (", with the cost of changes" if change else ""),
    )


def _proof(
    objectives: Objectives,
    chosen: Settled,
    objective: JointObjective,
    value: float,
    change: Change | None,
) -> BoundResult:
    """Returns what is proved; about plans that survive their scenarios where the question asks."""
    case, tables = objectives.case, chosen.tables
    headroom_ratio = case.question.headroom_ratio
    every = bound(
        case.workload, tables, case.space, headroom_ratio, objective, value, change=change
    )
    threatened = threats(case)
    if threatened is None:
        return every
    setting = Setting(case.workload, tables, case.space, headroom_ratio)
    want = Want(objective, case.workload.quality_at_least, gap_ratio=ROBUST_GAP_RATIO)
    robust = robust_bound(setting, want, threatened, np.flatnonzero(chosen.replicas).tolist())
    # Tables at a scenario's own mix may let the plan survive where those of the proof do not: then
    # the proof without scenarios still holds.
    if robust.best_possible is None or _is_beaten(objective, robust.best_possible, value):
        return every
    if every.best_possible is None:
        return robust
    sign = -1.0 if objective == "cost" else 1.0
    return min(every, robust, key=lambda proof: sign * (proof.best_possible or 0.0))


def _is_beaten(objective: JointObjective, best: float, value: float) -> bool:
    """Returns whether a plan is better, by more than rounding, than what is proved of all."""
    beyond = best - value if objective == "cost" else value - best
    return beyond > TOUCHING_RATIO * abs(value)


def optimised(objectives: Objectives) -> tuple[BoundName, JointObjective] | None:
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
