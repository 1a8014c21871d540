"""Limits at given loads: rows that are exact at one load per pool, and the local search on them.

Notation: see case.py and program.py; r0_a a load per replica, x0_j shares.

At fixed loads the limit of any scope is linear, and conservative while no load passes r0:
    limit:<l>   sum_e t_e (F_e(r0) / b_l - h_j) x_j  <=  0,     0 <= r_a <= r0_a
Around a routing (x0, r0) the same row to first order in shares and loads:
    limit:<l>   sum_e t_e (F_e(r0) / b_l - h_j) x_j + sum_a D_la (r_a - r0_a)  <=  0
    D_la = sum_{e of l, a} t_e x0_j F'_e(r0) / b_l,      |r_a - r0_a| <= step_a
The search goes back and forth: a first-order step finds better loads, the program at those loads
finds a routing that truly keeps the limits there. Each accepted routing is better than the last.
The duals of the first-order program at the end are the prices of limits and loads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.routing.case import Case, at_load
from planner.routing.program import Built, Point, build, solve_built
from planner.spec.arrays import FloatArray

BETTER = 1e-7  # a step has to gain this much to count
FIRST_STEP_RATIO = 0.2  # of the cap
CLOSE_STEP_RATIO = 0.02  # from a start that is nearly right
SHORTER = 0.3
PRICE_STEP_RATIO = 0.02


def at_loads(case: Case, load: FloatArray, final: bool = False) -> Point:
    """Returns the optimal routing with no load above `load` (A,) and latencies taken there."""
    built = build(case, load)
    value, _ = at_load(case, case.figures.worst, load)
    _add_limits(case, built, value)
    return solve_built(case, built, final)


def around(case: Case, start: Point, step: FloatArray) -> Point:
    """Returns the optimum of the first-order program around a routing, loads within step (A,)."""
    f, r0 = case.figures, start.loads
    built = build(case, np.minimum(r0 + step, case.room), np.maximum(r0 - step, 0.0))
    value, slope = at_load(case, f.worst, r0)
    slot = case.column_slot[f.column]
    effect = f.traffic * start.shares[f.column] * slope / f.bound[f.limit]
    by_load = np.zeros((f.n, case.n_slots))
    np.add.at(by_load, (f.limit, slot), effect)
    _add_limits(case, built, value, by_load, by_load @ r0)
    return solve_built(case, built)


@dataclass(frozen=True)
class Search:
    """A local search that can be stopped and gone on with."""

    point: Point  # the best so far
    step: FloatArray  # (A,) load per replica
    over: bool = False  # no step of this size promises more

    @property
    def value(self) -> float:
        """Returns the value of the best routing so far."""
        return self.point.value


def begin(case: Case, start: Point, first_step_ratio: float = FIRST_STEP_RATIO) -> Search:
    """Returns the search at its start, with the first step as a ratio of the caps."""
    return Search(start, first_step_ratio * case.cap)


def go_on(case: Case, search: Search, n_rounds: int) -> Search:
    """Returns the search after more rounds of two programs each; its value never falls."""
    best, step = search.point, search.step
    for _ in range(0 if search.over else n_rounds):
        ahead = around(case, best, step)
        if not ahead.solution.solved or ahead.value <= best.value + BETTER:
            return Search(best, step, True)
        trial = at_loads(case, np.minimum(ahead.loads, case.cap))
        if trial.value > best.value + BETTER:
            best = trial
        else:
            step = step * SHORTER
    return Search(best, step, search.over)


def improve(
    case: Case, start: Point, n_rounds: int, first_step_ratio: float = FIRST_STEP_RATIO
) -> Point:
    """Returns the best routing found from a routing on; never a worse one than the start."""
    return go_on(case, begin(case, start, first_step_ratio), n_rounds).point


def priced(case: Case, point: Point) -> Point:
    """Returns the first-order optimum close to a routing: its duals are the prices there."""
    close = around(case, point, PRICE_STEP_RATIO * case.cap)
    return close if close.solution.solved else point


def _add_limits(
    case: Case,
    built: Built,
    value: FloatArray,
    by_load: FloatArray | None = None,
    upper: FloatArray | float = 0.0,
) -> None:
    """Adds one row per limit for entry figures (E,) and, where given, effects of the loads."""
    f = case.figures
    if not f.n:
        return
    over = f.traffic * (value / f.bound[f.limit] - f.counted)
    entries = [(f.limit, built.shares[f.column], over)]
    if by_load is not None:
        limit, slot = np.nonzero(by_load)
        entries.append((limit, built.loads[slot], by_load[limit, slot]))
    built.program.add_rows("limit", f.n, entries, upper=upper)
