"""A routing problem as flat arrays: one entry per usable (class, pool) pair.

Notation
    C classes, P pools, A active pools (replicas > 0 and usable by some class)
    R   rows: classes, then two stages per cascade (spec/workload.py)
    J   columns: usable pairs j = (row of class c_j, slot a_j of its pool)
    L   limits, E entries: pairs (limit l_e, column j_e) that the limit covers, K grid loads
    w_c      share of class c in all traffic
    h_j      1 where a column's requests count as traffic, 0 in the second stage of a cascade   (J,)
    s_j      work added per replica if all of the row went to its pool: lambda_r s_rp / n_p     (J,)
    F_e(r)   mean in ms, or share above the limit, of column j_e at load r per replica      (E, K)
    b_l      what F may be on average: at_most_ms, or the tail ratio of a percentile            (L,)
    t_e      weight of a column in its limit: 1 for one class, w_c for all traffic              (E,)

A limit asks for   sum_e t_e F_e(load of the pool) x_j  <=  b_l sum_e t_e h_j x_j,
the statistic over the served requests that it covers. The figures of the two stages of a cascade
are the terms of its latency (Cascade.parts): they add up, and count its requests once. F is the
running maximum of the table over the load, so that F(r) holds for every load up to r: it is
conservative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from planner.routing.problem import RoutingProblem
from planner.spec.arrays import BoolArray, FloatArray, IntArray
from planner.spec.base import Metric
from planner.spec.question import Limit
from planner.spec.table import PoolTable
from planner.spec.workload import ScopedLimit, Workload

# An infinite or unknown figure counts as this many times the limit: it can carry no more than a
# sliver of traffic, and stays within what a simplex solver can scale.
WORST_RATIO = 1e4
UNSERVED_QUALITY = 1000.0  # M: quality that one unserved request costs, against at most 1 gained


@dataclass(frozen=True)
class Figures:
    """What the limits read from the tables, entry by entry."""

    limits: tuple[ScopedLimit, ...]
    limit: IntArray  # (E,)
    column: IntArray  # (E,)
    traffic: FloatArray  # (E,) t_e
    counted: FloatArray  # (E,) h_j of the entry's column
    bound: FloatArray  # (L,) b_l, ms or ratio
    raw: FloatArray  # (E, K) the table
    worst: FloatArray  # (E, K) F_e, its running maximum along the load

    @property
    def n(self) -> int:
        """Returns the number of limits."""
        return len(self.limits)


@dataclass(frozen=True)
class Case:
    """Everything that the programs read, and nothing that they do not."""

    problem: RoutingProblem
    column_row: IntArray  # (J,) class or stage
    column_class: IntArray  # (J,) c_j
    column_cascade: IntArray  # (J,) number of the cascade that a stage belongs to, -1 for classes
    counted: FloatArray  # (J,) h_j
    column_slot: IntArray  # (J,) a_j
    pools: IntArray  # (A,) pool of each slot
    replicas: FloatArray  # (A,)
    weight: FloatArray  # (C,) w_c
    quality: FloatArray  # (J,)
    work: FloatArray  # (J,) s_j
    gain: FloatArray  # (J,) objective of a share, in units of objective_unit
    loss: FloatArray  # (C,) objective lost where a class is not served at all
    objective_unit: float  # value of one unit of the objective, in its named unit
    room: FloatArray  # (A,) highest load per replica within headroom
    cap: FloatArray  # (A,) the same or less: where limits allow no more for any routing
    grid: FloatArray  # (A, K) grid loads, padded with increasing loads beyond the table
    figures: Figures

    @property
    def n_classes(self) -> int:
        """Returns the number of classes."""
        return self.weight.size

    @property
    def n_slots(self) -> int:
        """Returns the number of active pools."""
        return self.pools.size

    @property
    def n_cascades(self) -> int:
        """Returns the number of cascades whose two stages can be served."""
        return int(np.unique(self.column_cascade[self.column_cascade >= 0]).size)

    @property
    def maximises_rate(self) -> bool:
        """Returns whether the rate factor is a variable."""
        return self.problem.objective == "rate_factor"

    @property
    def keeps_floor(self) -> bool:
        """Returns whether the quality of all traffic has a floor that is a row."""
        asked = self.problem.objective != "quality" or self.problem.quality_floor_hard
        return asked and self.problem.workload.quality_at_least is not None

    def relaxed(self) -> Case:
        """Returns the case for a bound: caps from limits hold only where figures never fall.

        A cap below the room comes from the running maximum: a raw figure may hold beyond it.
        """
        falls = bool((self.figures.raw < self.figures.worst).any())
        return replace(self, cap=self.room) if falls else self

    def loads(self, shares: FloatArray) -> FloatArray:
        """Returns the load per replica of every slot for shares by column (J,), (A,)."""
        flow = self.work * shares
        return np.asarray(np.bincount(self.column_slot, flow, self.n_slots), dtype=np.float64)

    def spread(self, shares: FloatArray) -> FloatArray:
        """Returns shares by column (J,) as a table by row and pool, (R, P)."""
        table = np.zeros((self.problem.workload.n_rows, self.problem.workload.n_pools))
        table[self.column_row, self.pools[self.column_slot]] = shares
        return table

    def by_class(self, shares: FloatArray) -> FloatArray:
        """Returns how much of each class is served by shares (J,), (C,)."""
        return np.asarray(
            np.bincount(self.column_class, self.counted * shares, minlength=self.n_classes)
        )


def prepare(problem: RoutingProblem) -> Case:
    """Returns the problem as flat arrays."""
    workload = problem.workload
    usable = _usable(problem)
    pools = np.flatnonzero(usable.any(axis=0))
    column_row, column_slot = np.nonzero(usable[:, pools])
    column_pool = pools[column_slot]
    replicas = problem.replicas[pools].astype(np.float64)
    tables = [problem.tables[p] for p in pools]
    work_s = np.stack([t.work_s for t in problem.tables], axis=1)[column_row, column_pool]
    gain, loss, unit = _objective(problem, column_row, column_pool)
    grid = _grid(tables)
    figures = _figures(workload, tables, column_row, column_slot)
    room = np.array([t.max_load for t in tables]) * (1.0 - problem.headroom_ratio)
    return Case(
        problem=problem,
        column_row=column_row,
        column_class=workload.row_class[column_row],
        column_cascade=np.maximum(column_row - workload.n_classes, -2) // 2,
        counted=workload.counted[column_row].astype(np.float64),
        column_slot=column_slot,
        pools=pools,
        replicas=replicas,
        weight=workload.weights,
        quality=workload.quality[column_row, column_pool],
        work=workload.rate_rps[column_row] * work_s / replicas[column_slot],
        gain=gain,
        loss=loss,
        objective_unit=unit,
        room=room,
        cap=_within_own_limits(room, grid, figures, column_slot),
        grid=grid,
        figures=figures,
    )


def _usable(problem: RoutingProblem) -> BoolArray:
    """Returns which rows may go to which pools, (R, P): a pool without latency data for a
    limited metric may not carry what the limit covers. A cascade needs both of its stages."""
    workload = problem.workload
    usable = workload.allowed & np.isfinite(workload.quality) & (problem.replicas > 0)
    for p, table in enumerate(problem.tables):
        usable[:, p] &= np.isfinite(table.work_s)
        for scoped in workload.limits:
            covered = workload.in_scope(scoped)
            if not table.has_latency or scoped.limit.metric not in table.mean_ms:
                usable[covered, p] = False
            elif workload.cascades and scoped.limit.metric == "ttft":  # the first answer's e2e
                first = [cascade.first_row for cascade in workload.cascades]
                usable[first, p] &= ~covered[first] | ("e2e" in table.mean_ms)
    for cascade in workload.cascades:
        both = [cascade.first_row, cascade.second_row]
        usable[both] &= bool(usable[both].any(axis=1).all())
    return np.asarray(usable, dtype=np.bool_)


def _objective(
    problem: RoutingProblem, column_row: IntArray, column_pool: IntArray
) -> tuple[FloatArray, FloatArray, float]:
    """Returns gain per share (J,), loss per unserved class (C,) and the value of one unit."""
    workload, weight = problem.workload, problem.workload.weights
    if problem.objective == "quality":
        quality = workload.quality[column_row, column_pool]
        return weight[workload.row_class[column_row]] * quality, UNSERVED_QUALITY * weight, 1.0
    if problem.objective == "cost":
        usd = workload.request_usd[column_row, column_pool]
        dearest_usd = max(float(usd.max(initial=0.0)), problem.unserved_usd / 10.0)
        loss = weight * (problem.unserved_usd / dearest_usd)
        unit_usd_per_h = workload.total_rps * 3600.0 * dearest_usd
        requests = workload.rate_rps[column_row] / workload.total_rps  # per request of all traffic
        return -requests * usd / dearest_usd, loss, unit_usd_per_h
    return np.zeros(column_row.size), np.zeros(workload.n_classes), 1.0


def _grid(tables: list[PoolTable]) -> FloatArray:
    """Returns the grid loads of the pools as one array, (A, K); shorter grids are padded."""
    size = max((t.loads.size for t in tables), default=2)
    grid = np.empty((len(tables), size))
    for a, table in enumerate(tables):
        n = table.loads.size
        grid[a, :n] = table.loads
        grid[a, n:] = table.loads[-1] + 1.0 + np.arange(size - n)
    return grid


def _figures(
    workload: Workload,
    tables: list[PoolTable],
    column_row: IntArray,
    column_slot: IntArray,
) -> Figures:
    """Returns the table figures of every (limit, column) that a limit covers."""
    reader = _Reader(workload, tables, max((t.loads.size for t in tables), default=2))
    column_class = workload.row_class[column_row]
    limits, columns, rows = [], [], []
    for number, scoped in enumerate(workload.limits):
        ids = np.flatnonzero(workload.in_scope(scoped)[column_row])
        limits.append(np.full(ids.size, number))
        columns.append(ids)
        read = reader.figures(scoped.limit)
        rows += [read(int(column_row[j]), int(column_slot[j])) for j in ids.tolist()]
    bound = np.array([_bound(scoped) for scoped in workload.limits], dtype=np.float64)
    none = np.empty(0, dtype=np.int64)
    limit, column = np.concatenate([none, *limits]), np.concatenate([none, *columns])
    raw = np.stack(rows) if rows else np.empty((0, reader.n_loads))
    raw = np.minimum(np.nan_to_num(raw, nan=np.inf), WORST_RATIO * bound[limit, None])
    for_all = np.array([scoped.class_name is None for scoped in workload.limits], dtype=bool)
    traffic = np.where(for_all[limit], workload.weights[column_class[column]], 1.0)
    counted = workload.counted[column_row[column]].astype(np.float64)
    worst = np.maximum.accumulate(raw, axis=1)
    return Figures(workload.limits, limit, column, traffic, counted, bound, raw, worst)


@dataclass(frozen=True)
class _Reader:
    """Reads limited figures from the tables, each of them once."""

    workload: Workload
    tables: list[PoolTable]
    n_loads: int

    def figures(self, limit: Limit) -> Callable[[int, int], FloatArray]:
        """Returns what reads the figure of a limit for a row and a slot, (K,)."""
        seen: dict[tuple[int, Metric, float], FloatArray] = {}
        is_mean = limit.tail_ratio is None

        def at(slot: int, metric: Metric, at_ms: float) -> FloatArray:
            key = slot, metric, at_ms
            if key not in seen:
                table, time_ms = self.tables[slot], None if is_mean else at_ms
                seen[key] = _table_figure(table, metric, time_ms, self.n_loads)
            return seen[key]

        def read(row: int, slot: int) -> FloatArray:
            at_ms = float(limit.at_most_ms)
            if row < self.workload.n_classes:
                return np.asarray(at(slot, limit.metric, at_ms)[row])
            cascade = self.workload.cascades[(row - self.workload.n_classes) // 2]
            total = np.zeros(self.n_loads)
            for part in cascade.parts(limit.metric):
                if part.row == row and part.weight > 0:
                    ratio = 1.0 if is_mean else part.time_ratio
                    total += part.weight * at(slot, part.metric, ratio * at_ms)[row]
            return total

        return read


def _within_own_limits(
    room: FloatArray, grid: FloatArray, figures: Figures, column_slot: IntArray
) -> FloatArray:
    """Returns the caps (A,), lower where a limit has one column only: it must hold on that pool.

    A limit that does not even hold on the idle pool stays out: what it covers goes unserved.
    """
    cap = room.copy()
    alone = np.flatnonzero(np.bincount(figures.limit, minlength=figures.n) == 1)
    for entry in np.flatnonzero(np.isin(figures.limit, alone)).tolist():
        slot, figure = int(column_slot[figures.column[entry]]), figures.worst[entry]
        bound = float(figures.bound[figures.limit[entry]])
        if figure[0] > bound or figure[-1] <= bound:
            continue
        above = int(np.argmax(figure > bound))
        part = (bound - figure[above - 1]) / (figure[above] - figure[above - 1])
        step = grid[slot, above] - grid[slot, above - 1]
        cap[slot] = min(float(cap[slot]), float(grid[slot, above - 1] + part * step))
    return cap


def _bound(scoped: ScopedLimit) -> float:
    """Returns what the figure of a limit may be on average: ms for a mean, else a tail ratio."""
    tail = scoped.limit.tail_ratio
    return scoped.limit.at_most_ms if tail is None else tail


def _table_figure(
    table: PoolTable, metric: Metric, at_most_ms: float | None, n_loads: int
) -> FloatArray:
    """Returns mean or exceedance of every row, padded to n_loads with the last one, (R, K)."""
    values = table.mean_ms[metric] if at_most_ms is None else table.exceedance(metric, at_most_ms)
    missing = n_loads - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing)), mode="edge") if missing else values


def at_load(case: Case, values: FloatArray, loads: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns entry figures and their slopes at one load per slot, linear between grid loads.

    values (E, K), loads (A,) -> two arrays (E,); the slope is the one towards higher loads.
    """
    last = case.grid.shape[1] - 2
    low = np.minimum(np.maximum((case.grid <= loads[:, None]).sum(axis=1) - 1, 0), last)
    slots = np.arange(case.n_slots)
    width = case.grid[slots, low + 1] - case.grid[slots, low]
    part = np.minimum(np.maximum((loads - case.grid[slots, low]) / width, 0.0), 1.0)
    slot = case.column_slot[case.figures.column]
    entry = np.arange(slot.size)
    at_low, at_high = values[entry, low[slot]], values[entry, low[slot] + 1]
    return at_low + (at_high - at_low) * part[slot], (at_high - at_low) / width[slot]


def excess(case: Case, shares: FloatArray, loads: FloatArray) -> FloatArray:
    """Returns by how much every limit is exceeded at shares (J,), as a ratio of the limit, (L,)."""
    f = case.figures
    value, _ = at_load(case, f.worst, loads)
    flow = f.traffic * shares[f.column]
    over = np.bincount(f.limit, flow * (value / f.bound[f.limit] - f.counted), minlength=f.n)
    served = np.bincount(f.limit, flow * f.counted, minlength=f.n)
    return np.asarray(over / np.maximum(served, 1e-12))
