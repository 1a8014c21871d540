"""Token-count distributions as equally likely nodes.

Notation
    n     number of nodes                         u_i = (i - 1/2)/n   node probability, i = 1..n
    m     mean tokens        cv   coefficient of variation (sd/mean)
    Q(u)  quantile function

A class's lengths become the vector Q(u_1..u_n), rescaled so that its mean is m: the mean drives
capacity and must not suffer from the tail that n nodes cannot see.

Lognormal: sigma^2 = ln(1 + cv^2), mu = ln m - sigma^2/2, Q(u) = exp(mu + sigma Phi^-1(u)).
Observed quantiles: Q is log-linear between them; below the first and above the last it is held.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from planner.spec.arrays import FloatArray

N_INPUT_NODES = 16
N_OUTPUT_NODES = 64


def node_probabilities(n: int) -> FloatArray:
    """Returns the n mid-point probabilities of equally likely nodes, (n,)."""
    return (np.arange(n) + 0.5) / n


def lognormal_nodes(mean: float, cv: float, n: int, maximum: float | None = None) -> FloatArray:
    """Returns n equally likely token counts of a lognormal law, (n,), with the given mean.

    With a maximum, longer answers are cut there, and the scale is raised so that the mean of
    what remains is still `mean` (as an engine's max_tokens does to observed lengths).
    """
    if cv <= 0:
        return np.full(n, float(mean))
    sigma = float(np.sqrt(np.log1p(cv**2)))
    normal = NormalDist()
    shape = np.exp(sigma * np.array([normal.inv_cdf(float(u)) for u in node_probabilities(n)]))
    return _with_mean(shape * mean / float(shape.mean()), mean, maximum)


def observed_nodes(samples: FloatArray, n: int) -> FloatArray:
    """Returns n equally likely token counts of an observed sample, (n,), with the sample's mean."""
    nodes = np.quantile(samples, node_probabilities(n), method="linear")
    return _with_mean(np.maximum(nodes, 1.0), float(samples.mean()), float(samples.max()))


def quantile_nodes(
    levels: Sequence[float], values: Sequence[float], mean: float, n: int
) -> FloatArray:
    """Returns n equally likely token counts through known quantiles, (n,), with the given mean.

    Args:
        levels: probabilities of the known quantiles, increasing.
        values: their token counts, non-decreasing.
        mean: the mean to be kept, in tokens.
        n: number of nodes.
    """
    nodes = np.exp(np.interp(node_probabilities(n), levels, np.log(values)))
    return _with_mean(nodes, mean, float(values[-1]))


def _with_mean(nodes: FloatArray, mean: float, maximum: float | None) -> FloatArray:
    """Returns the nodes scaled to a mean under a maximum; cut nodes do not scale further."""
    cap = np.inf if maximum is None else max(maximum, mean)
    scaled = np.minimum(nodes, cap)
    for _ in range(60):
        free = scaled < cap
        gap = mean - float(scaled.mean())
        if not free.any() or abs(gap) <= 1e-9 * mean:
            break
        ratio = 1.0 + gap * scaled.size / float(scaled[free].sum())
        scaled = np.where(free, np.minimum(scaled * max(ratio, 1e-6), cap), cap)
    return np.maximum(scaled, 1.0)
