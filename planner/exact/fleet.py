"""A fleet for all prompts: what one replica of each pool can carry, as convex curves in segments.

Notation: see routing/prices.py and routing/convex.py
    P pools, S segments of all pools, M options
    n_p        replicas of pool p                                             count    (P,)
    m_p        option of pool p                                                        (P,)
    width_s    load that one replica carries in the segment                   load     (S,)
    slope_ls   flow of limit l per load there, as a part of the limit         1/load   (L, S)

A deployment n has segments n_p width_s with the same slopes: an even split over equal replicas is
best where curves are convex. Read from the tables, options are pools and load is in busy replicas:
the work of prompt n at pool p is w_np = total rate x its work in replica-seconds. Where the works
of some pools are in one ratio for all prompts, they can be one option, and prices be of models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.exact.readings import Reading
from planner.exact.solve import Setting
from planner.routing.case import prepare
from planner.routing.convex import Segments, conservative, optimistic
from planner.routing.prices import Curves
from planner.routing.problem import RoutingProblem
from planner.space import Space
from planner.spec.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Fleet:
    """The segments of all pools, per replica, and the box of deployments."""

    space: Space
    option: IntArray  # (P,)
    pool: IntArray  # (S,)
    width: FloatArray  # (S,)
    slope: FloatArray  # (L, S)

    def curves(self, replicas: IntArray) -> Curves:
        """Returns the curves of a deployment (P,)."""
        there = replicas[self.pool] > 0
        pool = self.pool[there]
        return Curves(
            self.option[pool],
            self.width[there] * replicas[pool],
            self.slope[:, there],
            np.ones(self.slope.shape[0]),
        )

    def merged(self, option: IntArray, ratio: FloatArray) -> Fleet:
        """Returns the fleet with other options, (P,), whose loads are `ratio` (P,) times smaller.

        True where each prompt makes `ratio` times as much load at the pool as at the option.
        """
        each = ratio[self.pool]
        return replace(self, option=option, width=self.width / each, slope=self.slope * each)


def read_fleet(setting: Setting, reading: Reading) -> Fleet:
    """Returns the fleet of a workload's tables, with pools as options.

    Args:
        setting: workload, tables, box and headroom; its limits are over all traffic.
        reading: conservative for a plan, optimistic for a bound.

    Raises:
        ValueError: a limit is of one class: it cannot be read from loads alone.
    """
    workload, n_pools = setting.workload, setting.space.upper.size
    if any(scoped.class_name is not None for scoped in workload.limits):
        raise ValueError("limits of a class need operating tiers, not the loads of all prompts")
    there = np.asarray(setting.space.upper > 0, dtype=np.int64)
    tables, headroom = tuple(setting.tables), setting.headroom_ratio
    case = prepare(RoutingProblem(workload, tables, there, headroom))
    if not case.figures.n:
        none = np.zeros((0, case.n_slots))
        segments = Segments(np.arange(case.n_slots), case.cap, none, case.cap, 0.0)
    elif reading == "conservative":
        segments = conservative(case)
    else:
        segments = optimistic(case.relaxed())
    slope = segments.slope / workload.total_rps
    pool = case.pools[segments.slot]
    return Fleet(setting.space, np.arange(n_pools), pool, segments.width, slope)
