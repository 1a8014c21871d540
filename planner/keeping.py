"""The plan in production: what a move away from it must save, and where a search begins then."""

from __future__ import annotations

from planner.exact.rent import Change
from planner.exact.solve import Want, solve_joint
from planner.objectives import Objectives
from planner.spec.arrays import IntArray

GAP_RATIO = 5e-3  # the search goes on from there
N_NODES = 200


def change_of(objectives: Objectives, kept: IntArray | None) -> Change | None:
    """Returns what moving away from a kept deployment (P,) costs, None where it costs nothing."""
    keep = objectives.case.question.keep
    if keep is None or kept is None or keep.usd_per_replica_change == 0.0:
        return None
    return Change(kept, keep.usd_per_replica_change)


def starts_near(objectives: Objectives, kept: IntArray | None) -> list[IntArray]:
    """Returns the kept deployment (P,), and the cheapest one with the move to it counted.

    The front knows no such money: between a dear deployment that is there and a cheap one that is
    far away the best may be a few replicas from the first, and on no front.
    """
    if kept is None:
        return []
    change = change_of(objectives, kept)
    cheapest = objectives.case.question.choose == "cheapest" and not objectives.maximises_rate
    if change is None or not cheapest:
        return [kept]
    floor = objectives.case.workload.quality_at_least
    # A start needs no proof.
    want = Want("cost", floor, gap_ratio=GAP_RATIO, n_nodes=N_NODES, reading="plan", change=change)
    solved = solve_joint(objectives.joint_at(0), want, kept)
    return [kept, solved.replicas] if solved.status == "found" else [kept]
