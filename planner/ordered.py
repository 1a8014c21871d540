"""What a plan orders, read back: its numbers as arrays of its case, its score by today's profiles.

Notation (P pools, R rows: classes, then two stages per cascade)
    x_rp     share of row r on pool p, as the plan says
    mix_pr   rate_r x_rp: the rows in pool p's traffic
    f        rate factor: 1, or what the plan reached where the question maximises it

Nothing is solved: tables at mix_pr, then the score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from planner.case import Case, make_case
from planner.score import Score, score
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.inputs import Inputs
from planner.spec.plan import CascadeRoute, Plan
from planner.spec.table import PoolTable
from planner.spec.workload import Cascade, Workload

if TYPE_CHECKING:
    from planner.quality.cascade import CascadeOption


@dataclass(frozen=True)
class Rescored:
    """A plan's score by today's profiles, and what it was made from."""

    workload: Workload  # at the plan's rate factor
    tables: tuple[PoolTable, ...]
    replicas: IntArray  # (P,)
    shares: FloatArray  # (R, P)
    score: Score


def with_pools_of(inputs: Inputs, plan: Plan) -> Inputs:
    """Returns the inputs without candidate pools that have no say in what a plan does.

    What a plan leaves out need not be fitted to judge it. Whether a cascade is worth it is a
    question about all candidates, so a plan with any keeps them.
    """
    parts = [plan, *(plan.in_period(p) for p in (plan.periods.each if plan.periods else ()))]
    if any(part.cascades for part in parts):
        return inputs
    named = {entry.pool for part in parts for entry in part.deployment}
    named |= {entry.pool for part in parts for entry in part.routing}
    named |= {pool for pool, bounds in inputs.question.replicas.items() if bounds.min > 0}
    reserved = {kept.gpu for kept in plan.periods.reserved} if plan.periods else set()
    kept = tuple(p for p in inputs.candidates if p.name in named or p.pool.gpu in reserved)
    return replace(inputs, candidates=kept) if kept else inputs


def case_of(inputs: Inputs, plan: Plan, cascades: Sequence[CascadeOption] | None = None) -> Case:
    """Returns the case of a plan, with the cascades that it uses alone.

    Args:
        inputs: the question and the profiles, without periods.
        plan: what was planned.
        cascades: that may be used; by default those that today's scores prove, of a plan with any.

    Raises:
        InputError: a pool cannot be fitted.
    """
    case = make_case(inputs, learned=plan.learned)
    if not plan.cascades:
        return case
    from planner.offered import offered  # other plans need none of it

    options = offered(inputs, case) if cascades is None else tuple(cascades)
    case = make_case(inputs, case.models, plan.learned, options)
    return replace(case, workload=case.workload.without(unused_cascades(case, plan)))


def rescore(case: Case, plan: Plan) -> Rescored:
    """Returns the score of a plan whose pools and classes are all known."""
    workload, replicas, shares = case.workload, replicas_of(case, plan), shares_of(case, plan)
    # A rate factor in the file counts only where the question asks for one.
    if case.question.maximise == "rate_factor" and plan.predicted.rate_factor is not None:
        factor = plan.predicted.rate_factor
        workload = replace(
            workload,
            rate_rps=workload.rate_rps * factor,
            mean_rate_rps=workload.mean_rate_rps * factor,
        )
    tables = case.tables((workload.rate_rps[:, None] * shares).T)
    question = case.question
    scored = score(
        workload, tables, replicas, shares, question.headroom_ratio, question.latency_objective
    )
    return Rescored(workload, tables, replicas, shares, scored)


def replicas_of(case: Case, plan: Plan) -> IntArray:
    """Returns the replicas of each candidate pool, (P,); pools that are none are left out."""
    replicas = np.zeros(case.workload.n_pools, dtype=np.int64)
    for entry in plan.deployment:
        if entry.pool in case.workload.pool_names:
            replicas[case.workload.pool_names.index(entry.pool)] = entry.replicas
    return replicas


def shares_of(case: Case, plan: Plan) -> FloatArray:
    """Returns the shares of a plan's routing and cascades, (R, P), all known to the case."""
    workload = case.workload
    shares = np.zeros((workload.n_rows, workload.n_pools))
    for r in plan.routing:
        at = workload.class_names.index(r.class_name), workload.pool_names.index(r.pool)
        shares[at] += r.share
    for route in plan.cascades:
        cascade = cascade_of(case, route)
        assert cascade is not None  # unknown ones are found before anything is scored
        stages = (cascade.first_row, route.first), (cascade.second_row, route.second)
        for row, entries in stages:
            for entry in entries:
                shares[row, workload.pool_names.index(entry.pool)] += route.share * entry.share
    return shares


def unused_cascades(case: Case, plan: Plan) -> list[Cascade]:
    """Returns the cascades of a case that a plan does not order; its figures are without them."""
    used = [cascade_of(case, route) for route in plan.cascades]
    return [cascade for cascade in case.workload.cascades if cascade not in used]


def cascade_of(case: Case, route: CascadeRoute) -> Cascade | None:
    """Returns the cascade of a case that a plan's entry orders; None where there is none.

    A stage whose pools run different models is none.
    """
    models = {profile.name: profile.pool.scored_as for profile in case.pools}
    first, second = (
        {models.get(entry.pool) for entry in stage} for stage in (route.first, route.second)
    )
    for cascade in case.workload.cascades:
        same = (cascade.class_name, cascade.signal) == (route.class_name, route.signal)
        same = same and (first, second) == ({cascade.first_model}, {cascade.second_model})
        if same and math.isclose(cascade.below, route.below, rel_tol=1e-9, abs_tol=1e-12):
            return cascade
    return None
