"""Speed of the simulator on one core: requests and output tokens per CPU second.

    python benchmarks/simulator_speed.py [--requests 20000] [--most 800000]

One replica with chunked prefill, prompts of 660 and outputs of 275 tokens on average (log-normal),
Poisson arrivals; the fastest of several runs counts. `steps` are those that the engine takes for
one request, `gain` is the time of a run that composes and ends each of them, by the same code, over
the time of ours. The second table doubles the number of requests: the time of one must not grow.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from planner.simulate.replica import Replica
from planner.simulate.scheduler import Scheduler
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens
from planner.simulate.units import PS_PER_MS, PS_PER_S

N_RUNS = 5
MAX_NUM_SEQS = 256


@dataclass(frozen=True)
class Regime:
    """A load, and the memory that it meets."""

    name: str
    rate_rps: float
    kv_blocks: int = 40_000


REGIMES = (
    Regime("light", 3.5),
    Regime("mid", 9.2),
    Regime("near saturation", 12.0),
    Regime("overload", 20.0),
    Regime("KV-tight", 8.5, 3_000),
)


def engine(kv_blocks: int) -> EngineSettings:
    """Returns an engine of 10 ms + 60 us per sequence + 60 ns per token of context and step."""
    n = range(MAX_NUM_SEQS + 1)
    steps = StepTimes(
        decode_ps=tuple(10 * PS_PER_MS + 60_000_000 * each for each in n),
        context_ps=(60_000,) * len(n),
        prompt_token_ps=60_000_000,
    )
    return EngineSettings(steps, MAX_NUM_SEQS, max_num_batched_tokens=2048, kv_blocks=kv_blocks)


def requests(n_requests: int, rate_rps: float, seed: int = 0) -> tuple[Tokens, list[int]]:
    """Returns token counts and arrivals, ps."""
    random = np.random.default_rng(seed)
    prompt = np.maximum(1, random.lognormal(np.log(660) - 0.32, 0.8, n_requests).astype(int))
    output = np.maximum(1, random.lognormal(np.log(275) - 0.32, 0.8, n_requests).astype(int))
    arrived_s = np.cumsum(random.exponential(1 / rate_rps, n_requests))
    tokens = Tokens(prompt.tolist(), prompt.tolist(), output.tolist())
    return tokens, (arrived_s * PS_PER_S).astype(np.int64).tolist()


class NeverCalm(Scheduler):
    """Composes and ends every step."""

    def calm_steps(self) -> int:
        return 0


class StepByStep(Replica):
    """Takes one step at a time."""

    def __init__(self, settings: EngineSettings, tokens: Tokens, times: Times) -> None:
        super().__init__(settings, tokens, times)
        self._scheduler = NeverCalm(settings, tokens, times)


@dataclass(frozen=True)
class Measured:
    """One run."""

    cpu_s: float
    n_steps: int
    mean_outstanding: float
    n_preempted: int


def measure(
    kind: type[Replica], settings: EngineSettings, tokens: Tokens, at: list[int]
) -> Measured:
    """Returns what a run of all requests took."""
    times = Times.none_yet(len(at))
    replica = kind(settings, tokens, times)
    start = time.process_time()
    advance, submit = replica.advance, replica.submit
    for i, at_ps in enumerate(at):
        advance(at_ps)
        submit(i, at_ps)
    replica.drain()
    cpu_s = time.process_time() - start
    outstanding = np.sum(np.array(times.done_ps) - np.array(at)) / times.done_ps[-1]
    return Measured(cpu_s, replica.n_steps, float(outstanding), sum(times.n_preempted))


def fastest(
    kind: type[Replica], settings: EngineSettings, tokens: Tokens, at: list[int]
) -> Measured:
    """Returns the fastest of several equal runs."""
    return min((measure(kind, settings, tokens, at) for _ in range(N_RUNS)), key=lambda m: m.cpu_s)


def compare_regimes(n_requests: int) -> None:
    """Prints one line per regime."""
    print("regime             req/s  out tokens/s  outstanding  steps  preempted  gain")
    for regime in REGIMES:
        settings = engine(regime.kv_blocks)
        tokens, at = requests(n_requests, regime.rate_rps)
        ours, slow = (fastest(kind, settings, tokens, at) for kind in (Replica, StepByStep))
        assert (slow.n_steps, slow.n_preempted) == (ours.n_steps, ours.n_preempted)
        print(
            f"{regime.name:15} {n_requests / ours.cpu_s:8,.0f} "
            f"{sum(tokens.output) / ours.cpu_s:13,.0f} {ours.mean_outstanding:12.1f} "
            f"{ours.n_steps / n_requests:6.1f} {ours.n_preempted:10} {slow.cpu_s / ours.cpu_s:5.1f}"
        )


def compare_sizes(most: int) -> None:
    """Prints the time per request for 100,000 requests, then twice as many, and so on."""
    print("requests   us per request: light   near saturation")
    n_requests = min(100_000, most)
    while n_requests <= most:
        per_request_us = []
        for regime in (REGIMES[0], REGIMES[2]):
            tokens, at = requests(n_requests, regime.rate_rps)
            measured = measure(Replica, engine(regime.kv_blocks), tokens, at)
            per_request_us.append(measured.cpu_s / n_requests * 1e6)
        print(f"{n_requests:8,} {per_request_us[0]:22.2f} {per_request_us[1]:17.2f}")
        n_requests *= 2


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description="speed of the simulator")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--most", type=int, default=800_000, help="of the table of doublings")
    options = parser.parse_args()
    compare_regimes(options.requests)
    compare_sizes(options.most)


if __name__ == "__main__":
    main()
