"""Who judges the states between two plans: by the figures of the plans alone, or not at all.

Notation (C classes, M members: the pools of both plans)
    x      of the way from the old to the new routes, 0 to 1
    s_cm   share of class c on member m: (1 - x) old + x new; of a class that only one plan has, as
           it has it
    l_m    load in replicas of utilisation 1: sum_c rate_c ((1 - x) s_cm w_m + x s'_cm w'_m)
    w_m    utilisation n / rate of the plan: work of a mean request, by the plan's own figures
    u_m    l_m / n_m

A state is x and the replicas in service. Until x = 1 the traffic is that of the old plan, from then
on that of the new one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from planner.gate.way.members import Member, as_it_was, members_of, replaced_by_hash, replaced_pools
from planner.gate.way.room import Room
from planner.gate.way.steps import JudgedBy
from planner.score import MET_TOLERANCE
from planner.space import Offer
from planner.spec.plan import Plan, PoolFigure


@dataclass(frozen=True)
class Verdict:
    """What is said of a state."""

    holds: bool | None  # None: nobody can say
    excess_ratio: float  # at most 1 where it holds; how far beyond what is allowed, else
    utilisation_ratio: float | None  # of the fullest pool
    latency_ratio: float | None
    problems: tuple[str, ...]
    loads: tuple[float, ...] = ()  # replicas that are as full as is allowed, (M,); (): not known


class Judge(Protocol):
    """Who says what holds on the way."""

    @property
    def by(self) -> JudgedBy:
        """Returns what the judgement rests on."""

    @property
    def members(self) -> tuple[Member, ...]:
        """Returns the pools of both plans, (M,)."""

    @property
    def room(self) -> Room:
        """Returns the GPUs that there are for it."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Returns what to know of its judgements, in plain words."""

    def verdict(self, shifted_ratio: float, replicas: Sequence[int]) -> Verdict:
        """Returns what holds with so much of the traffic shifted and these replicas, (M,)."""


def same_routes(old: Plan, new: Plan) -> bool:
    """Returns whether two plans, called as the members are, send everybody to the same places."""
    return _routes(old) == _routes(new) and sorted(map(str, old.cascades)) == sorted(
        map(str, new.cascades)
    )


def _routes(plan: Plan) -> dict[tuple[str, str], float]:
    return {(r.class_name, r.pool): round(r.share, 6) for r in plan.routing if r.share > 0}


# ---- Without profiles ----------------------------------------------------------------------------


def _offers(old: Plan, new: Plan) -> dict[str, list[Offer]]:
    """Returns what a GPU of each kind costs on average: in the new plan, else in the old one."""
    found = {}
    for plan in (old, new):
        for gpu in {d.gpu for d in plan.deployment if d.gpu is not None}:
            rows = [d for d in plan.deployment if d.gpu == gpu]
            n_gpus = sum(d.n_gpus for d in rows)
            if n_gpus > 0:
                found[gpu] = [Offer(math.inf, sum(d.usd_per_h for d in rows) / n_gpus)]
    return found


class ByNothing:
    """Knows who is sent traffic, and no figure of anybody."""

    by: JudgedBy = "nothing"

    def __init__(self, old: Plan, new: Plan, stock: Mapping[str, float] | None = None) -> None:
        self.members = members_of(old, new, replaced_pools(old, new))
        self.room = Room(self.members, stock, offers=_offers(old, new))
        self.notes = tuple(_file_notes(old, new))
        self._sent = [_pools_sent_to(as_it_was(old, self.members)), _pools_sent_to(new)]

    def verdict(self, shifted_ratio: float, replicas: Sequence[int]) -> Verdict:
        """Returns that nothing is known, or who is sent traffic without a replica."""
        old, new = self._sent
        sent = old if shifted_ratio <= 0 else new if shifted_ratio >= 1 else old | new
        lost = _without_replicas(self.members, replicas, sent)
        return Verdict(False if lost else None, float("inf") if lost else 0.0, None, None, lost)


class ByFigures:
    """Judges the capacity of pools by the figures of the two plans alone."""

    by: JudgedBy = "figures"

    def __init__(
        self,
        old: Plan,
        new: Plan,
        stock: Mapping[str, float] | None = None,
        allowed_ratio: float = 1.0,
    ) -> None:
        """Takes both plans, called as they are.

        Args:
            old: what runs now.
            new: what will run.
            stock: how many GPUs of each kind there are.
            allowed_ratio: utilisation that is allowed, headroom left out.
        """
        self.members = members_of(old, new, replaced_pools(old, new))
        self.room = Room(self.members, stock, offers=_offers(old, new))
        self._allowed = allowed_ratio
        self._known: dict[float, list[float]] = {}
        capacity = "capacity alone was judged, by the figures of both plans"
        self.notes = (capacity, *traffic_notes(old, new), *_file_notes(old, new))
        was = as_it_was(old, self.members)
        self._sides = [_Side.of(old, was), _Side.of(new, new)]

    def verdict(self, shifted_ratio: float, replicas: Sequence[int]) -> Verdict:
        """Returns whether the loads leave every pool within its capacity."""
        loads = self._loads(shifted_ratio)
        sent = {m.name for m, load in zip(self.members, loads, strict=True) if load > 0}
        problems = list(_without_replicas(self.members, replicas, sent))
        used = [load / n for load, n in zip(loads, replicas, strict=True) if n]
        for member, load, n in zip(self.members, loads, replicas, strict=True):
            if n and load / n > self._allowed * (1.0 + MET_TOLERANCE):
                problems.append(
                    f"{member.name} runs at {load / n:.1%} of its capacity, "
                    f"at most {self._allowed:.1%} is allowed"
                )
        fullest = max(used, default=0.0)
        excess = float("inf") if sent - _running(self.members, replicas) else fullest
        full = tuple(load / self._allowed for load in loads)
        return Verdict(not problems, excess / self._allowed, fullest, None, tuple(problems), full)

    def _loads(self, x: float) -> list[float]:
        """Returns the load of each member in replicas that are full, (M,)."""
        if x not in self._known:
            self._known[x] = self._mixed(x)
        return self._known[x]

    def _mixed(self, x: float) -> list[float]:
        old, new = self._sides
        if x in (0.0, 1.0):  # as planned, cascades among it
            return [(new if x else old).load.get(m.name, 0.0) for m in self.members]
        # Only the old plan's traffic comes on the way.
        loads = dict.fromkeys((m.name for m in self.members), 0.0)
        for side, part in ((old, 1.0 - x), (new, x)):
            for (class_name, name), share in side.shares.items():
                only = class_name not in (new if side is old else old).classes
                rate = old.class_rps.get(class_name, 0.0)
                loads[name] += rate * share * (1.0 if only else part) * side.work.get(name, 0.0)
        return [loads[m.name] for m in self.members]


@dataclass(frozen=True)
class _Side:
    """One of two plans by its figures."""

    class_rps: Mapping[str, float]
    classes: frozenset[str]
    shares: Mapping[tuple[str, str], float]
    load: Mapping[str, float]  # of a member: replicas that are full
    work: Mapping[str, float]  # of a member: full replicas per request/s

    @staticmethod
    def of(plan: Plan, named: Plan) -> _Side:
        """Returns a plan's figures under the members' names."""
        figures = figures_of(plan)
        rows = list(zip(plan.deployment, named.deployment, strict=True))
        load = {now.pool: figures[row.pool].utilisation_ratio * row.replicas for row, now in rows}
        rate = {now.pool: figures[row.pool].rate_rps for row, now in rows}
        return _Side(
            plan.predicted.class_rps,
            frozenset(r.class_name for r in plan.routing),
            _routes(named),
            load,
            {name: load[name] / rate[name] for name in load if rate[name] > 0},
        )


def traffic_notes(old: Plan, new: Plan) -> Iterator[str]:
    """Yields whose traffic a way was judged with, where the plans are for different traffic."""
    then, now = old.predicted.class_rps, new.predicted.class_rps
    if then == now:
        return
    falls = any(rate < then.get(name, 0.0) for name, rate in now.items())
    falls = falls or sum(now.values()) < sum(then.values())
    when = ": neither shift all nor stop anything before it has fallen" if falls else ""
    yield f"judged with the old plan's traffic until the last shift, then with the new one's{when}"


def _file_notes(old: Plan, new: Plan) -> Iterator[str]:
    """Yields whose replicas are started anew for nothing but another hash of their file."""
    names = sorted(replaced_by_hash(old, new))
    if names:
        yield f"pool.yaml differs, in whatever, taken for another engine: {', '.join(names)}"


def figures_of(plan: Plan) -> dict[str, PoolFigure]:
    """Returns what is predicted of each pool, by name."""
    return {figure.pool: figure for figure in plan.predicted.pools}


def has_figures(plan: Plan) -> bool:
    """Returns whether something is predicted of every pool that a plan deploys."""
    return {d.pool for d in plan.deployment} <= figures_of(plan).keys()


def routes_are_deployed(plan: Plan) -> bool:
    """Returns whether a plan sends requests to pools alone that it deploys."""
    return _pools_sent_to(plan) <= {d.pool for d in plan.deployment}


def _pools_sent_to(plan: Plan) -> set[str]:
    stages = [pools for c in plan.cascades for pools in (c.first, c.second)]
    return {r.pool for r in plan.routing if r.share > 0} | {e.pool for s in stages for e in s}


def _running(members: Sequence[Member], replicas: Sequence[int]) -> set[str]:
    return {m.name for m, n in zip(members, replicas, strict=True) if n}


def _without_replicas(
    members: Sequence[Member], replicas: Sequence[int], sent: AbstractSet[str]
) -> tuple[str, ...]:
    missing = sorted(sent - _running(members, replicas))
    return tuple(f"{name} gets traffic but has no replica" for name in missing)
