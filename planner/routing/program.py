"""The routing program that all forms share.

Notation (see case.py for the rest)
    x_j    share of class c_j that goes to its pool (of the nominal class rate)       ratio
    u_c    share of class c that nobody serves (inside the search only, §3)           ratio
    phi    rate factor; 1 unless it is what is maximised (then u = 0)                 ratio
    r_a    load per replica of a pool, under the even split                           dimensionless

The program
    max   sum_j gain_j x_j  -  sum_c loss_c u_c              (rate_factor: max phi)
    serve:<class>      sum_{j of c} h_j x_j + u_c - phi  =  0
    stages:<cascade>   sum_{j of first} x_j - sum_{j of second} x_j  =  0
    load:<pool>        sum_{j of a} s_j x_j - r_a   <=  0
    quality            sum_j h_j w_c (floor - q_j) x_j  <=  0
    quality:<class>    sum_{j of c} h_j (floor_c - q_j) x_j <= 0
    budget             sum_j usd_j x_j              <=  what hosted requests may cost, $/h
    0 <= r_a <= (1 - headroom) max_load

A cascade is one more way to serve a class: the shares of its first stage count as served, with the
quality of the whole cascade; those of its second stage are as large, and only cause load and time.

Rows are homogeneous but for the budget, so maximising phi stays linear, and x = 0, u = 1 always
satisfies them:
what cannot be served within floors and limits shows up as unserved instead of as no answer.
Floors and limits are those of the served requests; with nothing unserved, of all requests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.routing.case import Case
from planner.routing.linear import Entry, Program, Solution, maximise, maximise_in_order
from planner.spec.arrays import FloatArray, IntArray

HIGHEST_RATE_FACTOR = 1e6  # phi has to be finite even where no pool has any work
UNSERVED_TOLERANCE = 1e-6  # less is rounding of the solver and counts as served


@dataclass(frozen=True)
class Built:
    """A program, and where its variables are."""

    program: Program
    shares: IntArray  # (J,)
    unserved: IntArray  # (C,)
    rate_factor: IntArray  # (1,)
    loads: IntArray  # (A,)


@dataclass(frozen=True)
class Point:
    """One solved routing, with the duals of the program that it was taken from."""

    built: Built
    solution: Solution
    shares: FloatArray  # (J,)
    unserved: FloatArray  # (C,)
    rate_factor: float
    loads: FloatArray  # (A,) that the shares cause
    value: float  # objective of the program, M included


def build(case: Case, load_upper: FloatArray, load_lower: FloatArray | float = 0.0) -> Built:
    """Returns the program without latency limits; loads per replica lie in the given bounds."""
    program = Program()
    free = case.maximises_rate
    x = program.add_columns(case.work.size, 0.0, np.inf, case.gain)
    u = program.add_columns(case.n_classes, 0.0, 0.0 if free else 1.0, -case.loss)
    phi = program.add_columns(1, 0.0 if free else 1.0, highest_rate_factor(case), free)
    r = program.add_columns(case.n_slots, load_lower, load_upper)
    classes, slots = np.arange(case.n_classes), np.arange(case.n_slots)
    c, a, w = case.column_class, case.column_slot, case.weight
    serve: list[Entry] = [(c, x, case.counted), (classes, u, 1.0)]
    serve.append((classes, np.repeat(phi, classes.size), -1.0))
    program.add_rows("serve", case.n_classes, serve, lower=0.0)
    add_stages(program, case.column_cascade, case.counted, x)
    program.add_rows("load", case.n_slots, [(a, x, case.work), (slots, r, -1.0)])
    workload = case.problem.workload
    if case.keeps_floor:
        floor = float(workload.quality_at_least or 0.0)
        below = case.counted * w[c] * (floor - case.quality)
        program.add_rows("quality", 1, [(np.zeros_like(c), x, below)])
    floored = np.isfinite(workload.class_quality_at_least)
    if floored.any():
        row = np.cumsum(floored) - 1
        j = np.flatnonzero(floored[c])
        below = case.counted[j] * (workload.class_quality_at_least[c[j]] - case.quality[j])
        program.add_rows("class_quality", int(floored.sum()), [(row[c[j]], x[j], below)])
    _add_budget(program, case, x)
    return Built(program, x, u, phi, r)


def _add_budget(program: Program, case: Case, shares: IntArray) -> None:
    """Adds the row of what hosted requests may cost, in units of what all of them would."""
    budget = case.problem.hosted_budget_usd_per_h
    usd_per_h = hosted_usd_per_h(case)
    if budget is None or not usd_per_h.any():
        return
    unit = float(usd_per_h.max())
    entries: list[Entry] = [(np.zeros_like(shares), shares, usd_per_h / unit)]
    program.add_rows("budget", 1, entries, upper=budget / unit)


def hosted_usd_per_h(case: Case) -> FloatArray:
    """Returns what hosted requests cost if all of a column's traffic goes that way, $/h, (J,)."""
    workload, row = case.problem.workload, case.column_row
    usd = workload.request_usd[row, case.pools[case.column_slot]]
    return np.asarray(3600.0 * workload.rate_rps[row] * usd)


def add_stages(
    program: Program,
    column_cascade: IntArray,
    counted: FloatArray,
    shares: IntArray,
    block: str = "stages",
) -> None:
    """Adds the rows that make the two stages of each cascade equal.

    Args:
        program: to which the rows are added.
        column_cascade: number of the cascade of each share, -1 where it is none, (J,).
        counted: 1 in first stages, 0 in second ones, (J,).
        shares: where the shares are in the program, (J,).
        block: name of the rows.
    """
    j = np.flatnonzero(column_cascade >= 0)
    if j.size:
        numbers, row = np.unique(column_cascade[j], return_inverse=True)
        sign = np.where(counted[j] > 0, 1.0, -1.0)
        program.add_rows(block, numbers.size, [(row, shares[j], sign)], lower=0.0)


def highest_rate_factor(case: Case) -> float:
    """Returns what the class with the least room could reach alone, or 1 if phi is fixed."""
    if not case.maximises_rate:
        return 1.0
    with np.errstate(divide="ignore"):
        alone = case.cap[case.column_slot] / case.work
    first = case.counted > 0
    room = np.bincount(case.column_class[first], alone[first], case.n_classes)
    return float(min(room.min() * (1.0 + 1e-9), HIGHEST_RATE_FACTOR))


def solve_built(case: Case, built: Built, final: bool = False) -> Point:
    """Returns the optimum of a built program; `final` also settles what the objective leaves open.

    Left open are: whom to shed (lowest priority first), and the quality among equally cheap or
    equally fast routings.
    """
    program = built.program
    solution = maximise(program)
    if final and solution.solved:
        reached, further = _order(case, built, solution)
        solution = maximise_in_order(program, solution, reached, further)
    x = np.maximum(solution.values[built.shares], 0.0)
    unserved = np.clip(solution.values[built.unserved], 0.0, 1.0)
    if not solution.solved:
        unserved = np.ones(case.n_classes)
    value = float(program.gains() @ solution.values) if solution.solved else -np.inf
    factor = float(solution.values[built.rate_factor][0])
    return Point(built, solution, x, unserved, factor, case.loads(x), value)


def _order(
    case: Case, built: Built, solution: Solution
) -> tuple[list[FloatArray], list[FloatArray]]:
    """Returns the objectives that the solution has reached, and those still to settle in turn."""
    main = built.program.gains()
    sheds = (
        _shed_order(case, built)
        if solution.values[built.unserved].max() > UNSERVED_TOLERANCE
        else []
    )
    if case.problem.objective == "quality" or not case.work.size:
        return [], [*sheds, main] if sheds else []
    quality = _quality_gain(case, built)
    if not (case.maximises_rate or case.gain.any()):
        return [], [*sheds, 100.0 * main + quality]  # nothing is bought by the request: one solve
    return ([], [*sheds, main, quality]) if sheds else ([main], [quality])


def _shed_order(case: Case, built: Built) -> list[FloatArray]:
    """Returns one objective per priority, highest first: shed as little of it as can be."""
    levels = np.unique(case.problem.workload.priority)[::-1]
    order = []
    for level in levels if levels.size > 1 else []:
        shed = np.zeros(built.program.n_columns)
        of_level = case.problem.workload.priority == level
        shed[built.unserved] = -np.where(of_level, case.weight, 0.0)
        order.append(shed)
    return order


def _quality_gain(case: Case, built: Built) -> FloatArray:
    """Returns the mean quality as an objective over all columns, (N,)."""
    gain = np.zeros(built.program.n_columns)
    gain[built.shares] = case.weight[case.column_class] * case.quality
    return gain


def at_caps(case: Case) -> Point:
    """Returns the optimal routing when no latency is limited: every pool up to its cap."""
    return solve_built(case, build(case, case.cap), final=True)
