"""Judging the states between two plans as the plans themselves are: by the fitted tables.

A state is how much of the traffic is shifted, x, and the replicas in service (judges.py). Until
the last shift it is held against the looser limits and floors of both, with the traffic of the old
one; from then on against all that the new one promises, with its traffic (terms.py).

Program
    tables at the mix that x makes on each pool, then the score     once per x, once per state
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.case import Case
from planner.gate.way.judges import Verdict, traffic_notes
from planner.gate.way.members import as_it_was, members_of
from planner.gate.way.room import Room
from planner.gate.way.steps import JudgedBy
from planner.gate.way.terms import (
    Sides,
    Terms,
    offers_of,
    profiles_of,
    replaced_by_profiles,
    stock_of,
    terms_of,
)
from planner.ordered import cascade_of, shares_of
from planner.score import Score, score
from planner.spec.arrays import FloatArray
from planner.spec.plan import Plan
from planner.spec.question import LatencyObjective
from planner.spec.table import PoolTable
from planner.spec.workload import ScopedLimit

MIX_DECIMALS = 9


class ByTables:
    """Judges states by the fitted tables of the pools of both plans."""

    by: JudgedBy = "tables"

    def __init__(self, sides: Sides) -> None:
        """Takes two plans without periods.

        Raises:
            InputError: a pool cannot be fitted.
            KeyError: a pool of a plan has no profile, or a class of it no question.
        """
        self.members = members_of(sides.old, sides.new, replaced_by_profiles(sides))
        profiles = profiles_of(self.members, sides)
        stock, offers = stock_of(self.members, sides), offers_of(self.members, sides)
        self.room = Room.of(self.members, profiles, stock, offers)
        self._was, self._new = as_it_was(sides.old, self.members), sides.new
        self._way, self._end = terms_of(self.members, sides, self._was)
        _refuse_unknown(self._way.case, self._was)
        _refuse_unknown(self._end.case, self._new)
        self._at: dict[float, tuple[FloatArray, tuple[PoolTable, ...]]] = {}
        self._made: dict[tuple[bool, int, bytes], PoolTable] = {}  # by case, pool and mix
        self.notes = tuple(_notes(sides, self._way, self._end))

    def verdict(self, shifted_ratio: float, replicas: Sequence[int]) -> Verdict:
        """Returns whether capacity, headroom, limits and floors hold in a state."""
        terms = self._end if shifted_ratio >= 1.0 else self._way
        workload = terms.case.workload
        if shifted_ratio not in self._at:
            shares = self._shares_at(shifted_ratio)
            mixes = (workload.rate_rps[:, None] * shares).T
            self._at[shifted_ratio] = shares, self._tables(terms.case, mixes)
        shares, tables = self._at[shifted_ratio]
        found = score(
            workload,
            tables,
            np.array(replicas, dtype=np.int64),
            shares,
            1.0 - terms.allowed_ratio,
            terms.case.question.latency_objective,
        )
        used = float(found.utilisation.max(initial=0.0))
        latency = found.latency_ratio
        loads = np.nan_to_num(found.utilisation, posinf=0.0) * replicas / terms.allowed_ratio
        return Verdict(
            not found.problems,
            _excess(found, terms),
            used if np.isfinite(used) else None,
            latency if latency is not None and np.isfinite(latency) else None,
            found.problems,
            tuple(loads.tolist()),
        )

    def _tables(self, case: Case, mixes: FloatArray) -> tuple[PoolTable, ...]:
        """Returns the tables of the pools at mixes (M, R), each made once: that takes the time.

        A pool that is started anew under its name has the mix of the old one, whatever part of it.
        """
        whole = mixes.sum(axis=1, keepdims=True)
        parts = np.round(mixes / np.where(whole > 0, whole, 1.0), MIX_DECIMALS)
        keys = [(case is self._end.case, p, row.tobytes()) for p, row in enumerate(parts)]
        new = np.array([key not in self._made for key in keys])
        if not self._made or (new & (whole[:, 0] <= 0)).any():  # who is idle has the mix of all
            made = case.tables(mixes)
        else:
            some = next(iter(self._made.values()))  # in place of those that are made now
            known = [self._made.get(key, some) for key in keys]
            made = case.tables(np.where(new[:, None], mixes, 0.0), unused=known)
        self._made.update(zip(keys, made, strict=True))
        return made

    @property
    def objective(self) -> LatencyObjective:
        """Returns the latency that the new question wants least of."""
        return self._end.case.question.latency_objective

    def limits(self, shifted_ratio: float) -> tuple[ScopedLimit, ...]:
        """Returns the limits that hold with so much of the traffic shifted."""
        terms = self._end if shifted_ratio >= 1.0 else self._way
        return terms.case.workload.limits

    def _shares_at(self, x: float) -> FloatArray:
        """Returns the shares (R, M) of a state."""
        if x >= 1.0:
            return shares_of(self._end.case, self._new)
        way = self._way.case
        old = shares_of(way, self._was)
        if x <= 0.0:
            return old
        known = set(way.workload.class_names)
        routes = tuple(r for r in self._new.routing if r.class_name in known)
        new = shares_of(way, self._new.model_copy(update={"routing": routes}))
        goes_on = new.sum(axis=1, keepdims=True) > 0  # a class that the new plan has, too
        return np.asarray(np.where(goes_on, (1.0 - x) * old + x * new, old))


def _refuse_unknown(case: Case, plan: Plan) -> None:
    """Raises KeyError where a plan routes a class, or has a cascade, that its question has not."""
    for route in plan.routing:
        if route.class_name not in case.workload.class_names:
            raise KeyError(route.class_name)
    for cascade in plan.cascades:
        if cascade.class_name not in case.workload.class_names or cascade_of(case, cascade) is None:
            raise KeyError(cascade.class_name)


def _excess(found: Score, terms: Terms) -> float:
    """Returns how far beyond what is allowed a state is, at most 1 where it holds."""
    used = float(found.utilisation.max(initial=0.0)) / terms.allowed_ratio
    if not found.problems:
        return min(1.0, used)
    workload = terms.case.workload
    short = np.nan_to_num(workload.class_quality_at_least - found.class_quality)
    floor = workload.quality_at_least
    lacking = max(float(short.max(initial=0.0)), 0.0 if floor is None else floor - found.quality)
    worst = max(used, found.latency_ratio or 0.0, 1.0 + lacking)
    return worst if worst > 1.0 else 1.0 + 1e-6


def _notes(sides: Sides, way: Terms, end: Terms) -> list[str]:
    """Returns what to know of the judgement."""
    notes = [*traffic_notes(sides.old, sides.new)]
    before, after = way.case.workload, end.case.workload
    if (before.limits, before.quality_at_least) != (after.limits, after.quality_at_least) or (
        way.allowed_ratio != end.allowed_ratio
    ):
        notes.append("until the last shift held to the looser limits and floors of both plans")
    if sides.old_inputs is None:
        notes.append("the old plan was judged by the inputs of the new one")
    questions = [inputs.question for inputs in (sides.before, sides.inputs)]
    if any(question.robust is not None for question in questions):
        notes.append("what the plans survive (robust) was not asked of the steps on the way")
    if any(c.cached_input_ratio for question in questions for c in question.classes):
        notes.append("replicas that start have empty caches: at first they are slower than judged")
    return notes
