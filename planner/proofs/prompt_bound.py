"""What no deployment of the plan's money can exceed where a router chooses by the prompt itself.

Notation (N scored prompts, C classes, P pools)
    p_n    weight of prompt n in the traffic; they sum to 1                        ratio    (N,)
    r_nc   part of prompt n's requests that is routed as class c                   ratio    (N, C)
    q_np   what the router expects of pool p's model on prompt n                   quality  (N, P)
    s_cp   work of a request of class c at pool p, by the plan's own tables        s        (C, P)
    w_np   load of pool p if all traffic were like prompt n: rate sum_c r_nc s_cp  replicas (N, P)

Program: exact/cuts.py on these, for the most quality of the plan's rent.

A prompt makes the load of its class, as the tables count it, so every routing of prompts is one of
classes to the tables, and what bounds their loads bounds it. Quality is what the router expects,
not what is recorded. Of the prompts that it sends to a model it expects a little too much, whatever
the deployment: value and bound compare with each other, and not with the quality held out.
"""

from __future__ import annotations

import numpy as np

from planner.exact.cuts import deploy_for_all
from planner.exact.fleet import read_fleet
from planner.exact.flows import has_flows
from planner.exact.solve import Setting
from planner.objectives import Objectives
from planner.routing.policies import Prompts, prompts_of
from planner.routing.prices import route_all
from planner.settle import Settled
from planner.spec.arrays import FloatArray
from planner.spec.plan import Bound
from planner.spec.workload import Workload

N_NODES = 100  # of each integer program
GAP_RATIO = 2e-3  # at which rounds end
ROUTED_GAP = 1e-5  # of the plan's own routing, in quality
DIGITS = 6


def prompt_bound(
    objectives: Objectives,
    settled: Settled,
    weight: FloatArray,
    row: FloatArray,
    quality: FloatArray,
    n_rounds: int,
) -> Bound | None:
    """Returns what the plan's deployment, and any of at most its rent, is expected to reach.

    None where loads alone do not say it: with limits of single classes, cascades, hosted pools that
    cost by the request, or a pool that only some of a prompt's classes may use; where the traffic
    itself is maximised; and where nothing is proved.

    Args:
        objectives: the evaluation that the plan came from.
        settled: the plan.
        weight: of each prompt in the traffic, (N,).
        row: which classes it is routed as, (N, C); rows sum to 1.
        quality: expected of each pool's model, (N, P).
        n_rounds: integer programs at most.
    """
    case = objectives.case
    workload, space = case.workload, case.space
    if objectives.maximises_rate or not has_flows(workload) or workload.request_usd.any():
        return None
    prompts = _prompts(workload, settled, weight, row, quality)
    if prompts is None or not space.admits(settled.replicas):
        return None
    setting = Setting(workload, settled.tables, space, case.question.headroom_ratio)
    fleet = read_fleet(setting, "conservative")
    own = route_all(prompts, fleet.curves(settled.replicas), gap=ROUTED_GAP)
    if not own.feasible:
        return None  # by loads alone the plan keeps its limits only just
    rent_usd_per_h = float(space.cost_usd_per_h(settled.replicas))
    found = deploy_for_all(
        prompts,
        fleet,
        budget_usd_per_h=rent_usd_per_h,
        gap_ratio=GAP_RATIO,
        n_rounds=n_rounds,
        n_nodes=N_NODES,
        optimistic=read_fleet(setting, "optimistic"),
        start=settled.replicas,
    )
    if found.best_possible is None:
        return None
    best = max(found.best_possible, own.value)
    return Bound(
        objective="quality",
        value=round(own.value, DIGITS),
        best_possible=round(best, DIGITS),
        gap_ratio=round((best - own.value) / max(abs(own.value), 1e-12), DIGITS),
        method=f"cuts over {prompts.n} prompts, by what the router expects of each",
        within_usd_per_h=round(rent_usd_per_h, 4),
    )


def _prompts(
    workload: Workload,
    settled: Settled,
    weight: FloatArray,
    row: FloatArray,
    quality: FloatArray,
) -> Prompts | None:
    """Returns the prompts with their loads; None where a pool is for some of a prompt's classes."""
    work_s = np.stack([table.work_s for table in settled.tables], axis=1)  # (C, P)
    may = np.isfinite(work_s) & workload.allowed
    allowed = row @ may
    if ((allowed > 1e-9) & (allowed < 1.0 - 1e-9)).any():
        return None
    load = workload.total_rps * (row @ np.where(may, work_s, 0.0))
    return prompts_of(weight, quality, load, allowed > 0.5)
