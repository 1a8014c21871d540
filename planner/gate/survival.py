"""What a plan says that it survives, held against today's question, profiles and tables.

Nothing is solved: the plan's own shares and replicas in each scenario of its question, by the same
rules as when it was made (planner/robust.py). A plan is wrong where it does not survive what the
question asks for, where it tells of other scenarios or other figures, and where simulation
contradicted it (§9).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from planner.case import Case
from planner.drills import by_tables
from planner.gate.finding import Finding, error
from planner.robust import survivals
from planner.spec.plan import Plan, Survived

if TYPE_CHECKING:
    from planner.gate.outcome import Rescored

NEAR_RATIO = 2e-2
"""Figures at a scenario's mix move a little with the grid of the tables, as others do."""

PLAN_AGAIN = "rb plan DIR"


def survival_findings(
    case: Case, plan: Plan, again: Rescored, inputs_changed: bool
) -> Iterator[Finding]:
    """Yields what a plan does not survive, and what it says of that and should not.

    Args:
        case: the question with today's profiles.
        plan: what was planned.
        again: its score by today's tables.
        inputs_changed: then its own figures are of another time.
    """
    found = survivals(
        case,
        again.workload,
        again.tables,
        again.replicas,
        again.shares,
        lambda mixes: case.tables(mixes, unused=again.tables),
    )
    for each in found:
        for problem in each.problems:
            fix = "more replicas, or ask for less in robust"
            yield error("not-survived", "plan.json:deployment", problem, fix)
    if not inputs_changed:
        yield from _drift(plan, by_tables(found))


def contradicted_scenarios(plan: Plan) -> Iterator[Finding]:
    """Yields the scenarios that simulation missed when the plan was made (§9)."""
    for each in plan.survives:
        if each.verdict == "missed":
            where = f"plan.json:survives[{each.scenario}]"
            fix = "plan with --effort thorough, or ask for less in robust"
            yield error("simulated", where, "simulation missed what is allowed meanwhile", fix)


def _drift(plan: Plan, now: tuple[Survived, ...]) -> Iterator[Finding]:
    said = {each.scenario: each for each in plan.survives}
    for each in now:
        where = f"plan.json:survives[{each.scenario}]"
        before = said.pop(each.scenario, None)
        if before is None:
            what = "is asked for, and the plan is silent"
            yield error("survives-differ", where, what, PLAN_AGAIN)
        elif not _alike(before, each):
            what = "does not say what the same inputs give"
            yield error("survives-differ", where, what, PLAN_AGAIN)
    for scenario in said:
        where = f"plan.json:survives[{scenario}]"
        yield error("survives-differ", where, "is no scenario of the question", PLAN_AGAIN)


def _alike(said: Survived, now: Survived) -> bool:
    """Returns whether two statements are the same but for rounding."""
    pairs = [
        (said.utilisation_ratio, now.utilisation_ratio),
        (said.quality, now.quality),
        (said.unserved_ratio, now.unserved_ratio),
        (said.latency_ratio or 0.0, now.latency_ratio or 0.0),
    ]
    close = all(abs(a - b) <= NEAR_RATIO * max(abs(b), NEAR_RATIO) for a, b in pairs)
    return close and said.survives == now.survives
