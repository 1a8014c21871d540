"""Synthetic routing problems with known shapes: M/M/1-like pools on a coarse load grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.routing.problem import Routing, RoutingProblem
from planner.spec.base import Statistic
from planner.spec.question import Limit
from planner.spec.table import PoolTable
from planner.spec.workload import RequestShape, ScopedLimit, Workload

PENALTY = 1000.0  # quality that an unserved request costs
LOADS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95])


def pool_table(
    name: str,
    work_s: np.ndarray,
    base_ms: np.ndarray,
    at_ms: Sequence[float] = (),
    loads: np.ndarray = LOADS,
    mix: np.ndarray | None = None,
    has_latency: bool = True,
) -> PoolTable:
    """Returns a pool whose e2e is exponential with mean base_ms / (1 - load) for every class."""
    mean = base_ms[:, None] / (1.0 - loads)[None, :]
    low, high = 0.02 * float(np.nanmin(base_ms)), 60.0 * float(np.nanmax(base_ms))
    times = np.unique(np.concatenate([np.geomspace(low, high, 40), np.asarray(at_ms, float)]))
    survival = np.exp(-times[None, None, :] / mean[:, :, None])
    n = work_s.size
    return PoolTable(
        pool=name,
        work_s=work_s,
        mix=np.full(n, 1.0 / n) if mix is None else mix,
        loads=loads,
        mean_ms={"e2e": mean},
        times_ms={"e2e": times},
        survival={"e2e": survival},
        band_ratio={"e2e": np.full(loads.size, 0.1)},
        extrapolated=np.zeros(loads.size, dtype=bool),
        origin={"e2e": "measured"},
        has_latency=has_latency,
    )


def limit(class_name: str | None, at_most_ms: float, statistic: Statistic = "mean") -> ScopedLimit:
    """Returns an e2e limit of a class, or of all traffic for None."""
    return ScopedLimit(class_name, Limit(metric="e2e", statistic=statistic, at_most_ms=at_most_ms))


def workload(
    rate_rps: np.ndarray,
    quality: np.ndarray,
    limits: Sequence[ScopedLimit] = (),
    request_usd: np.ndarray | None = None,
    floor: float | None = None,
    class_floor: np.ndarray | None = None,
    priority: np.ndarray | None = None,
) -> Workload:
    """Returns a workload of classes c0, c1, ... over pools p0, p1, ...; NaN: not allowed."""
    n, n_pools = quality.shape
    allowed = np.isfinite(quality)
    shape = RequestShape(np.array([100.0]), np.array([100.0]))
    return Workload(
        class_names=tuple(f"c{c}" for c in range(n)),
        pool_names=tuple(f"p{p}" for p in range(n_pools)),
        rate_rps=rate_rps,
        mean_rate_rps=rate_rps,
        quality=quality,
        allowed=allowed,
        shapes=tuple(tuple(shape if a else None for a in row) for row in allowed),
        limits=tuple(limits),
        quality_at_least=floor,
        class_quality_at_least=np.full(n, np.nan) if class_floor is None else class_floor,
        priority=np.ones(n) if priority is None else priority,
        request_usd=np.zeros((n, n_pools)) if request_usd is None else request_usd,
        origin="measured",
    )


def random_problem(
    seed: int,
    n_classes: int = 4,
    n_pools: int = 3,
    limits: Sequence[ScopedLimit] = (),
    objective: str = "quality",
    demand: float = 0.7,
    by_class: bool = False,
    floor: float | None = None,
    same_work: bool = False,
) -> RoutingProblem:
    """Returns a random problem whose classes need about `demand` of the deployment's capacity.

    Mean latency is proportional to the work of a class when by_class, else equal for all classes.
    With same_work every class has the same work on a pool.
    """
    random = np.random.default_rng(seed)
    replicas = random.integers(1, 4, n_pools)
    speed = random.uniform(0.5, 2.0, n_pools)
    size = random.uniform(0.5, 2.0, n_classes)
    work = size[:, None] * speed[None, :] * random.uniform(0.8, 1.25, (n_classes, n_pools))
    if same_work:
        work = np.repeat(speed[None, :], n_classes, axis=0)
    quality = np.clip(0.3 + 0.3 * speed[None, :] + random.normal(0, 0.15, work.shape), 0.0, 1.0)
    quality[random.random(quality.shape) < 0.15] = np.nan
    quality[:, 0] = np.where(np.isnan(quality).all(axis=1), 0.5, quality[:, 0])
    rates = random.uniform(0.2, 1.0, n_classes)
    rates *= demand * replicas.sum() * 0.95 * 0.9 / float(rates @ work.mean(axis=1))
    usd = random.uniform(0.0, 0.01, work.shape) * (random.random(n_pools) < 0.6)[None, :]
    at_ms = [scoped.limit.at_most_ms for scoped in limits]
    tables = []
    for p in range(n_pools):
        work_s = np.where(np.isnan(quality[:, p]), np.nan, work[:, p])
        base = 1000.0 * (work[:, p] if by_class else np.full(n_classes, speed[p]))
        mix = np.where(np.isnan(quality[:, p]), 0.0, rates)
        mix = mix / max(mix.sum(), 1e-12)
        tables.append(pool_table(f"p{p}", work_s, base, at_ms, mix=mix))
    return RoutingProblem(
        workload=workload(rates, quality, limits, usd, floor),
        tables=tuple(tables),
        replicas=replicas,
        headroom_ratio=0.1,
        objective=objective,  # type: ignore[arg-type]
        unserved_usd=0.1,
    )


def value(problem: RoutingProblem, routing: Routing) -> float:
    """Returns what a routing is worth, as a reference that minimises counts it."""
    w = problem.workload
    if problem.objective == "quality":
        return -routing.quality + PENALTY * float(w.weights @ routing.unserved)
    if problem.objective == "cost":
        lost = float(w.class_rate_rps @ routing.unserved) * problem.unserved_usd * 3600.0
        return routing.hosted_usd_per_h + lost
    return -routing.rate_factor
