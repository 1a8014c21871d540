"""Which point of the front becomes the plan: cheapest, best_quality, fastest or knee."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from planner.explore import Explored
from planner.objectives import Evaluation, Objectives
from planner.search import pareto
from planner.settle import Settled, settle
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.question import Question

MAX_ATTEMPTS = 30
"""Deployments that the search found acceptable and that are settled before it is called fruitless."""

MAX_SHORT_ATTEMPTS = 10
"""Deployments that the search found slightly short and that are given a try all the same."""

MAX_FRONT = 12

PROMISING = 0.05
"""A violation by the search's rough tables up to this may vanish on a plan's own tables."""


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
        order = [*_knee_first(explored), *order]
    for evaluation in _worth_a_try(order):
        settled = settle(objectives, evaluation.replicas, evaluation.level)
        if settled.acceptable and not signed:
            return settled, nearest
        if settled.acceptable:
            exact = settle(objectives, evaluation.replicas, evaluation.level, "exact")
            better = exact.acceptable and _gain(objectives, exact) >= _gain(objectives, settled)
            return (exact if better else settled), nearest
        if nearest is None or _miss(settled) < _miss(nearest):
            nearest = settled
    return None, nearest


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
    objectives: Objectives, explored: Explored, chosen: Settled
) -> tuple[Settled, ...]:
    """Returns up to MAX_FRONT settled points of the front, the chosen one among them, by cost."""
    front = sorted(explored.front, key=lambda e: (e.cost_usd_per_h, -e.quality))
    picked = _spread(front, MAX_FRONT)
    found = [chosen]
    for evaluation in picked:
        same = np.array_equal(evaluation.replicas, chosen.replicas)
        if same and evaluation.level == chosen.level:
            continue
        settled = settle(objectives, evaluation.replicas, evaluation.level)
        if settled.acceptable:
            found.append(settled)
    points = np.array([_vector(objectives, s) for s in found])
    keep = pareto.non_dominated(points)
    keep[0] = True  # the chosen one stays, even when a neighbour is equal
    kept = [s for s, k in zip(found, keep, strict=True) if k]
    return tuple(sorted(kept, key=lambda s: (s.cost_usd_per_h, -s.score.quality)))


def change_usd(question: Question, replicas: IntArray, kept: IntArray | None) -> float:
    """Returns what moving away from the kept deployment must save, in $/h."""
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


def _knee_first(explored: Explored) -> list[Evaluation]:
    if len(explored.front) < 3:
        return []
    cost = np.array([e.cost_usd_per_h for e in explored.front])
    quality = np.array([e.quality for e in explored.front])
    return [explored.front[pareto.knee(cost, quality)]]


def _spread(front: Sequence[Evaluation], n: int) -> list[Evaluation]:
    """Returns at most n entries of a list, evenly spread, both ends kept."""
    if len(front) <= n:
        return list(front)
    return [front[int(i)] for i in np.unique(np.linspace(0, len(front) - 1, n).round())]


def _vector(objectives: Objectives, settled: Settled) -> FloatArray:
    score = settled.score
    latency = score.latency_ratio if score.latency_ratio is not None else score.objective_ms
    return np.array([settled.cost_usd_per_h, -_gain(objectives, settled), latency or 0.0])


def _gain(objectives: Objectives, settled: Settled) -> float:
    return settled.rate_factor if objectives.maximises_rate else settled.score.quality


def _miss(settled: Settled) -> float:
    """Returns how far a settled deployment is from acceptable, for the message only."""
    over = max(0.0, (settled.score.latency_ratio or 0.0) - 1.0)
    unserved = float(settled.routing.unserved.sum())
    return unserved * 10.0 + over + len(settled.score.problems)
