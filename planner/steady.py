"""Statistics of a series that starts cold: where it settles, whether it drifts, how sure its mean.

Notation
    y_1..y_n     the series in time order          z_1..z_m     means of m batches of it
    d            batches cut off at the start       b = 10       batches of an interval

    MSER-5       d minimises  sum_{j>d} (z_j - mean z_{>d})^2 / (m - d)^2,  batches of 5, d <= m/2
    interval     mean y +- t s_z / sqrt(b),  t = 2.262 (95 %, b - 1 = 9 degrees of freedom)
    drift        the line through z_1..z_b, when its slope has |t| > 3.355 (99 %, 8 degrees)

References: White, Cobb, Spratt, "A comparison of five steady-state truncation heuristics for
simulation", WSC 2000 (MSER-5); Law, "Simulation Modeling and Analysis", ch. 9 (batch means).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import FloatArray

N_BATCHES = 10
_T_INTERVAL = 2.262
_T_SLOPE = 3.355
_MSER_BATCH = 5
_T_975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
_Z_975 = 1.959964


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval, in the unit of what it is the mean of."""

    mean: float
    half_width: float

    @property
    def low(self) -> float:
        """Returns the lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Returns the upper end."""
        return self.mean + self.half_width

    @property
    def ratio(self) -> float:
        """Returns the half width relative to the mean."""
        return self.half_width / self.mean


def student_t(n_freedom: int) -> float:
    """Returns the 97.5 % quantile of Student's t with n_freedom >= 1 degrees of freedom.

    Beyond the table: Cornish-Fisher, within 0.0002 (Abramowitz and Stegun, 26.7.5).
    """
    if n_freedom <= len(_T_975):
        return _T_975[n_freedom - 1]
    z, v = _Z_975, float(n_freedom)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / v + second / v**2 + third / v**3


def settled_from(values: FloatArray) -> int:
    """Returns how many entries of a series (n,) to cut off at its start, by MSER-5."""
    n_batches = values.size // _MSER_BATCH
    if n_batches < 2:
        return 0
    means = values[: n_batches * _MSER_BATCH].reshape(n_batches, _MSER_BATCH).mean(axis=1)
    cuts = range(n_batches // 2 + 1)
    scores = [float(means[d:].var()) / (n_batches - d) for d in cuts]
    return int(np.argmin(scores)) * _MSER_BATCH


def interval(mean: float, batch_means: FloatArray) -> Interval:
    """Returns the interval of a mean from the means (N_BATCHES,) of equal parts of its series."""
    spread = float(batch_means.std(ddof=1))
    return Interval(mean, _T_INTERVAL * spread / math.sqrt(N_BATCHES))


def batches(values: FloatArray) -> FloatArray | None:
    """Returns the means (N_BATCHES,) of a series in equal parts; None below two entries each."""
    if values.size < 2 * N_BATCHES:
        return None
    return np.array([part.mean() for part in np.array_split(values, N_BATCHES)])


def drift_ratio(batch_means: FloatArray) -> float:
    """Returns how far a line through batch means (N_BATCHES,) rises, relative to their mean.

    Zero when the line could as well be level (99 %), or when the mean is zero.
    """
    place = np.arange(N_BATCHES) - (N_BATCHES - 1) / 2.0
    mean = float(batch_means.mean())
    slope = float(place @ batch_means / (place @ place))
    rest = batch_means - mean - slope * place
    error = math.sqrt(float(rest @ rest) / (N_BATCHES - 2) / float(place @ place))
    if mean == 0.0 or abs(slope) <= _T_SLOPE * error:
        return 0.0
    return slope * (N_BATCHES - 1) / mean
