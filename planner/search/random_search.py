"""Random search: sparse random points, the yardstick of every other method."""

from __future__ import annotations

import numpy as np

from planner.search import sampling, trial_log
from planner.search.problem import IntMatrix, Problem, Progress, Trials

_BATCH = 64


def search(
    problem: Problem,
    n_evaluations: int,
    seed: int,
    start: IntMatrix | None = None,
    on_trial: Progress | None = None,
) -> Trials:
    """Returns the trials of `start` and then of sparse random points.

    Raises what `trial_log.run` raises.
    """
    rng = np.random.default_rng(seed)

    def propose(log: trial_log.TrialLog) -> IntMatrix:
        return sampling.unseen_points(problem.box, _BATCH, rng, log.unseen)

    return trial_log.run(problem, n_evaluations, start, on_trial, propose)
