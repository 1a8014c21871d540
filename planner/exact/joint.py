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
    min   sum_o usd_o y_o + sum_jk usd_j x_jk + change   (cost), or
    max   sum_jk w_c q_j x_jk                   (quality), or      max phi   (rate_factor)
    serve:<class>      sum_{jk of c} h_j x_jk + u_c - phi              =  0
    stages:<cascade>   sum_{jk of first} x_jk - sum_{jk of second} x_jk =  0
    tier:<pool>:<k>    sum_{j of a} s_j x_jk - rho_ak n_ak            <=  0
    group:<pool>       sum_k n_ak - n_p                               <=  0
    one:<pool>         sum_k z_ak <= 1,   n_ak <= most_ak z_ak               (one tier per pool)
    limit:<l>          sum_ek t_e (F_ek / b_l - h_j) x_jk             <=  0
    quality            sum_jk h_j w_c (floor - q_j) x_jk              <=  0
    quality:<class>    sum_{jk of c} h_j (floor_c - q_j) x_jk         <=  0
    budget             sum_o usd_o y_o + sum_jk usd_j x_jk             <=  B
    and those of the deployment, its places and its changes (rent.py)

Limits over all traffic are linear as well, because a tier fixes the figure.

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

from dataclasses import dataclass
from typing import Literal

import numpy as np

from planner.exact.flows import Flows, add_flow_service
from planner.exact.readings import Tiers
from planner.exact.rent import (
    Change,
    Rent,
    add_budget,
    add_change,
    add_rent,
    dearest_offer_usd_per_h,
)
from planner.exact.service import Served, Service, add_service
from planner.routing.linear import Program
from planner.routing.program import hosted_usd_per_h
from planner.spec.arrays import FloatArray, IntArray

Objective = Literal["cost", "quality", "rate_factor"]


@dataclass(frozen=True)
class Joint:
    """The joint program, and where its variables are."""

    program: Program
    rent: Rent
    service: Service | Served
    unit: float  # value of one unit of the program's objective

    @property
    def replicas(self) -> IntArray:
        """Returns the columns of the replicas, (P,)."""
        return self.rent.replicas

    @property
    def shares(self) -> IntArray:
        """Returns the columns of the shares, (J, T); of flows, T = 1."""
        return self.service.shares


def build_joint(
    tiers: Tiers | Flows,
    objective: Objective,
    floor: float | None,
    integer: bool,
    one_tier: bool = False,
    unserved_price: float | None = None,
    budget_usd_per_h: float | None = None,
    change: Change | None = None,
    thrift: float = 0.0,
) -> Joint:
    """Returns the joint program of one objective.

    Args:
        tiers: loads and figures; or flows, where limits are over all traffic only.
        objective: what is best.
        floor: least mean quality of the served traffic, if any.
        integer: whether replicas are whole.
        one_tier: whether all replicas of a pool run at the same tier (adds binaries; not of flows).
        unserved_price: objective lost, in its unit, if no traffic is served; None: all is served.
        budget_usd_per_h: of rent and hosted requests together; by default the box's own.
        change: what moving away from a deployment costs, where the objective is cost.
        thrift: objective lost per $/h of rent where the objective is not cost, to break ties.
    """
    program = Program()
    gain, per_usd, unit = gains(tiers, objective)
    per_usd = per_usd if objective == "cost" else -thrift
    rent = add_rent(program, tiers.space, per_usd, integer)
    lost = None if unserved_price is None else unserved_price * tiers.case.weight
    maximises_rate = objective == "rate_factor"
    service: Service | Served
    if isinstance(tiers, Flows):
        service = add_flow_service(program, tiers, rent.replicas, gain, floor, maximises_rate, lost)
    else:
        service = add_service(
            program, tiers, rent.replicas, gain, floor, one_tier, maximises_rate, lost
        )
    if change is not None and objective == "cost":
        add_change(program, rent, change, per_usd)
    hosted = hosted_usd_per_h(tiers.case)
    budget = budget_usd_per_h
    if budget is None and (hosted.any() or tiers.space.shares_gpus):
        budget = tiers.space.budget_usd_per_h  # otherwise the rows of the box say it
    if budget is not None:
        budget *= 1.0 + tiers.slack_ratio
        shares = service.shares
        add_budget(program, rent, budget, shares.ravel(), np.repeat(hosted, shares.shape[1]))
    return Joint(program, rent, service, unit)


def gains(tiers: Tiers | Flows, objective: Objective) -> tuple[FloatArray, float, float]:
    """Returns the gain of every share (J,), that of one $/h of rent, and the value of one unit."""
    case = tiers.case
    if objective == "quality":
        return case.weight[case.column_class] * case.quality, 0.0, 1.0
    if objective == "rate_factor":
        return np.zeros(case.work.size), 0.0, 1.0
    hosted = hosted_usd_per_h(case)
    unit = max(dearest_offer_usd_per_h(tiers.space), float(hosted.max(initial=0.0))) or 1.0
    return -hosted / unit, -1.0 / unit, unit


def loads_per_replica(tiers: Tiers | Flows, shares: FloatArray, replicas: IntArray) -> FloatArray:
    """Returns the loads per replica (P,) that shares by column (J,) cause in a deployment (P,)."""
    case, loads = tiers.case, np.zeros(replicas.size)
    loads[case.pools] = case.loads(np.maximum(shares, 0.0)) / np.maximum(replicas[case.pools], 1)
    return loads
