"""The joint program: replicas of every pool and shares of every class, chosen together.

Notation (see routing/case.py for columns, entries and figures; there replicas are 1)
    C classes, P pools, A usable pools, J columns (usable class-pool pairs), T tiers
    n_p      replicas of pool p                                       count             (P,)
    n_ak     replicas of usable pool a that run at tier k             count             (A, T)
    z_ak     1 if pool a runs at tier k (only with one tier per pool)                   (A, T)
    rho_ak   load per replica of tier k, <= (1 - headroom) max_load   dimensionless     (A, T)
    x_jk     share of class c_j that goes to its pool at tier k       ratio             (J, T)
    u_c      share of class c that nobody serves (last resort, §3)    ratio             (C,)
    phi      rate factor, 1 unless it is maximised                    dimensionless
    s_j      load that one replica gets from all of class c_j: lambda_c s_cp            (J,)
    y_o      GPUs taken of one price offer o, usd_o its price         GPUs, $/h         (O,)
    F_ek     figure of entry e at tier k: mean in ms, or share above the limit          (E, T)
    w_c      share of class c in all traffic                          ratio             (C,)
    h_j      1, or 0 in the second stage of a cascade                                   (J,)

The program
    min   sum_o usd_o y_o + sum_jk usd_j x_jk   (cost), or
    max   sum_jk w_c q_j x_jk                   (quality), or      max phi   (rate_factor)
    serve:<class>      sum_{jk of c} h_j x_jk + u_c - phi              =  0
    stages:<cascade>   sum_{jk of first} x_jk - sum_{jk of second} x_jk =  0
    tier:<pool>:<k>    sum_{j of a} s_j x_jk - rho_ak n_ak            <=  0
    group:<pool>       sum_k n_ak - n_p                               <=  0
    one:<pool>         sum_k z_ak <= 1,   n_ak <= most_ak z_ak               (one tier per pool)
    limit:<l>          sum_ek t_e (F_ek / b_l - h_j) x_jk             <=  0
    quality            sum_jk h_j w_c (floor - q_j) x_jk              <=  0
    quality:<class>    sum_{jk of c} h_j (floor_c - q_j) x_jk         <=  0
    gpus:<gpu>         sum_{p on gpu} g_p n_p - sum_{o of gpu} y_o     =  0
    space rows         rows n <= limits,  lower <= n <= upper,  0 <= y_o <= count_o

Offers of one GPU are convex (cheapest first), so y needs no integers. Limits over all traffic are
linear as well, because a tier fixes the figure.

Two readings of F:
  conservative   the largest figure up to rho_ak. With one tier per pool a solution is a plan: the
                 replicas of a pool share its load evenly and none passes rho_ak. With tiers mixed
                 within a pool it is only a seed, since an even split has one load.
  optimistic     the smallest figure between rho_a,k-1 and rho_ak. Any plan solves the program: its
                 pool a has one load r_a <= rho_aT; put n_ak = n_p and x_jk = x_j at the tier
                 with rho_a,k-1 < r_a <= rho_ak. Every row then holds, with the same cost, quality
                 and phi. So the optimum is a bound for all plans, also with mixed tiers or with
                 n relaxed, which only add solutions. Tables hold at their own class mix (§5).
                 The latency of a cascade is a sum over its stages, each of them at the tier of its
                 own pool, so plans with cascades are among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.routing.case import Case, prepare
from planner.routing.linear import Entry, Program
from planner.routing.problem import RoutingProblem
from planner.routing.program import add_stages
from planner.routing.tiers import (
    conservative_figures,
    optimistic_figures,
    split_tiers,
    tier_loads,
)
from planner.space import Space
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

Objective = Literal["cost", "quality", "rate_factor"]
Reading = Literal["conservative", "optimistic"]

TOLERANCE = 1e-5  # relative: what a plan may miss a limit or a floor by and still counts as met
HIGHEST_RATE_FACTOR = 1e6
_FIGURES = {"conservative": conservative_figures, "optimistic": optimistic_figures}


@dataclass(frozen=True)
class Tiers:
    """One reading of the tables: loads and figures of every tier."""

    case: Case  # all usable pools with one replica each
    space: Space
    reading: Reading
    loads: FloatArray  # (A, T)
    figures: FloatArray  # (E, T)

    @property
    def slack_ratio(self) -> float:
        """Returns what is added to limits and taken from floors, so that a bound binds no plan."""
        return TOLERANCE if self.reading == "optimistic" else 0.0


@dataclass(frozen=True)
class Joint:
    """The joint program, and where its variables are."""

    program: Program
    replicas: IntArray  # (P,)
    shares: IntArray  # (J, T)
    groups: IntArray  # (A, T)
    unserved: IntArray  # (C,)
    rate_factor: IntArray  # (1,)
    unit: float  # value of one unit of the program's objective


def read_tiers(
    workload: Workload,
    tables: Sequence[PoolTable],
    space: Space,
    headroom_ratio: float,
    reading: Reading,
    n_tiers: int,
) -> Tiers:
    """Returns the tiers of every pool that the space allows at all.

    Args:
        workload: C classes over P pools.
        tables: the pools' tables, (P,).
        space: the box of deployments, (P,).
        headroom_ratio: load <= (1 - headroom_ratio) * max_load.
        reading: whether figures are those of a plan or of a bound.
        n_tiers: tiers per pool, the highest at its cap; one where nothing is limited.
    """
    there = np.asarray(space.upper > 0, dtype=np.int64)
    case = prepare(RoutingProblem(workload, tuple(tables), there, headroom_ratio))
    if reading == "optimistic":
        case = case.relaxed()
    loads = tier_loads(case, max(1, n_tiers)) if case.figures.n else case.cap[:, None]
    return Tiers(case, space, reading, loads, _FIGURES[reading](case, loads))


def halved(tiers: Tiers) -> Tiers:
    """Returns the same reading with every tier cut in two."""
    loads = split_tiers(tiers.loads, 2)
    return replace(tiers, loads=loads, figures=_FIGURES[tiers.reading](tiers.case, loads))


def build_joint(
    tiers: Tiers,
    objective: Objective,
    floor: float | None,
    integer: bool,
    one_tier: bool = False,
    unserved_price: float | None = None,
) -> Joint:
    """Returns the joint program of one objective.

    Args:
        tiers: loads and figures.
        objective: what is best.
        floor: least mean quality of the served traffic, if any.
        integer: whether replicas are whole.
        one_tier: whether all replicas of a pool run at the same tier (adds binaries).
        unserved_price: objective lost, in its unit, if no traffic is served; None: all is served.
    """
    case, space, program = tiers.case, tiers.space, Program()
    n_columns, (n_slots, n_tiers) = case.work.size, tiers.loads.shape
    gain, rent, unit = _gains(tiers, objective)
    free = objective == "rate_factor"
    most_phi = _highest_rate_factor(tiers) if free else 1.0
    shares = program.add_columns(
        n_columns * n_tiers, 0.0, most_phi, np.repeat(gain, n_tiers)
    ).reshape(n_columns, n_tiers)
    shed = np.zeros(case.n_classes) if unserved_price is None else unserved_price * case.weight
    unserved = program.add_columns(
        case.n_classes, 0.0, 0.0 if unserved_price is None else 1.0, -shed
    )
    factor = program.add_columns(1, 0.0 if free else 1.0, most_phi, 1.0 if free else 0.0)
    groups = program.add_columns(n_slots * n_tiers).reshape(n_slots, n_tiers)
    replicas = program.add_columns(
        space.lower.size, space.lower.astype(float), space.upper.astype(float), 0.0, integer
    )
    joint = Joint(program, replicas, shares, groups, unserved, factor, unit)
    _add_service(tiers, joint)
    _add_promises(tiers, joint, floor)
    _add_space(space, joint, rent)
    if one_tier:
        _add_one_tier(tiers, joint)
    return joint


def _gains(tiers: Tiers, objective: Objective) -> tuple[FloatArray, dict[str, FloatArray], float]:
    """Returns the gain of every column (J,), of every offer by GPU, and the value of one unit."""
    case, space = tiers.case, tiers.space
    pool = case.pools[case.column_slot]
    none = {gpu: np.zeros(len(offers)) for gpu, offers in space.offers.items()}
    if objective == "quality":
        return case.weight[case.column_class] * case.quality, none, 1.0
    if objective == "rate_factor":
        return np.zeros(case.work.size), none, 1.0
    workload = case.problem.workload
    rate_per_h = 3600.0 * workload.rate_rps[case.column_row]
    hosted = rate_per_h * workload.request_usd[case.column_row, pool]
    usd = {gpu: np.array([o.usd_per_h for o in offers]) for gpu, offers in space.offers.items()}
    dearest = [float(prices.max(initial=0.0)) for prices in usd.values()]
    unit = max([*dearest, float(hosted.max(initial=0.0))], default=0.0) or 1.0
    return -hosted / unit, {gpu: -prices / unit for gpu, prices in usd.items()}, unit


def _highest_rate_factor(tiers: Tiers) -> float:
    """Returns what the class with the least room could reach with the whole box for itself."""
    case = tiers.case
    upper = tiers.space.upper[case.pools[case.column_slot]]
    room = tiers.loads[case.column_slot, -1] * upper
    alone = np.divide(room, case.work, out=np.full(room.size, np.inf), where=case.work > 0)
    first = case.counted > 0
    by_class = np.bincount(case.column_class[first], alone[first], case.n_classes)
    return float(min(by_class.min(initial=np.inf) * (1.0 + 1e-9), HIGHEST_RATE_FACTOR))


def _add_service(tiers: Tiers, joint: Joint) -> None:
    """Adds the rows that serve every class within the loads of the tiers."""
    case, program = tiers.case, joint.program
    n_slots, n_tiers = tiers.loads.shape
    x, classes = joint.shares, np.arange(case.n_classes)
    counted = np.repeat(case.counted, n_tiers)
    served: Entry = (np.repeat(case.column_class, n_tiers), x.ravel(), counted)
    phi = np.repeat(joint.rate_factor, case.n_classes)
    serve: list[Entry] = [served, (classes, joint.unserved, 1.0), (classes, phi, -1.0)]
    program.add_rows("serve", case.n_classes, serve, lower=0.0)
    add_stages(program, np.repeat(case.column_cascade, n_tiers), counted, x.ravel())
    cell = np.arange(n_slots * n_tiers)
    row = (case.column_slot[:, None] * n_tiers + np.arange(n_tiers)).ravel()
    within = [
        (row, x.ravel(), np.repeat(case.work, n_tiers)),
        (cell, joint.groups.ravel(), -tiers.loads.ravel()),
    ]
    program.add_rows("tier", cell.size, within)
    slots = np.arange(n_slots)
    group = [
        (cell // n_tiers, joint.groups.ravel(), 1.0),
        (slots, joint.replicas[case.pools], -1.0),
    ]
    program.add_rows("group", n_slots, group)


def _add_promises(tiers: Tiers, joint: Joint, floor: float | None) -> None:
    """Adds the rows of latency limits and of quality floors."""
    case, program, f = tiers.case, joint.program, tiers.case.figures
    n_tiers, c = tiers.loads.shape[1], case.column_class
    allowed = (1.0 + tiers.slack_ratio) * f.counted[:, None]
    over = tiers.figures / f.bound[f.limit, None] - allowed
    value = (f.traffic[:, None] * over).ravel()
    limit = np.repeat(f.limit, n_tiers)
    program.add_rows("limit", f.n, [(limit, joint.shares[f.column].ravel(), value)])
    flat = joint.shares.ravel()
    if floor is not None:
        below = case.counted * case.weight[c] * (floor - tiers.slack_ratio - case.quality)
        entries = [(np.zeros(flat.size, dtype=np.int64), flat, np.repeat(below, n_tiers))]
        program.add_rows("quality", 1, entries)
    floors = case.problem.workload.class_quality_at_least
    floored = np.isfinite(floors)
    if floored.any():
        row = np.cumsum(floored) - 1
        j = np.flatnonzero(floored[c])
        below = case.counted[j] * (floors[c[j]] - tiers.slack_ratio - case.quality[j])
        below = np.repeat(below, n_tiers)
        entries = [(np.repeat(row[c[j]], n_tiers), joint.shares[j].ravel(), below)]
        program.add_rows("class_quality", int(floored.sum()), entries)


def _add_space(space: Space, joint: Joint, rent: dict[str, FloatArray]) -> None:
    """Adds the rows of the box, and one column per price offer with the rows that fill them."""
    program, n_pools = joint.program, space.lower.size
    n_rows = space.limits.size
    row, pool = np.nonzero(space.rows)
    entries = [(row, joint.replicas[pool], space.rows[row, pool])]
    program.add_rows("space", n_rows, entries, upper=space.limits)
    for gpu, offers in space.offers.items():
        count = np.array([o.count for o in offers])
        taken = program.add_columns(len(offers), 0.0, count, rent[gpu])
        mine = np.flatnonzero([space.gpu_of[p] == gpu for p in range(n_pools)])
        zeros = np.zeros(mine.size, dtype=np.int64)
        used = (zeros, joint.replicas[mine], space.gpus_per_replica[mine])
        offered = (np.zeros(taken.size, dtype=np.int64), taken, -1.0)
        program.add_rows(f"gpus:{gpu}", 1, [used, offered], lower=0.0)


def _add_one_tier(tiers: Tiers, joint: Joint) -> None:
    """Adds binaries so that all replicas of a pool run at the same tier."""
    program, (n_slots, n_tiers) = joint.program, tiers.loads.shape
    cell = np.arange(n_slots * n_tiers)
    z = program.add_columns(cell.size, 0.0, 1.0, 0.0, True)
    program.add_rows("one", n_slots, [(cell // n_tiers, z, 1.0)], upper=1.0)
    most = _most_at_tiers(tiers, joint).ravel()
    program.add_rows("choice", cell.size, [(cell, joint.groups.ravel(), 1.0), (cell, z, -most)])


def _most_at_tiers(tiers: Tiers, joint: Joint) -> FloatArray:
    """Returns the most replicas that can run at each tier, (A, T).

    A pool whose load per replica is above rho_k-1 has fewer than (load of all classes) / rho_k-1
    replicas; with no more load than that a lower tier is as good.
    """
    case = tiers.case
    upper = tiers.space.upper[case.pools].astype(np.float64)[:, None]
    most_phi = float(joint.program.upper[2][0])
    every = most_phi * np.bincount(case.column_slot, case.work, case.n_slots)[:, None]
    below = np.concatenate([np.zeros_like(upper), tiers.loads[:, :-1]], axis=1)
    enough = np.divide(every, below, out=np.full(below.shape, np.inf), where=below > 0)
    most = np.minimum(upper, np.floor(enough * (1.0 + 1e-9)))
    return np.asarray(np.where(tiers.loads > below, most, 0.0))  # repeated tiers are not needed
