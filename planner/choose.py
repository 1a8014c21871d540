"""Which point of the front becomes the plan: cheapest, best_quality, fastest or knee."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from planner.explore import PROMISING, Explored
from planner.memo import reference, values
from planner.objectives import Evaluation, Objectives
from planner.search import pareto
from planner.search.hypervolume import exclusive
from planner.settle import Settled, merit, settle, with_survivals
from planner.spec.arrays import IntArray
from planner.spec.question import Question

MAX_ATTEMPTS = 30
"""Deployments that the search found acceptable and that are settled before all is fruitless."""

MAX_SHORT_ATTEMPTS = 10
"""Deployments that the search found slightly short and that are given a try all the same."""

MAX_FRONT = 12

N_SPEEDUPS = 6
"""Bisections towards the fastest routing of the fastest deployment."""


def choose(
    objectives: Objectives, explored: Explored, kept: IntArray | None, signed: bool = True
) -> tuple[Settled | None, Settled | None]:
    """Returns the settled deployment that the question asks for, and the best that failed.

    Deployments are settled in the order of the question's choice until one is acceptable. With
    signed, its shares are solved once more by the exact method.
    """
    nearest: Settled | None = None
    question = objectives.case.question
    order = ranked(objectives, explored.evaluations, kept)
    if question.choose == "knee" and question.maximise == "none":
        order = [*_knees(explored), *order]
    for evaluation in _worth_a_try(order):
        loads = evaluation.routing.loads
        settled = settle(objectives, evaluation.replicas, evaluation.level, start_loads=loads)
        if settled.acceptable:
            final = signed_routing(objectives, settled) if signed else settled
            return _without_idle(objectives, final, kept), nearest
        if nearest is None or _miss(settled) < _miss(nearest):
            nearest = settled
    return None, nearest


def signed_routing(objectives: Objectives, settled: Settled) -> Settled:
    """Returns a deployment with the best shares found for what the question asks."""
    loads = settled.routing.loads
    exact = settle(objectives, settled.replicas, settled.level, "exact", loads)
    if exact.acceptable and merit(objectives, exact) >= merit(objectives, settled):
        settled = exact
    wants_speed = objectives.case.question.choose == "fastest" and not objectives.maximises_rate
    return _sped_up(objectives, settled) if wants_speed else settled


def _sped_up(objectives: Objectives, settled: Settled) -> Settled:
    """Returns the fastest routing of a deployment that keeps every promise, by bisection.

    The routing program makes quality largest within limits, so its limits are tightened until
    something else would give way.
    """
    asked, level = objectives.levels[0], settled.level
    base = asked if asked.limits else objectives.levels[1]
    unit = 1.0 if asked.limits else base.limits[0].limit.at_most_ms
    best, low, high = settled, 0.0, settled.latency / unit
    for _ in range(N_SPEEDUPS):
        middle = (low + high) / 2
        tight = replace(objectives, levels=(asked, base.with_limits_scaled(middle)))
        attempt = settle(tight, settled.replicas, 1)
        if attempt.acceptable and attempt.latency < best.latency:
            best, high = replace(attempt, level=level), min(middle, attempt.latency / unit)
        else:
            low = middle
    return best


def _without_idle(objectives: Objectives, settled: Settled, kept: IntArray | None) -> Settled:
    """Returns a deployment without pools that get no traffic, where leaving them out saves money.

    What the question fixes stays, and so does what costs less than the change away from it.
    """
    space, question, before = objectives.case.space, objectives.case.question, settled.replicas
    busy = settled.shares.any(axis=0)
    fewer = np.where(busy, before, np.minimum(space.lower, before))
    saved = float(space.cost_usd_per_h(before) - space.cost_usd_per_h(fewer))
    change = change_usd(question, fewer, kept) - change_usd(question, before, kept)
    if np.array_equal(fewer, before) or saved < change:
        return settled
    gone = {f"load:{space.pool_names[p]}" for p in np.flatnonzero(before > fewer)}
    prices = tuple(price for price in settled.routing.prices if price.what not in gone)
    left = replace(
        settled,
        replicas=fewer,
        routing=replace(settled.routing, prices=prices),
        cost_usd_per_h=settled.cost_usd_per_h - saved,
    )
    if not settled.survivals:
        return left
    left = with_survivals(objectives.case, left)
    return left if left.acceptable else settled  # what is idle may take over from what fails


def _worth_a_try(order: Sequence[Evaluation]) -> list[Evaluation]:
    """Returns the first few of each kind, acceptable and slightly short, in the given order."""
    left = {True: MAX_SHORT_ATTEMPTS, False: MAX_ATTEMPTS}
    taken = []
    for evaluation in order:
        short = evaluation.violation > 1e-9
        if left[short] > 0:
            left[short] -= 1
            taken.append(evaluation)
    return taken


def ranked(
    objectives: Objectives, evaluations: Iterable[Evaluation], kept: IntArray | None = None
) -> list[Evaluation]:
    """Returns the promising evaluations in the order of the question's choice.

    Ties go to the cheaper, then to the lexicographically smaller deployment. Deployments that
    the search found slightly short come after those that it found acceptable.
    """
    question = objectives.case.question
    keyed = [
        (_key(objectives, question, e, kept), tuple(e.replicas.tolist()), e.level, i, e)
        for i, e in enumerate(evaluations)
        if e.violation <= PROMISING
    ]
    return [entry[-1] for entry in sorted(keyed, key=lambda entry: entry[:-1])]


def settled_front(
    objectives: Objectives,
    explored: Explored,
    chosen: Settled,
    known: Mapping[tuple[int, ...], Settled] | None = None,
) -> tuple[Settled, ...]:
    """Returns up to MAX_FRONT settled points of the front, the chosen one among them, by cost.

    `known` are points, replicas and level, that were settled before.
    """
    distinct = {_figures(e): e for e in reversed(explored.front)}.values()
    front = sorted(distinct, key=lambda e: (e.cost_usd_per_h, -e.quality, e.latency, e.level))
    found = {_point(objectives, chosen): chosen}
    for evaluation in _telling(objectives, front, MAX_FRONT):
        same = np.array_equal(evaluation.replicas, chosen.replicas)
        if same and evaluation.level == chosen.level:
            continue
        loads, key = evaluation.routing.loads, (*evaluation.replicas.tolist(), evaluation.level)
        settled = (known or {}).get(key) or settle(
            objectives, evaluation.replicas, evaluation.level, start_loads=loads
        )
        if settled.acceptable:
            if known is None or key not in known:
                settled = _without_idle(objectives, settled, None)
            found.setdefault(_point(objectives, settled), settled)
    keep = pareto.non_dominated(np.array([vector for _, vector in found]))
    keep[0] = True  # the chosen one stays, even when its neighbours turned out better
    kept = [s for s, k in zip(found.values(), keep, strict=True) if k]
    return tuple(sorted(kept, key=lambda s: (s.cost_usd_per_h, -s.score.quality, s.latency)))


def _figures(e: Evaluation) -> tuple[object, ...]:
    """Returns what makes two evaluations the same point of the front (§6)."""
    figures = round(e.cost_usd_per_h, 4), round(e.quality, 6), round(e.latency, 6)
    return tuple(e.replicas.tolist()), figures, round(e.routing.rate_factor, 6)


def change_usd(question: Question, replicas: IntArray, kept: IntArray | None) -> float:
    """Returns what moving away from the kept deployment must save, in $/h.

    Only money can be held against it: for the best quality and the fastest it settles ties.
    """
    if kept is None or question.keep is None:
        return 0.0
    return question.keep.usd_per_replica_change * float(np.abs(replicas - kept).sum())


def _key(
    objectives: Objectives, question: Question, e: Evaluation, kept: IntArray | None
) -> tuple[float, ...]:
    cost = e.cost_usd_per_h + change_usd(question, e.replicas, kept)
    cost, quality, latency = round(cost, 4), -round(e.quality, 6), round(e.latency, 6)
    short = float(e.violation > 1e-9)
    if objectives.maximises_rate:
        return (short, -round(e.routing.rate_factor, 6), cost, quality)
    if question.choose == "best_quality":
        return (short, quality, cost, latency)
    if question.choose == "fastest":
        return (short, latency, cost, quality)
    # For the cheapest, a deployment that looks slightly short but costs less deserves a try.
    return (cost, short, quality, latency)


def _knees(explored: Explored) -> list[Evaluation]:
    """Returns the (cost, quality) front from its knee on: each the knee of those left over.

    Faster plans of the same deployment are not on this front: they would bend its chord.
    """
    able = [e for e in explored.evaluations if e.violation <= 1e-9]
    cost = np.array([e.cost_usd_per_h for e in able])
    quality = np.array([e.quality for e in able])
    values = np.column_stack([cost.round(4), -quality.round(6)])
    left = np.flatnonzero(pareto.non_dominated(values))
    order = []
    while left.size:
        at = pareto.knee(cost[left], quality[left])
        order.append(able[int(left[at])])
        left = np.delete(left, at)
    return order


def _telling(objectives: Objectives, front: Sequence[Evaluation], n: int) -> list[Evaluation]:
    """Returns at most n entries of a front, in its order: both ends, then by the volume added."""
    if len(front) <= n:
        return list(front)
    points = np.array([values(objectives, e) for e in front])
    worst, taken = reference(objectives), [0, len(front) - 1]
    while len(taken) < n:
        added = np.array([exclusive(point, points[taken], worst) for point in points])
        added[taken] = -1.0
        taken.append(int(np.argmax(added)))
    return [front[i] for i in sorted(taken)]


def _point(
    objectives: Objectives, settled: Settled
) -> tuple[tuple[int, ...], tuple[float, float, float]]:
    """Returns a deployment with its figures, all to be minimised, as the plan writes them (§6)."""
    gain = settled.rate_factor if objectives.maximises_rate else settled.score.quality
    digits = 6 if objectives.levels[0].limits else 1
    figures = round(settled.cost_usd_per_h, 4), -round(gain, 6), round(settled.latency, digits)
    return tuple(settled.replicas.tolist()), figures


def _miss(settled: Settled) -> float:
    """Returns how far a settled deployment is from acceptable, for the message only."""
    over = max(0.0, (settled.score.latency_ratio or 0.0) - 1.0)
    unserved = float(settled.routing.unserved.sum())
    return unserved * 10.0 + over + len(settled.score.problems)
