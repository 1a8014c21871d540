"""Changed questions answered by looking at every deployment: the truth for what-if sentences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from made_cases import enumerated, objectives_of
from questions import inputs_of

from planner.choose import choose
from planner.explore import Effort, Explored
from planner.objectives import Evaluation, Objectives
from planner.proofs.certify import proven_bound
from planner.reasons.asked import CARE, Asked
from planner.settle import Settled, settle
from planner.spec.plan import Bound

MISSES_AT_MOST = 0.1
"""Deployments that miss more than this by fast shares are not settled."""


class Answered:
    """A question with the plan that its whole box was searched for."""

    def __init__(self, folder: Path, question: dict[str, Any], effort: Effort = "standard") -> None:
        self.effort = effort
        self.inputs = inputs_of(folder, question)
        self.objectives: Objectives = objectives_of(folder, question)
        self.explored: Explored = enumerated(self.objectives)
        chosen = choose(self.objectives, self.explored, None)[0]
        assert chosen is not None
        self.chosen: Settled = chosen
        self.bound: Bound | None = proven_bound(self.objectives, chosen)
        near = (chosen.replicas,)
        self.asked = Asked(self.inputs, self.objectives, chosen, near, None, CARE[effort])


def able(objectives: Objectives) -> list[Settled]:
    """Every deployment of a box that keeps every promise, settled."""
    seen: dict[tuple[int, ...], Evaluation] = {}
    for e in enumerated(objectives).evaluations:
        if e.level == 0 and e.violation <= MISSES_AT_MOST:
            seen[tuple(e.replicas.tolist())] = e
    settled = [settle(objectives, e.replicas) for e in seen.values()]
    return [each for each in settled if each.acceptable]


def cheapest(plans: Sequence[Settled]) -> float:
    """The least cost of some plans, in $/h; infinity without any."""
    return min((plan.cost_usd_per_h for plan in plans), default=float("inf"))
