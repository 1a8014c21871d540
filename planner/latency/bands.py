"""How far off a predicted latency may be, and how it came to be (§8).

The half-width of a band is the leave-one-load-out error of the fit, never below a floor that
says how the metric is known; outside the measured loads it doubles. E2E is TTFT and decoding, so
its band is that of the two weighted by what they take. Where prefills take a share u of the time,
TPOT is wider by 0.3 u^2: prefills and batch size then rise together, which the chain sees only in
part (against a step-by-step simulation: -5 % at u = 0.5, -11 % at 0.7, -18 % at 0.8).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.base import Metric, Origin

FLOOR_MEASURED = 0.10
FLOOR_DERIVED = 0.15  # open-loop TPOT computed from closed-loop or batch measurements
FLOOR_TTFT = 0.50  # TTFT from physics alone
ONE_LOAD = 0.50
TWO_LOADS = 0.25
OUTSIDE = 2.0
PREFILL_WIDENING = 0.3


@dataclass(frozen=True)
class Bands:
    """Relative half-widths within the measured loads, and the origin of each metric."""

    ratio: Mapping[Metric, float]
    origin: Mapping[Metric, Origin]

    def at(
        self,
        extrapolated: BoolArray,
        mean_ms: Mapping[Metric, FloatArray],
        prefill_ratio: FloatArray,
    ) -> dict[Metric, FloatArray]:
        """Returns the half-widths at every load, (K,) per metric.

        Args:
            extrapolated: (K,) load lies outside the measured ones.
            mean_ms: (C, K) means, for the weight of TTFT in E2E.
            prefill_ratio: (K,) share of the time that prefills take.
        """
        wider = np.where(extrapolated, OUTSIDE, 1.0)
        tpot = self.ratio["tpot"] + PREFILL_WIDENING * prefill_ratio**2
        weight = np.clip((mean_ms["ttft"] / mean_ms["e2e"]).max(axis=0), 0.0, 1.0)
        e2e = weight * self.ratio["ttft"] + (1.0 - weight) * tpot
        return {
            "ttft": wider * self.ratio["ttft"],
            "tpot": wider * tpot,
            "e2e": wider * np.maximum(e2e, self.ratio["e2e"]),
        }


def step_band(n_loads: int, left_out: float, origin: Origin) -> float:
    """Returns the half-width of the band of TPOT from the loads and the left-out error."""
    if n_loads == 1:
        return ONE_LOAD
    floor = FLOOR_MEASURED if origin == "measured" else FLOOR_DERIVED
    return max(floor, left_out, TWO_LOADS if n_loads == 2 else 0.0)
