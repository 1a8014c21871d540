"""Small joint problems with their truth by enumeration: every deployment, shares on a grid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.exact.bound import bound
from planner.space import Offer, Space
from planner.spec.base import Statistic
from planner.spec.question import Limit
from planner.spec.table import PoolTable
from planner.spec.workload import RequestShape, ScopedLimit, Workload

LOADS = np.array([0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.88, 0.94])
HEADROOM_RATIO = 0.1
STEPS = 61


@dataclass(frozen=True)
class Joined:
    """A workload, its tables and the box of deployments."""

    workload: Workload
    tables: tuple[PoolTable, ...]
    space: Space


def pool_table(name: str, work_s: np.ndarray, base_ms: float, at_ms: Sequence[float]) -> PoolTable:
    """Returns a pool whose e2e is exponential with mean base_ms / (1 - load) for every class."""
    mean = np.repeat(base_ms / (1.0 - LOADS)[None, :], work_s.size, axis=0)
    times = np.unique(np.concatenate([np.geomspace(base_ms / 50, base_ms * 60, 40), at_ms]))
    return PoolTable(
        pool=name,
        work_s=work_s,
        mix=np.full(work_s.size, 1.0 / work_s.size),
        loads=LOADS,
        mean_ms={"e2e": mean},
        times_ms={"e2e": times},
        survival={"e2e": np.exp(-times[None, None, :] / mean[:, :, None])},
        band_ratio={"e2e": np.full(LOADS.size, 0.1)},
        extrapolated=np.zeros(LOADS.size, dtype=bool),
        origin={"e2e": "measured"},
    )


def limit(class_name: str | None, at_most_ms: float, statistic: Statistic = "mean") -> ScopedLimit:
    """Returns an e2e limit of a class, or of all traffic for None."""
    return ScopedLimit(class_name, Limit(metric="e2e", statistic=statistic, at_most_ms=at_most_ms))


def make_workload(
    rate_rps: np.ndarray,
    quality: np.ndarray,
    limits: Sequence[ScopedLimit] = (),
    floor: float | None = None,
    request_usd: np.ndarray | None = None,
) -> Workload:
    """Returns a workload of classes c0, c1, ... over pools p0, p1, ...; NaN: not allowed."""
    n, n_pools = quality.shape
    shape = RequestShape(np.array([100.0]), np.array([100.0]))
    allowed = np.isfinite(quality)
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
        class_quality_at_least=np.full(n, np.nan),
        priority=np.ones(n),
        request_usd=np.zeros((n, n_pools)) if request_usd is None else request_usd,
        origin="measured",
    )


def make_box(usd_per_h: Sequence[float], stock: int = 4, budget: float | None = None) -> Space:
    """Returns a box with one kind of GPU per pool, one GPU per replica."""
    n = len(usd_per_h)
    rows, limits, names = [np.eye(n)], [np.full(n, float(stock))], [f"stock:g{p}" for p in range(n)]
    if budget is not None:
        rows.append(np.array([usd_per_h]))
        limits.append(np.array([budget]))
        names.append("budget")
    return Space(
        pool_names=tuple(f"p{p}" for p in range(n)),
        lower=np.zeros(n, dtype=np.int64),
        upper=np.full(n, stock, dtype=np.int64),
        rows=np.concatenate(rows),
        limits=np.concatenate(limits),
        row_names=tuple(names),
        gpu_of=tuple(f"g{p}" for p in range(n)),
        gpus_per_replica=np.ones(n),
        offers={f"g{p}": (Offer(float(stock), usd_per_h[p]),) for p in range(n)},
    )


def random_joined(seed: int, floor: bool = True, stock: int = 4) -> Joined:
    """Returns 2 classes on a cheap poor and a dear good pool, with limits of both classes."""
    random = np.random.default_rng(seed)
    limits = [
        limit("c0", random.uniform(1500.0, 4000.0)),
        limit("c1", random.uniform(4000.0, 11000.0), "p95"),
    ]
    quality = np.array([[0.5, 0.8], [0.3, 0.7]]) + random.uniform(-0.1, 0.1, (2, 2))
    work = np.array([[0.5, 1.2], [0.8, 1.6]]) * random.uniform(0.8, 1.25, (2, 2))
    rates = random.uniform(0.4, 1.2, 2)
    tables = [
        pool_table(f"p{p}", work[:, p], random.uniform(700.0, 1300.0), [limits[1].limit.at_most_ms])
        for p in range(2)
    ]
    weights = rates / rates.sum()
    least = float(random.uniform(0.3, 0.9) * (weights @ (quality[:, 1] - quality[:, 0])))
    asked = float(weights @ quality[:, 0]) + least if floor else None
    usd = [float(random.uniform(1.0, 2.0)), float(random.uniform(2.5, 5.0))]
    return Joined(make_workload(rates, quality, limits, asked), tuple(tables), make_box(usd, stock))


def deployments(space: Space) -> list[np.ndarray]:
    """Returns every deployment of the box."""
    ranges = [range(low, high + 1) for low, high in zip(space.lower, space.upper, strict=True)]
    every = [np.array(n, dtype=np.int64) for n in itertools.product(*ranges)]
    return [n for n in every if space.admits(n)]


def best_quality_on_grid(joined: Joined, replicas: np.ndarray, rate_factor: float = 1.0) -> float:
    """Returns the best quality of any grid routing of a deployment that keeps all, else -inf."""
    w = joined.workload
    rate = w.rate_rps * rate_factor
    a, b = np.meshgrid(np.linspace(0, 1, STEPS), np.linspace(0, 1, STEPS), indexing="ij")
    shares = np.stack([np.stack([a, 1 - a]), np.stack([b, 1 - b])])  # (C, P, STEPS, STEPS)
    keeps = np.ones_like(a, dtype=bool)
    used = [0.0 * a, 0.0 * a]
    for p, table in enumerate(joined.tables):
        arriving = np.tensordot(rate * table.work_s, shares[:, p], axes=1)
        load = arriving / max(int(replicas[p]), 1)
        keeps &= (load <= table.max_load * (1.0 - HEADROOM_RATIO) + 1e-12) & (
            (arriving == 0) | (replicas[p] > 0)
        )
        for number, scoped in enumerate(w.limits):
            tail = scoped.limit.tail_ratio
            c = w.class_names.index(scoped.class_name or "")
            mean_ms = table.mean_ms["e2e"][c]
            figure = mean_ms if tail is None else np.exp(-scoped.limit.at_most_ms / mean_ms)
            bound = scoped.limit.at_most_ms if tail is None else tail
            used[number] = used[number] + shares[c, p] * np.interp(load, LOADS, figure) / bound
    for total in used[: len(w.limits)]:
        keeps &= total <= 1.0
    quality = np.einsum("c,cp,cpij->ij", w.weights, w.quality, shares)
    return float(np.where(keeps, quality, -np.inf).max())


def least_cost_by_enumeration(joined: Joined) -> float:
    """Returns the least rent of a deployment with a grid routing that keeps all, else inf."""
    floor = joined.workload.quality_at_least or 0.0
    costs = [
        float(joined.space.cost_usd_per_h(n))
        for n in deployments(joined.space)
        if best_quality_on_grid(joined, n) >= floor
    ]
    return min(costs, default=np.inf)


def cost_bound(
    workload: Workload, tables: Sequence[PoolTable], space: Space, headroom_ratio: float
) -> float | None:
    """Returns what any plan costs at least, in $/h; None when nothing is proved."""
    return bound(workload, tables, space, headroom_ratio, "cost").best_possible
