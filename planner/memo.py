"""What a search sees of a case: points evaluated once each, and the domain-blind problem over them.

A point is the replicas of every pool and a latency level; its values are cost with the price of
unserved load ($/h), the negated gain (quality or rate factor) and the latency, all minimised.
"""

from __future__ import annotations

import numpy as np

from planner.objectives import Evaluation, Objectives, features
from planner.search.problem import Box, Outcome, Problem
from planner.spec.arrays import FloatArray, IntArray


class Memo:
    """Evaluates points and remembers the evaluations by point."""

    def __init__(self, objectives: Objectives) -> None:
        self._objectives = objectives
        self.seen: dict[tuple[int, ...], Evaluation] = {}
        self._solved: set[tuple[int, ...]] = set()  # carefully, too

    def __call__(self, point: IntArray) -> Outcome:
        """Returns the outcome of a point (P + 1,): replicas, then the latency level."""
        key = tuple(int(v) for v in point)
        found = self.seen.get(key)
        if found is None:
            found = self._objectives.evaluate(np.array(key[:-1], dtype=np.int64), key[-1])
            self.seen[key] = found
        return self.outcome(found)

    def solve_again(self, key: tuple[int, ...]) -> None:
        """Solves the routing of a point that was evaluated again, carefully and once."""
        if key in self._solved:
            return
        before = self.seen[key]
        again = self._objectives.evaluate(before.replicas, before.level, "careful")
        self._solved.add(key)
        gain = self._objectives.gain
        if (-again.violation, gain(again)) > (-before.violation, gain(before)):
            self.seen[key] = again

    def outcome(self, evaluation: Evaluation) -> Outcome:
        """Returns an evaluation as the search sees it."""
        return Outcome(values(self._objectives, evaluation), evaluation.violation)


def values(objectives: Objectives, evaluation: Evaluation) -> FloatArray:
    """Returns the objective vector of an evaluation, (3,), all to be minimised."""
    gain = objectives.gain(evaluation)
    cost = evaluation.cost_usd_per_h + objectives.unserved_usd_per_h(evaluation.routing)
    return np.array([cost, -gain, evaluation.latency])


def search_problem(objectives: Objectives, memo: Memo) -> Problem:
    """Returns the domain-blind problem that the search methods see."""
    case = objectives.case
    space = case.space
    n_pools = len(space.pool_names)
    box = Box(
        lower=np.append(space.lower, 0),
        upper=np.append(space.upper, len(objectives.levels) - 1),
        rows=np.column_stack([space.rows, np.zeros(len(space.limits))]),
        limits=space.limits,
    )
    hosted = bool(case.workload.request_usd.any())

    def known(points: IntArray) -> FloatArray:
        rent = case.space.cost_usd_per_h(points[:, :n_pools])
        blank = np.full(len(points), np.nan)
        return np.column_stack([blank if hosted else rent, blank, blank])

    return Problem(
        box=box,
        n_objectives=3,
        evaluate=memo,
        reference=reference(objectives),
        known=known,
        features=features(objectives),
    )


def reference(objectives: Objectives) -> FloatArray:
    """Returns the worst useful cost, negated gain and latency: what the hypervolume counts from."""
    case = objectives.case
    workload, question = case.workload, case.question
    dearest = sum(
        offer.count * offer.usd_per_h for offers in case.space.offers.values() for offer in offers
    )
    hosted = float(workload.dearest_request_usd * workload.total_rps * 3600.0)
    cost = min(question.budget_usd_per_h or np.inf, dearest + hosted) * 1.01 + 1e-6
    direct = workload.quality[: workload.n_classes]
    lowest = float(np.nanmin(direct)) if workload.allowed.any() else 0.0
    gain = 0.0 if objectives.maximises_rate else max(workload.quality_at_least or 0.0, lowest)
    latency = 1.0 + 1e-3 if workload.limits else 24.0
    return np.array([cost, -gain + 1e-6, latency])
