"""What a plan says that it survives, held against today's question, profiles and tables.

Nothing is solved: the plan's own shares and replicas in each scenario of its question, by the same
rules as when it was made (planner/robust.py). A plan is wrong where it does not survive what the
question asks for, and where it tells of other scenarios or other figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from planner.case import Case
from planner.drills import by_tables, is_playable
from planner.gate.finding import PLAN_AGAIN, Finding, error
from planner.ordered import Rescored
from planner.robust import Survival, survivals
from planner.spec.plan import Plan, Survived
from planner.spec.question import Question

# What a scenario's figures may differ by, as a plan's own do (outcome.py): a percentile moves a
# little with the grid of its table, and scores rest on no table.
LATENCY_NEAR_RATIO = 1e-2
LOAD_NEAR_RATIO = 1e-3
SCORE_ROUNDING = 2e-6


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
        yield from _unlikely_verdicts(case.question, plan, found)


def _drift(plan: Plan, now: tuple[Survived, ...]) -> Iterator[Finding]:
    said = {each.scenario: each for each in plan.survives}
    if len(said) < len(plan.survives):
        yield _differs("", "tells of one scenario more than once")
    for each in now:
        before = said.pop(each.scenario, None)
        if before is None:
            yield _differs(each.scenario, "is asked for, and the plan is silent")
        elif not _alike(before, each):
            yield _differs(each.scenario, "does not say what the same inputs give")
    for scenario in said:
        yield _differs(scenario, "is no scenario of the question")


def _alike(said: Survived, now: Survived) -> bool:
    """Returns whether two statements are the same but for rounding."""
    near = [
        (said.utilisation_ratio, now.utilisation_ratio, LOAD_NEAR_RATIO),
        (said.latency_ratio or 0.0, now.latency_ratio or 0.0, LATENCY_NEAR_RATIO),
    ]
    scores = (said.quality, now.quality), (said.unserved_ratio, now.unserved_ratio)
    close = all(abs(a - b) <= ratio * max(abs(b), ratio) for a, b, ratio in near)
    close &= all(abs(a - b) <= SCORE_ROUNDING for a, b in scores)
    return close and said.survives == now.survives


def _unlikely_verdicts(
    question: Question, plan: Plan, found: Sequence[Survival]
) -> Iterator[Finding]:
    """Yields what no simulation would have said: nothing is played again."""
    known = {each.scenario.label: each.scenario for each in found}
    tried = plan.simulated is not None and not plan.simulated.missed
    for each in plan.survives:
        scenario = known.get(each.scenario)
        if scenario is None:
            continue
        figures = each.simulated_latency_ratio, each.simulated_lost_ratio
        if each.verdict is None and figures != (None, None):
            yield _differs(each.scenario, "has figures of a simulation and no verdict")
        elif each.verdict is None and tried and is_playable(question, scenario):
            yield _differs(each.scenario, "does not say what simulation found")
        elif each.verdict == "met" and (each.simulated_latency_ratio or 0.0) > 1.0:
            yield _differs(each.scenario, "is beyond a limit in simulation and said to be met")


def _differs(scenario: str, what: str) -> Finding:
    where = f"plan.json:survives[{scenario}]" if scenario else "plan.json:survives"
    return error("survives-differ", where, what, PLAN_AGAIN)
