"""Enumeration: every point of a small box, the truth for every other method."""

from __future__ import annotations

from dataclasses import replace

from planner.search import trial_log
from planner.search.problem import IntMatrix, Problem, Progress, Trials

MOST_POINTS = 50_000


def search(
    problem: Problem,
    n_evaluations: int,
    seed: int,
    start: IntMatrix | None = None,
    on_trial: Progress | None = None,
) -> Trials:
    """Returns the trials of `start` and then of all other points in lexicographic order.

    `complete` is False where `n_evaluations` did not reach for all points. Raises
    ValueError where the box has more than 50,000, and what `trial_log.run` raises. Nothing
    here is random: `seed` is there because every method has one signature.
    """
    points = problem.box.points(at_most=MOST_POINTS)
    trials = trial_log.run(problem, n_evaluations, start, on_trial, lambda _: points)
    return replace(trials, complete=trials.complete and len(trials.points) == len(points))
