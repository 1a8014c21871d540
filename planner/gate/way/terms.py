"""What the states between two plans are held against: both questions, on the pools of both plans.

Notation
    members   the pools of both plans, (M,); all of them may serve every class here, as who may
              serve whom was judged with the plans
    way       until the last shift: classes and rates of the old plan, with the token counts and
              scores of its question, and of the new one where that does not know a model
    end       from then on: all as the new question has it
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.case import Case, make_case
from planner.gate.way.members import Member, replaced_pools
from planner.offered import offered
from planner.ordered import unused_cascades
from planner.space import Offer
from planner.spec.arrays import FloatArray
from planner.spec.inputs import Inputs
from planner.spec.plan import Learned, Plan
from planner.spec.pool import Pool, Profile
from planner.spec.workload import ScopedLimit, Workload

NOT_OF_THE_ENGINE = frozenset(
    {"name", "scores_model_name", "price", "max_rps", "origin", "error_ratio", "source"}
    | {"kv_capacity_tokens"}  # what was measured of an engine, not told to it
)
"""Fields of a pool that say nothing of how its replicas are started."""


@dataclass(frozen=True)
class Terms:
    """What a state is held against."""

    case: Case
    allowed_ratio: float  # utilisation, headroom left out


@dataclass(frozen=True)
class Sides:
    """Two plans with what they were made of."""

    old: Plan
    new: Plan
    inputs: Inputs
    old_inputs: Inputs | None  # None: the new ones are taken for both

    @property
    def before(self) -> Inputs:
        """Returns what the old plan is judged by."""
        return self.inputs if self.old_inputs is None else self.old_inputs


def sides_of(old: Plan, new: Plan, inputs: Inputs, old_inputs: Inputs | None) -> Sides:
    """Returns two plans with their inputs; of plans with periods those of the busiest.

    Raises:
        InputError: a plan and its question have other periods.
    """
    if new.periods is not None or inputs.question.periods is not None:
        inputs, new = _busiest(inputs, new)
    if old_inputs is not None and (old.periods or old_inputs.question.periods):
        old_inputs, old = _busiest(old_inputs, old)
    return Sides(old, new, inputs, old_inputs)


def _busiest(inputs: Inputs, plan: Plan) -> tuple[Inputs, Plan]:
    from planner.periods.single import single_period  # other plans need none of it

    inputs, plan, _ = single_period(inputs, plan)
    return inputs, plan


# ---- Pools ---------------------------------------------------------------------------------------


def replaced_by_profiles(sides: Sides) -> frozenset[str]:
    """Returns the pools of both plans whose replicas must be started anew.

    By what the profiles say where they are those that the plans were made with; else by the plans.

    Raises:
        KeyError: a pool has no profile.
    """
    by_plans = replaced_pools(sides.old, sides.new)
    if sides.old_inputs is None:
        return by_plans
    then, now = (i.profiles.by_name() for i in (sides.old_inputs, sides.inputs))
    both = {d.pool for d in sides.old.deployment} & {d.pool for d in sides.new.deployment}
    others = {p for p in both if _engine(then[p].pool) != _engine(now[p].pool)}
    return frozenset(others | {p for p in by_plans if not _is_own_file(p, sides)})


def _is_own_file(pool: str, sides: Sides) -> bool:
    """Returns whether pool.yaml as it was read for the old plan is what that plan was made with."""
    file = f"profiles/{pool}/pool.yaml"
    return sides.old.provenance.inputs.get(file) in (None, sides.before.hashes.get(file))


def _engine(pool: Pool) -> dict[str, object]:
    """Returns what the replicas of a pool are started with; nothing of a hosted one."""
    return {} if pool.gpu is None else pool.model_dump(exclude=set(NOT_OF_THE_ENGINE))


def profiles_of(members: Sequence[Member], sides: Sides) -> tuple[Profile, ...]:
    """Returns the profile of each member under its name, (M,).

    Raises:
        KeyError: a pool has no profile.
    """
    old, new = (i.profiles.by_name() for i in (sides.before, sides.inputs))
    found = []
    for member in members:
        known = {**old, **new} if member.n_new else {**new, **old}
        own = known[member.pool]
        pool = own.pool.model_copy(update={"name": member.name})
        found.append(replace(own, pool=pool))
    return tuple(found)


def stock_of(members: Sequence[Member], sides: Sides) -> dict[str, float]:
    """Returns the GPUs of each kind that there are: in the new question, who knows it last."""
    question = sides.inputs.question
    kinds = sorted({m.gpu for m in members if m.gpu is not None})
    if question.stock is not None:
        return {gpu: float(question.stock.get(gpu, 0)) for gpu in kinds}
    counted = [(entry.gpu, entry.n_counted) for entry in question.supply]
    return {gpu: float(sum(n for g, n in counted if g == gpu)) for gpu in kinds}


def offers_of(members: Sequence[Member], sides: Sides) -> dict[str, list[Offer]]:
    """Returns what GPUs of each kind cost, cheapest first: of the new question, else the old."""
    listed = {g.name: g.usd_per_h for i in (sides.before, sides.inputs) for g in i.profiles.gpus}
    found: dict[str, list[Offer]] = {}
    for gpu in {m.gpu for m in members if m.gpu is not None}:
        for question in (sides.before.question, sides.inputs.question):  # the later one counts
            usd = question.prices.get(gpu, listed.get(gpu))
            supply = [
                Offer(float(s.n_counted), s.usd_per_h) for s in question.supply if s.gpu == gpu
            ]
            if supply:
                found[gpu] = sorted(supply, key=lambda offer: offer.usd_per_h)
            elif gpu in (question.stock or {}) and usd is not None:
                found[gpu] = [Offer(math.inf, usd)]
    return found


def _enough(members: Sequence[Member], sides: Sides) -> dict[str, int]:
    """Returns GPUs of each kind for all that either plan runs, whatever the stock."""
    enough = stock_of(members, sides)
    for m in members:
        if m.gpu is not None:
            enough[m.gpu] += max(m.n_old, m.n_new) * m.gpus_per_replica
    return {gpu: math.ceil(n) for gpu, n in enough.items()}


def _learned(sides: Sides, members: Sequence[Member]) -> tuple[Learned, ...]:
    """Returns what simulations of either plan have taught, under the members' names."""
    found = list(sides.new.learned)
    taught = {entry.pool for entry in found}
    for member in members:
        if member.n_old and (member.name != member.pool or member.pool not in taught):
            own = [entry for entry in sides.old.learned if entry.pool == member.pool]
            found += [entry.model_copy(update={"pool": member.name}) for entry in own]
    return tuple(found)


# ---- Cases ---------------------------------------------------------------------------------------


def terms_of(members: Sequence[Member], sides: Sides, was: Plan) -> tuple[Terms, Terms]:
    """Returns what states are held against on the way, and at its end.

    Args:
        members: the pools of both plans, (M,).
        sides: both plans.
        was: the old one, its pools called as the members are.

    Raises:
        InputError: a pool cannot be fitted.
        KeyError: a pool of a plan has no profile, or a class of it no question.
    """
    learned = _learned(sides, members)
    end = _case(open_to(members, sides, sides.inputs), sides.new, learned, None)
    way = _case(open_to(members, sides, sides.before), was, learned, end)
    ended = Terms(end, 1.0 - sides.inputs.question.headroom_ratio)
    return _on_the_way(way, ended, sides), ended


def open_to(members: Sequence[Member], sides: Sides, inputs: Inputs) -> Inputs:
    """Returns inputs with the members as candidates, and nothing that would refuse any of them.

    Raises:
        KeyError: a pool has no profile.
    """
    classes = tuple(
        c.model_copy(update={"pools": None, "not_pools": ()}) for c in inputs.question.classes
    )
    update: dict[str, object] = {
        "classes": classes,
        "pools": None,
        "replicas": {},
        "supply": (),
        "stock": _enough(members, sides),
        "budget_usd_per_h": None,
    }
    files = replace(inputs.files, question=inputs.question.model_copy(update=update))
    return replace(inputs, files=files, candidates=profiles_of(members, sides))


def _case(inputs: Inputs, plan: Plan, learned: tuple[Learned, ...], fitted: Case | None) -> Case:
    """Returns the case of a plan at the rates it was made for, with its own cascades alone."""
    case = make_case(inputs, None if fitted is None else fitted.models, learned)
    if plan.cascades:
        case = make_case(inputs, case.models, learned, offered(inputs, case))
        case = replace(case, workload=case.workload.without(unused_cascades(case, plan)))
    rates = plan.predicted.class_rps
    missing = sorted(rates.keys() - set(case.workload.class_names))
    if missing:
        raise KeyError(missing[0])
    workload = _of_classes(case.workload, [n for n in case.workload.class_names if n in rates])
    known = workload.rate_rps[: workload.n_classes]
    factor = np.array([rates[n] for n in workload.class_names]) / np.maximum(known, 1e-300)
    by_row = factor[workload.row_class]
    return replace(
        case,
        workload=replace(
            workload,
            rate_rps=workload.rate_rps * by_row,
            mean_rate_rps=workload.mean_rate_rps * by_row,
        ),
    )


def _of_classes(workload: Workload, names: Sequence[str]) -> Workload:
    """Returns a workload with some of its classes."""
    if len(names) == workload.n_classes:
        return workload
    if workload.cascades:
        raise KeyError("classes cannot be left out beside cascades")
    rows = [workload.class_names.index(name) for name in names]
    return replace(
        workload,
        class_names=tuple(names),
        rate_rps=workload.rate_rps[rows],
        mean_rate_rps=workload.mean_rate_rps[rows],
        quality=workload.quality[rows],
        allowed=workload.allowed[rows],
        shapes=tuple(workload.shapes[r] for r in rows),
        limits=tuple(s for s in workload.limits if s.class_name in (None, *names)),
        class_quality_at_least=workload.class_quality_at_least[rows],
        priority=workload.priority[rows],
        request_usd=workload.request_usd[rows],
    )


# ---- Promises ------------------------------------------------------------------------------------


def _on_the_way(way: Case, end: Terms, sides: Sides) -> Terms:
    """Returns what states before the last shift are held against: the looser of both promises.

    What the old plan's question said is known of its file alone, where that question is not here.
    """
    workload, after = filled(way.workload, end.case.workload), end.case.workload
    old, is_own = sides.old, sides.old_inputs is not None
    predicted = old.predicted
    total = _looser_floor(workload.quality_at_least, after.quality_at_least)
    floors = _floors(workload, after)
    used = max((f.utilisation_ratio for f in predicted.pools), default=0.0)
    own_ratio = 1.0 - way.question.headroom_ratio
    if not is_own:
        total = None if total is None else min(total, predicted.quality)
        reached = [predicted.class_quality.get(name, 0.0) for name in workload.class_names]
        floors = np.fmin(floors, np.where(np.isnan(floors), np.nan, reached))
        own_ratio = min(max(own_ratio, used), 1.0)
    workload = replace(
        workload,
        limits=tuple(_looser_limits(old, after.limits, workload.class_names)),
        quality_at_least=total,
        class_quality_at_least=floors,
    )
    return Terms(replace(way, workload=workload), max(end.allowed_ratio, own_ratio))


def _looser_limits(
    old: Plan, now: Sequence[ScopedLimit], class_names: Sequence[str]
) -> list[ScopedLimit]:
    """Returns the limits that both plans have, each at the looser of its two values."""
    then = {f.label: f.at_most_ms for f in old.predicted.latency if f.at_most_ms is not None}
    found = []
    for scoped in now:
        most = then.get(scoped.label)
        if most is not None and scoped.class_name in (None, *class_names):
            at_most = max(most, scoped.limit.at_most_ms)
            limit = scoped.limit.model_copy(update={"at_most_ms": at_most})
            found.append(replace(scoped, limit=limit))
    return found


def _looser_floor(then: float | None, now: float | None) -> float | None:
    return None if then is None or now is None else min(then, now)


def _floors(way: Workload, end: Workload) -> FloatArray:
    """Returns the looser floors of the classes on the way, (C,); NaN where one plan has none."""
    now = dict(zip(end.class_names, end.class_quality_at_least.tolist(), strict=True))
    then = zip(way.class_names, way.class_quality_at_least.tolist(), strict=True)
    return np.array([np.minimum(least, now.get(name, np.nan)) for name, least in then])


def filled(way: Workload, end: Workload) -> Workload:
    """Returns a workload that knows of models what another one does, where it does not itself."""
    quality, allowed, usd = way.quality.copy(), way.allowed.copy(), way.request_usd.copy()
    shapes = [list(row) for row in way.shapes]
    for c, name in enumerate(way.class_names):
        if name not in end.class_names:
            continue
        other = end.class_names.index(name)
        for m in np.flatnonzero(~allowed[c] & end.allowed[other]).tolist():
            quality[c, m], usd[c, m] = end.quality[other, m], end.request_usd[other, m]
            allowed[c, m], shapes[c][m] = True, end.shapes[other][m]
    rows = tuple(tuple(row) for row in shapes)
    return replace(way, quality=quality, allowed=allowed, request_usd=usd, shapes=rows)
