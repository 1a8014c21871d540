"""When nothing is acceptable: which promises conflict, and how far each of them has to give.

    conflict   promises that cannot all be kept, proved (conflict.py)
    way out    each of them relaxed alone, the others kept: the budget, a limit, a floor, the stock,
               a replica range; and less traffic

Where the conflict is proved, only its members are asked: to relax another promise alone is no way
out. How far a limit or a stock has to give at least is proved by bisection; the plan that then
works is found and settled like any other, and what lies between the two is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from planner.errors import Infeasible
from planner.explore import Explored, seeds_of
from planner.objectives import Objectives
from planner.reasons.asked import Asked, Care, in_words
from planner.reasons.conflict import Promise, find_conflict, is_impossible, promises_of, stock_of
from planner.reasons.reach import Reach, out_of_reach, reach_of
from planner.reasons.worth import loosened, one_more
from planner.score import duration
from planner.settle import Settled, settle
from planner.space import Space
from planner.spec.arrays import IntArray
from planner.spec.inputs import Inputs
from planner.spec.question import Question
from planner.spec.workload import ScopedLimit

LOOSEST_FACTOR = 10.0
"""Limits are loosened by at most this, from where the fastest pools would keep them: what needs
more is hopeless for another reason."""

BISECTIONS = 5  # of what is proved
TIGHTENINGS = 3  # of what was found
MOST_SINGLE_LIMITS = 6
CARE = Care(n_evaluations=12, n_tries=1, n_rounds=1)
FURTHER_RATIOS = (1.1, 1.4, 2.5)  # beyond what is proved to be too little
MOST_GPUS = 4096

_Key = tuple[str | None, str, str]
"""A limit by its scope, metric and statistic."""


def infeasible(
    objectives: Objectives, explored: Explored, nearest: Settled | None, inputs: Inputs
) -> Infeasible:
    """Returns the error that says what conflicts, how far it is, and which relaxations work."""
    beyond = out_of_reach(objectives)
    binding, distance = _hopeless(beyond) if beyond else _nearest(objectives, explored, nearest)
    if not explored.complete:
        return Infeasible(binding, f"{distance}; the search was interrupted", ["let it finish"])
    near = () if nearest is None else (nearest.replicas,)
    asked = Asked(inputs, objectives, None, near, None, CARE)
    conflict = find_conflict(asked)
    found = list(_ways_out(asked, conflict, nearest))
    if not found:
        found = [_no_way_out(objectives, conflict)]
    return Infeasible(binding, distance, found, [promise.what for promise in conflict])


def _hopeless(beyond: Sequence[Reach]) -> tuple[str, str]:
    """Returns which limits nothing keeps, whatever is rented, and how near to them one comes."""
    limits = [f"{r.scoped.label} at most {duration(r.scoped.limit.at_most_ms)}" for r in beyond]
    binding = f"no pool keeps {' and '.join(limits)}, at any load or price"
    return binding, "; ".join(_fastest(reach) for reach in beyond)


def _fastest(reach: Reach) -> str:
    label = reach.scoped.label
    if not reach.pools:
        return f"{label} cannot be promised: no pool that may serve it has latencies"
    where = " and ".join(reach.pools)
    return f"{label} is {duration(reach.least_ms)} at least: {where} with little to do"


def _no_way_out(objectives: Objectives, conflict: tuple[Promise, ...]) -> str:
    """Returns what to do where no promise relaxed alone was found to be enough."""
    if len(conflict) != 1 or conflict[0].limit is None:
        return "no single relaxation was found: relax several promises together"
    limit = conflict[0].limit
    reach = reach_of(objectives, ScopedLimit(conflict[0].scope, limit))
    if reach is not None and not reach.pools:
        return "a pool whose latencies were measured (rb profile run), or no limit there"
    loosest = duration(limit.at_most_ms * _loosest(objectives, conflict)[1])
    return f"nothing that was found, with that limit at up to {loosest}"


def _loosest(objectives: Objectives, promises: Sequence[Promise]) -> tuple[float, float]:
    """Returns what limits are to be multiplied by at least, as nothing is faster, and at most."""
    least = 1.0
    for promise in promises:
        assert promise.limit is not None  # it is one of limits
        reach = reach_of(objectives, ScopedLimit(promise.scope, promise.limit))
        if reach is not None and math.isfinite(reach.ratio):
            least = max(least, reach.ratio)
    return least, least * LOOSEST_FACTOR


def _solved(asked: Asked, **update: object) -> Settled | None:
    """Returns the best plan found for the question with some fields changed."""
    objectives = asked.otherwise(**update)
    return None if objectives is None else asked.best(objectives)


def _nearest(
    objectives: Objectives, explored: Explored, nearest: Settled | None
) -> tuple[str, str]:
    """Returns what the nearest deployment misses, and which deployment that is."""
    question = objectives.case.question
    if nearest is None:
        if not explored.evaluations:
            return "no deployment fits stock, memory and budget", "the box of deployments is empty"
        best = min(explored.evaluations, key=lambda e: e.violation)
        if not best.replicas.any():
            return _nothing_rented(objectives)
        lost = float(best.routing.unserved @ objectives.case.workload.weights)
        where = in_words(objectives.case, best.replicas)
        if lost > 1e-6:
            return "the traffic cannot be carried within the limits", (
                f"nearest: {where} at {best.cost_usd_per_h:.2f} $/h leaves {lost:.1%} unserved"
            )
        fates = objectives.fates(best.replicas, best.level, best.routing)
        if problems := [text for each in fates for text in each.problems]:
            return "; ".join(problems), f"nearest: {where} at {best.cost_usd_per_h:.2f} $/h"
        return "a limit or the quality floor", f"nearest: {where} at quality {best.quality:.4f}"
    where = in_words(objectives.case, nearest.replicas)
    within = _within(question)
    text = "; ".join(nearest.score.problems)
    return text, f"that is the nearest found{within}: {where} at {nearest.cost_usd_per_h:.2f} $/h"


def _nothing_rented(objectives: Objectives) -> tuple[str, str]:
    """Returns why the nearest deployment is none at all."""
    space, budget = objectives.case.space, objectives.case.question.budget_usd_per_h
    exist = {gpu: sum(offer.count for offer in offers) for gpu, offers in space.offers.items()}
    one_each = [
        (float(space.cost_usd_per_h(one)), name)
        for one, name, gpu, n_gpus in zip(
            np.eye(len(space.pool_names), dtype=np.int64),
            space.pool_names,
            space.gpu_of,
            space.gpus_per_replica.tolist(),
            strict=True,
        )
        if gpu is None or 0 < n_gpus <= exist.get(gpu, 0)
    ]
    usd_per_h, name = min(one_each, default=(0.0, ""))
    if budget is not None and usd_per_h > budget:
        what = f"a budget of {budget:g} $/h rents nothing"
        return what, f"the cheapest replica is one {name} at {usd_per_h:.2f} $/h"
    what = "the traffic cannot be carried within the limits"
    return what, "no deployment of the box carries any part of it"


def _within(question: Question) -> str:
    budget = question.budget_usd_per_h
    return f" within {budget:g} $/h" if budget is not None else ""


def _ways_out(
    asked: Asked, conflict: tuple[Promise, ...], nearest: Settled | None
) -> Iterator[str]:
    """Yields what would work, one promise relaxed at a time."""
    relaxing = {
        "range": _without,
        "limit": _looser_limit,
        "class floor": _lower_class_floor,
        "floor": _lower_quality,
        "stock": _more_stock,
        "budget": _more_money,
    }
    promises = conflict or tuple(_worth_relaxing(asked.question, nearest))
    attempts: list[Callable[[], str | None]] = [lambda: _less_robust(asked)]
    attempts += [
        lambda promise=promise: relaxing[promise.kind](asked, promise)  # type: ignore[misc]
        for promise in promises
    ]
    limits = [promise for promise in promises if promise.kind == "limit"]
    alone = False
    for attempt in attempts:
        if (text := attempt()) is not None:
            alone |= " instead of " in text
            yield text
    if len(limits) > 1 and not alone and (text := _looser(asked, limits)) is not None:
        yield text
    if (text := _less_traffic(asked)) is not None:
        yield text


def _worth_relaxing(question: Question, nearest: Settled | None) -> Iterator[Promise]:
    """Yields the promises to ask about where no conflict is proved: of the limits the missed."""
    figures = nearest.score.figures if nearest is not None else ()
    missed = {
        (f.class_name, f.metric, f.statistic)
        for f in figures
        if f.at_most_ms is not None and f.ratio > 1.0
    }
    n_limits = 0
    for promise in promises_of(question):
        if promise.kind == "limit":
            n_limits += 1
            if n_limits > MOST_SINGLE_LIMITS or (missed and _key(promise) not in missed):
                continue
        yield promise


def _less_robust(asked: Asked) -> str | None:
    if asked.question.robust is None:
        return None
    settled = _solved(asked, robust=None)
    if settled is None:
        return None
    where = in_words(asked.objectives.case, settled.replicas)
    return f"without robust, {where} would do for {settled.cost_usd_per_h:.2f} $/h"


def _more_money(asked: Asked, _: Promise) -> str | None:
    objectives = asked.otherwise(budget_usd_per_h=None, choose="cheapest", maximise="none")
    settled = None if objectives is None else asked.best(objectives, seeds_of(objectives, 0))
    if objectives is None or settled is None:
        return None
    enough = settled.cost_usd_per_h
    least = asked.at_best(objectives, enough)
    where = in_words(objectives.case, settled.replicas)
    proved = "" if least is None else f", none below {min(least, enough):.2f} $/h does"
    return f"a budget of {enough:.2f} $/h meets everything ({where}){proved}"


def _looser_limit(asked: Asked, promise: Promise) -> str | None:
    return _looser(asked, [promise])


def _looser(asked: Asked, promises: list[Promise]) -> str | None:
    """Returns the least loosening found to work of some limits together, None without one."""
    least = _least_factor(asked, promises)
    if least is None:
        return None
    proved, factor, cost = least
    texts = []
    for promise in promises:
        limit = promise.limit
        assert limit is not None  # it is one of limits
        texts.append(
            f"{limit.label} of {promise.scope or 'all traffic'}"
            f" at {duration(limit.at_most_ms * factor)} instead of {duration(limit.at_most_ms)}"
        )
    at_least = ""
    if proved is not None and len(promises) == 1 and promises[0].limit is not None:
        shortest = duration(promises[0].limit.at_most_ms * proved)
        at_least = f"; below {shortest} nothing would do"
    return f"{' and '.join(texts)} can be met, for {cost:.2f} $/h{at_least}"


def _key(promise: Promise) -> _Key:
    limit = promise.limit
    assert limit is not None  # only limits have keys
    return promise.scope, limit.metric, limit.statistic


def _least_factor(
    asked: Asked, promises: Sequence[Promise]
) -> tuple[float | None, float, float] | None:
    """Returns a multiple of limits that is proved too small, one that works, and its $/h."""
    chosen = {_key(promise) for promise in promises}
    low, loosest = _loosest(asked.objectives, promises)

    def at(factor: float) -> Question:
        return asked.question.model_copy(update=loosened(asked.question, chosen, factor))

    if is_impossible(asked, at(loosest)):
        return None
    high = loosest
    for _ in range(BISECTIONS):
        middle = (low * high) ** 0.5
        if is_impossible(asked, at(middle)):
            low = middle
        else:
            high = middle
    for ratio in (*FURTHER_RATIOS, LOOSEST_FACTOR):
        factor = min(high * ratio, loosest)
        objectives = asked.of(at(factor))
        settled = None if objectives is None else asked.best(objectives)
        if settled is not None:
            factor, cost = _tightest(asked, at, settled, high, factor)
            return (low if low > 1.0 else None), factor, cost
    return None


def _tightest(
    asked: Asked, at: Callable[[float], Question], found: Settled, low: float, high: float
) -> tuple[float, float]:
    """Returns the least multiple of limits within which a found deployment works, and its $/h."""
    cost = found.cost_usd_per_h
    for _ in range(TIGHTENINGS):
        middle = (low * high) ** 0.5
        objectives = asked.of(at(middle))
        settled = None if objectives is None else settle(objectives, found.replicas)
        if settled is not None and settled.acceptable:
            high, cost = middle, settled.cost_usd_per_h
        else:
            low = middle
    return high, cost


def _lower_class_floor(asked: Asked, promise: Promise) -> str | None:
    """Returns the quality of a class in the best plan without its floor."""
    question = promise.without(asked.question).model_copy(update={"choose": "best_quality"})
    objectives = asked.of(question)
    settled = None if objectives is None else asked.best(objectives)
    if objectives is None or settled is None:
        return None
    names = objectives.case.workload.class_names
    reached = float(settled.score.class_quality[names.index(promise.scope or "")])
    return (
        f"a quality of {reached:.4f} of {promise.scope} can be had within the other promises, "
        f"for {settled.cost_usd_per_h:.2f} $/h"
    )


def _lower_quality(asked: Asked, _: Promise) -> str | None:
    objectives = asked.otherwise(quality_at_least=None, choose="best_quality", maximise="none")
    settled = None if objectives is None else asked.best(objectives)
    if objectives is None or settled is None:
        return None
    reached = settled.score.quality
    most = asked.at_best(objectives, reached)
    proved = "" if most is None else f"; none reaches more than {max(most, reached):.4f}"
    return (
        f"a quality of {reached:.4f} is the best within the other promises, "
        f"for {settled.cost_usd_per_h:.2f} $/h{proved}"
    )


def _without(asked: Asked, promise: Promise) -> str | None:
    objectives = asked.of(promise.without(asked.question))
    settled = None if objectives is None else asked.best(objectives)
    if objectives is None or settled is None:
        return None
    where = in_words(objectives.case, settled.replicas)
    return f"without {promise.what}: {where}, for {settled.cost_usd_per_h:.2f} $/h"


def _more_stock(asked: Asked, promise: Promise) -> str | None:
    """Returns how many more GPUs of a kind let a plan be found, and how many would not do."""
    gpu = promise.scope or ""

    def with_more(n: int) -> Question:
        update = {**one_more(asked.question, gpu, n), "choose": "cheapest"}
        return asked.question.model_copy(update=update)

    if is_impossible(asked, with_more(MOST_GPUS)):
        return None
    low, high = 0, 1
    while is_impossible(asked, with_more(high)):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if is_impossible(asked, with_more(middle)):
            low = middle
        else:
            high = middle
    for n in (high, 2 * high, MOST_GPUS):
        objectives = asked.of(with_more(n))
        settled = None if objectives is None else asked.best(objectives, seeds_of(objectives, 0))
        if objectives is not None and settled is not None:
            n_now = stock_of(asked.question)[gpu]
            need = max(low + 1, _least_stock(objectives.case.space, gpu, settled.replicas) - n_now)
            fewer = f", {low} more would not do" if low else ""
            return f"{need} more {gpu} in stock{fewer}, for {settled.cost_usd_per_h:.2f} $/h in all"
    return None


def _least_stock(space: Space, gpu: str, replicas: IntArray) -> int:
    """Returns how many GPUs of a kind a deployment (P,) needs: those it uses, and gaps on nodes."""
    n_gpus, packing = round(space.gpu_count(replicas)[gpu]), space.packings.get(gpu)
    if packing is None:
        return n_gpus
    counts = replicas[space.pools_on(gpu)].tolist()
    while not replace(packing, n_gpus=n_gpus).used(counts)[1]:
        n_gpus += 1
    return n_gpus


def _less_traffic(asked: Asked) -> str | None:
    if asked.question.maximise == "rate_factor":
        return None
    settled = _solved(asked, maximise="rate_factor", choose="cheapest")
    if settled is None or settled.rate_factor <= 0:
        return None
    return (
        f"{settled.rate_factor:.3g} times the planned traffic can be carried, "
        f"for {settled.cost_usd_per_h:.2f} $/h"
    )
