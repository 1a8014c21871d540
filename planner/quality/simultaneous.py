"""Intervals for many means at once: how far the best of many tries must lie above zero.

Notation
    T, N      tries, prompts; G independent groups of prompts (duplicates share one)
    v_nt      value of try t on prompt n; u_nt is 1 where the try counts it, else 0
    m_t       mean of the values of t that count
    s_t       its standard error: root of the sum over groups of (sum in g of u (v - m))^2, by sum u
    z         how many standard errors every interval reaches, the same for all tries

The best of many tries looks good by luck alone, so z comes from the largest: groups are resampled
with replacement, and z is the 97.5 % quantile over resamples of

    max over t of (m*_t - m_t) / s*_t

where * marks what is computed on the resample. With a chance of 97.5 %, then, m_t - z s_t lies
below the truth for all tries together, whatever their correlation, and also for one that is picked
because it looks best. Dividing by s*, not by s, also carries the skewness of rare large values.

A try that lies clearly below zero cannot be the one that luck lifts above it. It is no part of the
maximum when m_t < -s_t root(2 ln ln G), which keeps every try whose truth is zero as G grows.

Choosing a try on some folds and judging it on another needs no z, but proves nothing by itself:
where all folds choose the same try, its held-out mean is that of the whole data again. In
simulated noise it found something in 9 to 14 % of the runs, and this in 1 to 2 %.

References: J. P. Romano, M. Wolf, Exact and approximate stepdown methods for multiple hypothesis
testing, JASA 100 (2005) 94-108 (the maximum); P. R. Hansen, A test for superior predictive ability,
JBES 23 (2005) 365-380 (the bound on what counts).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import BoolArray, FloatArray, IntArray

N_RESAMPLES = 1000
CONFIDENCE = 0.975
SINGLE_Z = 1.96
"""No interval of several tries is narrower than that of one."""
MOST_GROUPS = 2000
"""More groups than this are resampled in random bags, which are as independent as they are."""


@dataclass(frozen=True, eq=False)
class Means:
    """The means of T tries, (T,) each, and what they are made of."""

    mean: FloatArray
    error: FloatArray  # standard error
    residual: FloatArray  # (G, T) sum in a group of u (v - m), by the sum of u

    @property
    def may_be_positive(self) -> BoolArray:
        """Returns which tries are not clearly below zero, (T,)."""
        n_groups = max(len(self.residual), 3)
        least = -self.error * math.sqrt(2.0 * math.log(math.log(n_groups)))
        return np.asarray(self.mean >= least)


def means_of(tries: Iterable[tuple[FloatArray, BoolArray]], group: IntArray) -> Means:
    """Returns the means of tries over the prompts that they count, with their errors.

    Args:
        tries: of each one v and u, (N,); each counts at least one prompt.
        group: (N,) equal numbers: not independent.
    """
    bag = _bags(group)
    n_bags = int(bag.max()) + 1
    means, columns = [], []
    for values, counted in tries:
        kept = values[counted]
        mean = float(kept.mean())
        means.append(mean)
        columns.append(np.bincount(bag[counted], (kept - mean) / kept.size, n_bags))
    residual = np.asarray(np.column_stack(columns), dtype=np.float64)
    return Means(np.array(means), np.sqrt(np.square(residual).sum(axis=0)), residual)


def reach(parts: Sequence[Means], seed: int) -> float:
    """Returns z: standard errors to either side of each mean that cover all tries at once.

    Args:
        parts: tries on parts of the data that share no group, resampled apart; at least one.
        seed: of the resampling.
    """
    largest = np.full(N_RESAMPLES, -np.inf)
    for k, part in enumerate(parts):
        residual = part.residual[:, part.may_be_positive]
        if residual.shape[1]:
            random = np.random.default_rng([seed, k])
            largest = np.maximum(largest, _largest(residual, random))
    # No interpolation: a finite quantile even where some resamples are infinite.
    return max(float(np.quantile(largest, CONFIDENCE, method="higher")), SINGLE_Z)


def _bags(group: IntArray) -> IntArray:
    """Returns a number for each prompt, (N,): its group, or a random bag of them if too many."""
    _, member = np.unique(group, return_inverse=True)
    n_groups = int(member.max()) + 1
    bag_of = np.random.default_rng(n_groups).permutation(n_groups) % MOST_GROUPS
    return np.asarray(bag_of[member], dtype=np.int64)


def _largest(residual: FloatArray, random: np.random.Generator) -> FloatArray:
    """Returns the largest (m* - m) / s* over the tries of each resample, (N_RESAMPLES,)."""
    n_groups = len(residual)
    drawn = random.integers(n_groups, size=(N_RESAMPLES, n_groups))
    cell = drawn + n_groups * np.arange(N_RESAMPLES)[:, None]
    weight = np.bincount(cell.ravel(), minlength=N_RESAMPLES * n_groups).astype(np.float64)
    weight = weight.reshape(N_RESAMPLES, n_groups)
    shift = weight @ residual
    error = np.sqrt(np.maximum(weight @ np.square(residual) - shift**2 / n_groups, 0.0))
    ratio = np.divide(shift, error, out=np.full(shift.shape, -np.inf), where=error > 0.0)
    return np.asarray(ratio.max(axis=1))
