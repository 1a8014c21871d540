"""The birth-death chain of the sequences on one replica, at many loads at once.

Notation
    lam_k    arrivals at load k                                               1/ms   (K,)
    n_m      sequences in state m, n_0 = 0 ... n_M = cap                      (M+1,)
    g_m      decode step with n_m sequences                                   ms     (M+1,)
    o        mean output tokens; a sequence leaves at rate n/(o g(n)) in all
    u_k      share of the time that prefills take: lam D p                    (K,)
    mu_km    departures in state m: (1 - u_k) n_m / (o g_m)                   1/ms
    q_k      lam_k / mu_kM, below 1 where stable
    h, h_q   size of the groups in which sequences come and leave: inside, in the queue

Program
    pi_m = pi_{m-1} lam / mu_m                      m = 1..M, in logarithms
    pi_{M+j} = pi_M q^j                             the queue beyond the cap
    P(wait) = pi_M / (1 - q);  wait given wait ~ exponential with mean h_q / (mu_M (1 - q))

Processor sharing with a state-dependent rate has this stationary law for every length
distribution with mean o (insensitivity: Cohen 1979, Acta Informatica 12). Prefills come with
arrivals, not with the batch, so they slow every state by the same factor.

Bursty arrivals (cv of the gaps above 1): sequences move in groups of h = (1 + cv^2)/2, so state
m holds m h sequences and the group rates are lam/h and mu/h. The drift stays, the variance of n
grows by h (the peakedness of the arrivals at slow servers: Eckberg 1983), and at light load the
mean stays what Little's law asks. In the queue h_q = (cv^2 + cv_o^2)/2 with the cv of the output
lengths, the Allen-Cunneen correction of M/M/c. Gaps more regular than Poisson are taken as
Poisson, which is cautious.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from planner.spec.arrays import FloatArray


@dataclass(frozen=True)
class Stationary:
    """The stationary law at every load, and what an arriving request sees (PASTA)."""

    n: FloatArray  # (M+1,) sequences per state
    probability: FloatArray  # (K, M+1); the last column holds everything at or beyond the cap
    at_cap: FloatArray  # (K,) probability of exactly the cap
    wait_ratio: FloatArray  # (K,) P(an arrival has to wait for a place)
    wait_mean_ms: FloatArray  # (K,) mean wait of those that wait

    @property
    def running(self) -> FloatArray:
        """Returns the mean number of running sequences, (K,)."""
        return np.asarray(self.probability @ self.n, dtype=np.float64)

    @property
    def running_variance(self) -> FloatArray:
        """Returns the variance of the number of running sequences, (K,)."""
        return np.asarray(self.probability @ self.n**2 - self.running**2)


def group_size(arrival_cv: float) -> float:
    """Returns h, the group in which sequences move, from the cv of the gaps between arrivals."""
    return max((1.0 + arrival_cv * arrival_cv) / 2.0, 1.0)


def companions(arrival_cv: float) -> float:
    """Returns how many more arrivals than Poisson come shortly before (or after) an arrival.

    The renewal function is lam t + (cv^2 - 1)/2 for large t (Cox 1962, Renewal Theory, 4.1).
    """
    return group_size(arrival_cv) - 1.0


def states(cap: float, group: float) -> FloatArray:
    """Returns the sequences in every state, (M+1,), from 0 to the cap in steps of one group."""
    n_steps = max(int(np.ceil(cap / group - 1e-9)), 1)
    return np.asarray(np.minimum(np.arange(n_steps + 1) * group, cap), dtype=np.float64)


def stationary(
    n: FloatArray,
    departures_per_ms: FloatArray,
    arrivals_per_ms: FloatArray,
    queue_group: float = 1.0,
) -> Stationary:
    """Returns the stationary law of the chain at every load.

    Args:
        n: sequences per state, (M+1,), from 0 up.
        departures_per_ms: rate in states 1..M, (K, M).
        arrivals_per_ms: (K,), each below the departures in the last state.
        queue_group: h_q.
    """
    arrivals = np.maximum(arrivals_per_ms, 1e-300)[:, None]
    steps = np.log(arrivals) - np.log(departures_per_ms)
    log_weight = np.concatenate([np.zeros_like(arrivals), np.cumsum(steps, axis=1)], axis=1)
    log_weight -= log_weight.max(axis=1, keepdims=True)
    weight = np.exp(log_weight)
    full = departures_per_ms[:, -1]
    ratio = arrivals[:, 0] / full
    beyond = weight[:, -1] / (1.0 - ratio)
    total = weight[:, :-1].sum(axis=1) + beyond
    probability = weight / total[:, None]
    at_cap = probability[:, -1].copy()
    probability[:, -1] = beyond / total
    return Stationary(
        n=n,
        probability=probability,
        at_cap=at_cap,
        wait_ratio=probability[:, -1].copy(),
        wait_mean_ms=queue_group / (full * (1.0 - ratio)),
    )


def envelope_gap(loads: FloatArray, number: FloatArray) -> float:
    """Returns how far the curve number(load) lies above its convex hull, relative, at most.

    0 for a convex curve. A linear program sees the hull; above a few per cent say so.
    """
    hull = [0]
    for i in range(1, loads.size):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            left = (number[b] - number[a]) * (loads[i] - loads[a])
            right = (number[i] - number[a]) * (loads[b] - loads[a])
            if left <= right:
                break
            hull.pop()
        hull.append(i)
    lower = np.interp(loads, loads[hull], number[hull])
    gap = np.where(number > 0, (number - lower) / np.where(number > 0, number, 1.0), 0.0)
    return float(gap.max(initial=0.0))
