"""From a promising deployment to a routing that can be signed: own tables, exact shares, true score.

A pool's table is made at a class mix, and the search uses the mix of all traffic. A plan sends
each pool its own mix, so its tables are made anew at that mix, the shares solved again, and so on
until the mix stands still (at most MAX_ROUNDS). The score that the plan quotes is taken with
tables at exactly the plan's rounded shares, so that `rb check` finds the same figures (§6). What
misses a limit then is solved again with the limits tightened by as much (§9 in small).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.case import Case
from planner.objectives import Objectives, exact_limits
from planner.routing.problem import Method, Routing
from planner.routing.rounding import round_shares
from planner.routing.solve import solve
from planner.score import Score, score
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

MAX_ROUNDS = 3
MAX_TIGHTENINGS = 3
SMALLEST_SHARE = 1e-4
"""A smaller share of a class is solver dust: nobody can read it and no runtime can meet it."""

STILL_RATIO = 0.005
"""Mix shifts below this no longer move the tables by more than their own error."""


@dataclass(frozen=True)
class Settled:
    """A deployment with rounded shares, scored on tables at its own mix."""

    replicas: IntArray  # (P,)
    level: int
    shares: FloatArray  # (C, P) rounded, rows sum to exactly 1 where everything is served
    tables: tuple[PoolTable, ...]  # (P,) at the mix of the shares
    routing: Routing  # the last solved program: duals, bound, rate factor
    score: Score
    cost_usd_per_h: float
    rate_factor: float

    @property
    def acceptable(self) -> bool:
        """Returns whether nothing is unserved and every limit and floor holds."""
        return not self.score.problems


def settle(
    objectives: Objectives, replicas: IntArray, level: int = 0, method: Method = "fast"
) -> Settled:
    """Returns a deployment (P,) with the best shares found on tables at its own mix."""
    tables = objectives.tables
    best: Settled | None = None
    tightened = objectives.levels[level]
    for _ in range(MAX_TIGHTENINGS):
        for _ in range(MAX_ROUNDS):
            levels = _swap(objectives.levels, level, tightened)
            routed = replace(objectives, levels=levels, tables=tables)
            routing = solve(routed.problem_at(replicas, level), method)
            candidate, tables = _scored(routed, replicas, level, routing)
            if best is None or _rank(objectives, candidate) > _rank(objectives, best):
                best = candidate
            if _shift(routed.tables, tables, routing.shares) < STILL_RATIO:
                break
        over = candidate.score.latency_ratio
        if candidate.acceptable or over is None or over <= 1.0:
            break
        tightened = tightened.with_limits_scaled(1.0 / (over * 1.002))
    assert best is not None  # the loops run at least once
    return best


def class_mixes(workload: Workload, shares: FloatArray) -> FloatArray:
    """Returns each pool's class mix under shares (C, P), (P, C); zero rows for unused pools."""
    flow = (workload.rate_rps[:, None] * shares).T
    total = flow.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, flow / np.maximum(total, 1e-300), 0.0))


def _scored(
    objectives: Objectives, replicas: IntArray, level: int, routing: Routing
) -> tuple[Settled, tuple[PoolTable, ...]]:
    case = objectives.case
    shares = _tidy(routing)
    mixes = class_mixes(case.workload, shares)
    tables = case.tables(mixes, exact_limits(objectives), objectives.tables)
    # The rate factor is rounded down, so that rounding shares cannot overload a pool.
    factor = float(np.floor(routing.rate_factor * (1 - 1e-6) * 1e6) / 1e6)
    factor = factor if objectives.maximises_rate else 1.0
    result = _score(case, tables, replicas, shares, factor)
    rent = float(case.space.cost_usd_per_h(replicas))
    settled = Settled(
        replicas, level, shares, tables, routing, result, rent + result.hosted_usd_per_h, factor
    )
    return settled, tables


def _tidy(routing: Routing) -> FloatArray:
    """Returns the shares for the plan, (C, P): crumbs swept up, rounded, rows as served."""
    shares = np.zeros_like(routing.shares)
    served = routing.shares.sum(axis=1)
    for c in np.flatnonzero(served > SMALLEST_SHARE).tolist():
        ratio = routing.shares[c] / served[c]
        kept = np.where(ratio >= SMALLEST_SHARE, ratio, 0.0)
        rounded = round_shares(kept[None, :] / kept.sum())[0]
        shares[c] = rounded * (1.0 - round(float(routing.unserved[c]), 6))
    return shares


def _score(
    case: Case,
    tables: tuple[PoolTable, ...],
    replicas: IntArray,
    shares: FloatArray,
    rate_factor: float,
) -> Score:
    workload = replace(case.workload, rate_rps=case.workload.rate_rps * max(rate_factor, 1e-12))
    question = case.question
    return score(
        workload, tables, replicas, shares, question.headroom_ratio, question.latency_objective
    )


def _rank(objectives: Objectives, settled: Settled) -> tuple[bool, float, float]:
    """Returns what makes one settled routing of a deployment better than another."""
    gain = settled.rate_factor if objectives.maximises_rate else settled.score.quality
    if settled.acceptable:
        return True, gain - 1e-9 * settled.cost_usd_per_h, 0.0
    return False, -float(len(settled.score.problems)), -(settled.score.latency_ratio or 0.0)


def _shift(old: tuple[PoolTable, ...], new: tuple[PoolTable, ...], shares: FloatArray) -> float:
    """Returns the largest total-variation distance between the mixes of used pools' tables."""
    used = [p for p in range(len(old)) if shares[:, p].any()]
    return max((0.5 * float(np.abs(old[p].mix - new[p].mix).sum()) for p in used), default=0.0)


def _swap(levels: tuple[Workload, ...], level: int, other: Workload) -> tuple[Workload, ...]:
    return (*levels[:level], other, *levels[level + 1 :])
