"""The way from one plan to another that never drops below the required capacity, if there is one.

Notation (M pools of both plans)
    n    replicas in service, (M,)              x     of the way from the old to the new routes
    u    max(old, new) replicas, (M,)           S     stock of GPUs, by kind
    s    slack: how far a state may go beyond what is allowed; 1 where it holds

Program
    u fits S       start u - old, shift to 1, stop the rest
    else           rounds until x = 1 and n = new:
                       x' = the farthest x that some n' >= n holds and fits S    (whole percents)
                       start n' - n, shift to x'
                       no such x': stop what neither x nor the new plan needs, then try again;
                       then what x does not need, though it is started again later
    no way out     the same with the smallest s that leads through: those steps do not hold;
                   and with the smallest S that does: this is what a safe way needs
    no such s      start what there is room for, stop what is in the way of the rest, start that,
                   and shift at last: never to replicas that are not there yet

Why rounds of the farthest x lose nothing where pools are judged one by one: loads are linear in x,
so replicas that carry x and x' carry all between; any way passes every x, and at x the fewest
replicas that hold are the best to go on from. With latency limits over several pools it is a
heuristic for the order, never for what is said of a step: that is judged by itself.

A stock is what the question of the new plan has, and what runs already: GPUs that were given back
are nobody's. Places on nodes and on shared GPUs are looked for (room.py), but not where they are
free: what runs stays where it is, and only the cluster knows where that is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from planner.errors import InputError
from planner.gate.way.judges import (
    ByFigures,
    ByNothing,
    Judge,
    Verdict,
    has_figures,
    routes_are_deployed,
    same_routes,
)
from planner.gate.way.members import Member, as_it_was
from planner.gate.way.room import GPU_ROUNDING
from planner.gate.way.steps import PeakGpus, PoolStep, Rent, Step, StepKind, Transition
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan

N_PARTS = 100
"""Traffic shifts by whole percents where it cannot shift at once."""

SLACKS = (1.0, 1.02, 1.05, 1.1, 1.2, 1.35, 1.5, 2.0, 3.0, 5.0, 10.0, float("inf"))

LOAD_ROUNDING = 1e-5
"""A replica is not asked for because of the last digits of a load."""

Counts = tuple[int, ...]


def transition_of(
    old: Plan, new: Plan, inputs: Inputs | None = None, old_inputs: Inputs | None = None
) -> Transition:
    """Returns the way from one plan to another, judged by what is there to judge it with.

    Args:
        old: what runs now.
        new: what will run.
        inputs: the question and the profiles of the new plan; without, capacity alone is judged,
            by the figures of the plans.
        old_inputs: those of the old plan; without, the new ones are taken for both.
    """
    notes = []
    if old.periods is not None or new.periods is not None:
        notes.append("from busiest period to busiest period")
    judge: Judge | None = None
    is_whole = routes_are_deployed(old) and routes_are_deployed(new)
    if inputs is not None and is_whole:
        try:
            judge = _by_tables(old, new, inputs, old_inputs)
        except (InputError, KeyError):
            notes.append("the inputs do not know all pools, classes or scores of both plans")
    if judge is None and is_whole and has_figures(old) and has_figures(new):
        judge = ByFigures(old, new)
    return transition(old, new, judge or ByNothing(old, new), notes)


def _by_tables(old: Plan, new: Plan, inputs: Inputs, old_inputs: Inputs | None) -> Judge:
    from planner.gate.way.tables import ByTables  # what they take is not needed without inputs
    from planner.gate.way.terms import sides_of

    return ByTables(sides_of(old, new, inputs, old_inputs))


def transition(old: Plan, new: Plan, judge: Judge, notes: Sequence[str] = ()) -> Transition:
    """Returns the way from one plan to another.

    Args:
        old: what runs now.
        new: what will run.
        judge: of the states on the way.
        notes: to be said beside those of the judge.
    """
    way = _Way(judge, old, new)
    first, last = way.verdict(0.0, way.old), way.verdict(1.0, way.new)
    moves = way.moves()
    needs = list(_for_good(way))
    if moves is None:
        needs += _needs(way, last)
        moves = _least_bad(way)
    steps = tuple(_steps(way, moves))
    # Without tables nobody looked at limits, floors and stock: that is no promise.
    is_safe = False if needs else True if judge.by == "tables" else None
    said = [*notes, *judge.notes, *_on_nodes(way, steps)]
    if first.problems and steps:
        said.append(f"the old plan itself does not hold: {'; '.join(first.problems)}")
    if steps and (old.cascades or new.cascades):
        said.append("cascades shift at once")
    peaks, rent = _peaks(way, steps), _rent(way, steps)
    return Transition(steps, peaks, judge.by, is_safe, tuple(needs), tuple(said), rent)


def _least_bad(way: _Way) -> list[_Move]:
    """Returns the way of the smallest slack that leads through; without any bound one does."""
    low, high, best = 1, len(SLACKS) - 1, way.moves(SLACKS[-1])
    assert best is not None  # all shifts at once, then everything stops that may, then the rest
    while low < high:
        middle = (low + high) // 2
        found = way.moves(SLACKS[middle])
        if found is None:
            low = middle + 1
        else:
            high, best = middle, found
    return best


@dataclass(frozen=True)
class _Move:
    """One step, by what is in service after it."""

    kind: StepKind
    before: Counts
    after: Counts
    x: float


@dataclass
class _Way:
    """What may be tried between two plans."""

    judge: Judge
    plan: Plan
    target: Plan
    extra: Mapping[str, float] = field(default_factory=dict)  # GPUs beyond the stock

    def __post_init__(self) -> None:
        self.members: tuple[Member, ...] = self.judge.members
        self.old: Counts = tuple(m.n_old for m in self.members)
        self.new: Counts = tuple(m.n_new for m in self.members)
        self._known: dict[tuple[float, Counts], Verdict] = {}
        self._missing: dict[Counts, dict[str, float]] = {}
        was = as_it_was(self.plan, self.members)
        self.shifts = not same_routes(was, self.target)
        whole = not self.shifts or bool(self.plan.cascades or self.target.cascades)
        self._parts = [1.0] if whole else [k / N_PARTS for k in range(1, N_PARTS + 1)]

    def with_extra(self, extra: Mapping[str, float]) -> _Way:
        """Returns the same with more GPUs in stock."""
        other = _Way(self.judge, self.plan, self.target, extra)
        other._known = self._known
        return other

    def verdict(self, x: float, n: Counts) -> Verdict:
        """Returns what is said of a state."""
        if (x, n) not in self._known:
            self._known[x, n] = self.judge.verdict(x, n)
        return self._known[x, n]

    def gpus(self, n: Sequence[int]) -> dict[str, float]:
        """Returns the GPUs of each kind that replicas hold: of a plan as many as it says itself.

        Without profiles nobody knows how what is shared is split between the plans.
        """
        for plan, own in ((self.plan, self.old), (self.target, self.new)):
            if tuple(n) == own:
                counts = dict.fromkeys(self.judge.room.taken(n), 0.0)
                for row in plan.deployment:
                    if row.gpu is not None:
                        counts[row.gpu] = round(counts.get(row.gpu, 0.0) + row.n_gpus, 6)
                return counts
        return self.judge.room.taken(n)

    def missing(self, n: Counts) -> dict[str, float]:
        """Returns the GPUs of each kind that replicas would hold and nobody has."""
        stock = self.judge.room.stock
        if stock is None or n in (self.old, self.new):
            return {}
        if n not in self._missing:
            before, after = self.gpus(self.old), self.gpus(self.new)
            there = {
                gpu: max(stock.get(gpu, 0.0), before[gpu], after[gpu]) + self.extra.get(gpu, 0.0)
                for gpu in before
            }
            self._missing[n] = self.judge.room.missing(n, there)
        return self._missing[n]

    def moves(self, slack: float = 1.0) -> list[_Move] | None:
        """Returns the steps of a way, no state beyond the slack where one within it does not do."""
        n, x, moves = self.old, 0.0, list[_Move]()
        most = tuple(map(max, self.old, self.new))
        ahead: list[tuple[StepKind, Counts, float]] = []
        if not self.missing(most) and self._may(1.0, most, slack):
            ahead = [("start", most, 0.0), ("shift", most, 1.0)]
        while ahead or (ahead := self._next(x, n, slack)):
            kind, after, to = ahead.pop(0)
            if after != n or to != x:
                moves.append(_Move(kind, n, after, to))
            n, x = after, to
        if x < 1.0 or n != self.new:
            return None
        return moves if self.shifts else [m for m in moves if m.kind != "shift"]

    def _next(self, x: float, n: Counts, slack: float) -> list[tuple[StepKind, Counts, float]]:
        """Returns the next steps of rounds, as (kind, replicas, x); none at the end, or stuck."""
        if x >= 1.0:
            more = self._room(n)
            if more != n:
                return [("start", more, x)]
        if x < 1.0 and math.isinf(slack):
            return self._at_a_loss(x, n)
        for each in dict.fromkeys((1.0, slack)):
            found = self._farthest(x, n, each)
            if found is not None:
                return [("start", found[1], x), ("shift", found[1], found[0])]
            fewer = self._fewest(x, n, tuple(map(min, n, self.new)), each)
            if fewer == n and each == 1.0 and x < 1.0:
                fewer = self._fewest(x, n, (0,) * len(n), each)
            if fewer != n:
                return [("stop", fewer, x)]
        return []

    def _at_a_loss(self, x: float, n: Counts) -> list[tuple[StepKind, Counts, float]]:
        """Returns the next steps where somebody gets traffic without a replica, come what may."""
        found = self._farthest(x, n, 1.0)
        if found is not None:
            return [("start", found[1], x), ("shift", found[1], found[0])]
        more = self._room(n)
        if more != n:
            return [("start", more, x)]
        fewer = self._fewest(x, n, tuple(map(min, n, self.new)), 1.0)
        if fewer == n:
            fewer = self._out_of_the_way(n)
        if fewer != n:
            return [("stop", fewer, x)]
        whole = tuple(map(max, n, self.new))
        return [("start", whole, x), ("shift", whole, 1.0)]

    def _out_of_the_way(self, n: Counts) -> Counts:
        """Returns the replicas without those of pools that keep a new one from starting.

        Pool by pool, those first that hold the fewest GPUs more than they will.
        """
        lacking = {m.gpu for m, k in zip(self.members, n, strict=True) if k < m.n_new}
        beyond = [(k - m.n_new) * m.gpus_per_replica for m, k in zip(self.members, n, strict=True)]
        fewer = n
        for i in sorted(range(len(n)), key=lambda i: beyond[i]):
            if beyond[i] > 0 and self.members[i].gpu in lacking and self._room(fewer) == fewer:
                fewer = tuple(self.new[i] if j == i else k for j, k in enumerate(fewer))
        return fewer

    def _may(self, x: float, n: Counts, slack: float) -> bool:
        found = self.verdict(x, n)
        return found.holds is not False or found.excess_ratio <= slack

    def _farthest(self, x: float, n: Counts, slack: float) -> tuple[float, Counts] | None:
        """Returns the farthest x that can be gone to, and the replicas for it; None: nowhere."""
        parts = [part for part in self._parts if part > x]
        best, low, high = None, 0, len(parts) - 1
        at = high  # all of the rest is tried first
        while low <= high:
            found = self._enough(parts[at], n, slack)
            if found is not None:
                best, low = (parts[at], found), at + 1
            else:
                high = at - 1
            at = (low + high) // 2
        return best

    def _enough(self, x: float, n: Counts, slack: float) -> Counts | None:
        """Returns the fewest replicas from n up that carry x and fit the stock; None: none do."""
        found = self._trimmed(x, tuple(map(max, n, self.new)), n, slack)
        return None if found is None or self.missing(found) else found

    def _fewest(self, x: float, n: Counts, least: Counts, slack: float) -> Counts:
        """Returns the replicas without those, down to the least, that x does not need."""
        return self._trimmed(x, n, least, slack) or n

    def _trimmed(self, x: float, most: Counts, least: Counts, slack: float) -> Counts | None:
        """Returns replicas that carry x, pool by pool as few as will do; None: not even most."""
        if not self._may(x, most, slack):
            return None
        low = self._taken(x, most, least, slack)
        if self._may(x, low, slack):
            return low
        now = list(most)
        for m, at_least in enumerate(low):
            few, many, tried = at_least, now[m], at_least  # mostly that many will do
            while few < many:
                now[m] = tried
                if self._may(x, tuple(now), slack):
                    many = tried
                else:
                    few = tried + 1
                tried = (few + many) // 2
            now[m] = many
        return tuple(now)

    def _taken(self, x: float, most: Counts, least: Counts, slack: float) -> Counts:
        """Returns the replicas that the loads alone take, at least the least and at most most."""
        loads = self.verdict(x, most).loads or (0.0,) * len(most)
        taken = (math.ceil(load / slack - LOAD_ROUNDING * (1.0 + load)) for load in loads)
        return tuple(
            min(max(k, few), many) for k, few, many in zip(taken, least, most, strict=True)
        )

    def _room(self, n: Counts) -> Counts:
        """Returns the replicas with as many of the new plan's started as there are GPUs for."""
        now = list(n)
        for m, wanted in enumerate(self.new):
            while now[m] < wanted:
                now[m] += 1
                if self.missing(tuple(now)):
                    now[m] -= 1
                    break
        return tuple(now)


def _steps(way: _Way, moves: Sequence[_Move]) -> Iterator[Step]:
    """Yields the steps with what they take and what holds after them."""
    for move in moves:
        found = way.verdict(move.x, move.after)
        most = tuple(map(max, move.before, move.after))
        rows = zip(way.members, move.before, move.after, strict=True)
        yield Step(
            move.kind,
            tuple(
                PoolStep(m.name, m.gpu, was, now, round(abs(now - was) * m.gpus_per_replica, 6))
                for m, was, now in rows
                if was != now
            ),
            move.x,
            way.gpus(most),
            found.holds,
            found.utilisation_ratio,
            found.latency_ratio,
            found.problems,
        )


def _peaks(way: _Way, steps: Sequence[Step]) -> tuple[PeakGpus, ...]:
    before, after = way.gpus(way.old), way.gpus(way.new)
    stock = way.judge.room.stock
    return tuple(
        PeakGpus(
            gpu,
            before[gpu],
            after[gpu],
            max(before[gpu], after[gpu], *(step.gpus[gpu] for step in steps)),
            None if stock is None else stock.get(gpu),
        )
        for gpu in sorted(before)
    )


def _rent(way: _Way, steps: Sequence[Step]) -> Rent | None:
    """Returns what the GPUs cost at most on the way; None where a price is not known."""
    old, new = (sum(d.usd_per_h for d in plan.deployment) for plan in (way.plan, way.target))
    paid = [way.judge.room.rent_usd_per_h(step.gpus) for step in steps]
    known = [usd for usd in paid if usd is not None]
    if len(known) < len(paid):
        return None
    return Rent(round(old, 4), round(new, 4), round(max([new, *known]), 4))


def _by_itself(last: Verdict) -> Iterator[str]:
    return (f"a new plan that holds by itself: {text}" for text in last.problems)


def _for_good(way: _Way) -> Iterator[str]:
    """Yields the GPUs that the new plan takes, and that neither the stock has nor the old plan."""
    stock, before = way.judge.room.stock, way.gpus(way.old)
    if stock is None:
        return
    for gpu, n_gpus in way.gpus(way.new).items():
        more = n_gpus - max(stock.get(gpu, 0.0), before[gpu])
        if more > GPU_ROUNDING:
            yield f"{more:g} more {gpu} for good: the new plan takes {n_gpus:g}"


def _on_nodes(way: _Way, steps: Sequence[Step]) -> Iterator[str]:
    """Yields what a count of GPUs says nothing of, where replicas of several of them start."""
    started = {row.pool for step in steps if step.kind == "start" for row in step.pools}
    most = max((m.gpus_per_replica for m in way.members if m.name in started), default=0.0)
    if most > 1.0:
        yield f"GPUs are counted: only the cluster knows whether {most:g} are free on one node"


def _needs(way: _Way, last: Verdict) -> Iterator[str]:
    """Yields what a way would take on which everything holds."""
    extra = way.missing(tuple(map(max, way.old, way.new)))
    if way.with_extra(extra).moves() is None:
        yield from _by_itself(last)
        if not last.problems:
            yield "other routes: no number of GPUs holds every promise on the way"
        return
    for gpu in sorted(extra):
        low, high = 0, math.ceil(extra[gpu] - GPU_ROUNDING)
        while low < high:
            middle = (low + high) // 2
            if way.with_extra({**extra, gpu: middle}).moves() is None:
                low = middle + 1
            else:
                high = middle
        extra[gpu] = high
        if high > 0:
            yield f"{high:g} more {gpu} for a while"
