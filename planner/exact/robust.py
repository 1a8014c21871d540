"""Scenarios in the joint program: one deployment, one routing table, and all that it must survive.

Notation, beside that of joint.py
    s        scenario: other traffic, slower tables, or a pool p_s that loses replicas
    x_j      share of column j when nothing happens: sum_k x_jk                        (J,)
    x_jk^s   share of column j at tier k of its pool while s lasts                     (J, T)
    k_p      replicas of pool p that may be lost at once                  count        (P,)
    m_p      replicas that are left of it                                 count
    g_p      1 if none is left: the pool is gone                          0 or 1

Rows of each scenario, beside those of a second operation (service.py) on its own workload, limits
and tables, with what is kept of the headroom
    keeps:<s>      sum_k x_jk^s  =  x_j                       other traffic, slower tables
                   sum_k x_jk^s >=  x_j                       a loss, j of another pool than p_s
                   sum_k x_jk^s >=  x_j - most g_p,  <= x_j   a loss, j of p_s
    left:<s>       m_p - n_p - k_p g_p  <= -k_p,   m_p + upper_p g_p <= upper_p,
                   n_p + upper_p g_p <= k_p + upper_p

So a pool that may lose k_p of more replicas has n_p - k_p left and keeps its shares; one with k_p
or fewer is gone and its shares go to any pools. The plan sends them to one, the first of the
fallback order: the program may do as well or better. In a scenario tiers of a pool are mixed, which
also only adds solutions. With the optimistic reading the optimum is therefore a bound for every
plan that survives its scenarios by the same tables (§5); with the conservative one its deployment
is where a search starts. A node that takes replicas of several pools with it is left to the search:
the program loses one pool at a time.

Scenarios are added as they are needed: traffic first, then the loss of each pool that a solution
uses, until it uses no other. Every round is a relaxation of the next, so each bound holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.exact.bound import BoundResult
from planner.exact.joint import Joint, Objective, build_joint
from planner.exact.readings import Reading, Tiers, read_tiers
from planner.exact.service import Service, add_service
from planner.exact.solve import Setting, Want
from planner.routing.linear import IntegerSolution, maximise_integer, nodes_within
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.scenario import Scenario, calm
from planner.spec.stress import at_upper_band

PLAN_TIERS = 8
BOUND_TIERS = 16
SCENARIO_TIERS = 12
ROUNDS = 6
MOST_CELLS = 12_000  # columns times tiers of all operations together: beyond, no more scenarios
SAFETY_RATIO = 1e-6


@dataclass(frozen=True)
class Threats:
    """What is to be survived, whatever the deployment."""

    traffic: tuple[Scenario, ...]  # other traffic and slower tables: no replica is lost
    at_once: IntArray  # (P,) replicas of a pool that one failure takes; 0 where none may fail
    limits_ratio: float  # of each latency limit while a failure lasts
    headroom_ratio: float = 0.0  # of each pool's capacity that stays free meanwhile

    def loss(self, setting: Setting, p: int) -> Scenario:
        """Returns the scenario in which pool p loses replicas, how many the program decides."""
        scenario = calm(setting.workload, setting.workload.pool_names[p])
        return replace(scenario, limits_ratio=self.limits_ratio, headroom_ratio=self.headroom_ratio)


def robust_bound(
    setting: Setting, want: Want, threats: Threats, likely: Iterable[int] = ()
) -> BoundResult:
    """Returns the best that any deployment reaches that survives.

    Args:
        setting: workload, tables, box and headroom when nothing happens.
        want: objective, floor, levels and effort.
        threats: what is to be survived.
        likely: pools whose loss is in the program from the beginning: those of a known plan.
    """
    if (setting.space.lower > setting.space.upper).any():
        return BoundResult(None, 0.0, True, "the box of deployments is empty")
    rounds = list(_Rounds(setting, want, threats, "optimistic", BOUND_TIERS).solved(likely))
    if any(each.solution.status == "none" for each in rounds):
        return BoundResult(None, 0.0, True, f"{_NAME}: nothing keeps every promise")
    known = [(each.bound, each) for each in rounds if each.bound is not None]
    if not known:
        return BoundResult(None, 0.0, False, f"{_NAME}: nothing is proved")
    sign = -1.0 if want.objective == "cost" else 1.0
    best, tightest = min(known, key=lambda pair: sign * pair[0])
    n_scenarios = tightest.n_operations - 1
    text = f"{_NAME}, {n_scenarios} of them, {BOUND_TIERS} optimistic tiers per pool"
    return BoundResult(best, tightest.open_ratio, False, text)


def surviving(setting: Setting, want: Want, threats: Threats) -> IntArray | None:
    """Returns a deployment (P,) that should survive, by coarse tiers: where a search starts.

    None where none is found. Arguments as in robust_bound.
    """
    *_, last = _Rounds(setting, want, threats, "conservative", PLAN_TIERS).solved(())
    return last.replicas if last.solution.found else None


_NAME = "joint program with scenarios"


@dataclass(frozen=True)
class _Round:
    """One program and its solution."""

    objective: Objective
    tiers: Tiers
    joint: Joint
    solution: IntegerSolution
    lossy: tuple[int, ...]  # pools whose loss is in the program
    n_operations: int

    @property
    def replicas(self) -> IntArray:
        """Returns the deployment, (P,)."""
        return np.asarray(np.rint(self.solution.values[self.joint.replicas]), dtype=np.int64)

    @property
    def bound(self) -> float | None:
        """Returns what nothing beats, moved to the safe side; None where nothing is proved."""
        proved = self.solution.bound
        return self._in_unit(proved) if np.isfinite(proved) else None

    @property
    def open_ratio(self) -> float:
        """Returns what the solver left open."""
        if not self.solution.found:
            return 0.0
        left = self.solution.bound - self.solution.objective
        return left / max(abs(self.solution.objective), 1e-12)

    def _in_unit(self, value: float) -> float:
        unit = self.joint.unit
        if self.objective == "rate_factor":
            unit /= self.n_operations  # each operation counts its factor, and all are the same
        moved = value * unit + SAFETY_RATIO * abs(value * unit)
        return max(0.0, -moved) if self.objective == "cost" else moved


@dataclass(frozen=True)
class _Rounds:
    """The programs of one reading, each with more scenarios than the one before."""

    setting: Setting
    want: Want
    threats: Threats
    reading: Reading
    n_tiers: int

    def solved(self, lossy: Iterable[int]) -> Iterator[_Round]:
        """Yields solved programs, until a solution uses no pool whose loss is not in it."""
        known = tuple(sorted(lossy))
        for _ in range(ROUNDS):
            found = self._round(known)
            yield found
            if not found.solution.found:
                return
            used = np.flatnonzero((found.replicas > 0) & (self.threats.at_once > 0))
            more = sorted({*known, *used.tolist()})
            if more == list(known) or self._cells(found.tiers, len(more)) > MOST_CELLS:
                return
            known = tuple(more)

    def _cells(self, tiers: Tiers, n_losses: int) -> int:
        n_scenarios = len(self.threats.traffic) + n_losses
        n_tiers: int = tiers.loads.shape[1]
        return int(tiers.case.work.size) * (n_tiers + n_scenarios * SCENARIO_TIERS)

    def _round(self, lossy: Sequence[int]) -> _Round:
        """Returns the solved program with the loss of some pools."""
        s, want = self.setting, self.want
        workload = s.workload.with_limits_scaled(want.limits_ratio)
        tiers = read_tiers(
            workload, s.tables, s.space, s.headroom_ratio, self.reading, self.n_tiers
        )
        joint = build_joint(
            tiers, want.objective, want.floor, integer=True, one_tier=True,
            budget_usd_per_h=want.budget_usd_per_h,
        )  # fmt: skip
        traffic = self.threats.traffic if self._cells(tiers, 0) <= MOST_CELLS else ()
        for n, scenario in enumerate(traffic):
            self._add(joint, scenario, joint.replicas, f"traffic{n}:", None)
        for p in lossy:
            left, gone = _add_left(joint, s.space.upper[p], int(self.threats.at_once[p]), p)
            replicas = joint.replicas.copy()
            replicas[p] = left
            scenario = self.threats.loss(s, p)
            self._add(joint, scenario, replicas, f"loss{p}:", (p, gone))
        n_operations = 1 + len(traffic) + len(lossy)
        n_nodes = nodes_within(want.n_nodes, joint.shares.size * n_operations)
        solution = maximise_integer(joint.program, want.gap_ratio, n_nodes)
        return _Round(want.objective, tiers, joint, solution, tuple(lossy), n_operations)

    def _add(
        self,
        joint: Joint,
        scenario: Scenario,
        replicas: IntArray,
        prefix: str,
        lost: tuple[int, int] | None,
    ) -> None:
        """Adds the operation of a scenario; lost: its pool and the column that says it is gone."""
        s = self.setting
        tables = s.tables
        if scenario.latency_band:
            tables = [at_upper_band(table) if table.has_latency else table for table in tables]
        workload = scenario.workload(s.workload.with_limits_scaled(self.want.limits_ratio))
        tiers = read_tiers(
            workload, tables, s.space, scenario.headroom_ratio, self.reading, SCENARIO_TIERS
        )
        maximises_rate = self.want.objective == "rate_factor"
        service = add_service(
            joint.program, tiers, replicas, np.zeros(tiers.case.work.size), self.want.floor,
            maximises_rate=maximises_rate, prefix=prefix,
        )  # fmt: skip
        _add_keeps(joint, tiers, service, prefix, lost)


def _add_left(joint: Joint, upper: int, at_once: int, p: int) -> tuple[int, int]:
    """Returns the columns of the replicas that are left of pool p and of whether it is gone."""
    program, most, row = joint.program, float(upper), np.zeros(1, dtype=np.int64)
    left = program.add_columns(1, 0.0, most)
    gone = program.add_columns(1, 0.0, 1.0, 0.0, True)
    n = joint.replicas[[p]]
    rows: list[tuple[list[tuple[IntArray, IntArray, float]], float]] = [
        ([(row, left, 1.0), (row, n, -1.0), (row, gone, -float(at_once))], -float(at_once)),
        ([(row, left, 1.0), (row, gone, most)], most),
        ([(row, n, 1.0), (row, gone, most)], at_once + most),
    ]
    for k, (entries, upper_bound) in enumerate(rows):
        program.add_rows(f"left{p}:{k}", 1, entries, upper=upper_bound)
    return int(left[0]), int(gone[0])


def _add_keeps(
    joint: Joint, tiers: Tiers, service: Service, prefix: str, lost: tuple[int, int] | None
) -> None:
    """Adds the rows that keep the shares of the plan while a scenario lasts."""
    n, program = tiers.case.work.size, joint.program
    j = np.arange(n)
    now = (np.repeat(j, service.shares.shape[1]), service.shares.ravel(), 1.0)
    planned = (np.repeat(j, joint.shares.shape[1]), joint.shares.ravel(), -1.0)
    if lost is None:
        program.add_rows(f"{prefix}keeps", n, [now, planned], lower=0.0)
        return
    pool, gone = lost
    mine = tiers.case.pools[tiers.case.column_slot] == pool
    most: FloatArray = np.where(mine, _most_share(joint), 0.0)
    left = np.full(n, gone, dtype=np.int64)
    at_most = np.where(mine, 0.0, np.inf)
    program.add_rows(f"{prefix}keeps", n, [now, planned, (j, left, most)], lower=0.0, upper=np.inf)
    program.add_rows(f"{prefix}gains", n, [now, planned], upper=at_most)
    _add_one_tier(joint, tiers, service, prefix, pool)


def _add_one_tier(joint: Joint, tiers: Tiers, service: Service, prefix: str, pool: int) -> None:
    """Adds binaries so that what is left of a pool runs at one tier."""
    slots = np.flatnonzero(tiers.case.pools == pool)
    groups = service.groups[slots].ravel()
    if not groups.size:
        return
    k, first = np.arange(groups.size), np.zeros(groups.size, dtype=np.int64)
    at = joint.program.add_columns(groups.size, 0.0, 1.0, 0.0, True)
    joint.program.add_rows(f"{prefix}one", 1, [(first, at, 1.0)], upper=1.0)
    most = -float(tiers.space.upper[pool])
    joint.program.add_rows(f"{prefix}choice", groups.size, [(k, groups, 1.0), (k, at, most)])


def _most_share(joint: Joint) -> float:
    """Returns the largest value that a share may have: 1, or the highest rate factor."""
    upper = np.concatenate(joint.program.upper)
    return float(upper[joint.service.rate_factor[0]])
