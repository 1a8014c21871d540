"""The operation's part of a joint program under limits over all traffic: flows instead of tiers.

Notation (see joint.py; s_j here is the load that one replica gets from all of class c_j)
    R_a      load of usable pool a over all its replicas              replica-seconds/s (A,)
    f_la     flow of limit l on pool a, in units of Lambda b_l        ratio             (L, A)
    F_e(r)   figure of entry e at a load r per replica                ms or ratio       (E,)
    B_e      its part that does not depend on the load                ms or ratio       (E,)
    H_la(r)  its part per work of a request; F_e(r) ~ B_e + (s_j / lambda_c) H_la(r)
    g, o     slope and offset of a line under n f(R / n)              (lines of limit l and pool a)

The program
    serve:<class>      sum_{j of c} x_j + u_c - phi                    =  0
    load:<pool>        sum_{j of a} s_j x_j - R_a                      =  0
    cap:<pool>         R_a - cap_a n_a                                <=  0
    line:<l>:<pool>:i  g_i R_a + o_i n_a - f_la                       <=  0
    limit:<l>          sum_e t_e (B_e / b_l - 1) x_j + sum_a f_la     <=  0
    and the floors of service.py

By Little's law the sum over all requests of s_j H(r_a) is R_a H(R_a / n_a): the flow of n_a
replicas that share the load evenly, convex in both together (a perspective), so lines in R and n
describe it without integers of its own. B takes up what a class differs by from its work times
the common curve: with the largest remainder over all loads the rows are those of a plan, with the
smallest ones those of a bound, for every mix of classes. Where latency is a constant plus work
times a curve of the load (one batch that all share) the two differ by the width of the grid only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.exact.readings import TOLERANCE, Reading
from planner.exact.service import Served, add_floors, add_served
from planner.routing.case import Case, prepare
from planner.routing.envelope import lower_hull, upper_majorant
from planner.routing.linear import Entry, Program
from planner.routing.problem import RoutingProblem
from planner.space import Space
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

FINE_RATIO = 2e-3  # of the flow at the cap: what a chord may lie above the flow
SPARE_RATIO = 1e-2  # of a flow: lines of a bound that add less are left out


@dataclass(frozen=True)
class Flows:
    """One reading of the tables: constants of the classes and lines of the pools."""

    case: Case  # all usable pools with one replica each
    space: Space
    reading: Reading
    base: FloatArray  # (E,) B_e
    limit: IntArray  # (I,) of each line
    slot: IntArray  # (I,)
    slope: FloatArray  # (I,) g, per unit of load
    offset: FloatArray  # (I,) o, per replica

    @property
    def slack_ratio(self) -> float:
        """Returns what is added to limits and taken from floors, so that a bound binds no plan."""
        return TOLERANCE if self.reading == "optimistic" else 0.0


def has_flows(workload: Workload) -> bool:
    """Returns whether this form holds for a workload: no cascades, no limits of single classes."""
    return not workload.cascades and all(scoped.class_name is None for scoped in workload.limits)


def read_flows(
    workload: Workload,
    tables: Sequence[PoolTable],
    space: Space,
    headroom_ratio: float,
    reading: Reading,
) -> Flows:
    """Returns the flows of every pool that the space allows at all.

    Args:
        workload: C classes over P pools, with limits over all traffic only.
        tables: the pools' tables, (P,).
        space: the box of deployments, (P,).
        headroom_ratio: load <= (1 - headroom_ratio) * max_load.
        reading: whether figures are those of a plan or of a bound.
    """
    there = np.asarray(space.upper > 0, dtype=np.int64)
    case = prepare(RoutingProblem(workload, tuple(tables), there, headroom_ratio))
    if reading == "optimistic":
        case = case.relaxed()
    base = np.zeros(case.figures.limit.size)
    lines = [np.empty((0, 4))]
    for number in range(case.figures.n):
        of_limit = np.flatnonzero(case.figures.limit == number)
        slot = case.column_slot[case.figures.column[of_limit]]
        for a in np.unique(slot).tolist():
            entries = of_limit[slot == a]
            base[entries], found = _read_pool(case, entries, a, reading)
            lines.append(np.column_stack([np.tile([number, a], (len(found), 1)), found]))
    every = np.concatenate(lines)
    limit, slots = every[:, 0].astype(np.int64), every[:, 1].astype(np.int64)
    return Flows(case, space, reading, base, limit, slots, every[:, 2], every[:, 3])


def spread_ratio(one: Flows, other: Flows) -> float:
    """Returns how far two readings of the same tables are apart, as part of a limit.

    The mean over all traffic and all usable pools, of the limit where it is largest; 0 without.
    """
    f, case = one.case.figures, one.case
    if not f.n:
        return 0.0
    apart = np.abs(one.base - other.base) / f.bound[f.limit]
    weight = case.weight[case.column_class[f.column]]
    total = np.bincount(f.limit, weight, f.n)
    return float((np.bincount(f.limit, weight * apart, f.n) / total).max())


def _read_pool(
    case: Case, entries: IntArray, slot: int, reading: Reading
) -> tuple[FloatArray, FloatArray]:
    """Returns the constants (n,) of the entries (n,) of one limit and pool, and its lines (I, 2).

    The common curve is the regression of the figures on the work, over the traffic.
    """
    f = case.figures
    nodes, figures = _at_nodes(case, f.worst if reading == "conservative" else f.raw, entries, slot)
    column = f.column[entries]
    weight = case.weight[case.column_class[column]]
    total_rps = case.problem.workload.total_rps
    work_s = case.problem.tables[case.pools[slot]].work_s[case.column_row[column]]
    moment = float(weight @ work_s**2)
    rise = figures - figures.min(axis=1, keepdims=True)
    curve = (weight * work_s) @ rise / moment if moment > 0 else np.zeros(nodes.size)
    rest = figures - work_s[:, None] * curve
    base = rest.max(axis=1) if reading == "conservative" else rest.min(axis=1)
    nodes, curve = _finer(nodes, curve)
    lines = _above(nodes, curve) if reading == "conservative" else _below(nodes, curve)
    return base, lines / (total_rps * f.bound[f.limit[entries[0]]])


def _at_nodes(
    case: Case, values: FloatArray, entries: IntArray, slot: int
) -> tuple[FloatArray, FloatArray]:
    """Returns the grid loads up to the cap and the cap (K,), and the figures there, (n, K)."""
    cap, grid = float(case.cap[slot]), case.grid[slot]
    nodes = np.append(grid[grid < cap * (1.0 - 1e-9)], cap)
    return nodes, np.array([np.interp(nodes, grid, values[e]) for e in entries.tolist()])


def _finer(nodes: FloatArray, curve: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns the nodes and the curve with steps cut into equal parts where the flow bends much.

    Between nodes the curve is linear and the flow a parabola, a quarter of rise times width below
    its chord.
    """
    bend = np.diff(nodes) * np.abs(np.diff(curve)) / 4.0
    most = FINE_RATIO * max(float(nodes[-1] * curve[-1]), 1e-300)
    parts = np.maximum(np.ceil(np.sqrt(bend / most) - 1e-9), 1.0).astype(np.int64)
    place = np.concatenate([k + np.arange(n) / n for k, n in enumerate(parts.tolist())])
    place, every = np.append(place, nodes.size - 1.0), np.arange(nodes.size)
    return np.interp(place, every, nodes), np.interp(place, every, curve)


def _above(nodes: FloatArray, curve: FloatArray) -> FloatArray:
    """Returns slope and offset of lines whose maximum is nowhere below the flow, (I, 2)."""
    slopes = upper_majorant(nodes, nodes * curve)
    heights = np.concatenate([[0.0], np.cumsum(slopes * np.diff(nodes))])[:-1]
    return _distinct(slopes, heights - slopes * nodes[:-1])


def _below(nodes: FloatArray, curve: FloatArray) -> FloatArray:
    """Returns slope and offset of lines that are nowhere above the flow, (I, 2)."""
    x, y = lower_hull(nodes, curve)
    slopes = np.diff(y) / np.diff(x)
    lines = _distinct(slopes, y[:-1] - slopes * x[:-1])
    kept = [0]
    for i in range(1, len(lines)):
        if i + 1 == len(lines) or _missed(lines, kept[-1], i + 1) > SPARE_RATIO:
            kept.append(i)
    return lines[kept]


def _missed(lines: FloatArray, before: int, after: int) -> float:
    """Returns the part of the flow that two lines (of (I, 2)) miss where they cross."""
    rise, fall = lines[after] - lines[before]
    load = -fall / rise
    flow = float((lines[:, 0] * load + lines[:, 1]).max())
    return (flow - float(lines[before] @ [load, 1.0])) / max(flow, 1e-300)


def _distinct(slopes: FloatArray, offsets: FloatArray) -> FloatArray:
    """Returns lines (I, 2) without those that repeat the one before."""
    new = np.append(True, np.diff(slopes) > 1e-12 * max(1.0, float(np.abs(slopes).max())))
    return np.column_stack([slopes[new], offsets[new]])


def add_flow_service(
    program: Program,
    flows: Flows,
    replicas: IntArray,
    gain: FloatArray,
    floor: float | None,
    maximises_rate: bool,
    unserved_loss: FloatArray | None,
) -> Served:
    """Returns the columns of an operation of a deployment, added to a program with their rows.

    Args:
        program: to which they are added.
        flows: constants and lines.
        replicas: the columns of the deployment, (P,).
        gain: objective of each share, (J,).
        floor: least mean quality of the served traffic, if any.
        maximises_rate: whether the rate factor is free, and worth 1.
        unserved_loss: objective lost where a class is not served, (C,); None: all is served.
    """
    case = flows.case
    cap, n = case.cap, replicas[case.pools]
    served = add_served(program, case, flows.space, cap, gain, maximises_rate, unserved_loss, "")
    slots = np.arange(case.n_slots)
    loads = program.add_columns(case.n_slots)
    arriving: list[Entry] = [(case.column_slot, served.shares.ravel(), case.work)]
    arriving.append((slots, loads, -1.0))
    program.add_rows("load", case.n_slots, arriving, lower=0.0)
    program.add_rows("cap", case.n_slots, [(slots, loads, 1.0), (slots, n, -cap)])
    _add_limits(program, flows, served.shares.ravel(), loads, n)
    add_floors(program, case, served.shares, floor, flows.slack_ratio, "")
    return served


def _add_limits(
    program: Program, flows: Flows, shares: IntArray, loads: IntArray, n: IntArray
) -> None:
    """Adds the flows with their lines, and the rows of the limits."""
    case, f = flows.case, flows.case.figures
    if not f.n:
        return
    flow = program.add_columns(f.n * case.n_slots).reshape(f.n, case.n_slots)
    line, slot = np.arange(flows.slope.size), flows.slot
    # Lines in units of the steepest one of their pool: steep and flat ones scale alike.
    steepest = np.zeros((f.n, case.n_slots))
    np.maximum.at(steepest, (flows.limit, slot), np.abs(flows.slope))
    unit = np.where(steepest > 0, steepest, 1.0)
    scale = unit[flows.limit, slot]
    lines: list[Entry] = [(line, loads[slot], flows.slope / scale)]
    lines.append((line, n[slot], flows.offset / scale))
    lines.append((line, flow[flows.limit, slot], -1.0))
    program.add_rows("line", line.size, lines)
    over = f.traffic * (flows.base / f.bound[f.limit] - (1.0 + flows.slack_ratio) * f.counted)
    row = np.repeat(np.arange(f.n), case.n_slots)
    limit: list[Entry] = [(f.limit, shares[f.column], over), (row, flow.ravel(), unit.ravel())]
    program.add_rows("limit", f.n, limit)
