"""Bounds: what no plan inside the box can beat, by the optimistic joint program.

Small programs with limits of single classes or cascades:
    1  solve the optimistic program with one tier per pool; its proven bound holds for every plan
    2  cut every tier in two: there the program was too optimistic
    3  again, until the known plan is reached, the program is too large, or rounds are over

Each round's bound is valid by itself (argument in joint.py), so the best of them is; narrower
tiers are closer to the truth, so bounds improve from round to round until the solver's limit of
nodes tells. All others are one program: flows where limits are over all traffic (flows.py), else
tiers that a pool may mix. Nodes and rounds are limited, never seconds: what the solver leaves open
makes a bound weaker, not wrong.

The proof is the solver's dual bound in floating point, so it is moved by 1e-6 to the safe side; it
is about the given tables at their class mix (§5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.exact.flows import has_flows
from planner.exact.joint import Joint, Objective, build_joint
from planner.exact.readings import Tiers, halved, read_tiers
from planner.exact.rent import Change
from planner.exact.solve import SAFETY_RATIO, Setting, Want, solve_joint
from planner.routing.linear import maximise_integer, nodes_within
from planner.space import Space
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

BOUND_TIERS = 16  # at first, per pool
ROUNDS = 3
NODES = 1000  # per round, fewer for large programs
GAP_RATIO = 1e-4
MOST_CELLS = 1000  # columns times tiers: beyond, tiers stay as they are
ONE_PROGRAM_GAP_RATIO = 1e-3
ONE_PROGRAM_NODES = 200


@dataclass(frozen=True)
class BoundResult:
    """What is proved about the best plan of a box."""

    best_possible: float | None  # $/h at least, or quality or rate factor at most; None: nothing
    solve_gap_ratio: float  # part of the last round's value that the solver left open
    infeasible: bool  # proved: no plan serves everything within limits and floors
    method: str

    @property
    def proved(self) -> bool:
        """Returns whether there is a bound."""
        return self.best_possible is not None


def bound(
    workload: Workload,
    tables: Sequence[PoolTable],
    space: Space,
    headroom_ratio: float,
    objective: Objective,
    known: float | None = None,
    n_tiers: int = BOUND_TIERS,
    n_rounds: int = ROUNDS,
    change: Change | None = None,
) -> BoundResult:
    """Returns the best that any plan of the box can reach in one objective.

    Args:
        workload: C classes over P pools, with the floors and limits that a plan keeps.
        tables: the pools' tables, (P,).
        space: the box of deployments.
        headroom_ratio: load <= (1 - headroom_ratio) * max_load.
        objective: cost (rent and hosted requests, $/h), quality (ratio) or rate_factor.
        known: value of the best plan so far; once it is proved to be the best, rounds end.
        n_tiers: tiers per pool in the first round.
        n_rounds: number of programs, each with twice the tiers of the one before.
        change: what moving away from a deployment costs; it is part of the cost.
    """
    if (space.lower > space.upper).any():
        return BoundResult(None, 0.0, True, "the box of deployments is empty")
    setting = Setting(workload, tables, space, headroom_ratio)
    by_flows = has_flows(workload)
    found = _by_one_program(setting, objective, change) if by_flows else None
    tiers = read_tiers(workload, tables, space, headroom_ratio, "optimistic", n_tiers)
    small = tiers.loads.shape[1] * tiers.case.work.size <= MOST_CELLS
    done = found is not None and (found.infeasible or _reached(objective, found, known))
    if small and tiers.case.figures.n and not done:
        found = _tighter(objective, found, _by_rounds(tiers, objective, known, n_rounds, change))
    if found is None or not (found.proved or found.infeasible or by_flows):
        found = _by_one_program(setting, objective, change)
    return found


def _by_one_program(setting: Setting, objective: Objective, change: Change | None) -> BoundResult:
    """Returns the bound of one program: flows, or tiers that a pool may mix."""
    want = Want(
        objective,
        setting.workload.quality_at_least,
        gap_ratio=ONE_PROGRAM_GAP_RATIO,
        n_nodes=ONE_PROGRAM_NODES,
        reading="bound",
        change=change,
    )
    solved = solve_joint(setting, want)
    if solved.status == "none":
        return BoundResult(
            None, 0.0, True, f"{solved.method}: no deployment keeps every limit and floor"
        )
    return BoundResult(solved.best_possible, solved.solve_gap_ratio, False, solved.method)


def _tighter(objective: Objective, one: BoundResult | None, other: BoundResult) -> BoundResult:
    """Returns which of two bounds says more."""
    if one is None or one.best_possible is None or other.infeasible:
        return other
    if other.best_possible is None:
        return one
    return other if _is_tighter(objective, other.best_possible, one.best_possible) else one


def _by_rounds(
    tiers: Tiers,
    objective: Objective,
    known: float | None,
    n_rounds: int,
    change: Change | None,
) -> BoundResult:
    """Returns the best bound of rounds of integer programs with ever finer tiers."""
    floor = tiers.case.problem.workload.quality_at_least
    best: float | None = None
    gap, n_tiers = 0.0, 0
    for _ in range(max(1, n_rounds)):
        joint = build_joint(tiers, objective, floor, True, one_tier=True, change=change)
        n_nodes = nodes_within(NODES, joint.shares.size)
        solution = maximise_integer(joint.program, GAP_RATIO, n_nodes)
        if solution.status == "none":
            text = "HiGHS on the joint program: no deployment keeps every limit and floor"
            return BoundResult(None, 0.0, True, text)
        if not np.isfinite(solution.bound):
            break
        value = _value(joint, objective, solution.bound)
        if best is None or _is_tighter(objective, value, best):
            best, n_tiers = value, tiers.loads.shape[1]
            left = solution.bound - solution.objective if solution.found else 0.0
            gap = left / max(abs(solution.objective), 1e-12)
        finer = halved(tiers)
        too_large = tiers.case.work.size * finer.loads.shape[1] > MOST_CELLS
        result = BoundResult(best, gap, False, "")
        if too_large or _reached(objective, result, known):
            break
        tiers = finer
    text = f"HiGHS on the joint program with {n_tiers} optimistic tiers per pool"
    return BoundResult(best, gap, False, text)


def _is_tighter(objective: Objective, value: float, other: float) -> bool:
    """Returns whether a bound says more than another."""
    return value > other if objective == "cost" else value < other


def _reached(objective: Objective, found: BoundResult, known: float | None) -> bool:
    """Returns whether a bound proves that nothing is better than a known value."""
    if known is None or found.best_possible is None:
        return False
    slack = 2.0 * SAFETY_RATIO * abs(known)
    best = found.best_possible
    return best >= known - slack if objective == "cost" else best <= known + slack


def _value(joint: Joint, objective: Objective, program_bound: float) -> float:
    """Returns a bound of the program in the objective's own unit, moved to the safe side."""
    value = program_bound * joint.unit + SAFETY_RATIO * abs(program_bound * joint.unit)
    return max(0.0, -value) if objective == "cost" else value
