"""The main path: from the inputs to a plan, on one screen.

read (files)  ->  case: fit, workload, box, and the cascades that its scores prove
              ->  explore: search with the routing program inside
              ->  choose: settle candidates on their own tables
              ->  confirm: try the choice in the simulator, learn, search again (§9)
              ->  refine: simulate what is near it, where that may be better
              ->  certify, frontier: what no plan can beat, and no point of the front
              ->  believed: what the router will really know, judged on held-out prompts (§4)
              ->  why, what_if: reasons, other questions, other deployments
              ->  information: what to measure first  ->  Plan

A question with periods goes its own way from here on: periods/answer.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from planner.answer import make_answer, make_provenance
from planner.believed import quality_basis, remarks
from planner.case import Case, make_case
from planner.choose import choose, settled_front
from planner.confirm import Confirmed, Stage, confirm, make_stage, simulated_ratios
from planner.explore import Effort, Explored, SearchMethod, explore
from planner.keeping import starts_near
from planner.named.boute import explore_boute
from planner.named.routerwise import explore_routerwise
from planner.objectives import Objectives, make_objectives
from planner.offered import offered
from planner.parallel.local import LocalWorkers
from planner.parallel.workers import Workers
from planner.proofs.certify import proven_bound
from planner.proofs.frontier import front_proofs, traded_bound
from planner.quality.cascade import CascadeOption
from planner.reasons.information import to_measure
from planner.reasons.relax import infeasible
from planner.reasons.what_if import what_if
from planner.reasons.why import reasons
from planner.refine import Refined, refine
from planner.search import surrogate
from planner.search.problem import Progress
from planner.spec.arrays import IntArray
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan

T = TypeVar("T")

NAMED: dict[str, Callable[[Objectives, Effort, int, Progress | None], Explored]] = {
    "boute": explore_boute,
    "routerwise": explore_routerwise,
}
"""Published methods; all others are explore's own."""


def make_plan(
    inputs: Inputs,
    effort: Effort = "standard",
    method: SearchMethod = "auto",
    seed: int = 0,
    kept: Plan | None = None,
    on_trial: Progress | None = None,
    cascades: Sequence[CascadeOption] | None = None,
    workers: Workers | None = None,
    on_stage: Callable[[str], None] | None = None,
) -> Plan:
    """Returns the plan that answers a question: deployment, routing, predicted outcome, reasons.

    Args:
        inputs: the question and the pools, as read.
        effort: how many deployments to evaluate.
        method: how to search; `auto` fits the size of the box.
        seed: of the search; the same inputs, version and seed give the same bytes.
        kept: the plan in production, where the question says `keep`.
        on_trial: called after each evaluation with (done, total, hypervolume).
        cascades: that may be used beside single pools; by default those that the scores prove.
        workers: who simulates; by default this process alone.
        on_stage: told what is being done beside the search, e.g. 'simulating the choice'.

    Raises:
        InputError: pools that cannot be fitted, or a method that cannot be had.
        Infeasible: no deployment is acceptable; says what binds and what would work.
    """
    if inputs.question.periods is not None:
        from planner.periods.answer import plan_periods  # other questions need none of it

        return plan_periods(inputs, effort, method, seed, on_trial, cascades, on_stage)
    say = on_stage or (lambda _what: None)
    objectives = make_objectives(_case(inputs, cascades))
    in_production = None if kept is None else replicas_of(objectives.case, kept)
    start = starts_near(objectives, in_production)
    explored = _searched(objectives, effort, method, seed, start, on_trial)
    chosen, nearest = _finished(lambda: choose(objectives, explored, in_production))
    if chosen is None:
        raise infeasible(objectives, explored, nearest, inputs)
    say("simulating the choice")
    stage = make_stage(inputs, objectives, effort, seed)
    confirmed = confirm(stage, objectives, explored, chosen, effort, in_production, on_trial)
    say("simulating its neighbours")
    refined = _refined(stage, confirmed, effort, method, workers, in_production, on_trial)
    confirmed = refined.confirmed
    objectives, explored, chosen = confirmed.objectives, confirmed.explored, confirmed.chosen
    say("proving how good it is")
    bound = _finished(lambda: proven_bound(objectives, chosen, in_production))
    bound = bound or _finished(lambda: traded_bound(objectives, chosen, effort))
    say("judging its quality")
    basis = _finished(lambda: quality_basis(inputs.files, objectives, chosen, seed, effort))
    front = _finished(lambda: settled_front(objectives, explored, chosen, refined.settled))
    say("asking what else would do")
    why = _finished(lambda: reasons(objectives, chosen, explored, bound))
    other, told = what_if(inputs, objectives, explored, chosen, bound, in_production, effort)
    why += [*remarks(inputs.files, basis), *confirmed.why, *told]
    first = _finished(lambda: to_measure(objectives, chosen, explored, effort))
    provenance = make_provenance(
        explored.method, seed, effort, len(explored.evaluations), inputs.hashes
    )
    return make_answer(
        objectives.case, chosen, front, why, provenance, explored.complete, bound, first,
        confirmed.simulated, simulated_ratios(stage, objectives, front, confirmed, refined.ratios),
        basis, front_proofs(objectives, front, effort), confirmed.survives, other,
    )  # fmt: skip


def _case(inputs: Inputs, cascades: Sequence[CascadeOption] | None) -> Case:
    """Returns the case of the inputs with its cascades, by default those that scores prove."""
    case = make_case(inputs)
    options = offered(inputs, case) if cascades is None else tuple(cascades)
    return make_case(inputs, case.models, cascades=options) if options else case


def _searched(
    objectives: Objectives,
    effort: Effort,
    method: SearchMethod,
    seed: int,
    start: Sequence[IntArray],
    on_trial: Progress | None,
) -> Explored:
    """Returns what a search finds; the published methods know no deployment to start from."""
    if method == "mobo":
        surrogate.require()  # now, not when the search is done and simulation begins
    named = NAMED.get(method)
    if named is not None:
        return named(objectives, effort, seed, on_trial)
    return explore(objectives, effort, method, seed, start, on_trial)


def _refined(
    stage: Stage,
    confirmed: Confirmed,
    effort: Effort,
    method: SearchMethod,
    workers: Workers | None,
    kept: IntArray | None,
    on_trial: Progress | None,
) -> Refined:
    """Returns what else was simulated near a choice; published methods end as published."""
    if method in NAMED:
        return Refined(confirmed, {})
    return refine(
        stage, confirmed, effort, workers or LocalWorkers(1), method == "mobo", kept, on_trial
    )


def _finished(stage: Callable[[], T]) -> T:
    """Returns what a short stage after the search returns; the first Ctrl-C does not lose it."""
    try:
        return stage()
    except KeyboardInterrupt:
        return stage()


def replicas_of(case: Case, plan: Plan) -> IntArray:
    """Returns the replicas of each pool of a case in a plan, (P,); pools that are gone count 0."""
    deployed: Mapping[str, int] = {entry.pool: entry.replicas for entry in plan.deployment}
    return np.array([deployed.get(name, 0) for name in case.space.pool_names], dtype=np.int64)
