"""Replicas, request shapes and two simulations, by steps and by shares, for the latency tests."""

from __future__ import annotations

import heapq
from functools import cache
from math import erf, sqrt

import numpy as np

from planner.latency.bands import DERIVED, Bands, Spread
from planner.latency.memory import Memory
from planner.latency.model import LatencyModel
from planner.simulate.engines import step_times
from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, Times, Tokens
from planner.simulate.units import PS_PER_MS
from planner.spec.pool import Pool, Profile
from planner.spec.table import PoolTable, quantile_ms
from planner.spec.workload import RequestShape

ESTIMATED = {"ttft": "estimated", "tpot": "estimated", "e2e": "estimated"}


def model_of(law, cap, measured=None, kv_tokens=float("inf"), tokens_per_step=8192):
    """A LatencyModel with a known law, as if it had been fitted."""
    pool = Pool(
        name="pool",
        model_name="m",
        gpu="g",
        max_num_seqs=cap,
        max_num_batched_tokens=tokens_per_step,
        source="test",
    )
    return LatencyModel(
        profile=Profile(pool, None, None),
        law=law,
        capacity=None,
        memory=Memory(0.0, kv_tokens, True),
        max_num_seqs=cap,
        measured_concurrency=(1.0, float(measured or cap)),
        bands=Bands.measured(ESTIMATED, Spread(_octaves(measured or cap)), None, DERIVED),
        fit_error_ratio=0.1,
    )


def _octaves(high):
    """log2 of the loads 1, 2, 4, ... up to the highest."""
    return (*np.arange(0.0, np.log2(high)), float(np.log2(high)))


def log_normal_shape(prompt, prompt_cv, output, output_cv):
    def nodes(mean, cv, n):
        if cv == 0:
            return np.array([float(mean)])
        normal = _normal_quantiles(4000)
        sigma = np.sqrt(np.log1p(cv**2))
        values = np.exp(sigma * normal)
        return mean * values.reshape(n, -1).mean(axis=1) / values.mean()

    return RequestShape(nodes(prompt, prompt_cv, 16), np.maximum(nodes(output, output_cv, 50), 1.0))


def draw_lengths(rng, mean, cv, n):
    if cv == 0:
        return np.full(n, int(mean))
    sigma = np.sqrt(np.log1p(cv**2))
    values = rng.lognormal(np.log(mean) - sigma**2 / 2, sigma, n)
    return np.maximum(np.round(values), 1).astype(int)


def quantile(table: PoolTable, metric, load, level, which=0):
    tail = 1.0 - level
    return float(quantile_ms(table.times_ms[metric], table.survival_at(metric, load), tail)[which])


def integral_ms(table: PoolTable, metric):
    """The mean from the survival, read as the table says: linear in log t between nodes."""
    t, s = table.times_ms[metric], table.survival[metric]
    width, log_width = np.diff(t), np.diff(np.log(t))
    low, high = s[..., :-1], s[..., 1:]
    inside = low * width + (high - low) * (t[1:] - width / log_width)
    return t[0] + inside.sum(axis=-1)


def simulate_engine(law, cap, arrival_ms, prompts, outputs):
    """TTFT, TPOT (NaN for one token) and E2E in ms of every request, by the simulator.

    Its replica is checked elsewhere, step by step, so here it is the truth about a step law.
    """
    tokens = Tokens(prompts.tolist(), prompts.tolist(), outputs.tolist())
    times = Times.none_yet(len(prompts))
    replica = Replica(EngineSettings(step_times(law, cap), cap, 8192, 2**40), tokens, times)
    arrived_ps = np.rint(np.asarray(arrival_ms) * PS_PER_MS).astype(np.int64)
    for i, at_ps in enumerate(arrived_ps.tolist()):
        replica.advance(at_ps)
        replica.submit(i, at_ps)
    replica.drain()
    ttft = (np.array(times.first_ps) - arrived_ps) / PS_PER_MS
    e2e = (np.array(times.done_ps) - arrived_ps) / PS_PER_MS
    tpot = np.where(outputs >= 2, (e2e - ttft) / np.maximum(outputs - 1, 1), np.nan)
    return ttft, tpot, e2e


def simulate_sharing(step_ms, arrival_ms, tokens):
    """Processor sharing with a state-dependent rate: with n in the system all get 1/step_ms(n).

    Returns the sojourn times in ms. Continuous time, no steps, no prefill, no cap.
    """
    ends: list[tuple[float, int]] = []
    done = np.zeros(len(tokens))
    now = progress = 0.0
    coming = 0
    while coming < len(tokens) or ends:
        n = len(ends)
        next_arrival = arrival_ms[coming] if coming < len(tokens) else np.inf
        if n:
            finish = now + (ends[0][0] - progress) * step_ms(n)
            if finish <= next_arrival:
                progress, i = heapq.heappop(ends)
                now = finish
                done[i] = now
                continue
            progress += (next_arrival - now) / step_ms(n)
        now = next_arrival
        heapq.heappush(ends, (progress + tokens[coming], coming))
        coming += 1
    return done - arrival_ms


@cache
def _normal_quantiles(n):
    """Inverse normal distribution at n mid-points, by bisection on the error function."""
    levels = (np.arange(n) + 0.5) / n
    low, high = np.full(levels.shape, -6.0), np.full(levels.shape, 6.0)
    cdf = np.vectorize(lambda x: 0.5 * (1.0 + erf(x / sqrt(2.0))))
    for _ in range(40):
        mid = (low + high) / 2
        below = cdf(mid) < levels
        low, high = np.where(below, mid, low), np.where(below, high, mid)
    return (low + high) / 2
