"""Distributions as weighted nodes, and their survival on a time grid.

Notation
    v, w    value in ms and weight of a node, the weights of a group sum to 1
    x       log v on a fine even grid of step d
    S(t)    P(value > t)

Program
    spread every node linearly in v between its two neighbours of the fine grid (keeps the mean),
    smooth by a narrow log-normal kernel of mean 1, add up from the top.

The kernel stands for the jitter that every engine has and keeps the survival from being a
staircase, which the reading rule (linear in log t) would misread.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.spec.arrays import FloatArray, distinct

FINE = 480
JITTER = 0.03
N_TIMES = 72

# Three nodes of a normal variable that are exact up to the fifth moment (Gauss-Hermite).
NOISE = np.array([-np.sqrt(3.0), 0.0, np.sqrt(3.0)])
NOISE_WEIGHT = np.array([1.0, 4.0, 1.0]) / 6.0

# Two nodes, exact up to the third moment, where there are many other nodes anyway.
COIN = np.array([-1.0, 1.0])
COIN_WEIGHT = np.array([0.5, 0.5])

# Probability levels that cut a distribution into cells, finer where percentiles are read.
LEVELS = np.array(
    [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.78, 0.85, 0.9, 0.93, 0.955, 0.975, 0.987, 0.995, 1.0]
)


def noise_factor(
    cv: FloatArray, nodes: FloatArray = NOISE, weights: FloatArray = NOISE_WEIGHT
) -> FloatArray:
    """Returns factors of mean 1 with about the given cv, (..., number of nodes)."""
    sigma = np.sqrt(np.log1p(cv**2))
    factor = np.exp(sigma[..., None] * nodes)
    return np.asarray(factor / (factor @ weights)[..., None])


def cell_means(cumulative: FloatArray, integral: FloatArray) -> FloatArray:
    """Returns the mean of a quantity in every probability cell, (cells,).

    Args:
        cumulative: probability up to and including each state, (M,).
        integral: the quantity summed up over the same states with their probability, (M,).
    """
    at = np.interp(LEVELS, np.concatenate(([0.0], cumulative)), np.concatenate(([0.0], integral)))
    return np.asarray(np.diff(at) / np.diff(LEVELS))


def time_grid(low_ms: float, high_ms: float, nodes_ms: Sequence[float]) -> FloatArray:
    """Returns ascending log-spaced times in ms from low to high, the given nodes among them."""
    even = np.exp(np.linspace(np.log(low_ms), np.log(high_ms), N_TIMES))
    exact = distinct(np.asarray(nodes_ms, dtype=np.float64))
    # A grid time that nearly coincides with a limit adds nothing but a tiny interval.
    gap = (even[1] / even[0]) ** 0.25
    keep = np.ones(even.size, dtype=np.bool_)
    for node in exact:
        keep &= (even < node / gap) | (even > node * gap)
    return distinct(np.concatenate([even[keep], exact]))


class Survival:
    """The survival functions of many groups of nodes on one fine logarithmic grid."""

    def __init__(self, values_ms: FloatArray, weights: FloatArray, group: tuple[int, int]) -> None:
        """Bins the nodes of a (C, K) array of groups.

        Args:
            values_ms: (C, K, nodes), positive.
            weights: broadcastable to values_ms; sums to 1 over the nodes of a group.
            group: (C, K).
        """
        used = np.broadcast_to(weights, values_ms.shape)
        positive = values_ms[used > 0]
        margin = np.exp(8 * JITTER)
        self.low = float(np.log(positive.min() / margin))
        high = float(np.log(positive.max() * margin))
        self.step = (high - self.low) / (FINE - 1)
        self.group = group
        self.mass = _smooth(self._binned(values_ms, used), self.step)

    def _binned(self, values_ms: FloatArray, weights: FloatArray) -> FloatArray:
        n_groups = self.group[0] * self.group[1]
        grid = np.exp(self.low + self.step * np.arange(FINE))
        place = (np.log(np.maximum(values_ms, grid[1])) - self.low) / self.step
        index = np.clip(place.astype(np.int64), 0, FINE - 2)
        share = np.clip((values_ms - grid[index]) / (grid[index + 1] - grid[index]), 0.0, 1.0)
        offset = np.arange(n_groups).reshape(*self.group, 1) * FINE + index
        flat, w = offset.ravel(), weights.ravel()
        upper = (w * share.ravel()).astype(np.float64)
        size = n_groups * FINE
        binned = np.bincount(flat, w - upper, size) + np.bincount(flat + 1, upper, size)
        return np.asarray(binned.reshape(n_groups, FINE), dtype=np.float64)

    def at(self, times_ms: FloatArray) -> FloatArray:
        """Returns P(value > t) at the given times, (C, K, T), non-increasing along T."""
        above = np.cumsum(self.mass[:, ::-1], axis=1)[:, ::-1]
        # Half of a bin's mass lies above its centre.
        centred = np.clip(above - 0.5 * self.mass, 0.0, 1.0)
        place = np.clip((np.log(times_ms) - self.low) / self.step, 0.0, FINE - 1.0)
        index = np.minimum(place.astype(np.int64), FINE - 2)
        part = place - index
        value = centred[:, index] * (1 - part) + centred[:, index + 1] * part
        inside = (np.log(times_ms) >= self.low) & (np.log(times_ms) <= self.low + self.step * FINE)
        value = np.where(inside, value, np.where(np.log(times_ms) < self.low, 1.0, 0.0))
        value = np.minimum.accumulate(value, axis=1)
        return np.asarray(value.reshape(*self.group, times_ms.size))

    def span_ms(self, tail: float = 1e-4) -> tuple[float, float]:
        """Returns the times in ms between which all groups have all but `tail` of their mass."""
        below = np.cumsum(self.mass, axis=1)
        first = int(np.argmax((below > tail).any(axis=0)))
        last = int(np.argmax((below >= 1.0 - tail).all(axis=0)))
        low = self.low + self.step * max(first - 2, 0)
        return float(np.exp(low)), float(np.exp(self.low + self.step * min(last + 2, FINE - 1)))


def _smooth(mass: FloatArray, step: float) -> FloatArray:
    """Returns the mass after a log-normal jitter of mean 1."""
    sigma = max(JITTER, 0.6 * step)
    reach = int(np.ceil(4.0 * sigma / step))
    # Shifted by half the variance so that the mean of the factor is one.
    offset = np.arange(-reach, reach + 1) * step
    kernel = np.exp(-0.5 * ((offset + sigma**2 / 2) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(mass, ((0, 0), (reach, reach)))
    out = np.zeros_like(mass)
    for i, weight in enumerate(kernel):
        out += weight * padded[:, 2 * reach - i : 2 * reach - i + mass.shape[1]]
    return np.asarray(out / out.sum(axis=1, keepdims=True))
