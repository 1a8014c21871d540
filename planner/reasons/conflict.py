"""Which promises of a question cannot all be kept: a set of which none can be left out.

    M            promises: limits, floors, replica ranges, stock of each kind of GPU, budget
    no(S)        proved: no deployment and routing of the tables keeps all of S

    conflict = M, if no(M)
    for each m of M:   if no(conflict - m):  conflict = conflict - m      (deletion filter)

What is left is proved to be impossible, and of no smaller part of it can that be proved: whoever
wants an answer has to give way in one of them. The proof is that of the optimistic joint program,
first with tiers that a pool may mix, then with one tier per pool (exact/bound.py). Traffic,
headroom and the pools that a class may use are not asked for: they always stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from planner.exact.bound import bound
from planner.exact.joint import Objective
from planner.exact.solve import Want, solve_joint
from planner.reasons.asked import Asked
from planner.reasons.worth import one_more
from planner.score import duration
from planner.spec.question import Limit, Question, RequestClass

MANY_GPUS = 10_000
N_NODES = 100
ANY_GAP_RATIO = 1.0  # whether there is a solution is all that is asked

Kind = Literal["range", "limit", "class floor", "floor", "stock", "budget"]


@dataclass(frozen=True)
class Promise:
    """One thing that a question asks for, and the question without it."""

    kind: Kind
    what: str
    without: Callable[[Question], Question]
    scope: str | None = None  # the class, pool or kind of GPU that it is about
    limit: Limit | None = None


def find_conflict(asked: Asked) -> tuple[Promise, ...]:
    """Returns promises that cannot all be kept and of which none can be left out of the proof.

    Empty where it is not proved that the question has no answer.
    """
    left = promises_of(asked.question)
    if not is_impossible(asked, asked.question):
        return ()
    for kind in ("range", "limit", "class floor", "floor", "stock", "budget"):
        mine = [promise for promise in left if promise.kind == kind]
        others = [promise for promise in left if promise.kind != kind]
        if len(mine) > 1 and is_impossible(asked, _only(asked.question, others)):
            left = others
            continue
        for promise in mine:
            fewer = [other for other in left if other is not promise]
            if is_impossible(asked, _only(asked.question, fewer)):
                left = fewer
    return tuple(left)


def promises_of(question: Question) -> list[Promise]:
    """Returns all promises of a question that may be given up."""
    found = [
        Promise("range", f"replicas of {pool}", _without_range(pool), pool)
        for pool in question.replicas
    ]
    scoped: list[tuple[str | None, Limit]] = [(None, limit) for limit in question.limits]
    scoped += [(c.name, limit) for c in question.classes for limit in c.limits]
    found += [
        Promise(
            "limit",
            f"{limit.label} of {name or 'all traffic'} at most {duration(limit.at_most_ms)}",
            _without_limit(name, limit),
            name,
            limit,
        )
        for name, limit in scoped
    ]
    found += [
        Promise(
            "class floor",
            f"quality of {c.name} at least {c.quality_at_least:g}",
            _without_class_floor(c.name),
            c.name,
        )
        for c in question.classes
        if c.quality_at_least is not None
    ]
    if question.quality_at_least is not None:
        text = f"quality at least {question.quality_at_least:g}"
        found.append(Promise("floor", text, _with(quality_at_least=None)))
    found += [
        Promise("stock", f"{n:g} {gpu} in stock", _with_many(gpu), gpu)
        for gpu, n in stock_of(question).items()
    ]
    if question.budget_usd_per_h is not None:
        text = f"a budget of {question.budget_usd_per_h:g} $/h"
        found.append(Promise("budget", text, _with(budget_usd_per_h=None)))
    return found


def stock_of(question: Question) -> dict[str, int]:
    """Returns how many GPUs of each kind can be counted on."""
    if question.stock is not None:
        return dict(question.stock)
    found: dict[str, int] = {}
    for entry in question.supply:
        found[entry.gpu] = found.get(entry.gpu, 0) + entry.n_counted
    return found


def is_impossible(asked: Asked, question: Question) -> bool:
    """Returns whether it is proved that no deployment answers a question."""
    objectives = asked.of(question)
    if objectives is None:
        return True  # replica ranges that no stock fulfils
    case = objectives.case
    objective: Objective = "rate_factor" if objectives.maximises_rate else "quality"
    want = Want(
        objective,
        case.workload.quality_at_least,
        budget_usd_per_h=question.budget_usd_per_h,
        gap_ratio=ANY_GAP_RATIO,
        n_nodes=N_NODES,
        reading="bound",
    )
    solved = solve_joint(objectives.joint_at(0), want)
    if solved.status != "unknown":
        return solved.status == "none"
    return bound(
        case.workload,
        objectives.tables,
        case.space,
        question.headroom_ratio,
        objective,
        n_rounds=1,
    ).infeasible


def _only(question: Question, kept: Sequence[Promise]) -> Question:
    """Returns a question with no other promises than these."""
    names = {promise.what for promise in kept}
    for promise in promises_of(question):
        if promise.what not in names:
            question = promise.without(question)
    return question


def _with(**update: object) -> Callable[[Question], Question]:
    return lambda question: question.model_copy(update=update)


def _with_many(gpu: str) -> Callable[[Question], Question]:
    return lambda question: question.model_copy(update=one_more(question, gpu, MANY_GPUS))


def _without_range(pool: str) -> Callable[[Question], Question]:
    def without(question: Question) -> Question:
        kept = {name: each for name, each in question.replicas.items() if name != pool}
        return question.model_copy(update={"replicas": kept})

    return without


def _without_limit(name: str | None, gone: Limit) -> Callable[[Question], Question]:
    def without(question: Question) -> Question:
        if name is None:
            kept = tuple(limit for limit in question.limits if limit != gone)
            return question.model_copy(update={"limits": kept})
        return _with_class(
            question,
            name,
            lambda c: {"limits": tuple(limit for limit in c.limits if limit != gone)},
        )

    return without


def _without_class_floor(name: str) -> Callable[[Question], Question]:
    return lambda question: _with_class(question, name, lambda _: {"quality_at_least": None})


def _with_class(
    question: Question, name: str, update: Callable[[RequestClass], dict[str, object]]
) -> Question:
    classes = tuple(
        c.model_copy(update=update(c)) if c.name == name else c for c in question.classes
    )
    return question.model_copy(update={"classes": classes})
