"""One solve of the joint problem: the best deployment found, and what none can beat.

    plan     conservative reading of the tables: its solution keeps every limit
    bound    optimistic reading: every plan of the box solves it, so its bound holds for all

    1  a deployment to start from: the given one where it is near the relaxation, or that of a
       program with few merged classes
    2  the program of the bound from there; what it ends with is tried as a plan
    3  where the two are further apart than asked for: the program of the plan, from the best one

Limits over all traffic take flows (flows.py) where the two readings nearly meet; limits of single
classes and cascades take tiers (service.py), which a pool may mix. A deployment is worth what a
plan reaches with it: of flows the linear program of the plan, and the routing of that deployment,
whose loads are not tied to tiers. Where money is no objective it still breaks ties, by so little
that the bound is moved by less than a tenth of the gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np

from planner.exact.flows import Flows, has_flows, read_flows, spread_ratio
from planner.exact.joint import Joint, Objective, build_joint, hosted_usd_per_h
from planner.exact.merge import merged
from planner.exact.readings import Reading, Tiers, read_tiers
from planner.exact.rent import Change
from planner.routing.linear import maximise, maximise_integer, nodes_within
from planner.routing.problem import RoutingProblem
from planner.routing.solve import solve
from planner.space import Space
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

Status = Literal["found", "none", "unknown"]

READINGS: tuple[Reading, ...] = ("conservative", "optimistic")

PLAN_TIERS = 4  # per pool
BOUND_TIERS = 6
NEARBY_TIERS = 10
NEARBY_GAP_RATIO = 1e-2
MANY_CLASSES = 12  # of tiers: with more of them there are fewer tiers
FEW_TIERS = 4
MOST_CLASSES = 20  # of a program without a start: with more, one of merged classes finds it
MERGED_GAP_RATIO = 5e-3
MERGED_NODES = 200
NEAR_RATIO = 0.015  # of the relaxation: a start that misses more of it is not good enough
CLOSE_RATIO = 0.02  # of a limit: readings as flows that are further apart give way to tiers
PART_OF_GAP = 0.8  # that the solver may leave open: the readings take the rest
THRIFT = 0.05  # of the gap: what all the money of the box weighs against the objective
SAFETY_RATIO = 1e-6


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


def solve_joint(setting: Setting, want: Want, start: IntArray | None = None) -> Solved:
    """Returns the best deployment found and a bound that holds for all of them.

    Args:
        setting: workload, tables, box and headroom.
        want: objective, floor, levels and effort.
        start: a deployment (P,) to begin from.
    """
    scaled = replace(setting, workload=setting.workload.with_limits_scaled(want.limits_ratio))
    search = _Search(scaled, want)
    if (setting.space.lower > setting.space.upper).any():
        return search.nothing("none", "the box of deployments is empty")
    if start is not None:
        search.consider(start)
    if not search.starts_well():
        search.consider_first()
    if want.reading != "plan":
        search.prove()
    if search.status != "none" and want.reading != "bound" and search.gap_ratio > want.gap_ratio:
        search.improve_plan()
        if search.best is None:
            search.consider_nearby()
    return search.answer()


@dataclass(frozen=True)
class _Found:
    """A deployment and what a plan reaches with it."""

    replicas: IntArray  # (P,)
    value: float  # in the objective's unit
    hosted_usd_per_h: float


@dataclass
class _Search:
    """What one call has found and proved so far."""

    setting: Setting
    want: Want
    best: _Found | None = None
    status: Status = "unknown"
    best_possible: float | None = None
    solve_gap: float = 0.0  # in the objective's unit
    searched: bool = False  # by the program of the plan
    tried: list[IntArray] = field(default_factory=list)  # deployments (P,)
    _joints: dict[Reading, tuple[Tiers | Flows, Joint]] = field(default_factory=dict)

    @cached_property
    def flows(self) -> dict[Reading, Flows] | None:
        """Returns both readings as flows, None where tiers say more."""
        s = self.setting
        if not has_flows(s.workload):
            return None
        args = s.workload, s.tables, s.space, s.headroom_ratio
        flows = {reading: read_flows(*args, reading) for reading in READINGS}
        close = spread_ratio(flows["conservative"], flows["optimistic"]) <= CLOSE_RATIO
        return flows if close or s.workload.n_classes > MOST_CLASSES else None

    @property
    def by_flows(self) -> bool:
        """Returns whether the programs are those of flows."""
        return self.flows is not None

    @property
    def gap_ratio(self) -> float:
        """Returns how far the best deployment may be from the best possible one."""
        if self.best is None or self.best_possible is None:
            return np.inf
        return abs(self.best_possible - self.best.value) / max(abs(self.best.value), 1e-12)

    def joint(self, reading: Reading) -> tuple[Tiers | Flows, Joint]:
        """Returns one reading of the tables and its program."""
        if reading not in self._joints:
            want, read = self.want, self._read(reading)
            joint = build_joint(
                read,
                want.objective,
                want.floor,
                integer=True,
                budget_usd_per_h=want.budget_usd_per_h,
                change=want.change,
                thrift=self._thrift / self.most_usd_per_h,
            )
            self._joints[reading] = read, joint
        return self._joints[reading]

    def _read(self, reading: Reading) -> Tiers | Flows:
        """Returns one reading of the tables."""
        if self.flows is not None:
            return self.flows[reading]
        s = self.setting
        args = s.workload, s.tables, s.space, s.headroom_ratio, reading
        return read_tiers(*args, self._n_tiers(reading))

    @property
    def _thrift(self) -> float:
        """Returns the objective that all the money of the box weighs, to break ties."""
        return 0.0 if self.want.reading == "bound" else THRIFT * self.want.gap_ratio

    def _n_tiers(self, reading: Reading) -> int:
        """Returns the tiers per pool of a reading."""
        if self.setting.workload.n_classes > MANY_CLASSES:
            return FEW_TIERS
        return PLAN_TIERS if reading == "conservative" else BOUND_TIERS

    @property
    def most_usd_per_h(self) -> float:
        """Returns what the dearest deployment costs at most, in $/h."""
        offers = [offer for each in self.setting.space.offers.values() for offer in each]
        box = sum(offer.count * offer.usd_per_h for offer in offers)
        budget = self.want.budget_usd_per_h
        return max(min(box, np.inf if budget is None else budget), 1e-9)

    def consider(self, replicas: IntArray) -> None:
        """Keeps a deployment (P,) if a plan with it is better than the best so far."""
        if not self.setting.space.admits(replicas):
            return
        for found in (
            self._by_program(replicas),
            None if self.by_flows else self._routed(replicas),
        ):
            if found is not None and self._is_better(found):
                self.best = found

    def _is_paid(self, found: _Found) -> bool:
        """Returns whether a deployment is within the budget."""
        budget = self.want.budget_usd_per_h
        return budget is None or self._usd_per_h(found) <= budget * (1.0 + SAFETY_RATIO)

    def _usd_per_h(self, found: _Found) -> float:
        """Returns what a deployment costs, rent and hosted requests together, in $/h."""
        return float(self.setting.space.cost_usd_per_h(found.replicas)) + found.hosted_usd_per_h

    def _is_better(self, found: _Found) -> bool:
        """Returns whether a deployment is better than the best so far."""
        if self.best is None:
            return True
        if self.want.objective == "cost":
            return found.value < self.best.value
        return found.value > self.best.value

    def _by_program(self, replicas: IntArray) -> _Found | None:
        """Returns what the program of the plan reaches with a deployment."""
        values = self.point("conservative", replicas)
        return None if values is None else self._found(replicas, values)

    def _found(self, replicas: IntArray, values: FloatArray) -> _Found:
        """Returns a deployment with its value by a point (N,) of the program of the plan."""
        read, joint = self.joint("conservative")
        shares = values[joint.shares].sum(axis=1)
        hosted = float(shares @ hosted_usd_per_h(read))
        if self.want.objective == "quality":
            case = read.case
            value = float((case.weight[case.column_class] * case.quality) @ shares)
        elif self.want.objective == "rate_factor":
            value = float(values[joint.service.rate_factor][0])
        else:
            value = self._money(replicas) + hosted
        return _Found(replicas, value, hosted)

    def _money(self, replicas: IntArray) -> float:
        """Returns the rent of a deployment and the price of the change to it, in $/h."""
        change = self.want.change
        rent = float(self.setting.space.cost_usd_per_h(replicas))
        return rent + (0.0 if change is None else change.usd_per_h(replicas))

    def _routed(self, replicas: IntArray) -> _Found | None:
        """Returns what the routing of a deployment reaches, None where it misses something."""
        s, want = self.setting, self.want
        workload = replace(s.workload, quality_at_least=want.floor)
        budget = (
            s.space.budget_usd_per_h if want.budget_usd_per_h is None else want.budget_usd_per_h
        )
        left = None if budget is None else budget - float(s.space.cost_usd_per_h(replicas))
        if left is not None and left < 0.0:
            return None
        routing = solve(
            RoutingProblem(
                workload,
                tuple(s.tables),
                replicas,
                s.headroom_ratio,
                want.objective,
                quality_floor_hard=True,
                unserved_usd=1.0 + 1000.0 * workload.dearest_request_usd,
                hosted_budget_usd_per_h=left,
            )
        )
        if not routing.feasible:
            return None
        values = {
            "quality": routing.quality,
            "rate_factor": routing.rate_factor,
            "cost": self._money(replicas) + routing.hosted_usd_per_h,
        }
        return _Found(replicas, values[want.objective], routing.hosted_usd_per_h)

    def point(self, reading: Reading, replicas: IntArray) -> FloatArray | None:
        """Returns the best point (N,) of a program with a deployment (P,), None without one."""
        _, joint = self.joint(reading)
        fixed = joint.program.fixed(joint.replicas, replicas.astype(np.float64))
        solution = maximise(fixed)
        return solution.values if solution.solved else None

    def starts_well(self) -> bool:
        """Returns whether the best deployment is near the relaxation: then none else is needed."""
        if self.best is None:
            return False
        _, joint = self.joint("optimistic")
        relaxed, point = maximise(joint.program), self.point("optimistic", self.best.replicas)
        if not relaxed.solved or point is None:
            return False
        missing = relaxed.objective - float(joint.program.gains() @ point)
        return missing <= NEAR_RATIO * abs(relaxed.objective)

    def consider_first(self) -> None:
        """Considers a first deployment where that is quicker than the search of the solver.

        Of flows the one that a program with few merged classes finds; of tiers that of the plan.
        """
        s, want = self.setting, self.want
        if not self.by_flows:
            self.improve_plan()
            return
        if s.workload.n_classes <= MOST_CLASSES:
            return
        workload, tables = merged(s.workload, s.tables, MOST_CLASSES)
        few = _Search(
            replace(s, workload=workload, tables=tables),
            replace(want, gap_ratio=max(MERGED_GAP_RATIO, want.gap_ratio), n_nodes=MERGED_NODES),
        )
        few.improve_plan()
        if few.best is not None:
            self.consider(few.best.replicas)

    def improve_plan(self) -> None:
        """Searches for a better deployment by the program of the plan, once."""
        if self.searched:
            return
        self.searched = True
        _, joint = self.joint("conservative")
        start = None if self.best is None else self.point("conservative", self.best.replicas)
        gap = PART_OF_GAP * self.want.gap_ratio
        solution = maximise_integer(joint.program, gap, self._n_nodes(joint), start)
        if solution.found:
            replicas = _whole(solution.values[joint.replicas])
            self.consider(replicas)

    def consider_nearby(self) -> None:
        """Considers what can be made of the pools tried so far with one tier in each.

        Tiers mixed within a pool promise a little more than an even split keeps, so what they find
        may miss a limit by a hair.
        """
        if self.by_flows or not self.tried:
            return
        s, want = self.setting, self.want
        used = np.max(self.tried, axis=0) > 0
        upper = np.where(used, s.space.upper, s.space.lower)
        read = read_tiers(
            s.workload,
            s.tables,
            replace(s.space, upper=upper),
            s.headroom_ratio,
            "conservative",
            NEARBY_TIERS,
        )
        joint = build_joint(
            read,
            want.objective,
            want.floor,
            integer=True,
            one_tier=True,
            budget_usd_per_h=want.budget_usd_per_h,
            change=want.change,
        )
        n_nodes = self._n_nodes(joint)
        solution = maximise_integer(joint.program, NEARBY_GAP_RATIO, n_nodes)
        if solution.found:
            self.consider(_whole(solution.values[joint.replicas]))

    def prove(self) -> None:
        """Solves the program of the bound, and considers the deployment that it ends with."""
        _, joint = self.joint("optimistic")
        start = None if self.best is None else self.point("optimistic", self.best.replicas)
        gap = PART_OF_GAP * self.want.gap_ratio
        solution = maximise_integer(joint.program, gap, self._n_nodes(joint), start)
        if solution.status == "none":
            self.status, self.best = "none", None
            return
        if np.isfinite(solution.bound):
            self.best_possible = self._proved(joint, solution.bound)
        if solution.found:
            self.solve_gap = (solution.bound - solution.objective) * joint.unit
            self.consider(_whole(solution.values[joint.replicas]))

    def _n_nodes(self, joint: Joint) -> int:
        """Returns after how many nodes a search of a program stops."""
        return (
            self.want.n_nodes
            if self.by_flows
            else nodes_within(self.want.n_nodes, joint.shares.size)
        )

    def _proved(self, joint: Joint, bound: float) -> float:
        """Returns a bound of the program in the objective's own unit, moved to the safe side."""
        safe = bound * joint.unit + SAFETY_RATIO * abs(bound * joint.unit)
        if self.want.objective == "cost":
            return max(0.0, -safe)
        return safe + self._thrift * (1.0 + SAFETY_RATIO)

    def answer(self) -> Solved:
        """Returns what was found and proved."""
        form = "flows" if self.by_flows else f"{self._n_tiers('optimistic')} tiers per pool"
        method = f"HiGHS on the joint program with {form}"
        if self.best is None:
            return replace(self.nothing(self.status, method), best_possible=self.best_possible)
        scale = max(abs(self.best.value), 1e-12)
        whole = self.gap_ratio if self.best_possible is not None else 0.0
        solver = min(self.solve_gap / scale, whole)
        return Solved(
            status="found",
            replicas=self.best.replicas,
            value=self.best.value,
            best_possible=self.best_possible,
            solve_gap_ratio=solver,
            tier_gap_ratio=whole - solver,
            method=method,
            cost_usd_per_h=self._usd_per_h(self.best),
        )

    def nothing(self, status: Status, method: str) -> Solved:
        """Returns an answer without a deployment."""
        return Solved(status, np.zeros_like(self.setting.space.lower), None, None, 0.0, 0.0, method)


def _whole(replicas: FloatArray) -> IntArray:
    """Returns replicas (P,) of a solution as the whole numbers that they are but for rounding."""
    return np.asarray(np.rint(replicas), dtype=np.int64)
