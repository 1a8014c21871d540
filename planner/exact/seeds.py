"""Seeds: deployments from the joint program, from which a search starts near its answer.

    1  the best deployment for the question's own objective, floors and limits (integer program)
    2  the cheapest deployments along the front of quality: n_front floors between the question's
       own and the highest that any deployment reaches (of a rate factor: the fastest)
    3  roundings of the relaxation, up and to nearest, repaired to the box

Where not everything can be served the same programs leave load unserved at a price that outweighs
every cost, so that the seeds are close to feasible. With many classes the integer programs are
left out. Nothing here is a plan: routing and score decide what a seed is worth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner.exact.joint import Joint, Objective, build_joint
from planner.exact.near import repaired
from planner.exact.readings import Tiers, halved, read_tiers
from planner.routing.linear import (
    IntegerSolution,
    Solution,
    maximise,
    maximise_integer,
    nodes_within,
)
from planner.space import Space
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

SEED_TIERS = 6
FINE_TIERS = 16  # of the table's own loads, then halved
MOST_CLASSES = 24  # beyond, integer programs take too long for a seed
MOST_CELLS = 1000  # columns times tiers of an integer program
GAP_RATIO = 1e-3
BEST_NODES = 500
FRONT_NODES = 50
USED = 1e-6  # fewer replicas than this in a relaxation are rounding
QUALITY_MARGIN = 1e-6


def seeds(
    workload: Workload,
    tables: Sequence[PoolTable],
    space: Space,
    headroom_ratio: float,
    objective: Objective,
    n_front: int,
    n_tiers: int = SEED_TIERS,
) -> list[IntArray]:
    """Returns deployments (P,) inside the box, best first and each once; none in an empty box.

    Args:
        workload: C classes over P pools.
        tables: the pools' tables, (P,).
        space: the box of deployments.
        headroom_ratio: load <= (1 - headroom_ratio) * max_load.
        objective: what the question asks to be best; ties of quality and rate go to the cheapest.
        n_front: number of quality floors above the question's own.
        n_tiers: tiers per pool.
    """
    if (space.lower > space.upper).any() or not (space.upper > 0).any():
        return []
    tiers = read_tiers(workload, tables, space, headroom_ratio, "conservative", n_tiers)
    fine = read_tiers(workload, tables, space, headroom_ratio, "conservative", FINE_TIERS)
    search = _Search(tiers, halved(fine), objective)
    found: dict[tuple[int, ...], IntArray] = {}
    for replicas in search.candidates(n_front):
        if space.admits(replicas):
            found.setdefault(tuple(replicas.tolist()), replicas)
    return list(found.values())


@dataclass(frozen=True)
class _Search:
    """The programs that one call of seeds solves."""

    tiers: Tiers
    fine: Tiers  # many more of them, for the question's own answer
    objective: Objective

    @property
    def floor(self) -> float | None:
        """Returns the question's own quality floor."""
        return self.tiers.case.problem.workload.quality_at_least

    def candidates(self, n_front: int) -> Iterator[IntArray]:
        """Yields deployments (P,), best first; some may be outside the box or come twice."""
        whole = self.tiers.case.n_classes <= MOST_CLASSES
        if whole and self.fine.case.work.size * self.fine.loads.shape[1] <= MOST_CELLS:
            yield from self._whole(self.fine, self.objective, self.floor, BEST_NODES)
        relaxed = self._relaxed(self.objective, self.floor)
        if relaxed is None:
            yield from self._least_unserved(whole)
            return
        if whole:
            best = list(self._whole(self.tiers, self.objective, self.floor, BEST_NODES))
            yield from best or self._least_unserved(whole)
        yield from self._rounded(relaxed)
        axis: Objective = "rate_factor" if self.objective == "rate_factor" else "cost"
        if self.objective != "cost":
            yield from self._at_floor("cost", self.floor, whole)
        for floor in self._floors(n_front):
            yield from self._at_floor(axis, floor, whole)

    def _at_floor(
        self, objective: Objective, floor: float | None, whole: bool
    ) -> Iterator[IntArray]:
        """Yields the best deployment at a quality floor, and roundings of the relaxation."""
        if whole:
            yield from self._whole(self.tiers, objective, floor, FRONT_NODES)
        relaxed = self._relaxed(objective, floor)
        if relaxed is not None:
            yield from self._rounded(relaxed)

    def _floors(self, n_front: int) -> FloatArray:
        """Returns quality floors above the question's own, up to what the relaxation reaches."""
        best = self._relaxed("quality", self.floor)
        if best is None or n_front <= 0:
            return np.zeros(0)
        lowest = self.floor
        if lowest is None:
            cheapest = self._relaxed("cost", None)
            lowest = 0.0 if cheapest is None else self._quality(*cheapest)
        highest = self._quality(*best) - QUALITY_MARGIN
        if highest <= lowest:
            return np.zeros(0)
        return np.linspace(lowest, highest, n_front + 1)[1:]

    def _quality(self, joint: Joint, solution: Solution) -> float:
        """Returns the mean quality of a solution's shares."""
        case = self.tiers.case
        share = solution.values[joint.shares].sum(axis=1)
        return float((case.weight[case.column_class] * case.quality) @ share)

    def _relaxed(self, objective: Objective, floor: float | None) -> tuple[Joint, Solution] | None:
        """Returns the relaxation and its optimum, None where it has none."""
        joint = build_joint(self.tiers, objective, floor, integer=False)
        solution = maximise(joint.program)
        return (joint, solution) if solution.solved else None

    def _whole(
        self, tiers: Tiers, objective: Objective, floor: float | None, n_nodes: int
    ) -> Iterator[IntArray]:
        """Yields the best deployment with whole replicas and one tier per pool, if one is found."""
        joint = build_joint(tiers, objective, floor, integer=True, one_tier=True)
        n_nodes = nodes_within(n_nodes, joint.shares.size)
        solution = maximise_integer(joint.program, GAP_RATIO, n_nodes)
        if solution.found:
            yield _replicas(joint, solution)

    def _rounded(self, relaxed: tuple[Joint, Solution]) -> Iterator[IntArray]:
        """Yields roundings of a relaxation: used pools up, and all to nearest."""
        joint, solution = relaxed
        exact = solution.values[joint.replicas]
        for whole in (np.ceil(exact - USED), np.rint(exact)):
            yield repaired(self.tiers.space, whole.astype(np.int64), exact)

    def _least_unserved(self, whole: bool) -> Iterator[IntArray]:
        """Yields deployments that leave as little traffic unserved as can be, cheapest first."""
        space = self.tiers.space
        dearest = sum(offer.count for offers in space.offers.values() for offer in offers)
        price = 100.0 * (1.0 + dearest + self.tiers.case.n_classes)  # in units of the dearest
        for integer in (True, False) if whole else (False,):
            joint = build_joint(
                self.tiers, "cost", self.floor, integer, one_tier=integer, unserved_price=price
            )
            if integer:
                n_nodes = nodes_within(BEST_NODES, joint.shares.size)
                best = maximise_integer(joint.program, GAP_RATIO, n_nodes)
                if best.found:
                    yield _replicas(joint, best)
            else:
                solution = maximise(joint.program)
                if solution.solved:
                    yield from self._rounded((joint, solution))


def _replicas(joint: Joint, solution: IntegerSolution) -> IntArray:
    """Returns the whole replicas of a solution, (P,)."""
    return np.asarray(np.rint(solution.values[joint.replicas]), dtype=np.int64)
