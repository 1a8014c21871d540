"""When requests arrive: at random, in bursts, along a rate that changes, or as a trace did.

Notation
    r     mean rate (requests/s)            cv    coefficient of variation of the gaps (none)
    g_i   gap before request i (s)          t_i   its arrival since the start (s), t_i = sum g_j
    r(t)  rate at time t (requests/s)       R(t)  requests expected until t, its integral (none)
    e_i   arrivals of a Poisson process of rate 1 (none)

    poisson    g_i ~ Exponential(mean 1/r)                             cv = 1
    gamma      g_i ~ Gamma(shape 1/cv^2, scale cv^2/r)                 mean 1/r; cv > 1 is bursty
    weibull    g_i ~ Weibull(shape k, scale 1/(r G(1 + 1/k))),  G the gamma function, k such that
               ln(1 + cv^2) = ln G(1 + 2/k) - 2 ln G(1 + 1/k)          mean 1/r
    along      t_i = R^-1(e_i): a Poisson process whose rate is a step function (Cinlar 1975)
    trace      t_i = (recorded_i - recorded_0) / rate_factor

Arrivals end with the n-th request or before `duration_s`, whichever is first. The gaps are drawn in
blocks of one size, so that longer arrivals begin with the shorter ones of the same seed. Renewal
processes begin as if a request had just come.

Reference: E. Cinlar, "Introduction to Stochastic Processes", 1975, ch. 4 (time change).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from planner.spec.arrays import FloatArray

_BLOCK = 1024  # gaps drawn at a time
_STEPS_OF_DAY = 288  # of five minutes, the window in which a peak is planned
_DAY_S = 86_400.0

Seed: TypeAlias = "int | np.random.SeedSequence"  # in quotes: np.random is loaded where it is used


# ---- Renewal processes: independent gaps of one distribution -------------------------------------


def poisson(
    rate_rps: float, *, seed: Seed, n: int | None = None, duration_s: float | None = None
) -> FloatArray:
    """Returns the arrivals (n,) in s, ascending, of a Poisson process.

    Raises ValueError when neither n nor duration_s is given, or a number is not above zero.
    """
    return gamma(rate_rps, 1.0, seed=seed, n=n, duration_s=duration_s)


def gamma(
    rate_rps: float, cv: float, *, seed: Seed, n: int | None = None, duration_s: float | None = None
) -> FloatArray:
    """Returns the arrivals (n,) in s, ascending, of a renewal process with gamma gaps.

    Raises ValueError when neither n nor duration_s is given, or a number is not above zero.
    """
    _refuse_unless_above_zero(rate_rps, cv, n, duration_s)
    random = np.random.default_rng(seed)
    shape = cv**-2
    scale_s = 1.0 / (shape * rate_rps)
    return _renewal(lambda k: random.gamma(shape, scale_s, k), n, duration_s)


def weibull(
    rate_rps: float, cv: float, *, seed: Seed, n: int | None = None, duration_s: float | None = None
) -> FloatArray:
    """Returns the arrivals (n,) in s, ascending, of a renewal process with Weibull gaps.

    Raises ValueError when neither n nor duration_s is given, or a number is not above zero.
    """
    _refuse_unless_above_zero(rate_rps, cv, n, duration_s)
    random = np.random.default_rng(seed)
    shape = weibull_shape(cv)
    scale_s = 1.0 / (rate_rps * math.gamma(1.0 + 1.0 / shape))
    return _renewal(lambda k: scale_s * random.weibull(shape, k), n, duration_s)


def weibull_shape(cv: float) -> float:
    """Returns the shape of the Weibull distribution with a coefficient of variation.

    1/shape is found by bisection, as the left side of the equation above rises with it.
    """
    wanted = math.log1p(cv**2)
    low, high = 0.0, 1.0
    while _log_square(high) < wanted:
        high *= 2.0
    while low < (middle := (low + high) / 2.0) < high:
        low, high = (middle, high) if _log_square(middle) < wanted else (low, middle)
    return 1.0 / high


def _log_square(inverse_shape: float) -> float:
    """Returns ln(1 + cv^2) of a Weibull distribution: that of E[g^2] / E[g]^2."""
    return math.lgamma(1.0 + 2.0 * inverse_shape) - 2.0 * math.lgamma(1.0 + inverse_shape)


def _renewal(
    draw: Callable[[int], FloatArray], n: int | None, duration_s: float | None
) -> FloatArray:
    """Returns the arrivals (n,) in s whose gaps are drawn one after the other."""
    blocks: list[FloatArray] = []
    n_so_far, last_s = 0, 0.0
    while (n is None or n_so_far < n) and (duration_s is None or last_s < duration_s):
        blocks.append(last_s + np.cumsum(draw(_BLOCK)))
        n_so_far += _BLOCK
        last_s = float(blocks[-1][-1])
    times_s = np.concatenate(blocks)
    if duration_s is not None:
        times_s = times_s[: np.searchsorted(times_s, duration_s, side="left")]
    return times_s[:n]


def _refuse_unless_above_zero(
    rate_rps: float, cv: float, n: int | None, duration_s: float | None
) -> None:
    if n is None and duration_s is None:
        raise ValueError("arrivals need a number of requests or a duration")
    given = (rate_rps, cv, n if n is not None else 1, duration_s if duration_s is not None else 1)
    if not all(math.isfinite(value) and value > 0 for value in given):
        raise ValueError(f"rate, cv, number and duration must be above zero, got {given}")


# ---- A rate that changes -------------------------------------------------------------------------


@dataclass(frozen=True)
class RateCurve:
    """A rate that holds from each edge to the next, over and over; raises ValueError for nonsense.

    Edges ascend and rates are finite, not negative, and not all zero.
    """

    edges_s: FloatArray  # (k + 1,) the first is the start, the last the end of one round
    rate_rps: FloatArray  # (k,)

    def __post_init__(self) -> None:
        is_shaped = self.edges_s.size == self.rate_rps.size + 1 >= 2
        if (
            not is_shaped
            or not np.isfinite(self.edges_s).all()
            or (np.diff(self.edges_s) <= 0).any()
        ):
            raise ValueError("a rate curve needs ascending edges, one more than rates")
        if not (np.isfinite(self.rate_rps) & (self.rate_rps >= 0)).all() or not self.rate_rps.any():
            raise ValueError("the rates of a curve must not be negative, nor all of them zero")

    @classmethod
    def from_starts(cls, starts_s: FloatArray, rate_rps: FloatArray) -> RateCurve:
        """Returns a curve whose last rate holds as long as the one before it; two or more, (k,)."""
        return cls(np.append(starts_s, starts_s[-1] + (starts_s[-1] - starts_s[-2])), rate_rps)

    @property
    def period_s(self) -> float:
        """Returns how long one round of the curve is, in s."""
        return float(self.edges_s[-1] - self.edges_s[0])

    @property
    def expected(self) -> FloatArray:
        """Returns how many requests are expected from the start to each edge, (k + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.rate_rps * np.diff(self.edges_s))])


def square_curve(low_rps: float, high_rps: float, period_s: float) -> RateCurve:
    """Returns a rate that is high for half a period and then low for the other half."""
    return RateCurve(period_s * np.array([0.0, 0.5, 1.0]), np.array([high_rps, low_rps]))


def diurnal_curve(base_rps: float, peak_rps: float, peak_hour: float) -> RateCurve:
    """Returns one day's rate: a cosine with its peak at an hour of the day, its base 12 h away.

    The curve is cut into steps of five minutes, each with the mean of the cosine over it.
    """
    edges_s = np.linspace(0.0, _DAY_S, _STEPS_OF_DAY + 1)
    angle = 2.0 * np.pi * (edges_s / _DAY_S - peak_hour / 24.0)
    mean_cosine = np.diff(np.sin(angle)) / np.diff(angle)
    return RateCurve(edges_s, base_rps + (peak_rps - base_rps) * (1.0 + mean_cosine) / 2.0)


def along(
    curve: RateCurve,
    *,
    seed: Seed,
    duration_s: float,
    rate_factor: float = 1.0,
    start_s: float = 0.0,
) -> FloatArray:
    """Returns the arrivals (n,) in s since start_s, ascending, of a Poisson process.

    The curve is gone through again and again until the duration is over. start_s, counted from the
    curve's start, is where the process begins: it has no memory, so nothing before is drawn.

    Raises ValueError when duration or factor is not above zero, or the start below it.
    """
    since_s, expected = curve.edges_s - curve.edges_s[0], curve.expected * rate_factor

    def expected_until(time_s: float) -> float:
        n_rounds, rest_s = divmod(time_s, curve.period_s)
        return float(n_rounds * expected[-1] + np.interp(rest_s, since_s, expected))

    before = expected_until(start_s)
    n_expected = expected_until(start_s + duration_s) - before
    if not (math.isfinite(n_expected) and rate_factor > 0 and duration_s > 0 and start_s >= 0):
        raise ValueError(
            "duration and factor must be above zero, the start not below it: "
            f"{duration_s}, {rate_factor}, {start_s}"
        )
    if n_expected <= 0.0:
        return np.empty(0)
    drawn = before + poisson(1.0, seed=seed, duration_s=n_expected)
    rounds, rest = np.divmod(drawn, expected[-1])
    # A step of rate zero is a jump of the inverse; that an arrival falls on it has no chance.
    times_s: FloatArray = rounds * curve.period_s + np.interp(rest, expected, since_s) - start_s
    return np.maximum(times_s[times_s < duration_s], 0.0)


# ---- Traces --------------------------------------------------------------------------------------


def trace(times_s: FloatArray, rate_factor: float = 1.0) -> FloatArray:
    """Returns the arrivals (n,) in s of a recorded trace, from its first request on.

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


def round_s(times_s: FloatArray) -> float:
    """Returns the time in s after which a trace (n,), from 0 on, starts again: one mean gap later.

    So the mean rate of a trace that is repeated is that of its gaps.
    """
    return float(times_s[-1]) * times_s.size / (times_s.size - 1)


def repeated(times_s: FloatArray, duration_s: float) -> FloatArray:
    """Returns the arrivals (m,) in s of a trace (n,), from 0 on, over and over for a duration.

    Arrival k is the trace's row k modulo n. Raises ValueError for a trace that spans no time.
    """
    if not times_s[-1] > 0:
        raise ValueError("a trace must span some time to be repeated")
    period_s = round_s(times_s)
    starts_s = period_s * np.arange(math.ceil(duration_s / period_s))
    all_s = (starts_s[:, None] + times_s).ravel()
    return all_s[all_s < duration_s]
