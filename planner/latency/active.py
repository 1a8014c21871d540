"""Which load to measure next: where the band of the plan would shrink most.

The band of the time per token depends on where loads were measured (bands.py). A candidate is
judged by the widest band between the lightest and the heaviest load that a plan may use, had it
been measured and had it fitted as well as the loads before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.latency.bands import NO_LOAD_RATIO, STEP, Spread
from planner.latency.fit import fit_law, step_curve
from planner.latency.loadcurve import SAME_LOAD
from planner.latency.observation import observations
from planner.latency.physics import blind_prior
from planner.spec.pool import Point

N_GRID = 65


@dataclass(frozen=True)
class NextLoad:
    """A concurrency worth measuring, and what it is expected to do to the band."""

    concurrency: float
    band_now_ratio: float  # widest band over the plan's loads before measuring
    band_then_ratio: float  # and after, if the load fits as well as the others did


def widest_band_ratio(points: Sequence[Point], low: float, high: float) -> float:
    """Returns the widest band of the time per token for concurrencies from low to high."""
    spread = _spread(points)
    if spread is None:
        return NO_LOAD_RATIO
    return float(np.expm1(_judged(spread, low, high)[0]))


def next_load(points: Sequence[Point], low: float, high: float) -> NextLoad:
    """Returns the closed-loop concurrency in [low, high] to measure next.

    Ties of the widest band are broken by the mean band, then by the lighter load, which is also
    the quicker one to measure.
    """
    spread = _spread(points)
    candidates = _candidates(low, high)
    new = [n for n in candidates if spread is None or not _is_known(spread, n)]
    best = min(new or candidates, key=lambda n: (*_judged(_with(spread, n), low, high), n))
    then, _ = _judged(_with(spread, best), low, high)
    return NextLoad(best, widest_band_ratio(points, low, high), float(np.expm1(then)))


def _spread(points: Sequence[Point]) -> Spread | None:
    """Returns where the time per token was measured; None where it was not."""
    rows, _ = observations(points)
    steps = [r for r in rows if r.kind != "ttft"]
    if not steps:
        return None
    guess = blind_prior([r.time_ms for r in steps], [r.n for r in steps])
    return Spread.of(step_curve(fit_law(steps, guess), steps), STEP)


def _with(spread: Spread | None, concurrency: float) -> Spread:
    """Returns the spread if one more load were known, no better and no worse than the others."""
    x = float(np.log2(concurrency))
    if spread is None:
        return Spread((x,))
    if _is_known(spread, concurrency):
        return spread
    return replace(spread, x=tuple(sorted((*spread.x, x))))


def _is_known(spread: Spread, concurrency: float) -> bool:
    gaps = np.abs(np.array(spread.x) - np.log2(concurrency))
    return bool(gaps.min() <= np.log2(SAME_LOAD))


def _judged(spread: Spread, low: float, high: float) -> tuple[float, float]:
    """Returns the widest and the mean log half-width over the loads of a plan, rounded."""
    width = spread.half_width(STEP, np.geomspace(low, high, N_GRID))
    return round(float(width.max()), 9), round(float(width.mean()), 9)


def _candidates(low: float, high: float) -> list[float]:
    """Returns whole concurrencies from low to high, evenly in the logarithm."""
    whole = np.unique(np.round(np.geomspace(low, high, N_GRID)))
    inside = whole[(whole >= low) & (whole <= high) & (whole >= 1.0)]
    return [float(n) for n in inside] or [low]
