"""What queueing theory says of the queues that a replica can be set up to be.

Notation
    lam, mu   arrivals; services of one server, per unit of time
    rho       share of the capacity that is asked for
    T, W      time in the system; time before service
References
    Erlang (1909, 1917): waiting in M/D/1 and M/M/c
    Kleinrock, Queueing Systems I-II (1975-76): M/M/1; mean sojourn of processor sharing
    Cohen, The multiple phase service network with generalized processor sharing (1979)
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from math import exp, factorial, floor, log, sqrt

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.optimize import brentq
from scipy.special import gammaln
from scipy.stats import t as student


def mm1_quantile(p: float, lam: float, mu: float) -> float:
    """Returns the p-quantile of T in M/M/1: exponential with rate mu - lam."""
    return -log(1 - p) / (mu - lam)


def md1_wait_below(at: float, lam: float, service: float) -> float:
    """Returns P(W <= at) in M/D/1 (Erlang 1909)."""
    terms = [
        (lam * (k * service - at)) ** k / factorial(k) * exp(-lam * (k * service - at))
        for k in range(floor(at / service) + 1)
    ]
    return (1 - lam * service) * sum(terms)


def md1_quantile(p: float, lam: float, service: float) -> float:
    """Returns the p-quantile of T in M/D/1, for p above the share that need not wait."""
    after = next(k for k in count(1) if md1_wait_below(k * service, lam, service) > p) * service
    wait = brentq(
        lambda at: md1_wait_below(at, lam, service) - p, after - service, after, xtol=1e-9
    )
    return service + float(wait)


def erlang_c(n_servers: int, load: float) -> float:
    """Returns the share of arrivals that wait in M/M/c; load = lam/mu, below n_servers."""
    terms = [load**k / factorial(k) for k in range(n_servers)]
    full = load**n_servers / factorial(n_servers) * n_servers / (n_servers - load)
    return full / (sum(terms) + full)


def mmc_wait_quantile(p: float, lam: float, mu: float, n_servers: int) -> float:
    """Returns the p-quantile of W in M/M/c, for p above the share that need not wait."""
    waits = erlang_c(n_servers, lam / mu)
    return -log((1 - p) / waits) / (n_servers * mu - lam)


def sharing_states(rho: float, fixed_ratio: float, n_states: int) -> np.ndarray:
    """Returns P(n in the system), n = 0..n_states-1, of steps that last A + b*n.

    Negative binomial with fixed_ratio + 1 = A/b + 1; geometric, the queue of egalitarian
    processor sharing, for A = 0. Holds for every distribution of sizes (Cohen 1979).
    """
    n = np.arange(n_states)
    shape = fixed_ratio + 1
    return np.exp(
        n * log(rho) + shape * log(1 - rho) + gammaln(n + shape) - gammaln(shape) - gammaln(n + 1)
    )


def sharing_sojourn_above(
    lam: float, mean_tokens: float, step: Callable[[np.ndarray], np.ndarray], n_states: int
) -> Callable[[float], float]:
    """Returns P(T > t) of exponential sizes of mean_tokens when n in the system get 1 per step(n).

    The tagged request finds n others, stationary (PASTA), and leaves from each state at the rate
    of one of n + 1. The others are a birth-death process that is reversible, so that its matrix,
    with the tagged one's leaving on the diagonal, is similar to a symmetric one:
    P(T > t) = sum over its eigenvalues e and eigenvectors v of (v . sqrt(start))^2 exp(e t).
    """
    n = np.arange(n_states)
    each = 1 / (mean_tokens * step(n + 1))  # rate at which any one request leaves, n others there
    up, down = np.full(n_states - 1, lam), (n * each)[1:]
    # Alone, without the tagged one, n of them are served as n and not as n + 1.
    births = np.concatenate([[0.0], np.cumsum(np.log(lam / (n[1:] * each[:-1])))])
    start = np.exp(births - births.max())
    start /= start.sum()
    reversible = np.concatenate([[0.0], np.cumsum(np.log(up / down))])
    root = np.exp((reversible - reversible.max()) / 2)
    diagonal = -np.append(up, 0.0) - n * each - each
    rates, vectors = eigh_tridiagonal(diagonal, np.sqrt(up * down))
    weights = (vectors.T @ (start / root)) * (vectors.T @ root)
    return lambda at: float(weights @ np.exp(rates * at))


def quantile_of(above: Callable[[float], float], p: float, longest: float) -> float:
    """Returns t with P(T > t) = 1 - p."""
    return float(brentq(lambda at: above(at) - (1 - p), 0.0, longest, xtol=1e-6 * longest))


def interval(values: np.ndarray, confidence: float = 0.99) -> tuple[float, float]:
    """Returns the t interval of the mean of independent replications."""
    half = student.ppf((1 + confidence) / 2, values.size - 1) * values.std(ddof=1)
    half /= sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)
