"""What one joint solve is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from planner.exact.joint import Objective
from planner.exact.rent import Change
from planner.space import Space
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

Status = Literal["found", "none", "unknown"]


@dataclass(frozen=True)
class Setting:
    """What is planned: who asks, who may answer, and how many of them there may be."""

    workload: Workload
    tables: Sequence[PoolTable]  # (P,)
    space: Space
    headroom_ratio: float


@dataclass(frozen=True)
class Want:
    """What is best, within what, and how hard to try."""

    objective: Objective
    floor: float | None = None  # least mean quality of all traffic
    limits_ratio: float = 1.0  # by which every latency limit is multiplied
    budget_usd_per_h: float | None = None  # rent and hosted requests together
    gap_ratio: float = 1e-3  # at which a solve stops
    n_nodes: int = 1000  # after which it stops as well
    reading: Literal["plan", "bound", "both"] = "both"  # what is asked for
    change: Change | None = None  # what leaving a deployment costs; read by objective cost only


@dataclass(frozen=True)
class Solved:
    """The best deployment found, and what is proved about all of them."""

    status: Status  # none: proved that no deployment keeps everything
    replicas: IntArray  # (P,) zeros where nothing was found
    value: float | None  # of the deployment, in the objective's unit
    best_possible: float | None  # no deployment is better; None: nothing is proved
    solve_gap_ratio: float  # what the solver left open
    tier_gap_ratio: float  # between the two readings
    method: str
    cost_usd_per_h: float | None = None  # of the deployment: rent and hosted requests
    loads: FloatArray | None = None  # (P,) per replica, of the routing that reaches the value
