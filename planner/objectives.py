"""What a deployment is worth: the evaluation inside every search, and how a surrogate sees it.

A point of the search is the replicas of each pool and a latency level. The level says how much of
the limits may be used (all, 70 %, half; less where the fastest is asked for), so that the front
also holds faster plans. At a point the routing program finds the best shares; unserved load is
priced, never forbidden (§3):

    cost      rent + hosted requests + u * unserved_usd, $/h
    quality   traffic-weighted mean score, unserved requests count 0   (negated: all is minimised)
    latency   largest predicted/limit, or log2 of the latency objective in ms without limits
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.case import Case
from planner.exact.solve import Setting
from planner.harden import fates, harden
from planner.robust import Survival
from planner.routing import truth
from planner.routing.problem import Method, Objective, Routing, RoutingProblem
from planner.routing.solve import solve
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.question import Limit
from planner.spec.table import PoolTable
from planner.spec.workload import Cascade, ScopedLimit, Workload

LEVEL_RATIOS = (1.0, 0.7, 0.5)
"""How much of each limit may be used, by latency level; the first is the question itself."""

FASTEST_RATIOS = (*LEVEL_RATIOS, 0.35, 0.25, 0.175, 0.125)
"""The levels where the fastest is asked for."""

UNSERVED_FACTOR = 10.0
"""An unserved request costs this many times the dearest feasible request (§3)."""

ROUNDING_RATIO = 1e-5
"""Of a budget for hosted requests, left for the rounding of shares."""

LEAST_GAIN = 1e-4
"""A gain of quality or rate factor below this is within what the routing program leaves open."""

WORST_RATIO = 4.0
"""Latency ratios above this are all as bad: the search need not tell them apart."""


@dataclass(frozen=True)
class Evaluation:
    """One deployment with its routing and what it achieves, by the tables of the search."""

    replicas: IntArray  # (P,)
    level: int
    routing: Routing
    cost_usd_per_h: float  # rent and hosted requests, without the price of unserved load
    quality: float
    latency: float  # ratio to the limits, or log2 ms of the latency objective
    violation: float  # 0 = acceptable


@dataclass(frozen=True)
class Objectives:
    """The evaluation of deployments of one case."""

    case: Case
    levels: tuple[Workload, ...]  # the workload with the limits of each latency level
    tables: tuple[PoolTable, ...]
    unserved_usd: float  # price of one unserved request

    @property
    def maximises_rate(self) -> bool:
        """Returns whether the question asks how much traffic can be carried."""
        return self.case.question.maximise == "rate_factor"

    @property
    def objective(self) -> Objective:
        """Returns what the routing program of this case optimises."""
        if self.maximises_rate:
            return "rate_factor"
        hosted = bool(self.case.workload.request_usd.any())
        return "cost" if hosted and self.case.question.choose == "cheapest" else "quality"

    def without(self, unused: Sequence[Cascade]) -> Objectives:
        """Returns the evaluation of the same case without some of its cascades."""
        rows = self.case.workload.rows_without(unused)
        return replace(
            self,
            case=replace(self.case, workload=self.case.workload.without(unused)),
            levels=tuple(level.without(unused) for level in self.levels),
            tables=tuple(table.taking(rows) for table in self.tables),
        )

    def problem_at(self, replicas: IntArray, level: int) -> RoutingProblem:
        """Returns the routing problem of a deployment (P,) at a latency level."""
        return RoutingProblem(
            workload=self.levels[level],
            tables=self.tables,
            replicas=replicas,
            headroom_ratio=self.case.question.headroom_ratio,
            objective=self.objective,
            unserved_usd=self.unserved_usd,
        )

    def joint_at(self, level: int) -> Setting:
        """Returns the problem of choosing deployment and shares together at a latency level."""
        case = self.case
        return Setting(self.levels[level], self.tables, case.space, case.question.headroom_ratio)

    def evaluate(
        self,
        replicas: IntArray,
        level: int = 0,
        method: Method = "fast",
        start_loads: FloatArray | None = None,
    ) -> Evaluation:
        """Returns what a deployment (P,) achieves at a latency level.

        `start_loads` (P,) are the loads of a routing known to be good on something similar.
        """
        problem = replace(self.problem_at(replicas, level), start_loads=start_loads)
        return self.judged(replicas, level, self.route(problem, method))

    def judged(self, replicas: IntArray, level: int, routing: Routing) -> Evaluation:
        """Returns what a deployment (P,) achieves at a latency level with a given routing."""
        workload = self.levels[level]
        cost = float(self.case.space.cost_usd_per_h(replicas)) + routing.hosted_usd_per_h
        missed = violation(workload, routing, self._worst_ratio(workload, routing))
        return Evaluation(
            replicas=replicas,
            level=level,
            routing=routing,
            cost_usd_per_h=cost,
            quality=routing.quality,
            latency=self._latency(routing),
            violation=missed
            + self._over_budget(cost)
            + float(len(self.case.space.unplaced(replicas)))
            + sum(fate.miss for fate in self.fates(replicas, level, routing)),
        )

    def fates(self, replicas: IntArray, level: int, routing: Routing) -> tuple[Survival, ...]:
        """Returns what becomes of a routing in each scenario of the question."""
        if self.case.question.robust is None:
            return ()
        return fates(self.case, self.problem_at(replicas, level), routing)

    def route(self, problem: RoutingProblem, method: Method) -> Routing:
        """Returns the best shares of a deployment within its budget that survive what is asked."""
        if self.case.question.robust is None:
            return self._within_budget(problem, method)
        return harden(self.case, problem, method, self._within_budget)

    def _within_budget(self, problem: RoutingProblem, method: Method) -> Routing:
        """Returns the best shares of a deployment whose hosted requests fit into the budget.

        Where money is the objective there is no row of it: what costs the least and is over the
        budget is over it in any case.
        """
        budget = self.case.question.budget_usd_per_h
        if budget is not None and problem.objective != "cost":
            rent = float(self.case.space.cost_usd_per_h(problem.replicas))
            left = max(0.0, budget - rent) * (1.0 - ROUNDING_RATIO)
            problem = replace(problem, hosted_budget_usd_per_h=left)
        return solve(problem, method)

    def _over_budget(self, cost_usd_per_h: float) -> float:
        """Returns by how much a cost is over the budget, as a ratio: hosted requests count too."""
        budget = self.case.question.budget_usd_per_h
        return 0.0 if budget is None else max(0.0, cost_usd_per_h / budget - 1.0 - 1e-9)

    def gain(self, evaluation: Evaluation) -> float:
        """Returns what more of is better: the rate factor where it is maximised, else quality."""
        return evaluation.routing.rate_factor if self.maximises_rate else evaluation.quality

    def unserved_usd_per_h(self, routing: Routing) -> float:
        """Returns the price in $/h of what a routing leaves unserved."""
        lost_rps = float(routing.unserved @ self.case.workload.class_rate_rps)
        return lost_rps * 3600.0 * self.unserved_usd

    def _latency(self, routing: Routing) -> float:
        workload = self.levels[0]
        if workload.limits:
            return min(self._worst_ratio(workload, routing), WORST_RATIO)
        if not routing.shares.any():
            return 30.0
        value = self._value_ms(routing, latency_objective(self.case, 1.0))
        return float(np.log2(min(max(value, 1e-3), 1e9)))

    def _worst_ratio(self, workload: Workload, routing: Routing) -> float:
        """Returns the largest predicted/limit of a workload's limits; 0 without limits."""
        if workload.limits and not routing.shares.any():
            return WORST_RATIO
        ratios = [self._value_ms(routing, s) / s.limit.at_most_ms for s in workload.limits]
        return max(ratios, default=0.0)

    def _value_ms(self, routing: Routing, scoped: ScopedLimit) -> float:
        loads, shares = routing.loads, routing.shares
        return _finite(truth.limit_value(self.levels[0], self.tables, loads, shares, scoped))


def _finite(value: float) -> float:
    """Returns a latency in ms: 0 when nothing is served, a day when beyond the tables."""
    return 0.0 if np.isnan(value) else min(value, 86_400_000.0)


def make_objectives(case: Case, tables: Sequence[PoolTable] | None = None) -> Objectives:
    """Returns the evaluation of a case, with tables at the traffic's own mix unless given."""
    ratios = FASTEST_RATIOS if case.question.choose == "fastest" else LEVEL_RATIOS
    levels = [case.workload.with_limits_scaled(ratio) for ratio in ratios]
    if not case.workload.limits:
        base = _middle_ms(case, case.tables())
        targets = [latency_objective(case, base * ratio) for ratio in ratios[1:]]
        levels[1:] = [replace(case.workload, limits=(target,)) for target in targets]
    exact_at = [scoped for level in levels for scoped in level.limits]
    made = tuple(tables) if tables is not None else case.tables(limits=exact_at)
    return Objectives(case, tuple(levels), made, _unserved_usd(case, made))


def latency_objective(case: Case, at_most_ms: float) -> ScopedLimit:
    """Returns the question's latency objective as a limit over all traffic."""
    wanted = case.question.latency_objective
    limit = Limit(metric=wanted.metric, statistic=wanted.statistic, at_most_ms=at_most_ms)
    return ScopedLimit(None, limit)


def violation(workload: Workload, routing: Routing, worst_ratio: float) -> float:
    """Returns how far a routing misses what a plan must keep; 0 = nothing missed.

    The sum of relative misses: unserved traffic, limits, quality floors.

    Args:
        workload: with the limits of the latency level.
        routing: at that level.
        worst_ratio: the largest predicted/limit of the workload's limits.
    """
    missed = float(routing.unserved @ workload.weights)
    missed += max(0.0, min(worst_ratio, 2.0 * WORST_RATIO) - 1.0 - 1e-6)
    served = np.maximum(1.0 - routing.unserved, 1e-12)
    per_row = np.where(routing.shares > 0, routing.shares * workload.quality, 0.0).sum(axis=1)
    per_class = workload.by_class(per_row)
    if workload.quality_at_least is not None:
        missed += max(0.0, workload.quality_at_least - routing.quality - 1e-9)
    floors = np.nan_to_num(workload.class_quality_at_least)
    missed += float(np.maximum(0.0, floors - per_class / served - 1e-9).sum())
    if missed <= 0 and not routing.feasible:
        missed = 1e-3  # a limit is missed by less than the figures above can tell
    return missed


def _middle_ms(case: Case, tables: Sequence[PoolTable]) -> float:
    """Returns the latency objective in ms of the median pool at half load: a natural yardstick."""
    wanted = case.question.latency_objective
    found = []
    for table in tables:
        if table.has_latency:
            at = table.statistic_ms(wanted.metric, wanted.statistic)[:, table.loads.size // 2]
            found.append(float(np.nan_to_num(at) @ table.mix))
    return float(np.median(found)) if found else 1000.0


def _unserved_usd(case: Case, tables: Sequence[PoolTable]) -> float:
    """Returns the price of one unserved request: ten times the dearest feasible one."""
    each = np.array(
        [
            float(case.space.cost_usd_per_h(np.eye(len(tables), dtype=np.int64)[p]))
            for p in range(len(tables))
        ]
    )
    dearest, n = 0.0, case.workload.n_classes
    for p, table in enumerate(tables):
        if case.space.upper[p] == 0:
            continue  # what cannot be rented prices nothing
        work = np.nan_to_num(table.work_s[:n]) * case.workload.allowed[:n, p]
        own = each[p] * float(work.max()) / 3600.0 / max(table.max_load, 1e-9)
        dearest = max(dearest, own, float(case.workload.request_usd[:n, p].max()))
    return float(UNSERVED_FACTOR * max(dearest, 1e-9))


def features(objectives: Objectives) -> Callable[[IntArray], FloatArray]:
    """Returns the surrogate's view of points (n, P + 1), (n, 2 models + 2).

    Per model the log of its capacity and its slowness, then the cost and the latency level. Raw
    replica counts say little about quality; what counts is how much traffic each model can carry
    and how fast (MOBO on engineered features needs a third of the evaluations).
    """
    case = objectives.case
    names = sorted({profile.pool.scored_as for profile in case.pools})
    member = np.array([[p.pool.scored_as == name for p in case.pools] for name in names], float)
    capacity = np.zeros(len(case.pools))
    slowness = np.zeros(len(case.pools))
    for p, table in enumerate(objectives.tables):
        work = float(np.nan_to_num(table.work_s) @ table.mix)
        capacity[p] = table.max_load / work if work > 0 else 0.0
        if table.has_latency:
            base = np.nan_to_num(table.mean_ms["e2e"][:, 0])
            slowness[p] = np.log(max(float(base @ table.mix), 1e-3))

    def view(points: IntArray) -> FloatArray:
        replicas, level = points[:, :-1], points[:, -1:]
        carried = replicas * capacity  # (n, P) req/s
        by_model = carried @ member.T
        speed = (carried * slowness) @ member.T / np.maximum(by_model, 1e-9)
        total = case.workload.total_rps
        cost = case.space.cost_usd_per_h(replicas)[:, None]
        return np.column_stack([np.log1p(8.0 * by_model / total), speed, cost, level])

    return view
