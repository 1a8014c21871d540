"""Readings of the tables for the joint program: loads and figures of operating tiers.

  conservative   the largest figure of a pool up to the tier's load: a solution is a plan
  optimistic     the smallest figure between the tier below and the tier: a relaxation, for bounds

Why the second is a bound for all plans is argued in joint.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.routing.case import Case, prepare
from planner.routing.problem import RoutingProblem
from planner.routing.tiers import (
    conservative_figures,
    optimistic_figures,
    split_tiers,
    tier_loads,
)
from planner.space import Space
from planner.spec.arrays import FloatArray
from planner.spec.table import PoolTable
from planner.spec.workload import Workload

Reading = Literal["conservative", "optimistic"]

TOLERANCE = 1e-5  # relative: what a plan may miss a limit or a floor by and still counts as met
_FIGURES = {"conservative": conservative_figures, "optimistic": optimistic_figures}


@dataclass(frozen=True)
class Tiers:
    """One reading of the tables: loads and figures of every tier."""

    case: Case  # all usable pools with one replica each
    space: Space
    reading: Reading
    loads: FloatArray  # (A, T)
    figures: FloatArray  # (E, T)

    @property
    def slack_ratio(self) -> float:
        """Returns what is added to limits and taken from floors, so that a bound binds no plan."""
        return TOLERANCE if self.reading == "optimistic" else 0.0


def read_tiers(
    workload: Workload,
    tables: Sequence[PoolTable],
    space: Space,
    headroom_ratio: float,
    reading: Reading,
    n_tiers: int,
) -> Tiers:
    """Returns the tiers of every pool that the space allows at all.

    Args:
        workload: C classes over P pools.
        tables: the pools' tables, (P,).
        space: the box of deployments, (P,).
        headroom_ratio: load <= (1 - headroom_ratio) * max_load.
        reading: whether figures are those of a plan or of a bound.
        n_tiers: tiers per pool, the highest at its cap; one where nothing is limited.
    """
    there = np.asarray(space.upper > 0, dtype=np.int64)
    case = prepare(RoutingProblem(workload, tuple(tables), there, headroom_ratio))
    if reading == "optimistic":
        case = case.relaxed()
    loads = tier_loads(case, max(1, n_tiers)) if case.figures.n else case.cap[:, None]
    return Tiers(case, space, reading, loads, _FIGURES[reading](case, loads))


def halved(tiers: Tiers) -> Tiers:
    """Returns the same reading with every tier cut in two."""
    loads = split_tiers(tiers.loads, 2)
    return replace(tiers, loads=loads, figures=_FIGURES[tiers.reading](tiers.case, loads))
