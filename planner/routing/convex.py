"""Limits over all traffic, without tiers: occupancy (mean) and exceedance flow (percentile).

Notation: see case.py, program.py, envelope.py
    y_as       load per replica in segment s of pool a, 0 <= y_as <= width_as
    slope_las  slope of the flow of limit l per replica there, at the pool's table mix
    Lambda     planned rate of all traffic, n_a replicas

The program adds
    fill:<pool>        r_a - sum_s y_as                                          <=  0
    limit:<l>          sum_as n_a slope_las y_as / (Lambda b_l) - sum_j w_c x_j  <=  0

By Little's law sum_a n_a f_a / Lambda is the mean over all traffic for any mix of requests, if
occupancy depends on the load alone; for other figures it holds at the table's mix (§5). Slopes
rise, so segments fill in order without integers; one set of y serves all limits. A percentile
limit cuts a pool where more than half of its requests would be late: beyond it the flow bends.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.routing.case import Case
from planner.routing.envelope import lower_hull, majorant_gap, upper_majorant
from planner.routing.program import Built, Point, build, solve_built
from planner.spec.arrays import FloatArray, IntArray

CUT_RATIO = 0.5


@dataclass(frozen=True)
class Segments:
    """The convex curves of all pools: one column per segment, one slope per limit."""

    slot: IntArray  # (Y,)
    width: FloatArray  # (Y,) load per replica
    slope: FloatArray  # (L, Y) flow per replica and load, in units of b_l
    cap: FloatArray  # (A,) cap after the cut
    gap_ratio: float  # largest envelope gap


def solve_convex(case: Case, segments: Segments) -> Point:
    """Returns the optimal routing under limits over all traffic at the tables' mix."""
    built = build(case, segments.cap)
    _add_segments(case, built, segments)
    return solve_built(case, built, final=True)


def conservative(case: Case) -> Segments:
    """Returns segments of the upper majorants, for a routing that keeps the limits."""
    parts = []
    gap, cap = 0.0, case.cap.copy()
    for slot in range(case.n_slots):
        nodes, figures, mean_work = _flow_table(case, case.figures.worst, slot)
        cap[slot] = nodes[-1]
        if nodes.size < 2:
            continue
        slopes = []
        for figure in figures:
            flow = nodes * figure / mean_work
            slopes.append(upper_majorant(nodes, flow))
            gap = max(gap, majorant_gap(nodes, flow, slopes[-1]))
        parts.append((slot, np.diff(nodes), np.stack(slopes)))
    return _join(case, parts, cap, gap)


def optimistic(case: Case) -> Segments:
    """Returns segments of the lower hulls, for a bound at the tables' mix (§5)."""
    parts = []
    for slot in range(case.n_slots):
        nodes, figures, mean_work = _flow_table(case, case.figures.raw, slot, cut=False)
        hulls = [lower_hull(nodes, figure) for figure in figures]
        shared = np.unique(np.concatenate([x for x, _ in hulls]))
        slopes = [np.diff(np.interp(shared, x, y)) / np.diff(shared) / mean_work for x, y in hulls]
        parts.append((slot, np.diff(shared), np.stack(slopes)))
    return _join(case, parts, case.cap, 0.0)


def _flow_table(
    case: Case, values: FloatArray, slot: int, cut: bool = True
) -> tuple[FloatArray, FloatArray, float]:
    """Returns nodes (K,), figures at the table's mix (L, K) in units of b_l, and the mean work.

    The figures come from entry values (E, K); `cut` leaves out what lies beyond the cut.
    """
    f, cap = case.figures, float(case.cap[slot])
    pool = int(case.pools[slot])
    table = case.problem.tables[pool]
    nodes = np.append(table.loads[table.loads < cap * (1.0 - 1e-9)], cap)
    mine = np.flatnonzero(case.column_slot[f.column] == slot)
    classes = case.column_class[f.column[mine]]
    mix = np.maximum(np.nan_to_num(table.mix[classes]), 0.0)
    mix = mix if mix.sum() > 0 else case.weight[classes]
    figures = np.empty((f.n, nodes.size))
    for limit in range(f.n):
        of_limit = f.limit[mine] == limit
        mean = mix[of_limit] @ values[mine[of_limit]] / mix[of_limit].sum()
        figures[limit] = np.interp(nodes, case.grid[slot], mean) / f.bound[limit]
    last = _last_node(case, figures) if cut else nodes.size - 1
    first_limit = f.limit[mine] == 0
    work_s = table.work_s[classes[first_limit]]
    mean_work = float(mix[first_limit] @ work_s / mix[first_limit].sum())
    return nodes[: last + 1], figures[:, : last + 1], max(mean_work, 1e-12)


def _last_node(case: Case, figures: FloatArray) -> int:
    """Returns the last node at which no percentile limit has passed the cut.

    A pool that is past it already when idle is not cut: its flow is then nearly linear.
    """
    last = int(figures.shape[1]) - 1
    for scoped, figure in zip(case.figures.limits, figures, strict=True):
        tail = scoped.limit.tail_ratio
        if tail is not None and figure[0] * tail <= CUT_RATIO:
            last = min(last, int(np.flatnonzero(figure * tail <= CUT_RATIO)[-1]))
    return last


def _join(
    case: Case, parts: list[tuple[int, FloatArray, FloatArray]], cap: FloatArray, gap: float
) -> Segments:
    """Returns the segments of all pools as one set of columns."""
    none = np.empty((case.figures.n, 0))
    slot = np.concatenate([np.empty(0, np.int64), *[np.full(w.size, a) for a, w, _ in parts]])
    width = np.concatenate([np.empty(0), *[w for _, w, _ in parts]])
    slope = np.concatenate([none, *[s for _, _, s in parts]], axis=1)
    return Segments(slot.astype(np.int64), width, slope, cap, gap)


def _add_segments(case: Case, built: Built, segments: Segments) -> None:
    """Adds the segment columns, their fill rows and the limit rows."""
    program, n, f = built.program, case.n_slots, case.figures
    y = program.add_columns(segments.width.size, 0.0, segments.width)
    fill = [(np.arange(n), built.loads, 1.0), (segments.slot, y, -1.0)]
    program.add_rows("fill", n, fill)
    per_request = case.replicas[segments.slot] / case.problem.workload.total_rps
    row = np.repeat(np.arange(f.n), y.size)
    flow = (segments.slope * per_request).ravel()
    served = (f.limit, built.shares[f.column], -f.traffic)
    program.add_rows("limit", f.n, [(row, np.tile(y, f.n), flow), served])
