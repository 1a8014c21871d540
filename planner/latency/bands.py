"""How far off a predicted figure may be, and how it came to be (§8).

Notation
    x      log2 of the load at which a figure is predicted
    x_i    log2 of the measured loads, ascending                                     (N,)
    u      depth of the gap between two measured loads: (x - x_i)(x_{i+1} - x)/(x_{i+1} - x_i)
    d, D   doublings below the lightest measured load, and above the heaviest
    s      at + between u + below d + above D, the half-width of a typical pool; a multiple of
           it where only one or two loads were measured
    e_i    what the other loads would have got wrong at x_i (loadcurve.py); z_i = QUANTILE e_i/s
    own    sqrt((PRIOR + sum min(z_i, Z_MAX)^2)/(PRIOR + N)), how badly behaved this pool is
    noise  standard deviation of log measured among repeats of one load

Program
    half-width of the log error   h = max(own s(x), 1.645 noise)
    as a ratio                    exp(h) - 1

The constants are those with which the bands cover 90 % of the errors at left-out loads on half of
the public curves (normalised split conformal: Lei et al. 2018, JASA 113(523), section 5.2); the
other half checks it (benchmarks/latency_accuracy.py, which also prints the constants).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.latency.loadcurve import LoadCurve
from planner.spec.arrays import BoolArray, FloatArray
from planner.spec.base import Metric, Origin

Family = Literal[
    "throughput",
    "token_mean",
    "token_p50",
    "token_tail",
    "first_mean",
    "first_p50",
    "first_tail",
    "total_mean",
    "total_p50",
    "total_tail",
]


@dataclass(frozen=True)
class Scale:
    """The constants of one family of figures, all of them log half-widths or factors."""

    at: float  # at a measured load
    between: float  # per doubling of u
    below: float  # per doubling below the lightest measured load
    above: float  # per doubling above the heaviest
    one: float  # times as wide where one load was measured
    two: float  # and where two were


SCALES: dict[Family, Scale] = {
    "throughput": Scale(0.027, 0.172, 0.202, 0.166, 1.553, 1.355),
    "token_mean": Scale(0.02, 0.167, 0.184, 0.451, 0.814, 1.202),
    "token_p50": Scale(0.068, 0.236, 0.188, 0.552, 0.797, 0.976),
    "token_tail": Scale(0.099, 0.261, 0.469, 0.512, 0.58, 1.347),
    "first_mean": Scale(0.02, 0.217, 0.137, 0.292, 4.41, 1.538),
    "first_p50": Scale(0.023, 0.226, 0.106, 0.433, 5.045, 1.554),
    "first_tail": Scale(0.02, 0.328, 0.229, 0.222, 3.616, 1.232),
    "total_mean": Scale(0.021, 0.148, 0.204, 0.128, 2.041, 1.324),
    "total_p50": Scale(0.02, 0.203, 0.211, 0.132, 1.541, 1.877),
    "total_tail": Scale(0.277, 0.006, 0.358, 0.08, 0.731, 2.04),
}
PRIOR = 4.0
Z_MAX = 4.0
QUANTILE = 2.1  # half-width over scale: makes z an ordinary size
NORMAL_90 = 1.645
STEP: Family = "throughput"  # the time per token of a kept concurrency is its throughput
DERIVED = 0.10  # log half-width added to a figure that was measured in another mode only
PHYSICS_TTFT = 0.41  # and to a TTFT that nobody measured: prefill speed from datasheets
FLAT_RATIO = 0.50  # of a latency of which no load was measured at all
OUTSIDE = 2.0
PREFILL_WIDENING = 0.3
NO_LOAD_RATIO = 10.0  # without any measured load nothing is known


@dataclass(frozen=True)
class Spread:
    """Where the loads of one figure were measured, and how well they predict each other."""

    x: tuple[float, ...]  # log2, ascending
    own: float = 1.0
    noise: float = 0.0

    @classmethod
    def of(cls, curve: LoadCurve, family: Family) -> Spread:
        """Returns the spread of a measured figure."""
        x = curve.x / np.log(2.0)
        errors = curve.left_out()
        total = 0.0
        for i in range(errors.size):
            others = cls(tuple(np.delete(x, i)))
            z = QUANTILE * abs(errors[i]) / float(others._scale(SCALES[family], x[i : i + 1])[0])
            total += min(z, Z_MAX) ** 2
        own = float(np.sqrt((PRIOR + total) / (PRIOR + errors.size)))
        return cls(tuple(float(v) for v in x), own, curve.noise)

    def half_width(self, family: Family, load: FloatArray) -> FloatArray:
        """Returns h at the given loads, same shape."""
        width = self.own * self._scale(SCALES[family], np.log2(np.maximum(load, 1e-9)))
        return np.asarray(np.maximum(width, NORMAL_90 * self.noise))

    def _scale(self, scale: Scale, x: FloatArray) -> FloatArray:
        nodes = np.array(self.x)
        outside = scale.below * np.maximum(nodes[0] - x, 0.0)
        outside = outside + scale.above * np.maximum(x - nodes[-1], 0.0)
        right = np.clip(np.searchsorted(nodes, x), 1, max(nodes.size - 1, 1))
        low, high = nodes[right - 1], nodes[np.minimum(right, nodes.size - 1)]
        gap = np.maximum((x - low) * (high - x), 0.0) / np.maximum(high - low, 1e-9)
        few = {1: scale.one, 2: scale.two}.get(nodes.size, 1.0)
        return np.asarray((scale.at + scale.between * gap + outside) * few)


@dataclass(frozen=True)
class Bands:
    """The bands of a pool's table: relative half-widths, and the origin of each metric."""

    ratio: Mapping[Metric, float]  # the widest within the measured loads
    origin: Mapping[Metric, Origin]
    step: Spread | None = None  # of the time per token; None: `ratio` at every load
    first: Spread | None = None  # of a TTFT measured in an open loop
    derived: float = 0.0  # log half-width added to TPOT
    least: float = 0.0  # log half-width that no band is narrower than: that of an estimated pool

    @classmethod
    def measured(
        cls,
        origin: Mapping[Metric, Origin],
        step: Spread,
        first: Spread | None,
        derived: float,
        least: float = 0.0,
    ) -> Bands:
        """Returns the bands of a pool whose loads were measured."""
        inside = np.exp2(np.linspace(step.x[0], step.x[-1], 33))
        bare = cls({}, origin, step, first, derived, least)
        tpot, ttft = bare._tpot(inside), bare._ttft(inside)
        widest: dict[Metric, float] = {
            "ttft": float(ttft.max()),
            "tpot": float(tpot.max()),
            "e2e": float(tpot.max()),
        }
        return replace(bare, ratio=widest)

    def at(
        self,
        running: FloatArray,
        extrapolated: BoolArray,
        mean_ms: Mapping[Metric, FloatArray],
        prefill_ratio: FloatArray,
    ) -> dict[Metric, FloatArray]:
        """Returns the half-widths at every load, (K,) per metric.

        Args:
            running: (K,) mean sequences that run together.
            extrapolated: (K,) load lies outside the measured ones.
            mean_ms: (C, K) means, for the weight of TTFT in E2E.
            prefill_ratio: (K,) share of the time that prefills take.
        """
        if self.step is None:
            wider = np.where(extrapolated, OUTSIDE, 1.0)
            return {metric: wider * ratio for metric, ratio in self.ratio.items()}
        n = running + 1.0  # an arriving request sees the others and itself
        tpot = self._tpot(n) + PREFILL_WIDENING * prefill_ratio**2
        ttft = np.maximum(self._ttft(n), tpot)
        weight = np.clip((mean_ms["ttft"] / mean_ms["e2e"]).max(axis=0), 0.0, 1.0)
        return {"ttft": ttft, "tpot": tpot, "e2e": weight * ttft + (1.0 - weight) * tpot}

    def _tpot(self, n: FloatArray) -> FloatArray:
        assert self.step is not None
        half_width = np.hypot(self.step.half_width(STEP, n), self.derived)
        return as_ratio(np.maximum(half_width, self.least))

    def _ttft(self, n: FloatArray) -> FloatArray:
        assert self.step is not None
        if self.first is not None:
            return as_ratio(np.maximum(self.first.half_width("first_mean", n), self.least))
        half_width = np.hypot(self.step.half_width(STEP, n), PHYSICS_TTFT)
        return as_ratio(np.maximum(half_width, self.least))


def as_ratio(half_width: FloatArray) -> FloatArray:
    """Returns the wider side of a log band as a ratio of the figure."""
    return np.asarray(np.expm1(half_width))
