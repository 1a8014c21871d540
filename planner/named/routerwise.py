"""RouterWise (arXiv 2604.10907) as a named method: every set-up, each by gradient and bisection.

Program
    for each set-up that survives the pruning (setups.py)
        load fractions of the best quality within the latency limit (ascent.py)
    the best set-up is the one with the most quality within it

The paper maximises quality on a given cluster and knows no money. Where the least cost is asked
for, set-ups are tried by rising rent, until five are acceptable; a budget prunes. It has no answer
of its own to `fastest`: what it finds keeps the limits with the most quality. The quality at
given fractions is exact here (an assignment of classes, transport.py), where the paper estimates
its dual on prompts. The routing that is signed in the end is the planner's own, on the set-up that
was found.
"""

from __future__ import annotations

import numpy as np

from planner.explore import Effort, Explored
from planner.memo import reference, values
from planner.named.ascent import Ascent
from planner.named.fractions import Fractions, best_of_each, fractions_of
from planner.named.setups import list_setups
from planner.objectives import Evaluation, Objectives
from planner.search.hypervolume import RunningHypervolume
from planner.search.problem import ACCEPTED_VIOLATION, Progress
from planner.spec.arrays import IntArray

SETUPS: dict[Effort, int] = {"quick": 60, "standard": 700, "thorough": 16_000}
"""Set-ups tried; the paper has 700 with three models, 16,000 with four."""

N_CHEAP = 5
"""Acceptable set-ups after which dearer ones are not tried."""

NAME = "RouterWise (arXiv 2604.10907)"


def explore_routerwise(
    objectives: Objectives, effort: Effort, seed: int, on_trial: Progress | None = None
) -> Explored:
    """Returns what RouterWise finds: one evaluation per set-up.

    Raises:
        InputError: the question asks for the largest traffic, which the method cannot vary.
    """
    fractions = fractions_of(objectives, "routerwise")
    if fractions is None:
        return best_of_each(objectives, [], NAME, complete=True)
    wants_money = objectives.case.question.choose in ("cheapest", "knee")
    listed = list_setups(fractions, SETUPS[effort], seed, uses_all=not wants_money)
    stop_at = N_CHEAP if objectives.case.question.choose == "cheapest" else len(listed.replicas)
    found, complete = _tried(fractions, listed.replicas, stop_at, on_trial)
    method = NAME if listed.complete else f"{NAME}, on a random part of its set-ups"
    return best_of_each(objectives, found, method, complete)


def _tried(
    fractions: Fractions, setups: IntArray, stop_at: int, on_trial: Progress | None
) -> tuple[list[Evaluation], bool]:
    """Returns the evaluations of set-ups (n, P), until some are acceptable; False: interrupted."""
    objectives, ascent = fractions.objectives, Ascent(fractions)
    volume = RunningHypervolume(reference(objectives))
    found: list[Evaluation] = []
    n_good = 0
    try:
        for replicas in setups:
            one = ascent.evaluate(replicas)
            found.append(one)
            if one.violation <= ACCEPTED_VIOLATION:
                n_good += 1
                volume.add(np.asarray(values(objectives, one)))
            if on_trial is not None:
                on_trial(len(found), len(setups), volume.total)
            if n_good >= stop_at:
                break
    except KeyboardInterrupt:
        return found, False
    return found, True
