"""95 % intervals of what was counted, so that chance is not taken for change.

Notation
    z      1.96                        N, T   requests and the time in which they came      1, s
    D      dispersion: the variance of what was counted over that of independent requests     1
    k, n   so many of so many          m, c   a mean and the coefficient of variation       any, 1
    U, R   utilisation of a pool, and the requests that one of its replicas runs at once     1

Program (score intervals: all true values that are not further than z standard errors off)
    rate    (N + D z^2/2 -+ z sqrt(D N + D^2 z^2/4)) / T
    share   (k + z^2/2 -+ z sqrt(k (n - k)/n + z^2/4)) / (n + z^2)    at k/D of n/D
    mean    m -+ z c m sqrt(D/n)
    p-th percentile of n in buckets: bounds around the ranks  p n -+ z sqrt(D p (1 - p) n)
    mean of n scores in 0 to 1: as a share, k their sum: nothing in 0 to 1 with their mean
            varies more than answers that are right or wrong

References: Wilson 1927 (share), its Poisson form, and the order-statistic interval of quantiles.
Requests that come or wait together vary more than independent ones. Of counts of arrivals the
question's own process says how much: D = cv^2 of the gaps, and at least 1. Of latencies the load
does: who comes when a replica is full waits with all the others, and who runs there at once has
the same steps. These are rules, by simulation of replicas of 16 to 256 places at U of 0.4 to 0.9:

    e2e     D = 1.5 / (1 - U)         mostly the length of the answer: there 1 to 25
    ttft    D = 2 / (1 - U)^2         the moment's queue: 2 to 200
    tpot    D = 3 R, and at least 1   the moment's batch: 3 to 600

They are seldom too small by more than half. So it takes long to know the tail of a full pool.
"""

from __future__ import annotations

from math import ceil, floor, inf, sqrt
from typing import NamedTuple

from planner.drift.observed import Latencies, Lengths
from planner.spec.base import Metric

Z = 1.959963984540054
MOST_FULL = 0.95
"""Beyond this utilisation a queue grows as long as it is let, and no rule holds."""


class Interval(NamedTuple):
    """An estimate, and between what the true value lies, 95 times in 100."""

    value: float
    low: float
    high: float


def of_rate(n: float, seconds: float, dispersion: float) -> Interval:
    """Returns the rate per second of something that was counted n times."""
    middle = n + dispersion * Z**2 / 2.0
    half = Z * sqrt(dispersion * n + dispersion**2 * Z**2 / 4.0)
    return Interval(n / seconds, max(middle - half, 0.0) / seconds, (middle + half) / seconds)


def dispersion_of(metric: Metric, utilisation: float, n_running: float) -> float:
    """Returns the dispersion of a pool's latencies.

    Args:
        metric: which of them.
        utilisation: of the pool.
        n_running: requests that one replica runs at once, on average.
    """
    room = 1.0 - min(max(utilisation, 0.0), MOST_FULL)
    if metric == "e2e":
        return 1.5 / room
    return 2.0 / room**2 if metric == "ttft" else max(3.0 * n_running, 1.0)


def of_share(k: float, n: float, dispersion: float = 1.0) -> Interval:
    """Returns the share of k among n, also where k is a sum of values in 0 to 1."""
    if n <= 0:
        return Interval(0.0, 0.0, 1.0)
    k, n = min(max(k, 0.0), n) / dispersion, n / dispersion
    middle, half = k + Z**2 / 2.0, Z * sqrt(k * (n - k) / n + Z**2 / 4.0)
    low, high = (middle - half) / (n + Z**2), (middle + half) / (n + Z**2)
    return Interval(k / n, max(low, 0.0), min(high, 1.0))


def of_lengths(lengths: Lengths) -> Interval:
    """Returns the mean length in tokens; of a single one nobody knows how far off it is."""
    if lengths.n < 2:
        return Interval(lengths.mean, 0.0, inf)
    half = Z * lengths.cv * lengths.mean / sqrt(lengths.n - 1.0)
    return Interval(lengths.mean, max(lengths.mean - half, 0.0), lengths.mean + half)


def of_percentile_ms(latencies: Latencies, ratio: float, dispersion: float = 1.0) -> Interval:
    """Returns a percentile in ms; buckets tell no more than between which bounds it lies."""
    n = latencies.n
    half = Z * sqrt(dispersion * ratio * (1.0 - ratio) * n)
    low_rank, high_rank = floor(ratio * n - half), ceil(ratio * n + half) + 1
    low_ms, _ = latencies.edges_ms(low_rank) if low_rank >= 1 else (0.0, 0.0)
    _, high_ms = latencies.edges_ms(high_rank) if high_rank <= n else (0.0, inf)
    near_ms, far_ms = latencies.edges_ms(max(ratio * n, 1.0))
    value_ms = near_ms if far_ms == inf else sqrt(max(near_ms, far_ms / 2.0) * far_ms)
    return Interval(value_ms, low_ms, high_ms)


def of_mean_ms(latencies: Latencies, dispersion: float = 1.0) -> Interval:
    """Returns the mean in ms; its spread is that between the buckets, at most.

    Beyond the last bound it is that of an exponential tail with the mean that the rest leaves.
    """
    n, mean_ms = latencies.n, latencies.total_ms / max(latencies.n, 1.0)
    if n < 2:
        return Interval(mean_ms, 0.0, inf)
    low_ms, before, squares, below_ms = 0.0, n, 0.0, 0.0
    for bound_ms, above in zip(latencies.bounds_ms, latencies.above, strict=True):
        furthest = max(abs(low_ms - mean_ms), abs(bound_ms - mean_ms))
        squares += (before - above) * furthest**2
        below_ms += (before - above) * (low_ms + bound_ms) / 2.0
        low_ms, before = bound_ms, above
    if before > 0:
        excess_ms = max((latencies.total_ms - below_ms) / before - low_ms, 0.0)
        squares += before * ((low_ms + excess_ms - mean_ms) ** 2 + excess_ms**2)
    half = Z * sqrt(dispersion * squares / n / (n - 1.0))
    return Interval(mean_ms, max(mean_ms - half, 0.0), mean_ms + half)
