"""What a plan is to survive beside its planned traffic: scenarios, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from planner.spec.arrays import FloatArray, IntArray
from planner.spec.workload import Workload


@dataclass(frozen=True)
class Scenario:
    """One thing that happens: other traffic, slower pools, or lost replicas."""

    label: str
    class_rate_ratio: FloatArray  # (C,) of the planned rate of each class
    lost: IntArray  # (P,) replicas that are down; never more than there are
    limits_ratio: float = 1.0  # of each latency limit, while it lasts
    headroom_ratio: float = 0.0  # of each pool's capacity that stays free, while it lasts
    latency_band: bool = False  # every latency at the upper end of its error band

    def workload(self, planned: Workload) -> Workload:
        """Returns what must be served meanwhile, within which limits."""
        ratio = self.class_rate_ratio[planned.row_class]
        meanwhile = replace(
            planned,
            rate_rps=planned.rate_rps * ratio,
            mean_rate_rps=planned.mean_rate_rps * ratio,
        )
        if self.limits_ratio == 1.0:
            return meanwhile
        return meanwhile.with_limits_scaled(self.limits_ratio)


def calm(workload: Workload, label: str) -> Scenario:
    """Returns the scenario in which nothing happens: where others begin."""
    return Scenario(label, np.ones(workload.n_classes), np.zeros(workload.n_pools, dtype=np.int64))
