"""Replicas, request shapes and two independent simulators for the latency tests."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cache
from math import erf, sqrt

import numpy as np

from planner.latency.bands import DERIVED, Bands, Spread
from planner.latency.memory import Memory
from planner.latency.model import LatencyModel
from planner.latency.steplaw import StepLaw
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


@dataclass
class _Engine:
    """One continuous-batching engine with chunked prefill, stepped one engine step at a time."""

    law: StepLaw
    cap: int
    tokens_per_step: int

    def run(self, arrival_ms, prompts, outputs):
        """Returns (TTFT, E2E) of every request in ms."""
        n = len(arrival_ms)
        first, last = np.zeros(n), np.zeros(n)
        queue, prefilling, ends = [], [], []
        head = arrived = n_done = n_decoding = n_steps = 0
        context, now = 0.0, 0.0
        while n_done < n:
            while arrived < n and arrival_ms[arrived] <= now:
                queue.append(arrived)
                arrived += 1
            if n_decoding == 0 and not prefilling and head == len(queue):
                now = arrival_ms[arrived]
                continue
            while n_decoding + len(prefilling) < self.cap and head < len(queue):
                prefilling.append([queue[head], prompts[queue[head]]])
                head += 1
            chunk, finished = self._chunk(prefilling, n_decoding)
            now += self._step_ms(n_decoding, context, chunk)
            n_steps += 1
            context += n_decoding
            while ends and ends[0][0] <= n_steps:
                _, i = heapq.heappop(ends)
                n_decoding -= 1
                context -= prompts[i] + outputs[i]
                last[i] = now
                n_done += 1
            del prefilling[: len(finished)]
            for i in finished:
                first[i] = now
                if outputs[i] <= 1:
                    last[i] = now
                    n_done += 1
                    continue
                heapq.heappush(ends, (n_steps + outputs[i] - 1, i))
                n_decoding += 1
                context += prompts[i] + 1
        return first - arrival_ms, last - arrival_ms

    def _chunk(self, prefilling, n_decoding):
        room, chunk, finished = max(self.tokens_per_step - n_decoding, 1), 0, []
        for entry in prefilling:
            if room <= 0:
                break
            taken = min(entry[1], room)
            entry[1] -= taken
            room -= taken
            chunk += taken
            if entry[1] <= 0:
                finished.append(entry[0])
        return chunk, finished

    def _step_ms(self, n, context, chunk):
        law = self.law
        decode = law.step_ms + law.sequence_ms * n + law.context_token_ms * context
        return decode + law.root_ms * n**0.5 + law.prompt_token_ms * chunk


def simulate_engine(law, cap, arrival_ms, prompts, outputs):
    """TTFT, TPOT (NaN for one token) and E2E in ms of every request."""
    engine = _Engine(law, cap, 8192)
    ttft, e2e = engine.run(np.asarray(arrival_ms), prompts.tolist(), outputs.tolist())
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
