"""BOute (arXiv 2602.10729) as a named method: load fractions and deployments by its own optimiser.

Program   (notation: boute_space.py)
    minimise  (log L, -logit Q)     [its S4]
    over      f on the simplex, c_m in C_m, within stock and budget     [its S1, S2, S3]
    s.t.      L <= 1, Q >= floor    as outcome constraints of the acquisition
    by        search/boute.py, whose kernel has its S5; C_m by candidates.py

The paper plans for one budget. `cheapest` and `knee` are asked of it as a bisection over budgets
that keeps all trials: half of the evaluations at the whole budget, then four rounds between the
cheapest rent that was enough and the highest that was not.

Not published, and chosen here: s_mn (log of the requests/s per dollar of the model's best pool on
that type, against the mean over types); what of a deployment the kernel sees; what an overloaded
model costs (L grows with what is unserved); how points are drawn; all that search/boute.py and
candidates.py name. With more than two models the paper's thresholds need an order of the models;
here the assignment of classes to fractions is the best one (fractions.py), with two models a
threshold. The routing that is signed in the end is the planner's own, on the deployment found.
"""

from __future__ import annotations

import numpy as np

from planner.explore import Effort, Explored
from planner.named.boute_space import BouteSpace
from planner.named.candidates import candidates
from planner.named.fractions import best_of_each, fractions_of
from planner.objectives import Evaluation, Objectives
from planner.search import boute
from planner.search.problem import ACCEPTED_VIOLATION, Progress, Trials
from planner.spec.arrays import IntArray

EVALUATIONS: dict[Effort, int] = {"quick": 32, "standard": 120, "thorough": 400}
N_ROUNDS = 4
"""Budgets tried after the whole one where the least cost is asked for."""

NAME = "BOute (arXiv 2602.10729)"


def explore_boute(
    objectives: Objectives, effort: Effort, seed: int, on_trial: Progress | None = None
) -> Explored:
    """Returns what BOute finds: the best evaluation of each deployment that it looked at.

    Raises:
        InputError: the question asks for the largest traffic, which the method cannot vary.
        MissingExtra: torch or botorch is missing.
    """
    fractions = fractions_of(objectives, "boute")
    if fractions is None:
        return best_of_each(objectives, [], NAME, complete=True)
    budget = whole_budget_usd_per_h(objectives)
    lists = [candidates(fractions, group, budget) for group in fractions.groups]
    whole = BouteSpace(fractions, lists, budget)
    wants_money = objectives.case.question.choose in ("cheapest", "knee")
    n = EVALUATIONS[effort]
    trials = _round(whole, n // 2 if wants_money else n, seed, None, on_trial)
    if wants_money and trials.complete and whole.seen:  # nothing fits into too small a budget
        trials = _cheaper(whole, trials, n // (2 * N_ROUNDS), seed, on_trial)
    return best_of_each(objectives, list(whole.seen.values()), NAME, trials.complete)


def _round(
    search: BouteSpace, n: int, seed: int, start: IntArray | None, on_trial: Progress | None
) -> Trials:
    return boute.search(search.problem(), n, seed, start, on_trial, parts=search.parts())


def _cheaper(
    search: BouteSpace, trials: Trials, n: int, seed: int, on_trial: Progress | None
) -> Trials:
    """Returns the last trials of a bisection towards the least budget that suffices."""
    space, high = search.objectives.case.space, search.budget_usd_per_h
    low = float(space.cost_usd_per_h(space.lower))
    whole = high
    for step in range(N_ROUNDS):
        enough = [e.cost_usd_per_h for e in search.seen.values() if _good(e)]
        if enough:
            high = min(high, *enough)
            search.budget_usd_per_h = (low + high) / 2
        known = np.array([np.frombuffer(key, dtype=np.int64) for key in search.seen])
        rent = space.cost_usd_per_h(known[:, search.n_models :])
        start = known[rent <= search.budget_usd_per_h + 1e-9]
        trials = _round(search, len(start) + n, seed + 1 + step, start, on_trial)
        if not trials.complete:
            break
        if enough and not any(
            _good(e) and e.cost_usd_per_h <= search.budget_usd_per_h + 1e-9
            for e in search.seen.values()
        ):
            low = search.budget_usd_per_h
    search.budget_usd_per_h = whole
    return trials


def _good(evaluation: Evaluation) -> bool:
    return evaluation.violation <= ACCEPTED_VIOLATION


def whole_budget_usd_per_h(objectives: Objectives) -> float:
    """Returns the budget of the question, or what all GPUs cost, in $/h."""
    space = objectives.case.space
    dearest = sum(o.count * o.usd_per_h for offers in space.offers.values() for o in offers)
    return min(objectives.case.question.budget_usd_per_h or np.inf, dearest)
