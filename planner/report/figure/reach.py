"""What is proved of deployments that nobody may find: the edges of the possible (§5).

Proofs of two kinds are in a plan: of each point of its front, that nothing of at most its cost and
its latency has more quality (or carries more traffic); and of the plan itself. All are by fitted
tables. Drawn over two axes a proof rules out an area only where it holds for all of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from planner.report.figure.axis import Axis, AxisName, axis_of
from planner.spec.plan import Plan

WHOLE_LIMITS = 1.0 / 1.001
"""A proof is given a thousandth more latency than its point has (proofs/frontier.py): from this
share of the limits on it holds for everything within the limits."""

ROUNDING_RATIO, ROUNDING = 1e-4, 1e-6  # of figures in files


def gain_of(plan: Plan) -> AxisName:
    """Returns the figure that the proofs of the points bound."""
    return "traffic" if any(p.rate_factor is not None for p in plan.front) else "quality"


def proof_stair(plan: Plan) -> tuple[tuple[float, float], ...]:
    """Returns (cost, gain) pairs, dearest last: nothing within the limits and that cost has more.

    Of the proofs of the points only those count that hold for all of what the limits allow, and
    that no point beats: each is by its own tables.
    """
    axis = axis_of(plan, gain_of(plan))
    if axis is None:
        return ()
    costs = [p.cost_usd_per_h for p in plan.front]
    stair: list[tuple[float, float]] = []
    for cost, best in sorted(_proofs(plan), reverse=True):
        found = [g for g, c in zip(axis.values, costs, strict=True) if c <= cost + ROUNDING]
        is_beaten = max(found, default=0.0) > best + ROUNDING
        if not is_beaten and (not stair or best < stair[-1][1]):
            stair.append((cost, best))
    return tuple(reversed(stair))


def _proofs(plan: Plan) -> Iterator[tuple[float, float]]:
    """Yields the money and the gain that nothing of this money exceeds, whatever its latency."""
    for p in plan.front:
        all_limits = p.latency_ratio is None or p.latency_ratio >= WHOLE_LIMITS
        if p.best_possible is not None and p.latency_ms is None and all_limits:
            yield p.cost_usd_per_h, p.best_possible
    bound = plan.bound
    objective = "rate_factor" if gain_of(plan) == "traffic" else "quality"
    if bound is not None and bound.objective == objective:
        dearest = max(p.cost_usd_per_h for p in plan.front)
        within = bound.within_usd_per_h
        yield (dearest if within is None else within), bound.best_possible


def least_possible(plan: Plan, axis: Axis) -> float | None:
    """Returns the cost or latency below which no plan is possible, None where that is not proved.

    A proof may be about more than the axis: the cost with that of changes, plans that survive
    scenarios. Such a one is not drawn.
    """
    by_ratio = any(p.latency_ratio is not None for p in plan.front)
    objective = {"cost": "cost_usd_per_h", "latency": "latency_ratio" if by_ratio else "latency_ms"}
    bound, chosen = plan.bound, [p.chosen for p in plan.front]
    if bound is None or objective.get(axis.name) != bound.objective or not any(chosen):
        return None
    own = axis.values[chosen.index(True)]
    is_other = abs(own - bound.value) > ROUNDING_RATIO * abs(own)
    is_beaten = axis.span[0] < bound.best_possible * (1.0 - ROUNDING_RATIO)
    return None if is_other or is_beaten else bound.best_possible
