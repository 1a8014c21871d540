"""When an open loop sends its requests: at random, in bursts, or as a trace did.

Notation
    r     mean rate (requests/s)            cv    coefficient of variation of the gaps (none)
    g_i   gap before request i (s)          t_i   its send time since the start (s), t_i = sum g_j

    poisson    g_i ~ Exponential(mean 1/r)                      cv = 1
    gamma      g_i ~ Gamma(shape 1/cv^2, scale cv^2/r)          mean 1/r; cv > 1 is bursty
    trace      t_i = (recorded_i - recorded_0) / rate_factor

A schedule ends with its n-th request or before `duration_s`, whichever is first. The gaps are drawn
in blocks of one size, so that a longer schedule begins with the shorter one of the same seed.
"""

from __future__ import annotations

import math

import numpy as np

from planner.spec.arrays import FloatArray

_BLOCK = 1024  # gaps drawn at a time


def poisson(
    rate_rps: float, *, seed: int, n: int | None = None, duration_s: float | None = None
) -> FloatArray:
    """Returns the send times (n,) in s, ascending, of a Poisson process.

    Raises ValueError when neither n nor duration_s is given, or a number is not above zero.
    """
    return gamma(rate_rps, 1.0, seed=seed, n=n, duration_s=duration_s)


def gamma(
    rate_rps: float, cv: float, *, seed: int, n: int | None = None, duration_s: float | None = None
) -> FloatArray:
    """Returns the send times (n,) in s, ascending, of a renewal process with gamma gaps.

    Raises ValueError when neither n nor duration_s is given, or a number is not above zero.
    """
    if n is None and duration_s is None:
        raise ValueError("a schedule needs a number of requests or a duration")
    given = (rate_rps, cv, n if n is not None else 1, duration_s if duration_s is not None else 1)
    if not all(math.isfinite(value) and value > 0 for value in given):
        raise ValueError(f"rate, cv, number and duration must be above zero, got {given}")
    random = np.random.default_rng(seed)
    shape = cv**-2
    times_s = np.empty(0)
    while not _is_complete(times_s, n, duration_s):
        gaps_s = random.gamma(shape, 1.0 / (shape * rate_rps), _BLOCK)
        last_s = times_s[-1] if times_s.size else 0.0
        times_s = np.concatenate([times_s, last_s + np.cumsum(gaps_s)])
    if duration_s is not None:
        times_s = times_s[times_s < duration_s]
    return times_s[:n]


def trace(times_s: FloatArray, rate_factor: float = 1.0) -> FloatArray:
    """Returns the send times (n,) in s of a recorded trace, from its first request on.

    A rate_factor of 2 sends twice as fast. Raises ValueError for an empty trace, times that are
    not finite, or a factor that is not above zero.
    """
    recorded_s = np.sort(np.asarray(times_s, dtype=np.float64))
    if recorded_s.size == 0 or not np.isfinite(recorded_s).all():
        raise ValueError("a trace needs at least one time, all of them finite")
    if not (math.isfinite(rate_factor) and rate_factor > 0):
        raise ValueError(f"rate_factor must be above zero, got {rate_factor}")
    since_s: FloatArray = (recorded_s - recorded_s[0]) / rate_factor
    return since_s


def _is_complete(times_s: FloatArray, n: int | None, duration_s: float | None) -> bool:
    """Returns whether the schedule has all of its requests."""
    enough = n is not None and times_s.size >= n
    over = duration_s is not None and times_s.size > 0 and float(times_s[-1]) >= duration_s
    return enough or over
