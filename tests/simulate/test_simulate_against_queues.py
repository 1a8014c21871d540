"""The engine, set up so that it is a queue with a known law, against that law.

Every case runs as independent replications that start empty; the first and the last requests of
each are left out (they see an emptier system, and a replica shared with nobody behind them).
A mean is compared by the t interval (99 %) of the replication means; a percentile by the share
of requests above the theoretical one, which unlike a sample percentile has no bias. Loads are
such that a replication lasts hundreds of relaxation times: those above a p99 come in clusters, and
the means of a few clusters are too skewed for a t interval (an independent simulation of M/M/8 at
load 0.9 on the very same arrivals and sizes gave the engine's figures and missed with them).

Steps make time discrete: a request waits for the end of the running step, and sizes are whole
tokens. Mean sizes are tens of thousands of tokens, so this adds a few ten-thousandths to a time, a
small part of the intervals. Where nothing is shared no law is needed: each request is compared
with the recursion of its queue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
import pytest
from queue_laws import (
    erlang_c,
    interval,
    md1_quantile,
    mm1_quantile,
    mmc_wait_quantile,
    quantile_of,
    sharing_sojourn_above,
    sharing_states,
)

from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens

N_SEEDS = 50


def long(*arguments) -> object:
    """A case that takes seconds; of a higher load, many more requests to see as sharply."""
    return pytest.param(*arguments, marks=pytest.mark.slow)


TOKENS = 20_000  # of a mean request
UNIT = 50 * TOKENS  # ps: one token takes 50 ps where it takes a constant time
PERCENTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Served:
    """All requests of one replication, in ps."""

    arrived: np.ndarray
    first: np.ndarray
    done: np.ndarray
    prompt: np.ndarray
    output: np.ndarray
    found: np.ndarray  # requests in the system at the arrival


@dataclass(frozen=True)
class Seen:
    """The middle requests of one replication; times in units of a mean service."""

    sojourn: np.ndarray
    wait: np.ndarray  # until the first token
    found: np.ndarray  # requests in the system at the arrival
    size: np.ndarray  # in mean sizes
    tpot: np.ndarray  # ps per output token after the first; NaN without one


Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
"""(random, n) -> prompt and output tokens of n requests."""


def engine(n_places: int, steps: StepTimes, prefill="chunked") -> EngineSettings:
    """A replica that nothing but its places and its step times holds back."""
    return EngineSettings(
        steps=steps,
        max_num_seqs=n_places,
        max_num_batched_tokens=10**9,
        kv_blocks=10**9,
        block_tokens=10**3,
        prefill=prefill,
    )


def serve(settings, draw: Draw, load: float, n: int, service_ps: int, seed: int) -> Served:
    """Serves n requests of Poisson arrivals, `load` of them in a mean service."""
    random = np.random.default_rng(seed)
    arrived = np.cumsum(random.exponential(service_ps / load, n)).astype(np.int64)
    prompt, output = draw(random, n)
    times = Times.none_yet(n)
    replica = Replica(settings, Tokens(prompt.tolist(), prompt.tolist(), output.tolist()), times)
    found = np.empty(n)
    for index, at_ps in enumerate(arrived.tolist()):
        replica.advance(at_ps)
        found[index] = replica.n_outstanding
        assert replica.submit(index, at_ps)
    replica.drain()
    first, done = np.array(times.first_ps), np.array(times.done_ps)
    return Served(arrived, first, done, prompt, output, found)


def replication(settings, draw: Draw, load: float, n: int, service_ps: int, seed: int) -> Seen:
    s = serve(settings, draw, load, n, service_ps, seed)
    middle = slice(n // 5, n - n // 10)
    n_gaps = s.output - 1
    return Seen(
        sojourn=((s.done - s.arrived) / service_ps)[middle],
        wait=((s.first - s.arrived) / service_ps)[middle],
        found=s.found[middle],
        size=(s.output / TOKENS)[middle],
        tpot=np.divide(s.done - s.first, n_gaps, where=n_gaps > 0, out=np.full(n, np.nan))[middle],
    )


def replications(settings, draw, load, n_requests, service_ps=UNIT) -> list[Seen]:
    return [
        replication(settings, draw, load, n_requests, service_ps, seed) for seed in range(N_SEEDS)
    ]


def assert_mean(values: list[np.ndarray], theory: float) -> None:
    low, high = interval(np.array([np.nanmean(v) for v in values]))
    assert low <= theory <= high


def assert_quantile(values: list[np.ndarray], quantile: float, p: float) -> None:
    assert_mean([v > quantile for v in values], 1 - p)


def constant(n_places: int, ps: int) -> StepTimes:
    """Every step takes the same time, whatever it does."""
    return StepTimes((ps,) * (n_places + 1), (0,) * (n_places + 1), 0)


PROMPTS_ONLY = StepTimes((0, 0), (0, 0), UNIT // TOKENS)  # one at a time, by prompt length


def exponential_prompts(random, n):
    prompt = np.ceil(random.exponential(TOKENS, n)).astype(np.int64)
    return prompt, np.ones(n, np.int64)


def long_contexts(random, n):
    return np.full(n, 500 * TOKENS), 1 + random.geometric(1 / TOKENS, n)


def equal_prompts(random, n):
    return np.full(n, TOKENS), np.ones(n, np.int64)


def geometric_outputs(random, n):
    return np.ones(n, np.int64), random.geometric(1 / TOKENS, n)


def uneven_outputs(random, n):
    """Nine short answers for each one that is 41 times as long: a squared CV of 5.9."""
    long = random.random(n) < 0.1
    return np.ones(n, np.int64), np.where(long, 41 * TOKENS // 5, TOKENS // 5)


@pytest.mark.parametrize("draw", [exponential_prompts, equal_prompts])
def test_one_server_follows_lindley(draw):
    """Not only in law: every request ends when the recursion of one server says, to the last ps."""
    served = serve(engine(1, PROMPTS_ONLY), draw, 0.9, 20_000, UNIT, seed=0)
    free_ps = 0
    services = (served.prompt * (UNIT // TOKENS)).tolist()
    for at_ps, service_ps, done_ps in zip(
        served.arrived.tolist(), services, served.done.tolist(), strict=True
    ):
        free_ps = max(at_ps, free_ps) + service_ps
        assert done_ps == free_ps


def test_many_servers_follow_kiefer_and_wolfowitz():
    """Every request starts when a server is free, and ends later only by parts of single steps."""
    n_servers, step_ps = 8, UNIT // TOKENS
    settings = engine(n_servers, constant(n_servers, step_ps))
    served = serve(settings, geometric_outputs, 0.9 * n_servers, 20_000, UNIT, seed=0)
    free_ps, late_ps = [0] * n_servers, []
    for at_ps, n_tokens, done_ps in zip(
        served.arrived.tolist(), served.output.tolist(), served.done.tolist(), strict=True
    ):
        start_ps = max(at_ps, heappop(free_ps))
        heappush(free_ps, start_ps + n_tokens * step_ps)
        late_ps.append(done_ps - start_ps - n_tokens * step_ps)
    assert min(late_ps) >= 0
    assert max(late_ps) <= 3 * step_ps


@pytest.mark.parametrize(("load", "n_requests"), [long(0.6, 4_000), long(0.8, 50_000)])
def test_mm1(load, n_requests):
    seen = replications(engine(1, PROMPTS_ONLY), exponential_prompts, load, n_requests)
    sojourn = [s.sojourn for s in seen]
    assert_mean(sojourn, 1 / (1 - load))
    for p in PERCENTILES:
        assert_quantile(sojourn, mm1_quantile(p, load, 1.0), p)


@pytest.mark.parametrize(("load", "n_requests"), [long(0.6, 4_000), long(0.8, 50_000)])
def test_md1(load, n_requests):
    seen = replications(engine(1, PROMPTS_ONLY), equal_prompts, load, n_requests)
    sojourn = [s.sojourn for s in seen]
    assert_mean(sojourn, 1 + load / (2 * (1 - load)))
    for p in PERCENTILES:
        assert_quantile(sojourn, md1_quantile(p, load, 1.0), p)


@pytest.mark.parametrize(
    ("n_servers", "load", "n_requests"), [long(4, 0.6, 4_000), long(8, 0.8, 80_000)]
)
def test_mmc(n_servers, load, n_requests):
    settings = engine(n_servers, constant(n_servers, UNIT // TOKENS))
    lam = load * n_servers
    seen = replications(settings, geometric_outputs, lam, n_requests)
    wait = [s.wait for s in seen]
    waits = erlang_c(n_servers, lam)
    assert_mean(wait, waits / (n_servers - lam))
    assert_mean([s.sojourn for s in seen], 1 + waits / (n_servers - lam))
    for p in PERCENTILES:
        if p > 1 - waits:  # below, nobody waits
            assert_quantile(wait, mmc_wait_quantile(p, lam, 1.0, n_servers), p)
    assert_mean([s.found >= n_servers for s in seen], waits)


@pytest.mark.parametrize(
    ("prefill", "draw", "load", "n_requests"),
    [
        ("chunked", geometric_outputs, 0.6, 2_500),
        long("elsewhere", geometric_outputs, 0.5, 2_500),
        long("chunked", uneven_outputs, 0.5, 2_500),
        long("chunked", geometric_outputs, 0.8, 30_000),
        long("elsewhere", geometric_outputs, 0.8, 30_000),
        long("chunked", uneven_outputs, 0.8, 30_000),
    ],
)
def test_processor_sharing(prefill, draw, load, n_requests):
    n_places = 200
    each = UNIT // TOKENS
    steps = StepTimes(tuple(each * n for n in range(n_places + 1)), (0,) * (n_places + 1), 0)
    seen = replications(engine(n_places, steps, prefill), draw, load, n_requests)
    assert_mean([s.sojourn for s in seen], 1 / (1 - load))
    assert_mean([s.sojourn / s.size for s in seen], 1 / (1 - load))  # equal for every size
    small = [s.size < 1 for s in seen]
    for which in (small, [~s for s in small]):
        slowdown = [s.sojourn[w] / s.size[w] for s, w in zip(seen, which, strict=True)]
        assert_mean(slowdown, 1 / (1 - load))
    assert_states([s.found for s in seen], sharing_states(load, 0.0, n_places))
    if draw is geometric_outputs:
        above = sharing_sojourn_above(load, 1.0, lambda n: n, n_places)
        for p in PERCENTILES:
            assert_quantile([s.sojourn for s in seen], quantile_of(above, p, 100.0), p)


def assert_states(found: list[np.ndarray], law: np.ndarray) -> None:
    """Compares the numbers that arrivals found (PASTA) with a law of states."""
    assert_mean(found, float(law @ np.arange(law.size)))
    below = np.cumsum(law)
    for p in PERCENTILES:
        n = int(np.searchsorted(below, p))
        assert_mean([f <= n for f in found], float(below[n]))


@pytest.mark.parametrize(
    ("fixed_ratio", "load", "n_requests"),
    [(2.0, 0.6, 2_000), long(10.0, 0.5, 2_000), long(2.0, 0.8, 25_000), long(10.0, 0.7, 25_000)],
)
def test_decode_is_shared_as_the_closed_form_says(fixed_ratio, load, n_requests):
    """Steps of A + b*n + C*K: TPOT = (A + b + C*kappa)/(1 - lam*s), s = (b + C*kappa)*o.

    Exact where every token reads about the same context: prompts are 500 times as long as answers.
    """
    n_places, prompt, each_context_ps = 400, 500 * TOKENS, 1
    kappa = prompt + TOKENS  # geometric answers: the mean token of a decode comes after TOKENS
    each = 10**7 + each_context_ps * kappa
    fixed = round(fixed_ratio * each)
    steps = StepTimes(
        decode_ps=tuple(fixed + 10**7 * n for n in range(n_places + 1)),
        context_ps=(each_context_ps,) * (n_places + 1),
        prompt_token_ps=0,
    )
    settings = engine(n_places, steps)
    seen = replications(settings, long_contexts, load, n_requests, each * TOKENS)
    assert_mean([s.tpot / each for s in seen], (fixed_ratio + 1) / (1 - load))
    assert_states([s.found for s in seen], sharing_states(load, fixed_ratio, n_places))
    above = sharing_sojourn_above(load, 1.0, lambda n: n + fixed_ratio, n_places)
    for p in PERCENTILES:
        assert_quantile([s.sojourn for s in seen], quantile_of(above, p, 1_000.0), p)
