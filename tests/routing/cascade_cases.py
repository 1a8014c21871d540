"""Routing problems with cascades: a class may ask one pool first and another one in doubt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from cascade_options import SPLIT, with_cascade
from routing_cases import limit, pool_table, workload

from planner.routing.problem import RoutingProblem
from planner.spec.table import PoolTable
from planner.spec.workload import ScopedLimit


def times_of(limits: Sequence[ScopedLimit]) -> list[float]:
    """Returns the times at which a limit with a cascade reads its tables."""
    at = [scoped.limit.at_most_ms for scoped in limits]
    return [ratio * t for t in at for ratio in (1.0, SPLIT, 1.0 - SPLIT)]


def toy(
    limits: Sequence[ScopedLimit] = (),
    escalated_ratio: float = 0.3,
    quality: float = 0.75,
    rate_rps: float = 1.0,
    replicas: tuple[int, int] = (1, 1),
    signal: str = "grade",
    headroom_ratio: float = 0.0,
) -> RoutingProblem:
    """Returns one class on a small pool (quality 0.5) and a large one (0.8), and their cascade."""
    w = workload(np.array([rate_rps]), np.array([[0.5, 0.8]]), limits)
    w = with_cascade(w, 0, [0], [1], escalated_ratio, quality, signal)
    at, tables = times_of(limits), []
    for name, work_s, base_ms in (
        ("p0", [0.4, 0.4, np.nan], 500.0),
        ("p1", [1.5, np.nan, 1.8], 2000.0),
    ):
        base = base_ms * np.array([1.0, 1.0, 1.2])
        mix = np.array([1.0, 0.0, 0.0])
        tables.append(pool_table(name, np.array(work_s), base, at, mix=mix))
    return RoutingProblem(w, tuple(tables), np.array(replicas), headroom_ratio)


def random_cascades(
    seed: int,
    limits: Sequence[ScopedLimit] = (),
    objective: str = "quality",
    demand: float = 0.8,
    floor: float | None = None,
) -> RoutingProblem:
    """Returns 3 classes over 2 small and 2 large pools, with three cascades of two classes."""
    random = np.random.default_rng(seed)
    replicas = random.integers(1, 4, 4)
    size = random.uniform(0.5, 1.5, 3)
    speed = np.array([0.4, 0.5, 1.4, 1.8]) * random.uniform(0.8, 1.2, 4)
    quality = np.array([0.45, 0.45, 0.75, 0.75]) + random.normal(0.0, 0.05, (3, 4))
    rates = random.uniform(0.3, 1.0, 3)
    rates *= demand * float((replicas / speed).sum()) / float(rates.sum() * size.mean())
    usd = random.uniform(0.001, 0.01, (3, 4)) * (random.random(4) < 0.6)[None, :]
    class_floor = np.array([np.nan, 0.5, np.nan]) if seed % 2 else None
    w = workload(rates, np.clip(quality, 0.0, 1.0), limits, usd, floor, class_floor)
    for c, e, gain in ((0, 0.3, 0.28), (0, 0.55, 0.33), (2, 0.4, 0.27)):
        w = with_cascade(w, c, [0, 1], [2, 3], e, float(quality[c, :2].mean()) + gain)
    work = (size[:, None] * speed[None, :])[w.row_class]
    work[[k.second_row for k in w.cascades]] *= 1.15  # hard prompts have long answers
    tables: list[PoolTable] = []
    for p in range(4):
        work_s = np.where(w.allowed[:, p], work[:, p], np.nan)
        mix = np.append(rates / rates.sum(), np.zeros(w.n_rows - 3))
        tables.append(pool_table(f"p{p}", work_s, 1000.0 * work[:, p], times_of(limits), mix=mix))
    return RoutingProblem(
        workload=w,
        tables=tuple(tables),
        replicas=replicas,
        headroom_ratio=0.1,
        objective=objective,  # type: ignore[arg-type]
        unserved_usd=0.1,
    )


def limits_of(kind: str, ratio: float = 1.0) -> list[ScopedLimit]:
    """Returns limits by name: of a class or of all traffic, on the mean or a percentile."""
    return {
        "class mean": [limit("c0", 3500.0 * ratio)],
        "class p95": [limit("c0", 12_000.0 * ratio, "p95"), limit("c2", 15_000.0 * ratio, "p95")],
        "all mean": [limit(None, 3000.0 * ratio)],
        "all p95": [limit(None, 12_000.0 * ratio, "p95")],
        "both": [limit("c0", 12_000.0 * ratio, "p95"), limit(None, 3500.0 * ratio)],
    }[kind]
