"""The main path: from the inputs to a plan, on one screen.

read (files)  ->  case: fit, workload, box, and the cascades that its scores prove
              ->  explore: search with the routing program inside
              ->  choose: settle candidates on their own tables
              ->  confirm: try the choice in the simulator, learn, search again (§9)
              ->  certify: what no plan can beat
              ->  believed: what the router will really know, judged on held-out prompts (§4)
              ->  why
              ->  information: what to measure first  ->  Plan
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from planner.answer import make_answer, make_provenance
from planner.believed import quality_basis, remarks
from planner.case import Case, make_case
from planner.certify import proven_bound
from planner.choose import choose, settled_front
from planner.confirm import confirm, make_stage, simulated_ratios
from planner.explore import Effort, SearchMethod, explore
from planner.information import to_measure
from planner.objectives import make_objectives
from planner.offered import offered
from planner.quality.cascade import CascadeOption
from planner.relax import infeasible, more_budget
from planner.search.problem import Progress
from planner.spec.arrays import IntArray
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.why import reasons

T = TypeVar("T")


def make_plan(
    inputs: Inputs,
    effort: Effort = "standard",
    method: SearchMethod = "auto",
    seed: int = 0,
    kept: Plan | None = None,
    on_trial: Progress | None = None,
    cascades: Sequence[CascadeOption] | None = None,
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

    Raises:
        InputError: pools that cannot be fitted, or a method that cannot be had.
        Infeasible: no deployment is acceptable; says what binds and what would work.
    """
    case = make_case(inputs)
    options = offered(inputs, case) if cascades is None else tuple(cascades)
    if options:
        case = make_case(inputs, case.models, cascades=options)
    objectives = make_objectives(case)
    in_production = None if kept is None else replicas_of(case, kept)
    start = [] if in_production is None else [in_production]
    explored = explore(objectives, effort, method, seed, start, on_trial)
    chosen, nearest = _finished(lambda: choose(objectives, explored, in_production))
    if chosen is None:
        raise infeasible(objectives, explored, nearest, inputs)
    stage = make_stage(inputs, objectives, effort, seed)
    confirmed = confirm(stage, objectives, explored, chosen, effort, in_production, on_trial)
    objectives, explored, chosen = confirmed.objectives, confirmed.explored, confirmed.chosen
    bound = _finished(lambda: proven_bound(objectives, chosen))
    basis = _finished(lambda: quality_basis(inputs.files, objectives, chosen, seed))
    front = _finished(lambda: settled_front(objectives, explored, chosen))
    why = _finished(lambda: reasons(objectives, chosen, explored, bound))
    bought = _finished(lambda: more_budget(inputs, objectives, chosen))
    why += remarks(inputs.files, basis)
    why += [*confirmed.why, *([] if bought is None else [bought])]
    first = _finished(lambda: to_measure(objectives, chosen, explored, effort))
    provenance = make_provenance(
        explored.method, seed, effort, len(explored.evaluations), inputs.hashes
    )
    return make_answer(
        objectives.case, chosen, front, why, provenance, explored.complete, bound, first,
        confirmed.simulated, simulated_ratios(stage, objectives, front, confirmed), basis,
    )  # fmt: skip


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
