"""From a promising deployment to a routing to be signed: own tables, exact shares, true score.

A pool's table is made at a class mix, and the search uses the mix of all traffic. A plan sends
each pool its own mix, so its tables are made anew at that mix, the shares solved again, and so on
until the mix stands still (at most MAX_ROUNDS). The score that the plan quotes is taken with
tables at exactly the plan's rounded shares, so that `rb check` finds the same figures (§6): without
the cascades that it does not use. What misses a limit, the headroom or a floor then is solved again
with that tightened by as much (§9 in small): where a pool is full, already the rounding of shares
can overload it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.case import Case
from planner.harden import limit_misses, with_tighter_limits
from planner.objectives import Objectives
from planner.robust import Survival, survivals
from planner.routing import truth
from planner.routing.problem import Method, Routing, RoutingProblem
from planner.routing.rounding import round_shares
from planner.score import Score, score
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.table import PoolTable
from planner.spec.workload import Cascade, ScopedLimit, Workload

MAX_ROUNDS = 3
MAX_TIGHTENINGS = 3
MOST_MISSED_RATIO = 1.25
"""A routing that misses a limit by more than this is not tried a second way."""

LIGHTER = 0.95

MAX_ROUNDING = 1e-2
"""A headroom or floor missed by more than this is not missed by rounding."""

SMALLEST_SHARE = 1e-4
"""A smaller share of a class is solver dust: nobody can read it and no runtime can meet it."""

STILL_RATIO = 0.005
"""Mix shifts below this no longer move the tables by more than their own error."""


@dataclass(frozen=True)
class Settled:
    """A deployment with rounded shares, scored on tables at its own mix."""

    replicas: IntArray  # (P,)
    level: int
    shares: FloatArray  # (R, P) rounded; rows sum to exactly 1 where everything is served: a
    # class's with its first stages, and both stages of a cascade to the same
    tables: tuple[PoolTable, ...]  # (P,) at the mix of the shares
    routing: Routing  # the last solved program: duals, bound, rate factor
    score: Score
    cost_usd_per_h: float
    rate_factor: float
    survivals: tuple[Survival, ...] = ()  # of what the question asks it to survive

    @property
    def acceptable(self) -> bool:
        """Returns whether nothing is unserved and every limit and floor holds."""
        return not self.score.problems

    @property
    def latency(self) -> float:
        """Returns the largest predicted/limit, or the latency objective in ms without limits."""
        ratio, objective_ms = self.score.latency_ratio, self.score.objective_ms
        return ratio if ratio is not None else objective_ms or 0.0


def settle(
    objectives: Objectives,
    replicas: IntArray,
    level: int = 0,
    method: Method = "fast",
    start_loads: FloatArray | None = None,
) -> Settled:
    """Returns a deployment (P,) with the best shares found on tables at its own mix.

    Cascades that a solution does not use are left out of the next one: the score is to be that of a
    check, which knows nothing of them, and they would only make the tables longer.

    Args:
        objectives: the case and the tables to begin with.
        replicas: of each pool, (P,).
        level: latency level.
        method: of the first solution; the later ones start from its loads and are fast.
        start_loads: loads per replica of a routing known to be good, (P,).
    """
    if not objectives.case.workload.cascades:
        return _settle(objectives, replicas, level, method, start_loads)
    asked = replace(objectives.problem_at(replicas, level), start_loads=start_loads)
    first = objectives.route(asked, method)
    left = objectives.without(_unused(objectives, first.shares))
    settled = _settle(left, replicas, level, method, first.loads)
    while unused := _unused(left, settled.shares):
        left = left.without(unused)
        settled = _settle(left, replicas, level, method, settled.routing.loads)
    return _with_all_rows(objectives, left, settled)


def _unused(objectives: Objectives, shares: FloatArray) -> list[Cascade]:
    cascades = objectives.case.workload.cascades
    return [k for k in cascades if shares[k.first_row].sum() < SMALLEST_SHARE]


def _with_all_rows(objectives: Objectives, left: Objectives, settled: Settled) -> Settled:
    """Returns a deployment that was settled with some cascades as one that may use all."""
    case, kept = objectives.case, {cascade.key for cascade in left.case.workload.cascades}
    unused = [cascade for cascade in case.workload.cascades if cascade.key not in kept]
    rows = case.workload.rows_without(unused)

    def spread(shares: FloatArray) -> FloatArray:
        wider = np.zeros((case.workload.n_rows, shares.shape[1]))
        wider[rows] = shares
        return wider

    shares = spread(settled.shares)
    return replace(
        settled,
        shares=shares,
        tables=case.tables(class_mixes(case.workload, shares), unused=objectives.tables),
        routing=replace(settled.routing, shares=spread(settled.routing.shares)),
    )


def _settle(
    objectives: Objectives,
    replicas: IntArray,
    level: int,
    method: Method,
    start_loads: FloatArray | None,
) -> Settled:
    """Returns a deployment (P,) with the best shares found, of all cascades that there are."""
    asked = replace(objectives.problem_at(replicas, level), start_loads=start_loads)
    followed = _following_the_mix(objectives, replicas, level, asked, method)
    if followed.acceptable or not _worth_more(objectives, followed):
        return followed
    stayed = _on_the_first_tables(objectives, replicas, level, asked, method)
    return max(followed, stayed, key=lambda settled: _rank(objectives, settled))


def _following_the_mix(
    objectives: Objectives, replicas: IntArray, level: int, asked: RoutingProblem, method: Method
) -> Settled:
    """Returns the best of several rounds, each on tables at the mix that the last one sent."""
    tables = objectives.tables
    best: Settled | None = None
    for _ in range(MAX_TIGHTENINGS):
        for _ in range(MAX_ROUNDS):
            routing = objectives.route(replace(asked, tables=tables), method)
            method, asked = "fast", replace(asked, start_loads=routing.loads)
            candidate = _scored(objectives, replicas, level, routing)
            if best is None or _rank(objectives, candidate) > _rank(objectives, best):
                best = candidate
            shift = _shift(tables, candidate.tables, routing.shares)
            tables = candidate.tables
            if shift < STILL_RATIO:
                break
        tighter = _tightened(objectives, asked, candidate)
        if candidate.acceptable or tighter is None:
            break
        asked = tighter
    assert best is not None  # the loops run at least once
    return best


def _on_the_first_tables(
    objectives: Objectives, replicas: IntArray, level: int, asked: RoutingProblem, method: Method
) -> Settled:
    """Returns the best of several rounds on unchanged tables, what was missed asked more strictly.

    Where pools specialise, tables that follow the mix can make two pools swap their roles from
    round to round for ever; a few per cent off each missed limit keep the roles and meet it.
    """
    best: Settled | None = None
    for _ in range(MAX_TIGHTENINGS):
        routing = objectives.route(asked, method)
        candidate = _scored(objectives, replicas, level, routing)
        if best is None or _rank(objectives, candidate) > _rank(objectives, best):
            best = candidate
        tighter = _tightened(objectives, asked, candidate)
        if candidate.acceptable or tighter is None:
            break
        # Stricter limits want lighter loads of the same proportions.
        method, asked = "fast", replace(tighter, start_loads=LIGHTER * routing.loads)
    assert best is not None  # the loop runs at least once
    return best


def _worth_more(objectives: Objectives, settled: Settled) -> bool:
    """Returns whether a routing that fails misses so little that another try may succeed."""
    unserved = float(settled.routing.unserved @ objectives.case.workload.weights)
    return unserved <= 1e-6 and (settled.score.latency_ratio or 0.0) < MOST_MISSED_RATIO


def class_mixes(workload: Workload, shares: FloatArray) -> FloatArray:
    """Returns each pool's mix of rows under shares (R, P), (P, R); zeros for unused pools."""
    flow = (workload.rate_rps[:, None] * shares).T
    total = flow.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, flow / np.maximum(total, 1e-300), 0.0))


def _scored(objectives: Objectives, replicas: IntArray, level: int, routing: Routing) -> Settled:
    """Returns a routing with tidy shares, scored on tables at exactly their mix."""
    case = objectives.case
    shares = _tidy(routing, case.workload.cascades)
    mixes = class_mixes(case.workload, shares)
    # The nodes of these tables are those that `rb check` will make: the question's own limits.
    tables = case.tables(mixes, unused=objectives.tables)
    factor = 1.0
    if objectives.maximises_rate:
        factor = _carried(case, tables, replicas, shares, routing.rate_factor)
    result = _score(case, tables, replicas, shares, factor)
    cost = float(case.space.cost_usd_per_h(replicas)) + result.hosted_usd_per_h
    budget = case.question.budget_usd_per_h
    if budget is not None and cost > budget + 1e-9:
        over = f"it costs {cost:.2f} $/h with hosted requests, budget {budget:g} $/h"
        result = replace(result, problems=(*result.problems, over))
    if unplaced := case.space.unplaced(replicas):
        text = f"its replicas have no places on the GPUs of {', '.join(unplaced)}"
        result = replace(result, problems=(*result.problems, text))
    settled = Settled(replicas, level, shares, tables, routing, result, cost, factor)
    return settled if case.question.robust is None else with_survivals(case, settled)


def with_survivals(case: Case, settled: Settled) -> Settled:
    """Returns a settled deployment with what becomes of it in each scenario of its question.

    What it does not survive is among its problems, once.
    """
    workload = _at_rate(case.workload, settled.rate_factor)
    found = survivals(
        case,
        workload,
        settled.tables,
        settled.replicas,
        settled.shares,
        lambda mixes: case.tables(mixes, unused=settled.tables),
    )
    old = {text for survival in settled.survivals for text in survival.problems}
    problems = [text for text in settled.score.problems if text not in old]
    problems += [text for survival in found for text in survival.problems]
    return replace(settled, survivals=found, score=replace(settled.score, problems=tuple(problems)))


def _carried(
    case: Case,
    tables: tuple[PoolTable, ...],
    replicas: IntArray,
    shares: FloatArray,
    rate_factor: float,
) -> float:
    """Returns the rate factor, rounded down, and less where rounded shares overload a pool."""
    loads = truth.loads(case.workload, tables, replicas, shares)
    room = np.array([t.max_load for t in tables]) * (1.0 - case.question.headroom_ratio)
    most = room[loads > 0] / loads[loads > 0]
    return float(np.floor(min(rate_factor, most.min(initial=np.inf)) * 1e6) / 1e6)


def _tightened(
    objectives: Objectives, asked: RoutingProblem, missed: Settled
) -> RoutingProblem | None:
    """Returns the routing problem with what a routing missed asked more strictly, None if unknown.

    A headroom or a floor is missed by the rounding of shares, a limit by what tables at another
    mix say.
    """
    workload, score = asked.workload, missed.score
    tighter = asked
    if 1.0 < (score.latency_ratio or 0.0) < np.inf:
        workload = _with_missed_limits_tighter(workload, score)
    elif missed.survivals:
        workload = _with_perilous_limits_tighter(workload, missed.survivals)
    used = float(score.utilisation.max(initial=0.0)) + objectives.case.question.headroom_ratio
    if 1.0 < used < 1.0 + MAX_ROUNDING:
        headroom = min(asked.headroom_ratio + 1.5 * (used - 1.0), 1.0 - 1e-9)
        tighter = replace(tighter, headroom_ratio=headroom)
    floor = workload.quality_at_least
    is_row = asked.objective != "quality"
    if is_row and floor is not None and floor - MAX_ROUNDING < score.quality < floor:
        raised = min(1.0, floor + 1.5 * (floor - score.quality))
        workload = replace(workload, quality_at_least=raised)
    same = workload is asked.workload and tighter is asked
    return None if same else replace(tighter, workload=workload)


def _with_missed_limits_tighter(workload: Workload, score: Score) -> Workload:
    """Returns the workload with each missed limit lowered by as much as it was missed."""
    missed = {
        (f.class_name, f.metric, f.statistic): f.ratio * 1.002
        for f in score.figures
        if f.at_most_ms is not None and f.ratio > 1.0
    }
    limits = []
    for scoped in workload.limits:
        limit = scoped.limit
        ratio = missed.get((scoped.class_name, limit.metric, limit.statistic), 1.0)
        lower = limit.model_copy(update={"at_most_ms": limit.at_most_ms / ratio})
        limits.append(ScopedLimit(scoped.class_name, lower))
    return replace(workload, limits=tuple(limits))


def _with_perilous_limits_tighter(workload: Workload, survivals: Sequence[Survival]) -> Workload:
    """Returns the workload with limits lowered by what some scenario misses them by, if little.

    Where the question has none, those of a level of the front are no promise of any scenario.
    """
    ratio = limit_misses(survivals)
    if not 1.0 < ratio.max(initial=0.0) < MOST_MISSED_RATIO:
        return workload
    return with_tighter_limits(workload, np.where(ratio > 1.0, ratio * 1.002, 1.0))


def _tidy(routing: Routing, cascades: Sequence[Cascade] = ()) -> FloatArray:
    """Returns the shares for the plan, (R, P): crumbs swept up, rounded, rows as served.

    A class is split between its pools and its cascades, a cascade between the pools of each stage:
    all three splits are whole millionths.
    """
    shares = np.zeros_like(routing.shares)
    n_pools = shares.shape[1]
    served = truth.served_shares(routing.shares, cascades)
    for c in np.flatnonzero(served > SMALLEST_SHARE).tolist():
        mine = [cascade for cascade in cascades if cascade.class_index == c]
        whole = [float(routing.shares[cascade.first_row].sum()) for cascade in mine]
        rounded = _without_crumbs(np.append(routing.shares[c], whole) / served[c])
        rounded *= 1.0 - round(float(routing.unserved[c]), 6)
        shares[c] = rounded[:n_pools]
        for cascade, share in zip(mine, rounded[n_pools:].tolist(), strict=True):
            for row in (cascade.first_row, cascade.second_row) if share > 0 else ():
                parts = routing.shares[row] / routing.shares[row].sum()
                shares[row] = share * _without_crumbs(parts)
    return shares


def _without_crumbs(ratio: FloatArray) -> FloatArray:
    """Returns ratios that sum to 1 without the smallest ones, in whole millionths, (n,)."""
    kept = np.where(ratio >= SMALLEST_SHARE, ratio, 0.0)
    return np.asarray(round_shares(kept[None, :] / kept.sum())[0])


def _score(
    case: Case,
    tables: tuple[PoolTable, ...],
    replicas: IntArray,
    shares: FloatArray,
    rate_factor: float,
) -> Score:
    workload = _at_rate(case.workload, rate_factor)
    question = case.question
    return score(
        workload, tables, replicas, shares, question.headroom_ratio, question.latency_objective
    )


def _at_rate(workload: Workload, rate_factor: float) -> Workload:
    return replace(workload, rate_rps=workload.rate_rps * max(rate_factor, 1e-12))


def _rank(objectives: Objectives, settled: Settled) -> tuple[bool, float, float]:
    """Returns what makes one settled routing of a deployment better than another."""
    if settled.acceptable:
        return True, *merit(objectives, settled)
    return False, -float(len(settled.score.problems)), -(settled.score.latency_ratio or 0.0)


def merit(objectives: Objectives, settled: Settled) -> tuple[float, float]:
    """Returns what makes one acceptable routing of a deployment better than another, most first.

    It is what the routing program was asked for; the latency where the fastest is asked for.
    """
    cost, quality = round(settled.cost_usd_per_h, 4), round(settled.score.quality, 6)
    if objectives.maximises_rate:
        return settled.rate_factor, -cost
    if objectives.objective == "cost":
        return -cost, quality
    if objectives.case.question.choose == "fastest":
        return -round(settled.latency, 6), quality
    return quality, -cost


def _shift(old: tuple[PoolTable, ...], new: tuple[PoolTable, ...], shares: FloatArray) -> float:
    """Returns the largest total-variation distance between the mixes of used pools' tables."""
    used = [p for p in range(len(old)) if shares[:, p].any()]
    return max((0.5 * float(np.abs(old[p].mix - new[p].mix).sum()) for p in used), default=0.0)
