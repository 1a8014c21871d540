"""When nothing is acceptable: what binds, how far it is, and the nearest relaxation that works.

Each promise of the question is relaxed alone, the others kept: the budget, the stock, each latency
limit that is missed, the quality floor, the traffic. What then becomes acceptable, at least cost
of relaxation, is reported: "41.30 $/h meets every limit", "p95 e2e of math at 9.1 s is met".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from planner.case import Case, make_case
from planner.choose import choose
from planner.errors import Infeasible, InputError
from planner.explore import Explored, explore_narrowly, seeds_of
from planner.objectives import LEAST_GAIN, Objectives, make_objectives
from planner.score import duration
from planner.settle import Settled
from planner.spec.arrays import IntArray
from planner.spec.base import Metric, Statistic
from planner.spec.inputs import Inputs
from planner.spec.question import Limit, Question, RequestClass

LOOSEST_FACTOR = 10.0
"""Limits are loosened by at most this; what needs more is hopeless for another reason."""

BISECTIONS = 6
MOST_SINGLE_LIMITS = 6
N_EVALUATIONS = 40

STOCK_STEPS = (1.5, 2.0, 4.0)

_Promise = tuple[str | None, Metric, Statistic]
"""A limit by its scope, metric and statistic."""


@dataclass(frozen=True)
class _Solver:
    """Answers changed questions on the same fitted pools, with a small search each."""

    inputs: Inputs
    case: Case
    near: tuple[IntArray, ...]  # deployments that nearly do, (P,) each

    def solve(self, question: Question) -> Settled | None:
        """Returns the settled answer to a changed question, None if there is none."""
        return self.solve_case(question)[1]

    def solve_case(self, question: Question) -> tuple[Case | None, Settled | None]:
        """Returns the changed case and its settled answer, None if there is none."""
        inputs = replace(self.inputs, files=replace(self.inputs.files, question=question))
        try:
            before = self.case
            case = make_case(inputs, before.models, before.learned, before.cascades)
        except InputError:
            return None, None
        objectives = make_objectives(case)
        start = [*seeds_of(objectives, 0), *self.near]
        explored = explore_narrowly(objectives, N_EVALUATIONS, start)
        return case, choose(objectives, explored, None, signed=False)[0]


def infeasible(
    objectives: Objectives, explored: Explored, nearest: Settled | None, inputs: Inputs
) -> Infeasible:
    """Returns the error that says what binds, how far, and which single relaxations work."""
    binding, distance = _nearest(objectives, explored, nearest)
    if not explored.complete:
        return Infeasible(binding, f"{distance}; the search was interrupted", ["let it finish"])
    near = () if nearest is None else (nearest.replicas,)
    solver = _Solver(inputs, objectives.case, near)
    attempts: list[Callable[[], str | None]] = [
        lambda: _more_money(solver),
        lambda: _looser_limits(solver, nearest),
        lambda: _lower_quality(solver),
        lambda: _more_stock(solver),
        lambda: _less_traffic(solver),
    ]
    found = [text for attempt in attempts if (text := attempt()) is not None]
    if not found:
        found = ["no single relaxation was found: relax several promises together"]
    return Infeasible(binding, distance, found)


def more_budget(inputs: Inputs, objectives: Objectives, chosen: Settled) -> str | None:
    """Returns what a tenth more budget would buy, where a budget bounds what is maximised."""
    question = objectives.case.question
    spends_it = question.maximise == "rate_factor" or question.choose == "best_quality"
    if question.budget_usd_per_h is None or not spends_it:
        return None
    raised = round(1.1 * question.budget_usd_per_h, 4)
    solver = _Solver(inputs, objectives.case, (chosen.replicas,))
    settled = solver.solve(question.model_copy(update={"budget_usd_per_h": raised}))
    if settled is None:
        return None
    gain, what = settled.score.quality - chosen.score.quality, "quality"
    if question.maximise == "rate_factor":
        gain, what = settled.rate_factor - chosen.rate_factor, "rate factor"
    if gain < LEAST_GAIN:
        return f"a tenth more budget would buy no {what}"
    return f"a tenth more budget would buy {what} {gain:+.4f}, for {settled.cost_usd_per_h:.2f} $/h"


def _nearest(
    objectives: Objectives, explored: Explored, nearest: Settled | None
) -> tuple[str, str]:
    """Returns what the nearest deployment misses, and which deployment that is."""
    question = objectives.case.question
    if nearest is None:
        if not explored.evaluations:
            return "no deployment fits stock, memory and budget", "the box of deployments is empty"
        best = min(explored.evaluations, key=lambda e: e.violation)
        lost = float(best.routing.unserved @ objectives.case.workload.weights)
        where = _deployment(objectives.case, best.replicas.tolist())
        if lost > 1e-6:
            return "the traffic cannot be carried within the limits", (
                f"nearest: {where} at {best.cost_usd_per_h:.2f} $/h leaves {lost:.1%} unserved"
            )
        return "a limit or the quality floor", f"nearest: {where} at quality {best.quality:.4f}"
    where = _deployment(objectives.case, nearest.replicas.tolist())
    within = _within(question)
    text = "; ".join(nearest.score.problems)
    return text, f"that is the nearest found{within}: {where} at {nearest.cost_usd_per_h:.2f} $/h"


def _within(question: Question) -> str:
    budget = question.budget_usd_per_h
    return f" within {budget:g} $/h" if budget is not None else ""


def _deployment(case: Case, replicas: list[int]) -> str:
    parts = [f"{n} x {p}" for n, p in zip(replicas, case.space.pool_names, strict=True) if n > 0]
    return ", ".join(parts) or "nothing rented"


def _more_money(solver: _Solver) -> str | None:
    question = solver.case.question
    if question.budget_usd_per_h is None:
        return None
    free = question.model_copy(update={"budget_usd_per_h": None, "choose": "cheapest"})
    settled = solver.solve(free)
    if settled is None:
        return None
    where = _deployment(solver.case, settled.replicas.tolist())
    return f"a budget of {settled.cost_usd_per_h:.2f} $/h meets everything ({where})"


def _looser_limits(solver: _Solver, nearest: Settled | None) -> str | None:
    """Returns the least loosening that works: of one limit, of the missed ones, or of all."""
    question = solver.case.question
    every: list[tuple[str | None, Limit]] = [(None, limit) for limit in question.limits]
    every += [(c.name, limit) for c in question.classes for limit in c.limits]
    names = [(c, limit.metric, limit.statistic) for c, limit in every]
    for chosen in _worth_loosening(names, nearest):
        works = _least_factor(solver, chosen)
        if works is not None:
            break
    else:
        return None
    factor, cost = works
    loosened = [
        f"{limit.label} of {c or 'all traffic'} at {duration(limit.at_most_ms * factor)}"
        f" instead of {duration(limit.at_most_ms)}"
        for (c, limit), name in zip(every, names, strict=True)
        if name in chosen
    ]
    return f"{' and '.join(loosened)} can be met, for {cost:.2f} $/h"


def _worth_loosening(names: list[_Promise], nearest: Settled | None) -> list[set[_Promise]]:
    """Returns which limits to loosen together, from few to all; each set once."""
    missed = {
        (f.class_name, f.metric, f.statistic)
        for f in (nearest.score.figures if nearest is not None else ())
        if f.at_most_ms is not None and f.ratio > 1.0
    }
    sets = [missed] if missed else [{name} for name in names[:MOST_SINGLE_LIMITS]]
    if names and set(names) not in sets:
        sets.append(set(names))
    return sets


def _least_factor(solver: _Solver, chosen: set[_Promise]) -> tuple[float, float] | None:
    """Returns the least multiple of the chosen limits that works, and the cost in $/h then."""
    settled = solver.solve(_loosened(solver.case.question, chosen, LOOSEST_FACTOR))
    if settled is None:
        return None
    low, high, cost = 1.0, LOOSEST_FACTOR, settled.cost_usd_per_h
    for _ in range(BISECTIONS):
        middle = (low * high) ** 0.5
        settled = solver.solve(_loosened(solver.case.question, chosen, middle))
        if settled is None:
            low = middle
        else:
            high, cost = middle, settled.cost_usd_per_h
    return high, cost


def _loosened(question: Question, chosen: set[_Promise], factor: float) -> Question:
    def looser(name: str | None, limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
        return tuple(
            limit.model_copy(update={"at_most_ms": limit.at_most_ms * factor})
            if (name, limit.metric, limit.statistic) in chosen
            else limit
            for limit in limits
        )

    classes: tuple[RequestClass, ...] = tuple(
        c.model_copy(update={"limits": looser(c.name, c.limits)}) for c in question.classes
    )
    return question.model_copy(update={"classes": classes, "limits": looser(None, question.limits)})


def _lower_quality(solver: _Solver) -> str | None:
    question = solver.case.question
    floors = [c.quality_at_least for c in question.classes]
    if question.quality_at_least is None and not any(f is not None for f in floors):
        return None
    classes = tuple(c.model_copy(update={"quality_at_least": None}) for c in question.classes)
    update = {"quality_at_least": None, "classes": classes, "choose": "best_quality"}
    settled = solver.solve(question.model_copy(update=update))
    if settled is None:
        return None
    return (
        f"a quality of {settled.score.quality:.4f} is the best within the other promises, "
        f"for {settled.cost_usd_per_h:.2f} $/h"
    )


def _more_stock(solver: _Solver) -> str | None:
    question = solver.case.question
    if question.stock is None:
        return None
    for factor in STOCK_STEPS:
        stock = {gpu: max(8, int(count * factor)) for gpu, count in question.stock.items()}
        update = {"stock": stock, "choose": "cheapest"}
        case, settled = solver.solve_case(question.model_copy(update=update))
        if settled is None or case is None:
            continue
        need = case.space.gpu_count(settled.replicas)
        short = {g: n - question.stock[g] for g, n in need.items() if n > question.stock[g]}
        if short:
            more = " and ".join(f"{n:g} more {gpu}" for gpu, n in sorted(short.items()))
            return f"{more} in stock, for {settled.cost_usd_per_h:.2f} $/h in all"
    return None


def _less_traffic(solver: _Solver) -> str | None:
    question = solver.case.question
    if question.maximise == "rate_factor":
        return None
    update = {"maximise": "rate_factor", "choose": "cheapest"}
    settled = solver.solve(question.model_copy(update=update))
    if settled is None or settled.rate_factor <= 0:
        return None
    return (
        f"{settled.rate_factor:.3g} times the planned traffic can be carried, "
        f"for {settled.cost_usd_per_h:.2f} $/h"
    )
