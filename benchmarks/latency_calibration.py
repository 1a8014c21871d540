"""Calibrates the bands: the constants of planner/latency/bands.py from held-out errors.

For each family of figures: first the scale of the log error under which the errors of the
calibrating curves are most likely if they are Laplace distributed; then, in turns, each constant
is changed until the bands cover 90 % of the experiments that it is about. Data sets and
experiments weigh the same, however many points they have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, replace

import numpy as np
from latency_accuracy import Held
from scipy.optimize import minimize

from planner.latency.bands import NORMAL_90, PRIOR, QUANTILE, SCALES, STEP, Z_MAX, Family, Scale

COVERAGE = 0.91  # a little more than 90 %: the curves are few, their points are not independent
LEAST_AT = 0.02  # no figure is known better than this, even where it was measured
LEAST = 1e-3
SMALLEST_ERROR = 0.003
FULL_WEIGHT = 100  # points; experiments with fewer count for less
N_ROUNDS = 6
# Constants (at, between, below, above, one, two) and the experiments that they are about.
ABOUT: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...] = (
    ((0, 1), ("interior", "3 loads", "4 loads", "6 loads")),
    ((4,), ("1 load",)),
    ((5,), ("2 loads",)),
    ((2,), ("lighter",)),
    ((3,), ("doubling",)),
)


def calibrate(held: Sequence[Held]) -> dict[Family, Scale]:
    """Returns the scale of every family that some calibrating curve has."""
    found: dict[Family, Scale] = {}
    for family in SCALES:
        rows = [h for h in held if h.family == family and h.calibrates]
        if rows:
            found[family] = _Problem(rows).solve(SCALES[family])
    step = found[STEP]
    # Active profiling needs a band that no further load widens.
    return found | {STEP: replace(step, one=max(step.one, step.two))}


class _Problem:
    """The errors of one family, as arrays."""

    def __init__(self, rows: Sequence[Held]) -> None:
        self.error = np.array([abs(h.log_error) for h in rows])
        self.noise = np.array([h.known.noise for h in rows])
        self.at = np.array([_position(h.known.x, np.log(h.load)) for h in rows])  # (M, 5)
        width = max(h.known.x.size for h in rows)
        self.left_out = np.full((len(rows), width), np.nan)
        self.left_out_at = np.zeros((len(rows), width, 5))
        for i, h in enumerate(rows):
            errors = np.abs(h.known.left_out())
            for j, error in enumerate(errors):
                self.left_out[i, j] = error
                self.left_out_at[i, j] = _position(np.delete(h.known.x, j), h.known.x[j])
        self.experiment = np.array([h.experiment for h in rows])
        counts = Counter((h.source, h.experiment) for h in rows)
        self.weight = np.array([1.0 / max(counts[h.source, h.experiment], 1) for h in rows])
        self.weight *= [min(counts[h.source, h.experiment] / FULL_WEIGHT, 1.0) for h in rows]

    def solve(self, start: Scale) -> Scale:
        """Returns the calibrated scale."""
        first = np.log(np.maximum(astuple(start), 1e-2))
        options = {"maxiter": 1500, "maxfev": 1500, "xatol": 1e-2, "fatol": 1e-5}
        best = minimize(self._loss, first, method="Nelder-Mead", options=options)
        parts = self._parts(best.x)
        for _ in range(N_ROUNDS):
            for which, experiments in ABOUT:
                mask = np.isin(self.experiment, experiments)
                if mask.any():
                    parts = self._covering(parts, which, mask)
        return Scale(*(float(v) for v in np.round(parts, 3)))

    def _covering(self, parts, which: tuple[int, ...], mask):
        """Returns the parts with some of them multiplied so that the band covers the rows."""
        low, high = 0.02, 50.0
        for _ in range(30):
            factor = np.sqrt(low * high)
            covered = self.error <= self._half_width(_times(parts, which, factor))
            enough = self.weight[mask & covered].sum() >= COVERAGE * self.weight[mask].sum()
            low, high = (low, factor) if enough else (factor, high)
        return _times(parts, which, np.clip(high, 0.05, 20.0))

    def _parts(self, log_parts):
        parts = np.exp(np.clip(log_parts, -7.0, 4.0))
        return _times(parts, (), 1.0)

    def _loss(self, log_parts) -> float:
        half = self._half_width(self._parts(log_parts)) / QUANTILE
        error = np.maximum(self.error, SMALLEST_ERROR)
        return float(np.sum(self.weight * (np.log(half) + error / half)) / self.weight.sum())

    def _half_width(self, parts):
        z = np.minimum(QUANTILE * self.left_out / _scale(parts, self.left_out_at), Z_MAX)
        n = np.sum(~np.isnan(z), axis=1)
        own = np.sqrt((PRIOR + np.nansum(z**2, axis=1)) / (PRIOR + n))
        return np.maximum(own * _scale(parts, self.at), NORMAL_90 * self.noise)


def _scale(parts, at):
    few = 1.0 + at[..., 3:] @ (parts[4:] - 1.0)
    return (parts[0] + at[..., :3] @ parts[1:4]) * few


def _times(parts, which: tuple[int, ...], factor: float):
    """Returns the parts of a scale, some of them `factor` times as large."""
    changed = parts.copy()
    changed[list(which)] *= factor
    return np.maximum(changed, [LEAST_AT, *[LEAST] * 5])


def _position(log_loads, log_load) -> tuple[float, ...]:
    """Returns (u, doublings below, doublings above, N is 1, N is 2) of a load among N others."""
    nodes, x = np.asarray(log_loads) / np.log(2.0), float(log_load) / np.log(2.0)
    if nodes.size == 0:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    depth = 0.0
    if nodes[0] < x < nodes[-1]:
        right = int(np.searchsorted(nodes, x))
        low, high = nodes[right - 1], nodes[right]
        depth = (x - low) * (high - x) / (high - low)
    below, above = max(nodes[0] - x, 0.0), max(x - nodes[-1], 0.0)
    return depth, below, above, float(nodes.size == 1), float(nodes.size == 2)
