"""What no deployment beats: a proof for every point of the front, the knee and the fastest (§5).

A point of the front has three figures, and its proof holds two of them: no deployment of at most
its money, within at most its share of the limits, has a better quality (or carries more traffic).
Each proof is about the point's own tables, like that of the plan (certify.py).

    point      best gain within its money and its latency
    knee       the same with the question's own limits: the knee trades money for quality
    fastest    the least latency that any deployment reaches, by bisection: what is proved to be
               out of reach at a share of the limits is out of reach below it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from planner.exact.solve import Setting, Want, solve_joint
from planner.explore import Effort
from planner.objectives import Objectives, latency_objective
from planner.proofs.certify import TOUCHING_RATIO
from planner.settle import Settled
from planner.spec.base import FOREVER_MS
from planner.spec.plan import Bound

GRID_RATIO = 1e-3
"""A percentile is read between the times of a table: a point is given so much more latency."""

BISECTIONS = 7  # to within a hundredth of the latency


@dataclass(frozen=True)
class Care:
    """How hard a proof is sought: never seconds, on which no answer may depend."""

    gap_ratio: float
    n_nodes: int


CARE: dict[Effort, Care] = {
    "quick": Care(5e-3, 50),
    "standard": Care(1e-3, 200),
    "thorough": Care(1e-4, 2000),
}


@dataclass(frozen=True)
class Proof:
    """What no deployment of at most a point's money and latency exceeds."""

    gain: float  # of the point: quality, or the rate factor where that is maximised
    best_possible: float

    @property
    def gap_ratio(self) -> float:
        """Returns how much better another deployment could be at most, as part of the gain."""
        return (self.best_possible - self.gain) / max(abs(self.gain), 1e-12)


def front_proofs(
    objectives: Objectives, front: Sequence[Settled], effort: Effort
) -> tuple[Proof | None, ...]:
    """Returns a proof for each point of the front, None where nothing is proved.

    After Ctrl-C the points that are left have none.
    """
    proofs: list[Proof | None] = [None] * len(front)
    try:
        for i, point in enumerate(front):
            setting = _within_latency(objectives, point, 1.0)
            proofs[i] = _proof(objectives, point, setting, effort)
    except KeyboardInterrupt:
        pass  # the plan does not depend on them
    return tuple(proofs)


def traded_bound(objectives: Objectives, chosen: Settled, effort: Effort) -> Bound | None:
    """Returns the proof of a plan that was chosen for its knee or its speed, None without one."""
    question = objectives.case.question
    if objectives.maximises_rate or question.choose not in ("knee", "fastest"):
        return None
    if question.choose == "fastest":
        return _fastest(objectives, chosen, effort)
    proof = _proof(objectives, chosen, _setting(objectives, chosen), effort)
    if proof is None:
        return None
    return Bound(
        objective="quality",
        value=round(proof.gain, 6),
        best_possible=round(proof.best_possible, 6),
        gap_ratio=round(proof.gap_ratio, 6),
        within_usd_per_h=round(chosen.cost_usd_per_h, 4),
        method="integer program of deployment and shares at the plan's cost",
    )


def _proof(
    objectives: Objectives, point: Settled, setting: Setting, effort: Effort
) -> Proof | None:
    """Returns what nothing of a point's money exceeds in a setting, None if nothing is proved."""
    care, gain = CARE[effort], point.score.quality
    if objectives.maximises_rate:
        gain = point.rate_factor
    solved = solve_joint(
        setting,
        Want(
            objective="rate_factor" if objectives.maximises_rate else "quality",
            floor=setting.workload.quality_at_least,
            budget_usd_per_h=point.cost_usd_per_h * (1.0 + 1e-9) + 1e-9,
            gap_ratio=care.gap_ratio,
            n_nodes=care.n_nodes,
            reading="bound",
        ),
    )
    best = solved.best_possible
    if solved.status == "none" or best is None or best < gain - TOUCHING_RATIO * abs(gain):
        return None  # the point lies outside what was proved about: say nothing rather than that
    return Proof(gain, max(best, gain))


def _setting(objectives: Objectives, point: Settled) -> Setting:
    """Returns the joint problem on a point's own tables."""
    return replace(objectives.joint_at(0), tables=point.tables)


def _within_latency(objectives: Objectives, point: Settled, ratio: float) -> Setting:
    """Returns the joint problem that allows a ratio of a point's latency, on its own tables."""
    setting = _setting(objectives, point)
    allowed = ratio * point.latency * (1.0 + GRID_RATIO)
    workload = setting.workload
    if workload.limits:
        return replace(setting, workload=workload.with_limits_scaled(min(allowed, 1.0)))
    if not 0.0 < allowed < FOREVER_MS:
        return setting  # nobody measured a latency
    target = latency_objective(objectives.case, allowed)
    return replace(setting, workload=replace(workload, limits=(target,)))


def _fastest(objectives: Objectives, chosen: Settled, effort: Effort) -> Bound | None:
    """Returns the latency below which no deployment comes, by bisection."""
    care, budget = CARE[effort], objectives.case.question.budget_usd_per_h
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        setting = _within_latency(objectives, chosen, middle)
        floor = setting.workload.quality_at_least
        want = Want("quality", floor, 1.0, budget, care.gap_ratio, care.n_nodes, "bound")
        if solve_joint(setting, want).status == "none":
            low = middle
        else:
            high = middle
    if low <= 0.0 or not 0.0 < chosen.latency < FOREVER_MS:
        return None
    limited = bool(objectives.levels[0].limits)
    digits = 6 if limited else 1
    best = min(low * (1.0 + GRID_RATIO), 1.0) * chosen.latency
    return Bound(
        objective="latency_ratio" if limited else "latency_ms",
        value=round(chosen.latency, digits),
        best_possible=round(best, digits),
        gap_ratio=round(1.0 - best / chosen.latency, 6),
        method="integer programs of deployment and shares under ever tighter limits",
    )
