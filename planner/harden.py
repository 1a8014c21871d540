"""Shares that survive: the routing program asked on tables under stress.

The routing program knows one workload and one set of tables. What a plan is to survive comes to it
as stress (spec/stress.py): a pool that may lose one of n replicas is asked to keep every limit at
n / (n - 1) times its load. All pools are under stress at once there, in a scenario only some are:
shares that are found survive, but a few that would survive are not found.

Program
    stress_p  = what the scenarios can do to pool p if it keeps its shares
    repeat    solve on tables under stress; hold the shares against every scenario (robust.survive)
              all is survived: done
              stress_p = the worst that the scenarios did, requests of lost pools counted;
              limits and floors that were missed are asked more strictly
    exact     between no stress and this one, by bisection: the least stress that survives is the
              best that this way finds
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.case import Case
from planner.robust import Survival, scenarios, survivals
from planner.routing.problem import Method, Routing, RoutingProblem
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.scenario import Scenario
from planner.spec.stress import Stress, stressed
from planner.spec.table import PoolTable
from planner.spec.workload import ScopedLimit, Workload

ROUNDS = 3
BISECTIONS = 3
MARGIN_RATIO = 1e-4  # below what a table allows: shares are rounded afterwards
STRICTER_RATIO = 1.002
HOPELESS = 0.2
"""Where under stress this part of the traffic has no place, other shares will not survive."""

Solve = Callable[[RoutingProblem, Method], Routing]


@dataclass(frozen=True)
class _Asked:
    """How strictly the routing program is asked."""

    load_ratio: FloatArray  # (S, P) load of each pool in each scenario over its planned one
    tighter: FloatArray  # (L,) each limit is divided by it
    floor_raised: float = 0.0


def harden(case: Case, problem: RoutingProblem, method: Method, solve: Solve) -> Routing:
    """Returns the best shares found that survive the scenarios of a question.

    Where none are found, those that miss by least.

    Args:
        case: the question.
        problem: what is routed, when nothing happens.
        method: fast, or another: with the least stress that survives, and solved by it there.
        solve: the routing program.
    """
    what = scenarios(case, problem.replicas)
    if not what:
        return solve(problem, method)
    search = _Search(case, problem, what, solve)
    best, asked = search.by_rounds()
    if best.survives and method == "fast":
        return best.routing
    plain = search.tried(None, "fast")
    if method == "fast":
        return min(best, plain).routing
    if best.survives:
        best, asked = search.least_stress(best, asked)
    last = search.tried(None if plain < best else asked, method)
    return min(best, plain, last).routing


@dataclass(frozen=True)
class _Tried:
    """Shares that were held against every scenario."""

    routing: Routing
    found: tuple[Survival, ...]
    miss: float  # 0 = everything is survived
    gain: float  # of the routing program's objective

    @property
    def survives(self) -> bool:
        return self.miss <= 0

    def __lt__(self, other: _Tried) -> bool:
        """Returns whether these shares are better: miss less, or gain more."""
        return (self.miss, -self.gain) < (other.miss, -other.gain)


@dataclass(frozen=True)
class _Search:
    """The shares of one deployment under stresses."""

    case: Case
    problem: RoutingProblem
    what: tuple[Scenario, ...]
    solve: Solve

    def tried(self, asked: _Asked | None, method: Method) -> _Tried:
        """Returns the shares under a stress, None for no stress, and what becomes of them."""
        problem = self.problem
        under = problem if asked is None else _under(problem, self.what, asked)
        routing = self.solve(under, method)
        found = fates(self.case, problem, routing)
        lost = 0.0 if routing.feasible else float(routing.unserved @ problem.workload.weights)
        gains = {
            "quality": routing.quality,
            "cost": -routing.hosted_usd_per_h,
            "rate_factor": routing.rate_factor,
        }
        miss = lost + sum(survival.miss for survival in found)
        return _Tried(routing, found, miss, gains[problem.objective])

    def by_rounds(self) -> tuple[_Tried, _Asked]:
        """Returns the best shares of several rounds, each under what the last ones suffered."""
        limits = np.ones(len(self.problem.workload.limits))
        asked = _Asked(_certain(self.what, self.problem.replicas), limits)
        best, best_asked = self.tried(asked, "fast"), asked
        last = best
        for _ in range(ROUNDS - 1):
            hopeless = float(last.routing.unserved @ self.problem.workload.weights) > HOPELESS
            if best.survives or hopeless:
                break
            asked = _stricter(asked, self.problem, last)
            last = self.tried(asked, "fast")
            if last < best:
                best, best_asked = last, asked
        return best, best_asked

    def least_stress(self, best: _Tried, asked: _Asked) -> tuple[_Tried, _Asked]:
        """Returns the shares under the least part of a stress that still survives."""
        low, high, most = 0.0, 1.0, asked
        for _ in range(BISECTIONS):
            part = (low + high) / 2
            easier = replace(
                most,
                load_ratio=1.0 + part * (most.load_ratio - 1.0),
                tighter=1.0 + part * (most.tighter - 1.0),
            )
            attempt = self.tried(easier, "fast")
            if attempt.survives:
                high, asked = part, easier
                best = min(best, attempt)
            else:
                low = part
        return best, asked


def fates(case: Case, problem: RoutingProblem, routing: Routing) -> tuple[Survival, ...]:
    """Returns what becomes of a routing in each scenario, by the tables of its problem."""
    workload, factor = problem.workload, routing.rate_factor
    if factor != 1.0:
        workload = replace(workload, rate_rps=workload.rate_rps * max(factor, 1e-12))
    return survivals(case, workload, problem.tables, problem.replicas, routing.shares)


def limit_misses(found: Sequence[Survival]) -> FloatArray:
    """Returns the largest predicted over allowed of each limit over scenarios, (L,)."""
    return np.asarray(np.max([s.limit_ratios for s in found], axis=0))


def _certain(what: Sequence[Scenario], replicas: IntArray) -> FloatArray:
    """Returns what scenarios do to the load of pools that keep some replica, (S, P)."""
    rates = np.array([s.class_rate_ratio.min() for s in what])[:, None]
    lost = np.array([s.lost for s in what])
    left = replicas - lost
    kept = np.where(left > 0, replicas / np.maximum(left, 1), 1.0)
    return np.asarray(np.maximum(rates * kept, 1.0))


def _under(problem: RoutingProblem, what: Sequence[Scenario], asked: _Asked) -> RoutingProblem:
    """Returns the routing problem with its tables under stress and its promises stricter."""
    tables = tuple(
        _table(table, what, asked.load_ratio[:, p], problem.headroom_ratio)
        if problem.replicas[p] > 0
        else table
        for p, table in enumerate(problem.tables)
    )
    workload = with_tighter_limits(problem.workload, asked.tighter)
    floor = workload.quality_at_least
    if floor is not None and asked.floor_raised > 0:
        workload = replace(workload, quality_at_least=min(1.0, floor + asked.floor_raised))
    return replace(problem, workload=workload, tables=tables, headroom_ratio=0.0)


def _table(
    table: PoolTable, what: Sequence[Scenario], load_ratio: FloatArray, headroom_ratio: float
) -> PoolTable:
    """Returns the table of a pool under the worst of its stresses, each kind once."""
    worst: dict[tuple[float, bool], float] = {}
    room_ratio = 1.0 - headroom_ratio
    for scenario, ratio in zip(what, load_ratio.tolist(), strict=True):
        kind = 1.0 / scenario.limits_ratio, scenario.latency_band
        worst[kind] = max(worst.get(kind, 1.0), ratio)
        left = (1.0 - scenario.headroom_ratio) * (1.0 - MARGIN_RATIO)
        room_ratio = min(room_ratio, left / max(ratio, 1.0))
    room = room_ratio * table.max_load
    return stressed(table, [Stress(n, *kind) for kind, n in worst.items()], room)


def with_tighter_limits(workload: Workload, ratio: FloatArray) -> Workload:
    """Returns the workload with each limit divided by its ratio, (L,)."""
    limits = tuple(
        ScopedLimit(
            s.class_name, s.limit.model_copy(update={"at_most_ms": s.limit.at_most_ms / by})
        )
        for s, by in zip(workload.limits, ratio.tolist(), strict=True)
    )
    return replace(workload, limits=limits)


def _stricter(asked: _Asked, problem: RoutingProblem, tried: _Tried) -> _Asked:
    """Returns what to ask after some scenario was not survived."""
    planned, found = tried.routing.loads, tried.found
    seen = [
        np.where((planned > 0) & np.isfinite(s.loads), s.loads / np.maximum(planned, 1e-300), 1.0)
        for s in found
    ]
    load_ratio = np.maximum(asked.load_ratio, np.array(seen))
    if (load_ratio > asked.load_ratio * (1.0 + 1e-6)).any():
        return replace(asked, load_ratio=load_ratio)
    missed = limit_misses(found)
    tighter = np.where(missed > 1.0, np.minimum(missed, 2.0) * STRICTER_RATIO, 1.0)
    floor = problem.workload.quality_at_least or 0.0
    short = max(0.0, floor - min(s.quality for s in found))
    return replace(
        asked,
        tighter=asked.tighter * tighter,
        floor_raised=asked.floor_raised + short * STRICTER_RATIO,
    )
