"""Limits of one class: operating tiers (conservative values, or values for a bound).

Notation: see case.py and program.py
    k        tier of a pool: all its replicas carry at most rho_ak each                (A, T)
    z_ak     1 if pool a runs at tier k; replicas of a pool share its load evenly, so a pool has one
    x_jk     share of class c_j that goes to its pool at tier k
    F_ek     figure of entry e at tier k

The program
    serve, stages, load, quality, quality:<class> as in program.py with x_j = sum_k x_jk
    tier:<pool>:<k>    sum_{j of a} s_j x_jk - rho_ak z_ak      <=  0
    one:<pool>         sum_k z_ak                               <=  1
    limit:<l>          sum_ek t_e (F_ek / b_l - h_j) x_jk       <=  0

With F_ek the largest value up to rho_ak a solution keeps the limits; with the smallest value
between rho_a,k-1 and rho_ak the program is a relaxation. The optimum lies between the two, and
what is between them is the tier gap. With z relaxed it mixes tiers within a pool: only a start.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.routing.case import Case
from planner.routing.linear import (
    IntegerSolution,
    Program,
    Solution,
    maximise,
    maximise_integer,
    nodes_within,
)
from planner.routing.program import Built, build
from planner.spec.arrays import FloatArray, IntArray

DIVES = 2
DIVE_CELLS = 300  # columns times tiers
MAINLY = 0.6  # part of a pool
DECIDED = 0.999


@dataclass(frozen=True)
class Tiered:
    """A tier program, and where its variables are."""

    program: Program
    built: Built
    shares: IntArray  # (J, T)
    tier: IntArray  # (A, T)


def tier_loads(case: Case, n_tiers: int | None = None) -> FloatArray:
    """Returns ascending tier loads per replica, (A, T): grid loads up to the cap, and the cap.

    With n_tiers that many of them, the cap among them; where a pool has fewer, it is repeated.
    """
    rows = []
    for a in range(case.n_slots):
        cap = float(case.cap[a])
        grid = case.grid[a]
        rows.append(np.append(grid[(grid > 0) & (grid < cap * (1.0 - 1e-9))], cap))
    most = max((row.size for row in rows), default=1)
    n = most if n_tiers is None else min(n_tiers, most)
    loads = np.empty((case.n_slots, n))
    for a, row in enumerate(rows):
        if row.size > n:
            loads[a] = row[np.rint(np.linspace(row.size - 1, 0, n)).astype(int)[::-1]]
        else:
            loads[a] = np.append(row, np.full(n - row.size, row[-1]))
    return loads


def split_tiers(tiers: FloatArray, n_parts: int) -> FloatArray:
    """Returns the tier loads (A, T) with every step cut into equal parts, (A, T * n_parts)."""
    below = np.concatenate([np.zeros((tiers.shape[0], 1)), tiers[:, :-1]], axis=1)
    parts = np.arange(1, n_parts + 1) / n_parts
    finer = below[:, :, None] + (tiers - below)[:, :, None] * parts
    return np.asarray(finer.reshape(tiers.shape[0], -1))


def conservative_figures(case: Case, tiers: FloatArray) -> FloatArray:
    """Returns the largest figure at any load up to the tier, (E, T)."""
    return _interpolated(case, case.figures.worst, tiers)


def optimistic_figures(case: Case, tiers: FloatArray) -> FloatArray:
    """Returns the smallest figure between the tier below (0 for the first) and the tier, (E, T)."""
    raw = case.figures.raw
    below = np.concatenate([np.zeros((tiers.shape[0], 1)), tiers[:, :-1]], axis=1)
    ends = np.minimum(_interpolated(case, raw, below), _interpolated(case, raw, tiers))
    slot = case.column_slot[case.figures.column]
    grid = case.grid[slot][:, None, :]
    inside = (grid > below[slot][:, :, None]) & (grid < tiers[slot][:, :, None])
    between = np.where(inside, raw[:, None, :], np.inf).min(axis=2, initial=np.inf)
    return np.asarray(np.minimum(ends, between))


def start_loads(case: Case, n_tiers: int) -> tuple[FloatArray, FloatArray]:
    """Returns loads per replica to start from, with tiers mixed and with one tier per pool, (A,).

    The second by diving: of the mixed solution every pool that mostly runs at one tier, or at least
    the most decided one, keeps that tier alone; a few times, then all do. Large programs do not
    dive: it costs more there than a further start.
    """
    tiers = tier_loads(case, n_tiers)
    tiered = _build(case, tiers, conservative_figures(case, tiers), integer=False)
    solution = maximise(tiered.program)
    if not solution.solved:
        return case.cap, case.cap
    mixed, single = _loads_of(case, tiered, tiers, solution)
    for _ in range(DIVES if tiered.shares.size <= DIVE_CELLS else 0):
        if not _keep_main_tiers(tiered, solution):
            break
        solution = maximise(tiered.program)
        if not solution.solved:
            break
        _, single = _loads_of(case, tiered, tiers, solution)
    return mixed, single


def _loads_of(
    case: Case, tiered: Tiered, tiers: FloatArray, solution: Solution
) -> tuple[FloatArray, FloatArray]:
    """Returns the loads (A,) of a solution, and the main tier instead where a pool mixes tiers."""
    used = np.minimum(_used(case, tiered, solution), case.cap)
    main, part = _main_tiers(tiered, solution)
    mixes = (used > 1e-9) & (part < DECIDED)
    return used, np.where(mixes, tiers[np.arange(used.size), main], used)


def _main_tiers(tiered: Tiered, solution: Solution) -> tuple[IntArray, FloatArray]:
    """Returns the tier at which a pool mostly runs, and its part of the pool, (A,) each."""
    z = np.maximum(solution.values[tiered.tier], 0.0)
    part = z / np.maximum(z.sum(axis=1, keepdims=True), 1e-12)
    return np.argmax(part, axis=1), part.max(axis=1)


def _keep_main_tiers(tiered: Tiered, solution: Solution) -> bool:
    """Closes the other tiers of pools that have a main one; returns whether any pool mixed them."""
    main, part = _main_tiers(tiered, solution)
    mixes = (part > 0) & (part < DECIDED)
    if not mixes.any():
        return False
    keeps = part >= min(MAINLY, float(part[mixes].max()))
    others = np.arange(tiered.tier.shape[1]) != main[:, None]
    tiered.program.set_upper(tiered.tier[others & keeps[:, None]], 0.0)
    return True


def tiers_above(tiers: FloatArray, loads: FloatArray) -> FloatArray:
    """Returns the smallest of the tier loads (A, T) that is not below a load, per pool (A,)."""
    enough = tiers >= loads[:, None] * (1.0 - 1e-9)
    return np.asarray(tiers[np.arange(loads.size), np.argmax(enough, axis=1)])


def best_tiers(
    case: Case, figures: FloatArray, tiers: FloatArray, gap_ratio: float, n_nodes: int
) -> tuple[FloatArray, IntegerSolution]:
    """Returns tier loads chosen by the integer program, 0 for unused pools (A,), and all of it.

    Large programs get fewer nodes than n_nodes.
    """
    tiered = _build(case, tiers, figures, integer=True)
    n_nodes = nodes_within(n_nodes, tiered.shares.size)
    solution = maximise_integer(tiered.program, gap_ratio, n_nodes)
    chosen = (np.rint(solution.values[tiered.tier]) * tiers).sum(axis=1)
    return np.where(_used(case, tiered, solution) > 1e-12, chosen, 0.0), solution


def _used(case: Case, tiered: Tiered, solution: Solution | IntegerSolution) -> FloatArray:
    """Returns the load per replica that a tier solution causes, (A,)."""
    return case.loads(np.maximum(solution.values[tiered.shares], 0.0).sum(axis=1))


def _interpolated(case: Case, values: FloatArray, loads: FloatArray) -> FloatArray:
    """Returns entry figures (E, K) at several loads per slot (A, T), (E, T)."""
    slot = case.column_slot[case.figures.column]
    result = np.empty((slot.size, loads.shape[1]))
    for a in range(case.n_slots):
        mine = slot == a
        low = np.clip(np.searchsorted(case.grid[a], loads[a], side="right") - 1, 0, None)
        low = np.minimum(low, case.grid.shape[1] - 2)
        part = (loads[a] - case.grid[a, low]) / (case.grid[a, low + 1] - case.grid[a, low])
        mine_values = values[mine]
        result[mine] = mine_values[:, low] * (1.0 - part) + mine_values[:, low + 1] * part
    return result


def _build(case: Case, tiers: FloatArray, figures: FloatArray, integer: bool) -> Tiered:
    """Returns the tier program for entry figures (E, T) at tier loads (A, T)."""
    n_columns, (n_slots, n_tiers) = case.work.size, tiers.shape
    built = build(case, case.cap)
    program, f = built.program, case.figures
    x = program.add_columns(n_columns * n_tiers).reshape(n_columns, n_tiers)
    z = program.add_columns(n_slots * n_tiers, 0.0, 1.0, 0.0, integer).reshape(n_slots, n_tiers)
    j = np.repeat(np.arange(n_columns), n_tiers)
    cell = np.arange(n_slots * n_tiers)
    total = [(np.arange(n_columns), built.shares, 1.0), (j, x.ravel(), -1.0)]
    program.add_rows("total", n_columns, total, lower=0.0)
    row = (case.column_slot[:, None] * n_tiers + np.arange(n_tiers)).ravel()
    work = np.repeat(case.work, n_tiers)
    within = [(row, x.ravel(), work), (cell, z.ravel(), -tiers.ravel())]
    program.add_rows("tier", cell.size, within)
    program.add_rows("one", n_slots, [(cell // n_tiers, z.ravel(), 1.0)], upper=1.0)
    limit = np.repeat(f.limit, n_tiers)
    over = figures / f.bound[f.limit, None] - f.counted[:, None]
    value = (f.traffic[:, None] * over).ravel()
    program.add_rows("limit", f.n, [(limit, x[f.column].ravel(), value)])
    return Tiered(program, built, x, z)
