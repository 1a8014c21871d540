"""How far each limit can be kept at all: by the fastest pools, at whatever price.

    W(t) = sum_c w_c min_{p, k} S_cp(t | rho_k)      least that takes longer than t
    reach = least t with W(t) <= tail, or for a mean   sum_c w_c min_{p, k} mean_cp(rho_k)

No shares and no replicas do better by the tables, since each pool's figure at each of its loads is
one of those that the minimum is taken of. A cascade is no way around it: who waits for a second
answer has waited for the first. But it hides the time per token of its first answers, so where a
class has cascades nothing is said of its tpot.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.objectives import Objectives
from planner.spec.arrays import FloatArray
from planner.spec.base import tail_ratio
from planner.spec.table import PoolTable, quantile_ms
from planner.spec.workload import ScopedLimit


@dataclass(frozen=True)
class Reach:
    """The least figure that any deployment could have where a limit is."""

    scoped: ScopedLimit
    least_ms: float  # inf: no pool has latencies of these classes
    pools: tuple[str, ...]  # the fastest of each class, each once

    @property
    def ratio(self) -> float:
        """Returns the least figure over what the limit allows; above 1 it is out of reach."""
        return self.least_ms / self.scoped.limit.at_most_ms


def reach_of(objectives: Objectives, scoped: ScopedLimit) -> Reach | None:
    """Returns how far a limit can be kept; None where the tables cannot say."""
    workload, limit = objectives.case.workload, scoped.limit
    names = workload.class_names
    classes = range(len(names)) if scoped.class_name is None else [names.index(scoped.class_name)]
    asked = {names[c] for c in classes}
    if limit.metric == "tpot" and any(each.class_name in asked for each in workload.cascades):
        return None
    tail = tail_ratio(limit.statistic)
    weights = np.array([workload.rate_rps[c] for c in classes])
    weights = weights / weights.sum()
    fastest = [_fastest(objectives, c, scoped) for c in classes]
    if any(not found for found in fastest):
        return Reach(scoped, np.inf, ())
    pools = tuple(dict.fromkeys(found[0][1] for found in fastest))
    if tail is None:
        means = np.array([found[0][0] for found in fastest])
        return Reach(scoped, float(weights @ means), pools)
    times = np.unique(np.concatenate([t.times_ms[limit.metric] for t in objectives.tables]))
    least = np.array([_least_survival(objectives, c, scoped, times) for c in classes])
    return Reach(scoped, float(quantile_ms(times, weights @ least, tail)), pools)


def out_of_reach(objectives: Objectives) -> tuple[Reach, ...]:
    """Returns the limits that nothing keeps, whatever is rented."""
    found = (reach_of(objectives, scoped) for scoped in objectives.case.workload.limits)
    return tuple(reach for reach in found if reach is not None and reach.ratio > 1.0 + 1e-9)


def _fastest(objectives: Objectives, c: int, scoped: ScopedLimit) -> list[tuple[float, str]]:
    """Returns (least figure in ms, name) of each pool that may serve a class, fastest first."""
    limit = scoped.limit
    return sorted(
        (float(table.statistic_ms(limit.metric, limit.statistic)[c].min()), table.pool)
        for table in _able(objectives, c)
    )


def _able(objectives: Objectives, c: int) -> Iterator[PoolTable]:
    """Yields the tables of the pools that may serve a class and have latencies."""
    allowed = objectives.case.workload.allowed[c]
    for p, (table, model) in enumerate(zip(objectives.tables, objectives.case.models, strict=True)):
        if allowed[p] and table.has_latency and model.memory.fits:
            yield table


def _least_survival(
    objectives: Objectives, c: int, scoped: ScopedLimit, times: FloatArray
) -> FloatArray:
    """Returns the least P(latency > t) of a class on any pool at any load, (T,)."""
    metric = scoped.limit.metric
    found = []
    for table in _able(objectives, c):
        least = table.survival[metric][c].min(axis=0)
        log_t = np.log(table.times_ms[metric])
        found.append(np.interp(np.log(times), log_t, least))
    return np.asarray(np.min(found, axis=0), dtype=np.float64)
