"""The routing problem of one deployment, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.spec.arrays import FloatArray, IntArray
from planner.spec.plan import Price
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

Objective = Literal["quality", "cost", "rate_factor"]
Method = Literal["fast", "careful", "exact"]
"""Exact is careful with a proof, which costs as much again."""
RoutingStatus = Literal["optimal", "feasible", "unserved", "limits_missed", "infeasible"]


@dataclass(frozen=True)
class RoutingProblem:
    """What to route: a workload over a fixed number of replicas of every pool."""

    workload: Workload
    tables: tuple[PoolTable, ...]  # (P,) in the order of workload.pool_names
    replicas: IntArray  # (P,) replicas of each pool; 0 = the pool is not there
    headroom_ratio: float  # load <= (1 - headroom_ratio) * max_load
    objective: Objective = "quality"
    quality_floor_hard: bool = False  # quality_at_least is a row also when quality is maximised
    unserved_usd: float = 0.0  # price of one unserved request; read by objective "cost" only
    hosted_budget_usd_per_h: float | None = None  # what hosted requests may cost together
    # (P,) loads per replica of a routing that is known to be good: of the same deployment on
    # slightly different tables, or of a neighbour. One more start, never a bound on the answer.
    start_loads: FloatArray | None = None

    def __post_init__(self) -> None:
        n_pools = self.workload.n_pools
        if len(self.tables) != n_pools or self.replicas.shape != (n_pools,):
            raise ValueError(f"need {n_pools} tables and replica counts, one per pool")
        names = tuple(table.pool for table in self.tables)
        if names != self.workload.pool_names:
            raise ValueError(f"tables must be in the order {self.workload.pool_names}, got {names}")
        if not 0.0 <= self.headroom_ratio < 1.0:
            raise ValueError(f"headroom_ratio must be in [0, 1), got {self.headroom_ratio}")
        if self.objective == "cost" and not self.unserved_usd > 0.0:
            raise ValueError("objective cost needs a positive price of an unserved request")
        if self.hosted_budget_usd_per_h is not None and self.hosted_budget_usd_per_h < 0.0:
            raise ValueError(f"a budget is not negative, got {self.hosted_budget_usd_per_h} $/h")
        start = self.start_loads
        if start is not None and (
            start.shape != (n_pools,) or not (np.isfinite(start) & (start >= 0)).all()
        ):
            raise ValueError(f"start_loads must be {n_pools} finite loads that are not negative")


@dataclass(frozen=True)
class Routing:
    """The shares of a deployment, what they achieve, and what is proved about them."""

    shares: FloatArray  # (R, P) of a class and its first stages they sum to 1 - unserved
    unserved: FloatArray  # (C,) ratio of each class that no pool can take within the limits
    loads: FloatArray  # (P,) load per replica, at the planned rate times rate_factor
    quality: float  # traffic-weighted over all traffic, unserved requests count 0
    hosted_usd_per_h: float  # at the planned rate times rate_factor
    rate_factor: float  # 1.0 unless it was maximised
    prices: tuple[Price, ...]
    feasible: bool  # nothing unserved, every load, floor and limit met in the even-split truth
    status: RoutingStatus
    tier_loads: FloatArray  # (P,) load per replica at which the latency of a pool was taken
    bound: float | None = None  # best possible objective; None when nothing is proved
    gap_ratio: float | None = None  # |bound - value| / |value|, the sum of all that follows
    solve_gap_ratio: float | None = None  # part of the gap that the integer solver left
    tier_gap_ratio: float | None = None  # part that comes from the steps between tiers
    envelope_gap_ratio: float = 0.0  # largest gap of a convex majorant over its pool's table
