"""solve: the routing of one deployment, fast (inside a search) or exact (with a proof).

no limits            one linear program: exact
limits over all      one linear program at the tables' mix (convex.py); if the routing misses a
traffic only         limit in the even-split truth, the local search of limits.py repairs it
limits of a class,   fast: tiers mixed within pools for a start (tiers.py), then the local search
or cascades          careful: the integer program over tiers, then the local search from there
                     exact: the same, and the bound is that of the relaxed tiers

Loads that the problem gives to start from are one more start of the local search.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.routing.case import Case, excess, prepare
from planner.routing.convex import conservative, optimistic, solve_convex
from planner.routing.limits import (
    CLOSE_STEP_RATIO,
    Search,
    at_loads,
    begin,
    go_on,
    improve,
    priced,
)
from planner.routing.linear import IntegerSolution
from planner.routing.problem import Method, Routing, RoutingProblem, RoutingStatus
from planner.routing.program import UNSERVED_TOLERANCE, Point, at_caps
from planner.routing.shadow import prices
from planner.routing.tiers import (
    best_tiers,
    conservative_figures,
    optimistic_figures,
    split_tiers,
    start_loads,
    tier_loads,
    tiers_above,
)
from planner.routing.truth import LIMIT_TOLERANCE
from planner.spec.arrays import FloatArray

FAST_TIERS = 8
FAST_STARTS = 5
FAST_ROUNDS = 6
START_RATIOS = (0.35, 0.6, 0.9)  # of the caps
START_SLACK_RATIO = 0.02  # above loads that are given to start from
KNOWN_ROUNDS = 8
EXACT_ROUNDS = 20
SOLVE_GAP_RATIO = 2e-3
SOLVE_NODES = 1000  # fewer for large programs
BOUND_CELLS = 300  # columns times tiers: small programs get finer tiers for their bound
OPTIMAL_GAP_RATIO = 1e-6
SMALLEST_RATE_FACTOR = 1e-9
SMALLEST_SHARE = 1e-9


@dataclass(frozen=True)
class Answer:
    """A routing with where its prices and proofs come from."""

    point: Point
    priced: Point
    tier_loads: FloatArray  # (A,)
    bound: float | None = None
    solve_gap: float = 0.0  # absolute, in units of the objective
    envelope_gap_ratio: float = 0.0


def solve(problem: RoutingProblem, method: Method = "fast") -> Routing:
    """Returns the best routing of the deployment; shares are raw, not rounded.

    Never raises for a deployment that cannot serve its workload: what is left is `unserved`, and
    `feasible` and `status` say so.
    """
    case = prepare(problem)
    scopes = [scoped.class_name for scoped in case.figures.limits]
    if not scopes or not case.work.size:
        answer = _unlimited(case)
    elif case.n_cascades or any(scope is not None for scope in scopes):
        answer = _by_tiers(case) if method == "fast" else _by_integer_tiers(case, method)
    else:
        answer = _convex(case, method)
    return _routing(case, answer)


def _unlimited(case: Case) -> Answer:
    """Returns the optimum without limits; the program is its own proof."""
    point = at_caps(case)
    return Answer(point, point, case.cap, point.value)


def _convex(case: Case, method: Method) -> Answer:
    """Returns the optimum at the tables' mix, repaired where the truth differs from it.

    Careful also uses up what the majorants left; exact adds the bound of the lower hulls. A routing
    beyond that bound has left the tables' mix: then nothing is proved.
    """
    segments = conservative(case)
    point = solve_convex(case, segments)
    answer = Answer(point, priced(case, point), point.loads)
    missed = not point.solution.solved or _misses(case, point)
    if missed or method != "fast":
        n_rounds = FAST_ROUNDS if method == "fast" else EXACT_ROUNDS
        start = at_loads(case, np.minimum(point.loads, case.cap))
        ends = [improve(case, start, n_rounds), *_from_known(case)]
        best = max(ends, key=lambda end: end.value)
        better = _settled(case, best if method == "fast" else _polished(case, best))
        answer = better if missed or better.point.value > point.value else answer
    if method == "exact":
        loose = case.relaxed()
        bound = solve_convex(loose, optimistic(loose)).value
        proven = bound >= answer.point.value - OPTIMAL_GAP_RATIO * abs(answer.point.value)
        answer = replace(answer, bound=bound if proven else None)
    return replace(answer, envelope_gap_ratio=segments.gap_ratio)


def _by_tiers(case: Case) -> Answer:
    """Returns a good routing under limits of classes, without a proof.

    Every start costs one program. The best few go one round, and the best of these goes on: a
    start that serves little may lead further than one that looks good. While something stays
    unserved, all starts go: the loads that serve everything need not hang together.
    """
    points = [at_loads(case, loads) for loads in _starts(case)]
    searches: list[Search] = []
    for start in sorted(points, key=lambda point: -point.value):
        served = any(s.point.unserved.max() <= UNSERVED_TOLERANCE for s in searches)
        if served and len(searches) >= FAST_STARTS:
            break
        searches.append(go_on(case, begin(case, start), 1))
    best = go_on(case, max(searches, key=lambda search: search.value), FAST_ROUNDS).point
    return _settled(case, max([best, *_from_known(case)], key=lambda point: point.value))


def _starts(case: Case) -> list[FloatArray]:
    """Returns loads per replica to start from: mixed tiers, one tier each, equal shares of caps."""
    mixed, single = start_loads(case, FAST_TIERS)
    above = tiers_above(tier_loads(case, FAST_TIERS), mixed)
    starts = [single]
    for loads in (mixed, above, *[ratio * case.cap for ratio in START_RATIOS]):
        if not any(np.allclose(loads, other, rtol=1e-6, atol=1e-9) for other in starts):
            starts.append(loads)
    return starts


def _from_known(case: Case) -> list[Point]:
    """Returns the routing found from the loads that the problem gives to start from, if any.

    Tables that differ a little need a little more load for the same shares; where the routing
    stands at a limit, more load costs some of it. So there are two tries, and the better counts.
    """
    if case.problem.start_loads is None:
        return []
    given = case.problem.start_loads[case.pools]
    tries = [np.minimum(given * ratio, case.cap) for ratio in (1.0, 1.0 + START_SLACK_RATIO)]
    start = max((at_loads(case, loads) for loads in tries), key=lambda point: point.value)
    return [improve(case, start, KNOWN_ROUNDS, CLOSE_STEP_RATIO)]


def _by_integer_tiers(case: Case, method: Method) -> Answer:
    """Returns the best routing over all choices of tiers, improved further; exact: with a bound."""
    tiers = tier_loads(case)
    chosen, solution = best_tiers(
        case, conservative_figures(case, tiers), tiers, SOLVE_GAP_RATIO, SOLVE_NODES
    )
    starts = [at_loads(case, loads) for loads in (chosen, *_starts(case))]
    ends = [improve(case, start, EXACT_ROUNDS) for start in starts]
    best = _polished(case, max([*ends, *_from_known(case)], key=lambda point: point.value))
    answer = _settled(case, best)
    return answer if method == "careful" else _with_bound(case, answer, tiers, solution)


def _with_bound(case: Case, answer: Answer, tiers: FloatArray, solution: IntegerSolution) -> Answer:
    """Returns an answer with what no choice of tiers can beat, if the solver got that far."""
    loose = case.relaxed()
    n_parts = max(1, BOUND_CELLS // max(case.work.size * tiers.shape[1], 1))
    finer = split_tiers(tier_loads(loose), n_parts)
    _, relaxed = best_tiers(
        loose, optimistic_figures(loose, finer), finer, SOLVE_GAP_RATIO, SOLVE_NODES
    )
    if not (solution.found and relaxed.found):  # the solver gave up: nothing is proved
        return answer
    left = (solution.bound - solution.objective) + (relaxed.bound - relaxed.objective)
    return replace(answer, bound=relaxed.bound, solve_gap=left)


def _polished(case: Case, best: Point) -> Point:
    """Returns the end of a search with short steps: the one before may have ended at long ones."""
    return improve(case, best, EXACT_ROUNDS, CLOSE_STEP_RATIO)


def _settled(case: Case, best: Point) -> Answer:
    """Returns the answer of a routing, with everything settled that the objective leaves open."""
    final = at_loads(case, best.loads, final=True)
    if final.value < best.value - 1e-6 * max(1.0, abs(best.value)):
        final = best
    return Answer(final, priced(case, final), best.loads)


def _misses(case: Case, point: Point) -> bool:
    """Returns whether a limit is missed in the even-split truth."""
    over = excess(case, point.shares, point.loads)
    return bool((over > LIMIT_TOLERANCE).any())


def _routing(case: Case, answer: Answer) -> Routing:
    """Returns an answer in terms of classes and pools."""
    point, workload = answer.point, case.problem.workload
    shares, unserved, factor = _normalised(case, point)
    loads, tier = np.zeros(workload.n_pools), np.zeros(workload.n_pools)
    loads[case.pools], tier[case.pools] = point.loads, answer.tier_loads
    row_weight = case.weight[workload.row_class]
    mean_quality = float(np.nansum(row_weight[:, None] * np.nan_to_num(workload.quality) * shares))
    usd_per_s = float((workload.rate_rps[:, None] * workload.request_usd * shares).sum()) * factor
    all_served = bool(unserved.max() <= UNSERVED_TOLERANCE) and point.solution.solved
    misses = point.solution.solved and _misses(case, point)
    gap, solve_gap = _gaps(answer) if all_served else (None, None)
    return Routing(
        shares=shares,
        unserved=unserved,
        loads=loads,
        quality=mean_quality,
        hosted_usd_per_h=usd_per_s * 3600.0,
        rate_factor=factor,
        prices=prices(case, answer.priced),
        feasible=all_served and not misses,
        status=_status(case, answer, all_served, misses),
        tier_loads=tier,
        bound=None if gap is None else _objective(case, answer.bound or 0.0),
        gap_ratio=gap,
        solve_gap_ratio=solve_gap,
        tier_gap_ratio=None if gap is None or solve_gap is None else max(0.0, gap - solve_gap),
        envelope_gap_ratio=answer.envelope_gap_ratio,
    )


def _normalised(case: Case, point: Point) -> tuple[FloatArray, FloatArray, float]:
    """Returns shares (R, P) of the served rate, unserved (C,), and the rate factor."""
    if point.rate_factor <= SMALLEST_RATE_FACTOR:
        return case.spread(np.zeros_like(point.shares)), np.ones(case.n_classes), 0.0
    shares = np.where(point.shares > SMALLEST_SHARE * point.rate_factor, point.shares, 0.0)
    if case.n_cascades:
        shares = _with_equal_stages(case, shares)
    by_class = case.by_class(shares)
    kept = np.where(point.unserved > UNSERVED_TOLERANCE, point.unserved, 0.0)
    unserved = np.where(by_class > 0, kept, 1.0)
    to_one = (1.0 - unserved) / np.where(by_class > 0, by_class, 1.0)
    return case.spread(shares * to_one[case.column_class]), unserved, point.rate_factor


def _with_equal_stages(case: Case, shares: FloatArray) -> FloatArray:
    """Returns shares (J,) with second stages exactly as large as their first ones.

    The solver leaves a little between them, and so does dropping what is too small.
    """
    n, first = int(case.column_cascade.max()) + 1, case.counted > 0
    staged = case.column_cascade >= 0
    sums = [
        np.bincount(case.column_cascade[of], shares[of], n)
        for of in (staged & first, staged & ~first)
    ]
    used = (sums[0] > 0) & (sums[1] > 0)
    to_first = np.where(used, sums[0] / np.where(used, sums[1], 1.0), 0.0)
    factor = np.ones_like(shares)
    factor[staged & first] = used[case.column_cascade[staged & first]]
    factor[staged & ~first] = to_first[case.column_cascade[staged & ~first]]
    return np.asarray(shares * factor)


def _objective(case: Case, value: float) -> float:
    """Returns a program's value as quality, USD per hour or rate factor."""
    return max(0.0, -value * case.objective_unit) if case.problem.objective == "cost" else value


def _gaps(answer: Answer) -> tuple[float | None, float | None]:
    """Returns the whole gap and the solver's part of it, as ratios; None without a bound."""
    if answer.bound is None or not answer.point.solution.solved:
        return None, None
    scale = max(abs(answer.point.value), 1e-9)
    gap = max(0.0, answer.bound - answer.point.value) / scale
    return gap, min(gap, answer.solve_gap / scale)


def _status(case: Case, answer: Answer, all_served: bool, misses: bool) -> RoutingStatus:
    """Returns the status: with a bound also whether it proves optimality or that nothing fits."""
    if misses:
        return "limits_missed"
    gap, _ = _gaps(answer)
    if all_served:
        return "optimal" if gap is not None and gap <= OPTIMAL_GAP_RATIO else "feasible"
    worst = np.full(case.n_classes, np.inf)  # the least that serving everything can be worth
    first, further = case.counted > 0, np.zeros(case.n_classes)
    np.minimum.at(worst, case.column_class[first], case.gain[first])
    np.minimum.at(further, case.column_class[~first], case.gain[~first])
    worst += further
    least = SMALLEST_RATE_FACTOR if case.maximises_rate else float(worst.sum())
    proven = answer.bound is not None and answer.bound < least - 1e-9
    return "infeasible" if proven else "unserved"
