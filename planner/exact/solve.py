"""One solve of the joint problem: the best deployment found, and what none can beat.

    plan     conservative reading of the tables: its solution keeps every limit
    bound    optimistic reading: every plan of the box solves it, so its bound holds for all

    1  a deployment to start from: the given one where it is near the relaxation, or a first one:
       of few classes that of the program of the plan; of many flows that of a program with merged
       classes; of many classes in tiers that of the pools in the relaxation, with one tier in each
    2  the program of the bound from there; what it ends with is tried as a plan
    3  where the two are further apart than asked for: the program of the plan, from the best one;
       of many classes in tiers once more few pools with one tier each, the tiers finer
    4  where nothing is found: deployments near those that were tried

Work has limits, whatever the size: nodes become fewer with it, and beyond MOST_CELLS the relaxation
is the bound.

Limits over all traffic take flows (flows.py) where the two readings nearly meet; limits of single
classes and cascades take tiers (service.py), which a pool may mix. A deployment is worth what a
plan reaches with it: of flows the linear program of the plan, and the routing of that deployment,
whose loads are not tied to tiers. Where money is no objective it still breaks ties, by so little
that the bound is moved by less than a tenth of the gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from planner.exact.flows import Flows, has_flows, read_flows, spread_ratio
from planner.exact.joint import Joint, build_joint, loads_per_replica
from planner.exact.merge import merged
from planner.exact.near import grown, next_to, repaired
from planner.exact.readings import Reading, Tiers, read_tiers
from planner.exact.wanted import Setting, Solved, Status, Want
from planner.routing.linear import IntegerSolution, maximise, maximise_integer, nodes_within
from planner.routing.problem import Method, RoutingProblem
from planner.routing.program import hosted_usd_per_h
from planner.routing.solve import solve
from planner.spec.arrays import BoolArray, FloatArray, IntArray

__all__ = ["Setting", "Solved", "Status", "Want", "solve_joint"]

READINGS: tuple[Reading, ...] = ("conservative", "optimistic")

PLAN_TIERS = 4  # per pool
BOUND_TIERS = 6
NEARBY_TIERS = 10
STRICT_GAP_RATIO = 1e-2  # of a program with one tier in each of few pools
MANY_CLASSES = 12  # of tiers: with more of them there are fewer tiers
FEW_TIERS = 4
MOST_CLASSES = 20  # of a program without a start: with more, merged classes or few pools find it
MERGED_CLASSES = 12
MERGED_GAP_RATIO = 5e-3
MERGED_NODES = 200
NEAR_RATIO = 0.015  # of the relaxation: a start that misses more of it is not good enough
CLOSE_RATIO = 0.02  # of a limit: readings as flows that are further apart give way to tiers
MOST_CELLS = 60_000  # columns times tiers: beyond, the relaxation is the bound
EASY_CELLS = 8_000  # of tiers: beyond, a node costs more than its share
LAST_TRIED = 2  # deployments near which others are tried where none can be a plan
MOST_REPAIRS = 20
USED = 1e-6  # fewer replicas than this in a relaxation are rounding
PART_OF_GAP = 0.9  # that the solver may leave open: the readings take the rest
THRIFT = 0.05  # of the gap: what all the money of the box weighs against the objective
SAFETY_RATIO = 1e-6


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
            search.repair()
    return search.answer()


@dataclass(frozen=True)
class _Found:
    """A deployment and what a plan reaches with it."""

    replicas: IntArray  # (P,)
    value: float  # in the objective's unit
    hosted_usd_per_h: float
    loads: FloatArray  # (P,) per replica


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
    tried: list[IntArray] = field(default_factory=list)  # deployments (P,) in the box
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

    @property
    def has_many_tiers(self) -> bool:
        """Returns whether tiers have so many classes that few pools must do at first."""
        return not self.by_flows and self.setting.workload.n_classes > MOST_CLASSES

    def consider(self, replicas: IntArray, loads: FloatArray | None = None) -> None:
        """Keeps a deployment (P,) if a plan with it is better than the best so far.

        `loads` (P,) per replica are where its routing starts from.
        """
        if not self.setting.space.admits(replicas):
            return
        self.tried.append(replicas)
        self._keep(self._by_program(replicas))
        if not self.by_flows or self.best is None:
            self._keep(self._routed(replicas, loads))

    def _keep(self, found: _Found | None) -> None:
        """Keeps what is within the budget and better than the best so far.

        Of shared GPUs the program of one deployment may open parts, so its money is counted here.
        """
        if found is None or not self._is_paid(found.replicas, found.hosted_usd_per_h):
            return
        if self.best is None or self._is_better(found, self.best):
            self.best = found

    def _is_paid(self, replicas: IntArray, hosted_usd_per_h: float = 0.0) -> bool:
        """Returns whether a deployment (P,) is within the budget."""
        budget = np.inf if self.want.budget_usd_per_h is None else self.want.budget_usd_per_h
        rent = float(self.setting.space.cost_usd_per_h(replicas))
        return rent + hosted_usd_per_h <= budget * (1.0 + SAFETY_RATIO)

    def _usd_per_h(self, found: _Found) -> float:
        """Returns what a deployment costs, rent and hosted requests together, in $/h."""
        return float(self.setting.space.cost_usd_per_h(found.replicas)) + found.hosted_usd_per_h

    def _is_better(self, found: _Found, other: _Found) -> bool:
        """Returns whether a deployment is better than another."""
        if self.want.objective == "cost":
            return found.value < other.value
        return found.value > other.value

    def _by_program(self, replicas: IntArray) -> _Found | None:
        """Returns what the program of the plan reaches with a deployment."""
        values = self.point("conservative", replicas)
        return None if values is None else self._found(replicas, values)

    def _found(self, replicas: IntArray, values: FloatArray) -> _Found:
        """Returns a deployment with its value by a point (N,) of the program of the plan."""
        read, joint = self.joint("conservative")
        shares = values[joint.shares].sum(axis=1)
        hosted = float(shares @ hosted_usd_per_h(read.case))
        if self.want.objective == "quality":
            case = read.case
            value = float((case.weight[case.column_class] * case.quality) @ shares)
        elif self.want.objective == "rate_factor":
            value = float(values[joint.service.rate_factor][0])
        else:
            value = self._money(replicas) + hosted
        return _Found(replicas, value, hosted, loads_per_replica(read, shares, replicas))

    def _money(self, replicas: IntArray) -> float:
        """Returns the rent of a deployment and the price of the change to it, in $/h."""
        change = self.want.change
        rent = float(self.setting.space.cost_usd_per_h(replicas))
        return rent + (0.0 if change is None else change.usd_per_h(replicas))

    def _routed(
        self, replicas: IntArray, loads: FloatArray | None = None, method: Method = "fast"
    ) -> _Found | None:
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
                start_loads=loads,
            ),
            method,
        )
        if not routing.feasible:
            return None
        values = {
            "quality": routing.quality,
            "rate_factor": routing.rate_factor,
            "cost": self._money(replicas) + routing.hosted_usd_per_h,
        }
        hosted = routing.hosted_usd_per_h
        return _Found(replicas, values[want.objective], hosted, routing.loads)

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
        """Considers a first deployment where that is quicker than the search of the solver."""
        s, want = self.setting, self.want
        if self.has_many_tiers:
            self.consider_relaxed()
            return
        if not self.by_flows:
            self.improve_plan()
            return
        if s.workload.n_classes <= MOST_CLASSES:
            return
        workload, tables = merged(s.workload, s.tables, min(MERGED_CLASSES, MOST_CLASSES))
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
        if self.has_many_tiers:
            self.consider_strict(self._pools_tried(), NEARBY_TIERS)
            return
        read, joint = self.joint("conservative")
        start = None if self.best is None else self.point("conservative", self.best.replicas)
        self._consider_point(read, joint, self._search(joint, start))

    def consider_relaxed(self) -> None:
        """Considers what can be made of the pools that the relaxation uses, and its roundings."""
        _, joint = self.joint("conservative")
        relaxed = maximise(joint.program)
        if not relaxed.solved:
            return
        exact = relaxed.values[joint.replicas]
        self.consider_strict(exact > USED, FEW_TIERS)
        if self.best is None:
            self.consider(repaired(self.setting.space, _whole(np.ceil(exact - USED)), exact))

    def consider_strict(self, used: BoolArray, n_tiers: int) -> None:
        """Considers what can be made of some pools (P,) with one tier in each.

        Tiers mixed within a pool promise a little more than an even split keeps; one tier does not.
        """
        s, want = self.setting, self.want
        space = replace(s.space, upper=np.where(used, s.space.upper, s.space.lower))
        args = s.workload, s.tables, space, s.headroom_ratio
        read = read_tiers(*args, "conservative", n_tiers)
        if read.case.work.size * read.loads.shape[1] > MOST_CELLS:
            return
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
        solution = maximise_integer(joint.program, STRICT_GAP_RATIO, n_nodes)
        self._consider_point(read, joint, solution)

    def _consider_point(self, read: Tiers | Flows, joint: Joint, solution: IntegerSolution) -> None:
        """Considers the deployment of a point, if there is one, with its loads to start from."""
        if not solution.found:
            return
        replicas = _whole(solution.values[joint.replicas])
        shares = np.maximum(solution.values[joint.shares], 0.0).sum(axis=1)
        self.consider(replicas, loads_per_replica(read, shares, replicas))

    def _pools_tried(self) -> BoolArray:
        """Returns the pools that any deployment tried so far has replicas of, (P,)."""
        none = np.zeros_like(self.setting.space.lower)
        return np.asarray(np.max([none, *self.tried], axis=0) > 0)

    def repair(self) -> None:
        """Considers deployments near those tried until one of them can be a plan.

        First one replica away, then the exact routing of those tried and of the largest one: close
        to what no deployment keeps, quick routings and mixed tiers miss what there is.
        """
        tried, space = self.tried[-LAST_TRIED:], self.setting.space
        if not self.by_flows and not self.has_many_tiers:
            self.consider_strict(self._pools_tried(), NEARBY_TIERS)
        for near in next_to(tried, space)[:MOST_REPAIRS]:
            if self.best is None:
                self.consider(near)
        for replicas in (*tried, *(grown(each, space, self._is_paid) for each in tried)):
            if self.best is None:
                self._keep(self._routed(replicas, method="exact"))

    def prove(self) -> None:
        """Solves the program of the bound, and considers the deployment that it ends with."""
        read, joint = self.joint("optimistic")
        start = None if self.best is None else self.point("optimistic", self.best.replicas)
        solution = self._search(joint, start)
        if solution.status == "none":
            self.status, self.best = "none", None
            return
        if np.isfinite(solution.bound):
            self.best_possible = self._proved(joint, solution.bound)
        if solution.found:
            self.solve_gap = (solution.bound - solution.objective) * joint.unit
            self._consider_point(read, joint, solution)

    def _search(self, joint: Joint, start: FloatArray | None) -> IntegerSolution:
        """Returns what a search of a whole program ends with; of a huge one only the bound."""
        if joint.shares.size > MOST_CELLS:
            relaxed = maximise_integer(joint.program.relaxed(), 0.0, 1)
            status: Status = "none" if relaxed.status == "none" else "unknown"
            return replace(relaxed, status=status)
        gap = PART_OF_GAP * self.want.gap_ratio
        return maximise_integer(joint.program, gap, self._n_nodes(joint), start)

    def _n_nodes(self, joint: Joint) -> int:
        """Returns after how many nodes a search of a program stops."""
        if self.by_flows:
            return self.want.n_nodes
        cells = joint.shares.size
        harder = max(1.0, cells / EASY_CELLS) ** 2
        return nodes_within(self.want.n_nodes, int(cells * harder))

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
            loads=self.best.loads,
        )

    def nothing(self, status: Status, method: str) -> Solved:
        """Returns an answer without a deployment."""
        return Solved(status, np.zeros_like(self.setting.space.lower), None, None, 0.0, 0.0, method)


def _whole(replicas: FloatArray) -> IntArray:
    """Returns replicas (P,) of a solution as the whole numbers that they are but for rounding."""
    return np.asarray(np.rint(replicas), dtype=np.int64)
