"""Token-count distributions as equally likely nodes.

Notation
    n     number of nodes                         u_i = (i - 1/2)/n   node probability, i = 1..n
    m     mean tokens        cv   coefficient of variation (sd/mean)
    Q(u)  quantile function

A class's lengths become the vector min(max(f Q(u_i), 1), maximum), with the factor f that makes
its mean m: the mean drives capacity and must not suffer from the tail that n nodes cannot see.

Lognormal: sigma^2 = ln(1 + cv^2), mu = ln m - sigma^2/2, Q(u) = exp(mu + sigma Phi^-1(u)).
Observed quantiles: Q is log-linear between them; below the first it is held; above the last it
goes on as the lognormal law through the last two, which holding it would make too short.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from planner.spec.arrays import FloatArray, distinct


class Nodes(NamedTuple):
    """How many nodes stand for the prompt and for the answer lengths of a class."""

    n_input: int
    n_output: int


PLANNED = Nodes(16, 64)  # what the tables are made of
DRAWN = Nodes(4096, 4096)  # what single requests are drawn from: the tail, too, up to p99.99


def node_probabilities(n: int) -> FloatArray:
    """Returns the n mid-point probabilities of equally likely nodes, (n,)."""
    return (np.arange(n) + 0.5) / n


def lognormal_nodes(mean: float, cv: float, n: int, maximum: float | None = None) -> FloatArray:
    """Returns n equally likely token counts of a lognormal law, (n,), with the given mean.

    With a maximum, longer answers are cut there, and the scale is raised so that the mean of
    what remains is still `mean` (as an engine's max_tokens does to observed lengths).
    """
    sigma = float(np.sqrt(np.log1p(max(cv, 0.0) ** 2)))
    return _with_mean(np.exp(sigma * _normal_scores(node_probabilities(n))), mean, maximum)


def observed_nodes(samples: FloatArray, n: int) -> FloatArray:
    """Returns n equally likely token counts of an observed sample, (n,), with the sample's mean."""
    nodes = np.quantile(samples, node_probabilities(n), method="linear")
    return _with_mean(np.maximum(nodes, 1.0), float(samples.mean()), float(samples.max()))


def quantile_nodes(
    levels: Sequence[float], values: Sequence[float], mean: float, n: int
) -> FloatArray:
    """Returns n equally likely token counts through known quantiles, (n,), with the given mean.

    Args:
        levels: probabilities of the known quantiles, increasing, at least two; 1 is the maximum.
        values: their token counts, non-decreasing.
        mean: the mean to be kept, in tokens.
        n: number of nodes.
    """
    u = node_probabilities(n)
    known = np.log(np.asarray(values, dtype=np.float64))
    nodes = np.interp(u, levels, known)
    if levels[-1] >= 1.0:
        return _with_mean(np.exp(nodes), mean, float(values[-1]))
    scores = _normal_scores(np.asarray(levels[-2:], dtype=np.float64))
    slope = (known[-1] - known[-2]) / (scores[1] - scores[0])
    beyond = u > levels[-1]
    nodes[beyond] = known[-1] + slope * (_normal_scores(u[beyond]) - scores[1])
    return _with_mean(np.exp(nodes), mean, None)


def mixed_nodes(parts: Sequence[FloatArray], weights: Sequence[float], n: int) -> FloatArray:
    """Returns n equally likely token counts, (n,), of a mixture of laws given by their nodes.

    Args:
        parts: nodes of each law, equally likely within it.
        weights: share of each law, positive; they need not sum to 1.
        n: number of nodes.
    """
    values = np.concatenate(parts)
    mass = np.concatenate(
        [np.full(part.size, w / part.size) for part, w in zip(parts, weights, strict=True)]
    )
    mass /= mass.sum()
    order = np.argsort(values, kind="stable")
    middle = np.cumsum(mass[order]) - mass[order] / 2.0
    nodes = np.interp(node_probabilities(n), middle, values[order])
    return _with_mean(nodes, float(mass @ values), float(values.max()))


def _normal_scores(u: FloatArray) -> FloatArray:
    """Returns Phi^-1 of probabilities, of the same shape."""
    normal = NormalDist()
    return np.array([normal.inv_cdf(float(p)) for p in u], dtype=np.float64)


def _with_mean(nodes: FloatArray, mean: float, maximum: float | None) -> FloatArray:
    """Returns positive nodes (n,) scaled to a mean, none below 1 token or above the maximum.

    The mean of clip(f nodes, 1, cap) is piecewise linear and rising in f, so f is interpolated
    between the factors at which a node meets a bound, the two around the mean found by bisection.
    A mean below 1 becomes 1.
    """
    cap = max(1.0, mean * nodes.size if maximum is None else max(maximum, mean))
    factors = distinct(np.concatenate([1.0 / nodes, cap / nodes]))

    def mean_at(i: int) -> float:
        return float(np.clip(factors[i] * nodes, 1.0, cap).mean())

    above = bisect_left(range(factors.size), mean, key=mean_at)
    around = sorted({max(above - 1, 0), min(above, factors.size - 1)})
    factor = np.interp(mean, [mean_at(i) for i in around], factors[around])
    return np.clip(float(factor) * nodes, 1.0, cap)
