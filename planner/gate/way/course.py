"""When what is done of a change: the steps along the clock, the routes between two plans.

Notation
    T_k     begin of step k, in s: fill_s + k step_s
    start   its replicas serve from T_k + step_s on: so long is their cold start
    shift   requests go by the mixed routes from T_k on
    stop    its replicas take nothing from T_k on, and answer what they have
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.gate.way.members import Member, as_it_was
from planner.gate.way.steps import Transition
from planner.gate.way.terms import Sides
from planner.routing.rounding import round_shares
from planner.simulate.phases import Phase
from planner.spec.inputs import QuestionFiles
from planner.spec.plan import Plan, Routes, WeightedPool
from planner.spec.question import Bursty, Poisson

NO_PLAN = "0" * 64
"""In place of the hash of a plan: routes on the way are of none."""


@dataclass(frozen=True)
class Schedule:
    """The steps of a change along the clock."""

    way: Transition
    step_s: float
    fill_s: float  # before the first step, and after the last one

    @property
    def begins_s(self) -> tuple[float, ...]:
        """Returns when each step begins, and when the last one is over, in s."""
        return tuple(self.fill_s + k * self.step_s for k in range(len(self.way.steps) + 1))

    @property
    def end_s(self) -> float:
        """Returns when no more requests arrive, in s."""
        return self.begins_s[-1] + self.fill_s

    @property
    def last_shift_s(self) -> float:
        """Returns when the last shift begins, in s; without one, when the last start is over."""
        begun = list(zip(self.begins_s, self.begins_s[1:], self.way.steps, strict=False))
        shifts = [at for at, _, step in begun if step.kind == "shift"]
        starts = [over for _, over, step in begun if step.kind == "start"]
        return max(shifts or starts or [self.fill_s])


def at_rates(files: QuestionFiles, plan: Plan) -> QuestionFiles:
    """Returns the question with the rates that a plan was made for, all the time."""
    question, rates = files.question, plan.predicted.class_rps
    steady = question.arrivals if isinstance(question.arrivals, Bursty) else Poisson()
    classes = tuple(
        c.model_copy(update={"rate_rps": rates[c.name]})
        for c in question.classes
        if rates.get(c.name, 0.0) > 0
    )
    update = {"arrivals": steady.model_copy(update={"rate_factor": 1.0}), "classes": classes}
    return replace(files, question=question.model_copy(update=update), inferred=None)


def phases_of(sides: Sides, members: Sequence[Member], schedule: Schedule) -> tuple[Phase, ...]:
    """Returns what is in service from when on."""
    n = {m.name: m.n_old for m in members}
    old = as_it_was(sides.old, members)
    found = [Phase(0.0, tuple(n.values()), mixed_routes(old, sides.new, 0.0))]
    for at_s, step in zip(schedule.begins_s, schedule.way.steps, strict=False):
        n |= {row.pool: row.n_after for row in step.pools}
        routes = found[-1].routes
        if step.kind == "shift":
            routes = mixed_routes(old, sides.new, step.shifted_ratio)
        ready_s = at_s + schedule.step_s if step.kind == "start" else at_s
        found = [phase for phase in found if phase.from_s < ready_s]  # one that this one replaces
        found.append(Phase(ready_s, tuple(n.values()), routes))
    return tuple(found)


def mixed_routes(old: Plan, new: Plan, shifted_ratio: float) -> Routes:
    """Returns the routes so far on the way from one plan to another, both called alike.

    A class that only one of them has goes as that one says.
    """
    shares: list[dict[str, dict[str, float]]] = [{}, {}]
    for plan, by_class in zip((old, new), shares, strict=True):
        for route in plan.routing:
            by_class.setdefault(route.class_name, {})[route.pool] = route.share
    classes = {}
    for name in dict.fromkeys((*shares[0], *shares[1])):
        then, now = (by_class.get(name) for by_class in shares)
        x = 1.0 if then is None else 0.0 if now is None else shifted_ratio
        pools = dict.fromkeys((*(then or {}), *(now or {})))
        mix = [(1.0 - x) * (then or {}).get(p, 0.0) + x * (now or {}).get(p, 0.0) for p in pools]
        rounded = round_shares(np.array([mix]))[0].tolist()
        classes[name] = tuple(
            WeightedPool.model_construct(pool=p, share=s)
            for p, s in zip(pools, rounded, strict=True)
            if s > 0
        )
    everyone = tuple(sorted({d.pool for plan in (new, old) for d in plan.deployment}))
    # Not validated: pools that are replaced under their name are called as no file may call them.
    return Routes.model_construct(
        classes=classes,
        load_prices={},
        fallback=dict.fromkeys(classes, everyone),
        plan_hash=NO_PLAN,
    )
