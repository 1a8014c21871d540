"""Which pool to measure first: what knowing a pool's true speed would be worth to the plan.

Notation
    f_i, w_i   true over fitted time of a pool, three worlds of it, and their probabilities
    b          half-width of the nominal 90 % band of the pool's latencies
    sigma      log(1 + b) / 1.645, the standard deviation of log f
    V_i        merit of the best deployment in world i: what the question optimises

Program, one pool at a time, the others as fitted
    f = exp(sigma (-sqrt 3, 0, sqrt 3)),  w = (1/6, 2/3, 1/6)      exact up to the fifth moment
    worth = sum_i w_i V_i - V_slow

Who does not know the speed and wants to be safe has to rent what does in the slow world; who knows
it rents what is best in the world that is. The difference is the expected value of perfect
information to a cautious decision (Raiffa, Schlaifer 1961, Applied Statistical Decision Theory,
chapter 4). A pool f times slower has every time f times longer at the same load, so its table is
stretched and nothing is fitted anew. Deployments are looked at as the search does, with fast
shares: the worth ranks pools, to the cent it is not exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from planner.explore import BUDGETS, Effort, Explored
from planner.latency.moments import ClassMoments
from planner.objectives import UNSERVED_FACTOR, Evaluation, Objectives
from planner.settle import Settled
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.base import worst_origin
from planner.spec.plan import ToMeasure, WorthUnit
from planner.spec.table import PoolTable

NORMAL_90 = 1.645
NODE, WEIGHT = float(np.sqrt(3.0)), 1.0 / 6.0  # of the outer worlds
MID_LOAD_RATIO = 0.6
NEAR_VIOLATION = 0.5
"""Deployments that miss more than this as fitted are not looked at in another world."""

TOLERANCE = 1e-3
"""What fast shares on tables of another mix may miss without being called infeasible."""

LEAST_USD_PER_H = 0.01
LEAST_RATIO = 1e-4


@dataclass(frozen=True)
class _Candidate:
    """A deployment that may be the best in another world, and what it is as fitted."""

    replicas: IntArray  # (P,)
    cost_usd_per_h: float
    gain: float
    violation: float

    @property
    def key(self) -> tuple[int, ...]:
        """Returns what tells it from others."""
        return tuple(int(n) for n in self.replicas)


@dataclass(frozen=True)
class _Worlds:
    """The plan and the deployments that may beat it where a pool's speed is another."""

    objectives: Objectives  # with the plan's own tables
    chosen: Evaluation
    loads: FloatArray  # (P,) of the plan: where shares of similar deployments are sought first
    candidates: tuple[_Candidate, ...]
    by_gain: bool  # quality or rate factor is optimised, not money
    n_looks: int

    def worth(self, p: int, band_ratio: float) -> float:
        """Returns what knowing the speed of pool p is worth, in the unit of merit."""
        reach = NODE * float(np.log1p(band_ratio)) / NORMAL_90
        slow, fast = self._best(p, float(np.exp(reach))), self._best(p, float(np.exp(-reach)))
        fitted = max(slow, self._merit(self.chosen))
        return (1.0 - 2.0 * WEIGHT) * (fitted - slow) + WEIGHT * max(fast - slow, 0.0)

    def _best(self, p: int, slower: float) -> float:
        """Returns the merit of the best deployment where pool p takes `slower` times as long."""
        if slower > 1.0 and self.chosen.replicas[p] == 0:
            return self._merit(self.chosen)  # an unused pool that is slower stays unused
        tables = list(self.objectives.tables)
        tables[p] = tables[p].slowed(slower)
        world = replace(self.objectives, tables=tuple(tables))
        here = world.evaluate(self.chosen.replicas, start_loads=self.loads)
        found = [self._merit(here)] if self._fits(here) else []
        if slower > 1.0 and found and not self.by_gain:
            return found[0]  # what was cheapest and still does is cheapest still
        for replicas in self._looks(p, slower):
            seen = world.evaluate(replicas, start_loads=self.loads)
            if self._fits(seen):
                found.append(self._merit(seen))
                if slower > 1.0 and not self.by_gain:
                    break  # they come cheapest first
        return max(found, default=self._failing(here))

    def _looks(self, p: int, slower: float) -> list[IntArray]:
        """Returns the deployments to look at, best chance first.

        Where the pool is slower they have to do as fitted already, cheapest first. Where it is
        faster they have to use it and to be cheaper; those that miss least as fitted come first.
        """
        now = self.chosen.cost_usd_per_h
        if slower > 1.0:
            able = [c for c in self.candidates if c.violation <= TOLERANCE]
            able = able if self.by_gain else [c for c in able if c.cost_usd_per_h >= now]
            able.sort(key=lambda c: (-c.gain if self.by_gain else c.cost_usd_per_h, c.key))
        else:
            able = [c for c in self.candidates if c.replicas[p] > 0]
            able = able if self.by_gain else [c for c in able if c.cost_usd_per_h < now]
            able.sort(key=lambda c: (c.violation, -c.gain, c.key))
        return [c.replicas for c in able[: self.n_looks]]

    def _merit(self, e: Evaluation) -> float:
        return self.objectives.gain(e) if self.by_gain else -e.cost_usd_per_h

    def _failing(self, e: Evaluation) -> float:
        """Returns the merit of a plan that fails: what it misses is paid for at ten times (§3)."""
        return 0.0 if self.by_gain else -e.cost_usd_per_h * (1.0 + UNSERVED_FACTOR * e.violation)

    def _fits(self, e: Evaluation) -> bool:
        return e.violation <= TOLERANCE + max(self.chosen.violation, 0.0)


def to_measure(
    objectives: Objectives, chosen: Settled, explored: Explored, effort: Effort
) -> tuple[ToMeasure, ...]:
    """Returns the pools whose measurement is worth something, most first, in the unit of merit."""
    near = replace(objectives, tables=chosen.tables)
    loads = chosen.routing.loads
    now = near.evaluate(chosen.replicas, start_loads=loads)
    near_by = _candidates(near, chosen.replicas, explored)
    unit = _unit(objectives)
    by_gain, n_looks = unit != "usd_per_h", BUDGETS[effort].looks
    worlds = _Worlds(near, now, loads, tuple(near_by), by_gain, n_looks)
    least = LEAST_USD_PER_H if unit == "usd_per_h" else LEAST_RATIO
    found = []
    for p, table in enumerate(near.tables):
        if objectives.case.space.upper[p] == 0 or not table.has_latency:
            continue
        band = table.band_at("tpot", MID_LOAD_RATIO * table.max_load)
        worth = worlds.worth(p, band)
        if worth >= least:
            found.append(
                ToMeasure(
                    pool=objectives.case.space.pool_names[p],
                    worth=round(worth, 4),
                    unit=unit,
                    band_ratio=round(band, 4),
                    origin=worst_origin(*table.origin.values()),
                    concurrency=_in_flight(objectives, table, p, float(loads[p])),
                )
            )
    return tuple(sorted(found, key=lambda m: (-m.worth, m.pool)))


def _in_flight(objectives: Objectives, table: PoolTable, p: int, load: float) -> float | None:
    """Returns the requests in flight on a replica of pool p at the plan's load, with the own one.

    Where the plan does not use the pool, at the load that it would have if it did.
    """
    case = objectives.case
    model = case.models[p]
    if model.law is None:
        return None
    classes = ClassMoments.of([row[p] for row in case.workload.shapes])
    likely = load or (1.0 - case.question.headroom_ratio) * table.max_load
    mix = classes.mixed(classes.share(table.mix))
    running = model.chain(mix, np.array([likely]), case.arrival_cv).running[0]
    return round(float(running) + 1.0, 1)


def _candidates(objectives: Objectives, chosen: IntArray, explored: Explored) -> list[_Candidate]:
    """Returns the deployments that were found near the question, and those next to the plan."""
    space = objectives.case.space
    found: dict[tuple[int, ...], _Candidate] = {}
    for e in explored.evaluations:
        if e.violation <= NEAR_VIOLATION and not np.array_equal(e.replicas, chosen):
            made = _Candidate(e.replicas, e.cost_usd_per_h, objectives.gain(e), e.violation)
            before = found.get(made.key)
            if before is None or (made.violation, -made.gain) < (before.violation, -before.gain):
                found[made.key] = made
    for replicas in _neighbours(chosen):
        # More of everything does whatever the plan does; of other neighbours nothing is known.
        missing = 0.0 if (replicas >= chosen).all() else NEAR_VIOLATION
        made = _Candidate(replicas, float(space.cost_usd_per_h(replicas)), 0.0, missing)
        if made.key not in found and space.admits(replicas):
            found[made.key] = made
    return list(found.values())


def _neighbours(replicas: IntArray) -> Iterator[IntArray]:
    """Yields the deployments one replica more, one less, or one moved away."""
    one = np.eye(replicas.size, dtype=np.int64)
    for more in (*one, np.zeros_like(replicas)):
        for less in (*one, np.zeros_like(replicas)):
            moved = replicas + more - less
            if (moved >= 0).all() and moved.any() and not np.array_equal(moved, replicas):
                yield moved


def _unit(objectives: Objectives) -> WorthUnit:
    if objectives.maximises_rate:
        return "rate_factor"
    return "quality" if objectives.case.question.choose == "best_quality" else "usd_per_h"
