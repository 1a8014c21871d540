"""How long a request of each class stays: TTFT, TPOT and E2E as distributions, at every load.

Notation (class c, load k, an arriving request that meets n sequences)
    W      wait for a place; 0 below the cap                                       ms
    g, g+  decode step with n sequences, and with the request among them           ms
    u      share of the time that prefills take
    Y      g+ / (1 - u), time per token while n stays as it is                     ms
    m      E[Y] over the chain
    w, b0  wait for others' prefills, delay by those queued up behind (prefill.py) ms
    o_i    output tokens of the request

Program
    TTFT = W + w + g+ steps + D p + t0
    TPOT = m + (Y - m) sqrt(f(r_i)) + b0/(o_i - 1) + stalls           over requests with o_i >= 2
    E2E  = TTFT + (o_i - 1) TPOT
    f(r) = 2 (r - 1 + exp(-r)) / r^2,    r_i = (o_i - 1) / (o (1 + cv_o^2)/2 * Var n / E n)

The mean time per token of a request is E[t(n+1)] over the stationary chain: processor sharing is
linear in the length (Cohen 1979) and the tagged request sees the others in equilibrium. f is the
variance of the time average of an Ornstein-Uhlenbeck process over r relaxation times; on the clock
of tokens the batch relaxes in the mean residual length times the index of dispersion of n.
Stalls: prefills that arrive during the request's life; their mean is already in Y. They only ever
add to the time per token, so TPOT varies above what it is without any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.latency.chain import Stationary
from planner.latency.lattice import (
    COIN,
    COIN_WEIGHT,
    LEVELS,
    NOISE_WEIGHT,
    Survival,
    cell_means,
    noise_factor,
)
from planner.latency.moments import MixMoments
from planner.latency.prefill import PrefillLoad, PrefillWait
from planner.latency.steplaw import StepLaw
from planner.spec.arrays import FloatArray
from planner.spec.base import Metric
from planner.spec.workload import RequestShape

CELLS = np.diff(LEVELS)
_MAX_CV = 5.0  # of what three nodes can stand for
# Cells of the exponential wait for other prefills, given that there is one.
_WAIT_EDGES = np.array([0.0, 0.5, 0.8, 0.95, 1.0])


@dataclass(frozen=True)
class Replica:
    """One replica at K loads of one mix: all that a request meets."""

    law: StepLaw
    mix: MixMoments
    chain: Stationary
    prefill: PrefillLoad
    arrivals_per_ms: FloatArray  # (K,)
    step_ms: FloatArray  # (M+1,) g in every state, 0 in the empty one
    tokens_per_step: float  # B
    n_companions: float  # more arrivals than Poisson shortly before a request
    ttft_ratio: FloatArray  # (K,) measured over predicted, 1 where nothing was measured
    tpot_ratio: FloatArray  # (K,)


@dataclass(frozen=True)
class Sojourn:
    """Means (C, K) in ms and survival functions per metric."""

    mean_ms: dict[Metric, FloatArray]
    survival: dict[Metric, Survival]


@dataclass(frozen=True)
class _Nodes:
    """Lengths of all classes as nodes padded to one width; padding has weight 0."""

    prompt: FloatArray  # (C, P)
    prompt_weight: FloatArray  # (C, P)
    output: FloatArray  # (C, O)
    output_weight: FloatArray  # (C, O)
    output_cv: FloatArray  # (C, O) spread of the lengths that a node stands for


@dataclass(frozen=True)
class _Seen:
    """What arrivals see: per load and probability cell, (K, Q), and per load, (K,)."""

    wait_ms: FloatArray  # (K, Q) W
    found_ms: FloatArray  # (K, Q) the step in progress
    step_ms: FloatArray  # (K, Q) the own step g+
    token_ms: FloatArray  # (K, Q) Y
    token_mean_ms: FloatArray  # (K,) m
    prefill: PrefillWait


def sojourn(replica: Replica, shapes: Sequence[RequestShape]) -> Sojourn:
    """Returns the latency of every class at every load of a replica."""
    nodes = _length_nodes(shapes)
    seen = _seen(replica)
    own_ms = replica.law.prompt_token_ms * (nodes.prompt_weight * nodes.prompt).sum(axis=1)
    delay = replica.prefill.delay_ms(own_ms) * replica.tpot_ratio  # (C, K)
    several = nodes.output_weight * (nodes.output >= 2.0)
    counted = _normalised(several, nodes.output_weight)
    decoded = np.maximum(nodes.output - 1.0, 1e-9)
    ttft = _ttft_mean(replica, seen, nodes)
    tokens = (nodes.output_weight * (nodes.output - 1.0)).sum(axis=1)
    m = seen.token_mean_ms[None, :]
    inverse = np.where(several > 0, several / decoded, 0.0).sum(axis=1)
    inverse = inverse / np.maximum(several.sum(axis=1), 1e-300)
    mean: dict[Metric, FloatArray] = {
        "ttft": ttft,
        "tpot": m + delay * inverse[:, None],
        "e2e": ttft + tokens[:, None] * m + delay * several.sum(axis=1)[:, None],
    }
    per_request = _decode_nodes(replica, seen, nodes, delay)
    # A length without further tokens has no TPOT; a class of nothing else shows the step.
    per_token = np.where(
        (nodes.output >= 2.0)[:, None, None, :],
        per_request / np.maximum(decoded, 1.0)[:, None, None, :],
        seen.token_ms[None, :, :, None],
    )
    variance = _decode_variance(replica, seen, nodes, own_ms)
    survival: dict[Metric, Survival] = {
        "ttft": _ttft_survival(replica, seen, nodes),
        "tpot": _noisy(
            per_token,
            variance[:, :, None, :] / np.maximum(decoded, 1.0)[:, None, None, :] ** 2,
            counted,
            least=_undisturbed(replica, per_token, delay, decoded),
        ),
        "e2e": _e2e_survival(replica, seen, nodes, (per_request, variance)),
    }
    return Sojourn(mean, survival)


def averaging_ratio(r: FloatArray) -> FloatArray:
    """Returns f(r): variance of the average over r relaxation times, relative to the variance."""
    small = r < 1e-3
    safe = np.where(small, 1.0, r)
    return np.asarray(np.where(small, 1.0 - r / 3.0, 2.0 * (safe - 1 + np.exp(-safe)) / safe**2))


def _length_nodes(shapes: Sequence[RequestShape]) -> _Nodes:
    prompts = [
        _compressed(np.asarray(s.input_tokens) * (1.0 - s.cached_input_ratio), 4, 2, 4)
        for s in shapes
    ]
    outputs = [_compressed(np.maximum(s.output_tokens, 1.0), 8, 6, 4) for s in shapes]
    prompt, prompt_weight, _ = _padded(prompts)
    return _Nodes(prompt, prompt_weight, *_padded(outputs))


def _compressed(
    values: FloatArray, n_single: int, n_pairs: int, size: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns fewer nodes with weights and spread: the largest stay, the small merge.

    A node stands for lengths half-way to its neighbours; the largest for an open tail, whose
    spread is taken as 0.6 of the logarithmic gap below it (right for the p99 of a log-normal).
    """
    order = np.sort(np.asarray(values, dtype=np.float64))[::-1]
    edges = list(range(n_single + 1)) + [n_single + 2 * (i + 1) for i in range(n_pairs)]
    while edges[-1] < order.size:
        edges.append(edges[-1] + size)
    starts = np.array([e for e in edges if e < order.size])
    counts = np.diff(np.append(starts, order.size))
    merged = np.add.reduceat(order, starts) / counts
    gap = -np.diff(np.log(np.maximum(merged, 1e-9)))
    spread = np.zeros(merged.size)
    if gap.size:
        spread[1:-1] = (gap[1:] + gap[:-1]) / 2.0 / np.sqrt(12.0)
        spread[0] = 0.6 * gap[0]
    return merged, counts / order.size, spread


def _padded(
    rows: Sequence[tuple[FloatArray, FloatArray, FloatArray]],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    width = max(row[0].size for row in rows)
    values, weights, spread = np.ones((3, len(rows), width))
    weights[:] = 0.0
    for i, row in enumerate(rows):
        values[i, : row[0].size], weights[i, : row[0].size], spread[i, : row[0].size] = row
    return values, weights, spread


def _normalised(weights: FloatArray, otherwise: FloatArray) -> FloatArray:
    """Returns the weights (C, O) summing to 1 per class, `otherwise` where they are all zero."""
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(np.where(total > 0, weights / np.where(total > 0, total, 1.0), otherwise))


def _seen(replica: Replica) -> _Seen:
    """Returns what arrivals see, cut into the probability cells of the lattice."""
    chain = replica.chain
    n_loads = chain.probability.shape[0]
    own = np.append(replica.step_ms[1:], replica.step_ms[-1])
    found, step = np.empty((n_loads, CELLS.size)), np.empty((n_loads, CELLS.size))
    for k in range(n_loads):
        probability = chain.probability[k]
        cumulative = np.cumsum(probability)
        found[k] = cell_means(cumulative, np.cumsum(probability * replica.step_ms))
        step[k] = cell_means(cumulative, np.cumsum(probability * own))
    slow = replica.tpot_ratio / (1.0 - replica.prefill.ratio)
    prefill = PrefillWait.of(
        replica.law,
        replica.mix,
        replica.arrivals_per_ms,
        step_ms=step @ CELLS,
        tokens_per_step=replica.tokens_per_step,
        n_companions=replica.n_companions,
    )
    return _Seen(
        wait_ms=_wait_cells(chain),
        found_ms=found * prefill.per_step[:, None],
        step_ms=step,
        token_ms=step * slow[:, None],
        token_mean_ms=np.maximum.accumulate((step @ CELLS) * slow),
        prefill=prefill,
    )


def _wait_cells(chain: Stationary) -> FloatArray:
    """Returns the mean wait for a place in every probability cell, (K, Q).

    The wait at level v is -w log((1 - v)/P) above 1 - P; its integral is P w (x - x log x).
    """
    some = np.maximum(chain.wait_ratio, 1e-300)[:, None]
    left = np.clip((1.0 - LEVELS)[None, :] / some, 0.0, 1.0)
    integral = left - left * np.log(np.where(left > 0, left, 1.0))
    area = (chain.wait_ratio * chain.wait_mean_ms)[:, None] * (integral[:, :-1] - integral[:, 1:])
    return np.asarray(area / CELLS)


def _steps(replica: Replica, seen: _Seen, nodes: _Nodes) -> FloatArray:
    """Returns the engine steps from the first chunk of each prompt node to its last, (C, K, P)."""
    tokens = nodes.prompt[:, None, :] + seen.prefill.others_tokens[None, :, None]
    return np.maximum(1.0, 0.5 + tokens / replica.tokens_per_step)


def _ttft_mean(replica: Replica, seen: _Seen, nodes: _Nodes) -> FloatArray:
    """Returns the mean TTFT, (C, K)."""
    law = replica.law
    common = (seen.wait_ms + (0.5 + seen.prefill.ratio)[:, None] * seen.found_ms) @ CELLS
    steps = (nodes.prompt_weight[:, None, :] * _steps(replica, seen, nodes)).sum(axis=2)
    own = law.prompt_token_ms * (nodes.prompt_weight * nodes.prompt).sum(axis=1) + law.request_ms
    mean = common + seen.prefill.burst_ms + steps * (seen.step_ms @ CELLS) + own[:, None]
    return np.asarray(np.maximum.accumulate(mean * replica.ttft_ratio, axis=1))


def _ttft_survival(replica: Replica, seen: _Seen, nodes: _Nodes) -> Survival:
    """Nodes: cell (Q) x place in the step (3) x bursts (5) x prompt (P) x other noise (2)."""
    law, prefill = replica.law, seen.prefill
    n_classes, n_loads = nodes.prompt.shape[0], seen.wait_ms.shape[0]
    place = np.array([1.0, 3.0, 5.0]) / 6.0 + prefill.ratio[:, None]  # (K, 3)
    base = seen.wait_ms[:, :, None] + seen.found_ms[:, :, None] * place[:, None, :]  # (K, Q, 3)
    burst, burst_weight = _burst_nodes(prefill)
    own = law.prompt_token_ms * nodes.prompt + law.request_ms  # (C, P)
    step = _steps(replica, seen, nodes)[:, :, None, :] * seen.step_ms[None, :, :, None]
    values = (
        base[None, :, :, :, None, None]
        + burst[None, :, None, None, :, None]
        + (step + own[:, None, None, :])[:, :, :, None, None, :]
    ) * replica.ttft_ratio[None, :, None, None, None, None]
    rest = np.maximum(prefill.variance - _burst_variance(prefill), 0.0) ** 0.5 * replica.ttft_ratio
    factor = noise_factor(rest[:, None, None, None, None] / values, COIN, COIN_WEIGHT)
    values = values[..., None] * factor
    weights = (
        (CELLS[:, None] / 3.0 * np.ones(3))[None, None, :, :, None, None]
        * burst_weight[None, :, None, None, :, None]
        * nodes.prompt_weight[:, None, None, None, None, :]
    )[..., None] * COIN_WEIGHT
    return Survival(
        values.reshape(n_classes, n_loads, -1),
        np.broadcast_to(weights, values.shape).reshape(n_classes, n_loads, -1),
        (n_classes, n_loads),
    )


def _burst_nodes(prefill: PrefillWait) -> tuple[FloatArray, FloatArray]:
    """Returns the wait for bursts as nodes and weights, (K, 5): none, or exponential."""
    left = 1.0 - _WAIT_EDGES
    integral = left - left * np.log(np.where(left > 0, left, 1.0))
    exponential = np.concatenate(([0.0], -np.diff(integral) / np.diff(_WAIT_EDGES)))
    given = prefill.burst_ms / np.maximum(prefill.presence, 1e-300)
    weight = np.append(0.0, np.diff(_WAIT_EDGES)) * prefill.presence[:, None]
    weight[:, 0] = 1.0 - prefill.presence
    return given[:, None] * exponential, weight


def _burst_variance(prefill: PrefillWait) -> FloatArray:
    """Returns the variance of the nodes for bursts in ms^2, (K,)."""
    return np.asarray((2.0 / np.maximum(prefill.presence, 1e-300) - 1.0) * prefill.burst_ms**2)


def _decode_nodes(replica: Replica, seen: _Seen, nodes: _Nodes, delay: FloatArray) -> FloatArray:
    """Returns the time from the first token to the last in ms, (C, K, Q, O)."""
    mix, chain = replica.mix, replica.chain
    mean_n = np.maximum(chain.running, 1e-300)
    dispersion = np.where(chain.running > 1e-6, chain.running_variance / mean_n, 1.0)
    relaxation = mix.output_tokens * (1.0 + mix.output_cv_sq) / 2.0 * np.maximum(dispersion, 1e-3)
    decoded = np.maximum(nodes.output - 1.0, 0.0)
    damped = np.sqrt(averaging_ratio(decoded[:, None, :] / relaxation[None, :, None]))  # (C, K, O)
    around = (seen.token_ms - (seen.token_ms @ CELLS)[:, None])[None, :, :, None]
    token = seen.token_mean_ms[None, :, None, None] + around * damped[:, :, None, :]
    several = (nodes.output >= 2.0)[:, None, None, :]
    return np.asarray(decoded[:, None, None, :] * token + several * delay[:, :, None, None])


def _decode_variance(
    replica: Replica, seen: _Seen, nodes: _Nodes, own_ms: FloatArray
) -> FloatArray:
    """Returns the variance by others' prefills of the time after the first token, (C, K, O)."""
    decoded = np.maximum(nodes.output - 1.0, 0.0)[:, None, :]
    life = decoded * seen.token_mean_ms[None, :, None]
    stalls = life * replica.prefill.stall_variance()[None, :, None]
    behind = replica.prefill.delay_variance(own_ms)[:, :, None]
    return np.asarray(np.where(decoded > 0, stalls + behind, 0.0))


def _e2e_survival(
    replica: Replica, seen: _Seen, nodes: _Nodes, decode: tuple[FloatArray, FloatArray]
) -> Survival:
    """Nodes: cell (Q) x length (O) x noise (3); the noise carries stalls and TTFT beside W."""
    law, prefill = replica.law, seen.prefill
    per_request, decode_variance = decode
    steps = (nodes.prompt_weight[:, None, :] * _steps(replica, seen, nodes)).sum(axis=2)
    prompt = (nodes.prompt_weight * nodes.prompt).sum(axis=1)
    prompt_var = (nodes.prompt_weight * nodes.prompt**2).sum(axis=1) - prompt**2
    common = seen.wait_ms + (0.5 + prefill.ratio)[:, None] * seen.found_ms  # (K, Q)
    common = common + (prefill.burst_ms + law.request_ms)[:, None]
    first = common[None] + steps[:, :, None] * seen.step_ms[None]
    first = (first + law.prompt_token_ms * prompt[:, None, None]) * replica.ttft_ratio[:, None]
    queue_var = np.maximum(prefill.variance, _burst_variance(prefill))
    first_var = (
        (seen.found_ms**2 / 12.0 + queue_var[:, None])[None]
        + law.prompt_token_ms**2 * prompt_var[:, None, None]
    ) * replica.ttft_ratio[:, None] ** 2
    length_var = (nodes.output_cv[:, None, None, :] * per_request) ** 2
    return _noisy(
        first[:, :, :, None] + per_request,
        first_var[:, :, :, None] + decode_variance[:, :, None, :] + length_var,
        nodes.output_weight,
    )


def _undisturbed(
    replica: Replica, per_token: FloatArray, delay: FloatArray, decoded: FloatArray
) -> FloatArray:
    """Returns the time per token without any prefill of others, in ms, (C, K, Q, O).

    Stalls only ever add to it: a few tokens are hit by a prefill or not, never sped up by one.
    """
    behind = delay[:, :, None, None] / np.maximum(decoded, 1.0)[:, None, None, :]
    stalled = (per_token - behind) * replica.prefill.ratio[None, :, None, None]
    return np.asarray(per_token - behind - stalled)


def _noisy(
    values: FloatArray, variance: FloatArray, weight: FloatArray, least: FloatArray | float = 0.0
) -> Survival:
    """Returns the survival of (C, K, Q, O) values with a variance around each of them.

    `least` is the part of each value that does not vary.
    """
    spread = np.sqrt(np.broadcast_to(variance, values.shape))
    varying = np.minimum(np.maximum(values - least, spread / _MAX_CV), values)
    varying = np.maximum(varying, 1e-300)
    factor = noise_factor(spread / varying)
    noisy = (values - varying)[..., None] + varying[..., None] * factor
    weights = weight[:, None, None, :, None] * CELLS[:, None, None] * NOISE_WEIGHT
    n_classes, n_loads = values.shape[:2]
    return Survival(
        noisy.reshape(n_classes, n_loads, -1),
        np.broadcast_to(weights, noisy.shape).reshape(n_classes, n_loads, -1),
        (n_classes, n_loads),
    )
