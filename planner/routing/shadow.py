"""Dual prices by name and unit: what one more unit of something is worth to the objective.

    load:<pool>        one replica-second per second of load taken off the pool: through its cap,
                       and through the latency of what stays (not the latency of what leaves)
    limit:<label>      one more ms of a limit on a mean; one more unit of the ratio of requests
                       allowed above a percentile limit
    quality            one unit (0 to 1) off the floor on the quality of all traffic
    quality:<class>    one unit (0 to 1) off the floor of a class
    budget             one $/h more for hosted requests

All are zero or positive. Rows are homogeneous, but for the budget, and scaled (program.py), so the
price of a bound b is the dual of its row times what is served, over b (envelope theorem). While
something is unserved, the prices contain the penalty on it, and say what serves more.
"""

from __future__ import annotations

import numpy as np

from planner.routing.case import Case
from planner.routing.program import Point, hosted_usd_per_h
from planner.spec.plan import Price

NAMES = {"quality": "quality", "cost": "USD per hour", "rate_factor": "rate factor"}
SMALLEST = 1e-9


def prices(case: Case, point: Point) -> tuple[Price, ...]:
    """Returns the non-zero prices of a routing, in the order load, limit, quality, budget."""
    program, solution = point.built.program, point.solution
    workload, objective = case.problem.workload, NAMES[case.problem.objective]
    found: list[Price] = []

    def add(what: str, value: float, per: str) -> None:
        value = float(value) * case.objective_unit
        if value > SMALLEST:
            found.append(Price(what=what, value=value, unit=f"{objective} per {per}"))

    for slot, dual in enumerate(program.dual(solution, "load").tolist()):
        name = workload.pool_names[int(case.pools[slot])]
        add(f"load:{name}", dual / case.replicas[slot], "replica-second per second")
    f = case.figures
    flow = f.traffic * f.counted * point.shares[f.column]
    served = np.bincount(f.limit, flow, minlength=f.n)
    for number, dual in enumerate(program.dual(solution, "limit").tolist()):
        scoped = f.limits[number]
        per = "ms" if scoped.limit.tail_ratio is None else "ratio of requests above the limit"
        add(f"limit:{scoped.label}", dual * served[number] / f.bound[number], per)
    by_class = case.by_class(point.shares)
    for dual in program.dual(solution, "quality").tolist():
        add("quality", dual * float(case.weight @ by_class), "unit of quality")
    floored = np.flatnonzero(np.isfinite(workload.class_quality_at_least)).tolist()
    for c, dual in zip(floored, program.dual(solution, "class_quality").tolist(), strict=False):
        add(f"quality:{workload.class_names[c]}", dual * by_class[c], "unit of quality")
    for dual in program.dual(solution, "budget").tolist():
        add("budget", dual / float(hosted_usd_per_h(case).max()), "USD per hour")
    return tuple(found)
