"""A plan as a whole: its money over all hours, its proof, its GPUs by kind, its stale inputs.

The front of a plan's file is of the busiest period, where it has periods. What is said of all of
them, or of both kinds of plan alike, is said here once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from planner.spec.plan import Bound, DeployedPool, Plan

HOURS_PER_MONTH = 730.0
GPU_DECIMALS = 6  # parts of shared GPUs, summed


def mean_usd_per_h(plan: Plan) -> float:
    """Returns the money of a plan in $/h: of one with periods the mean over all hours."""
    return plan.predicted.cost_usd_per_h if plan.periods is None else plan.periods.cost_usd_per_h


def busiest_usd_per_h(plan: Plan) -> float:
    """Returns the money in $/h while most traffic comes: what is paid then, reserved GPUs and all.

    What is predicted of a period prices its deployment alone.
    """
    paid = {p.name: p.paid_usd_per_h for p in plan.periods.each} if plan.periods else {}
    name = plan.periods.busiest if plan.periods else ""
    return paid.get(name, plan.predicted.cost_usd_per_h)


def proof_of(plan: Plan) -> Bound | None:
    """Returns the proof about the whole plan, of all its periods where it has any."""
    return plan.bound if plan.periods is None else plan.periods.bound


def gpus_of(deployment: Iterable[DeployedPool]) -> dict[str, float]:
    """Returns the GPUs of each kind that a deployment takes, in the order of its rows."""
    counts: dict[str, float] = {}
    for row in deployment:
        if row.gpu is not None:
            counts[row.gpu] = round(counts.get(row.gpu, 0.0) + row.n_gpus, GPU_DECIMALS)
    return counts


def changed_inputs(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Returns the names of inputs whose sha256 differs, those of one side alone among them (§7)."""
    return tuple(name for name in sorted({*then, *now}) if then.get(name) != now.get(name))
