"""BOute's candidate deployments of one model (arXiv 2602.10729): Pareto points, then knapsacks.

Notation (one model)
    i      homogeneous candidate: n replicas of one pool, all on one type of GPU
    t_i(l) its figure (latency or limit used) at a load of l requests/s
    k_i    its rent in $/h
    T      a figure;  v_i(T) requests/s that i carries while its figure is at most T

Program
    homogeneous     per load and type of GPU: the i that no other beats in both t_i(l) and k_i
    heterogeneous   per load l and budget B: at most one i of each type of GPU, with
                        min T   s.t.  sum_i v_i(T) >= l,   sum_i k_i <= B
                    for a fixed T that is a multiple-choice knapsack, solved by merging the types'
                    lists of (rent, requests/s) that no other beats
    C_m = all of these

Published: 20 loads of 2, 4, ..., 40 req/s, 10 to 20 homogeneous candidates per type, 10 to 20
budgets. Chosen here: loads of 5, 10, ..., 100 % of the question's traffic, at most 20 candidates
per type, 20 budgets, 24 figures for T, merged lists of at most 400, thinned beyond; data and
pipeline parallelism are those of the pools.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.named.fractions import Fractions, Group
from planner.search import pareto
from planner.spec.arrays import FloatArray, IntArray

N_LOADS = 20
N_BUDGETS = 20
N_FIGURES = 24
MOST_PER_TYPE = 20
MOST_MERGED = 400


@dataclass(frozen=True)
class _List:
    """The homogeneous candidates of a model on one type of GPU."""

    replicas: IntArray  # (n, P)
    usd_per_h: FloatArray  # (n,)
    rps: FloatArray  # (n, K) carried at each load of the pool's table, up to its cap
    figure: FloatArray  # (n, K) there

    def take(self, rows: IntArray) -> _List:
        return _List(self.replicas[rows], self.usd_per_h[rows], self.rps[rows], self.figure[rows])

    def carried(self, figure: float) -> FloatArray:
        """Requests/s of each candidate while its figure is at most a given one, (n,)."""
        within = [
            np.interp(figure, f[np.isfinite(f)], r[np.isfinite(f)], left=0.0)
            if np.isfinite(f).any()
            else 0.0
            for f, r in zip(self.figure, self.rps, strict=True)
        ]
        return np.array(within)

    def figures_at(self, rps: float) -> FloatArray:
        """The figure of each candidate at a load in requests/s, (n,); inf beyond its cap."""
        found = [
            np.interp(rps, r, f) if rps <= r[-1] else np.inf
            for f, r in zip(self.figure, self.rps, strict=True)
        ]
        return np.array(found)


def candidates(fractions: Fractions, group: Group, budget_usd_per_h: float) -> IntArray:
    """Returns the deployments of one model that are worth combining, (n, P), each once."""
    rate = fractions.objectives.case.workload.class_rate_rps
    flow = np.where(np.isfinite(group.quality), rate, 0.0)
    wanted = float(rate.sum()) * np.arange(1, N_LOADS + 1) / N_LOADS
    lists = [_non_dominated(one, wanted) for one in _lists(fractions, group, flow)]
    lists = [one for one in lists if len(one.replicas)]
    if not lists:
        return np.zeros((0, fractions.group_of.size), dtype=np.int64)
    every = np.concatenate([one.replicas for one in lists])
    mixed = _heterogeneous(lists, wanted, budget_usd_per_h)
    return np.unique(np.concatenate([every, *mixed]), axis=0)


def _lists(fractions: Fractions, group: Group, flow: FloatArray) -> list[_List]:
    """Returns all homogeneous candidates, by type of GPU; a hosted pool is a type of its own."""
    space = fractions.objectives.case.space
    by_type: dict[str, list[_List]] = {}
    for p in group.pools.tolist():
        counts = np.arange(max(1, space.lower[p]), space.upper[p] + 1)
        if not counts.size:
            continue
        replicas = np.zeros((counts.size, space.upper.size), dtype=np.int64)
        replicas[:, p] = counts
        table = fractions.objectives.tables[p]
        loads = np.minimum(table.loads, fractions.caps[p])
        figure = np.interp(loads, table.loads, fractions.figures(p, flow))
        rps = counts[:, None] * loads / max(fractions.work_s(p, flow), 1e-12)
        usd = space.cost_usd_per_h(replicas)
        made = _List(replicas, usd, rps, np.repeat(figure[None, :], counts.size, axis=0))
        by_type.setdefault(space.gpu_of[p] or space.pool_names[p], []).append(made)
    return [_joined(found) for found in by_type.values()]


def _joined(found: list[_List]) -> _List:
    """Returns lists of pools of one type as one; tables may differ in their number of loads."""
    most = max(one.rps.shape[1] for one in found)

    def padded(figures: FloatArray) -> FloatArray:
        return np.asarray(np.pad(figures, ((0, 0), (0, most - figures.shape[1])), mode="edge"))

    return _List(
        np.concatenate([one.replicas for one in found]),
        np.concatenate([one.usd_per_h for one in found]),
        np.concatenate([padded(one.rps) for one in found]),
        np.concatenate([padded(one.figure) for one in found]),
    )


def _non_dominated(one: _List, wanted: FloatArray) -> _List:
    """Returns the candidates of a type that are on the front of some load, at most 20."""
    kept: set[int] = set()
    for rps in wanted.tolist():
        figures = one.figures_at(rps)
        able = np.flatnonzero(np.isfinite(figures))
        if able.size:
            values = np.column_stack([figures[able], one.usd_per_h[able]])
            kept.update(able[pareto.non_dominated(values)].tolist())
    rows = np.array(sorted(kept, key=lambda i: (one.usd_per_h[i], i)), dtype=np.int64)
    if rows.size > MOST_PER_TYPE:
        rows = rows[np.unique(np.linspace(0, rows.size - 1, MOST_PER_TYPE).round().astype(int))]
    return one.take(rows)


def _heterogeneous(lists: list[_List], wanted: FloatArray, budget: float) -> list[IntArray]:
    """Returns for each load and budget the combination with the least figure, (P,) each."""
    finite = np.concatenate([one.figure[np.isfinite(one.figure)] for one in lists])
    if not finite.size:
        return []
    low, high = max(float(finite.min()), 1e-9), max(float(finite.max()), 2e-9)
    dearest = sum(float(one.usd_per_h.max()) for one in lists)
    cheapest = min(float(one.usd_per_h.min()) for one in lists)
    budgets = np.linspace(cheapest, min(budget, dearest), N_BUDGETS)
    merged = [_merged(lists, figure) for figure in np.geomspace(low, high, N_FIGURES).tolist()]
    found: list[IntArray] = []
    for rps in wanted.tolist():
        for most_usd in budgets.tolist():
            for usd, carried, replicas in merged:  # the least figure first
                able = np.flatnonzero((usd <= most_usd + 1e-9) & (carried >= rps))
                if able.size:
                    found.append(replicas[[able[0]]])
                    break
    return found


def _merged(lists: list[_List], figure: float) -> tuple[FloatArray, FloatArray, IntArray]:
    """Returns rent, requests/s and replicas of the combinations that no other beats, by rent."""
    usd, rps = np.zeros(1), np.zeros(1)
    replicas = np.zeros((1, lists[0].replicas.shape[1]), dtype=np.int64)
    for one in lists:
        more_usd = np.append(0.0, one.usd_per_h)
        more_rps = np.append(0.0, one.carried(figure))
        more = np.vstack([np.zeros_like(one.replicas[:1]), one.replicas])
        usd = (usd[:, None] + more_usd).ravel()
        rps = (rps[:, None] + more_rps).ravel()
        rows = np.lexsort((-rps, usd))
        better = rps[rows] > np.append(-1.0, np.maximum.accumulate(rps[rows])[:-1])
        rows = rows[better]
        if rows.size > MOST_MERGED:
            rows = rows[np.linspace(0, rows.size - 1, MOST_MERGED).round().astype(int)]
        replicas = replicas[rows // len(more)] + more[rows % len(more)]
        usd, rps = usd[rows], rps[rows]
    return usd, rps, replicas
