"""Random moments in the life of a simulated replica, and what becomes of one more request then.

The truth of a prediction: the same replica run with the request and without it.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from planner.scheduling.delay import Load, StepCurve
from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens
from planner.simulate.units import PS_PER_MS

MEAN_INPUT, MEAN_OUTPUT = 370.0, 185.0


@dataclass(frozen=True)
class Engine:
    """A replica by its step law."""

    places: int
    step_ms: float
    sequence_ms: float
    context_token_ms: float
    prompt_token_ms: float
    tokens_per_step: int
    cache_tokens: int

    @property
    def settings(self):
        steps = StepTimes.linear(
            self.places,
            self.step_ms,
            sequence_ms=self.sequence_ms,
            context_token_ms=self.context_token_ms,
            prompt_token_ms=self.prompt_token_ms,
        )
        return EngineSettings(steps, self.places, self.tokens_per_step, self.cache_tokens // 16)

    @property
    def curve(self):
        knots = [2**k for k in range(20) if 2**k < self.places] + [self.places]
        return StepCurve(
            n=tuple(knots),
            decode_ms=tuple(self.step_ms + self.sequence_ms * n for n in knots),
            context_token_ms=(self.context_token_ms,) * len(knots),
            prompt_token_ms=self.prompt_token_ms,
            request_ms=0.0,
            max_num_seqs=self.places,
            kv_capacity_tokens=self.cache_tokens,
            max_num_batched_tokens=self.tokens_per_step,
        )

    def rate_per_ms(self, utilisation):
        """Arrivals at which so much of what the replica can do is asked of it."""
        held = MEAN_INPUT + MEAN_OUTPUT / 2
        n = min(self.places, self.cache_tokens / held)
        step_ms = self.step_ms + n * (self.sequence_ms + self.context_token_ms * held)
        busy_ms = MEAN_OUTPUT * step_ms / n + self.prompt_token_ms * MEAN_INPUT
        return utilisation / busy_ms


ENGINES = {
    "roomy": Engine(64, 12.0, 0.25, 0.00008, 0.02, 2048, 200_000),
    "few places": Engine(16, 25.0, 0.9, 0.0004, 0.12, 512, 40_000),
    "little cache": Engine(128, 18.0, 0.15, 0.0003, 0.05, 2048, 12_000),
}


def lengths(random, n, kind):
    """Prompt and output tokens of n requests."""
    prompt = np.minimum(random.lognormal(5.5, 0.9, n), 3000.0)
    if kind == "exponential":
        output = random.exponential(MEAN_OUTPUT, n)
    elif kind == "lognormal":
        output = random.lognormal(np.log(MEAN_OUTPUT) - 0.5, 1.0, n)
    else:
        output = random.normal(MEAN_OUTPUT, 30.0, n)
    return prompt.astype(int) + 1, np.clip(output, 1.0, 1500.0).astype(int) + 1


@dataclass(frozen=True)
class Moment:
    """What a replica was like when one more request came, and what became of it."""

    load: Load  # as it truly was, with the lengths of all answers known
    events: list  # (ms, kind, request) until then: 0 sent, 1 first token, 2 ended
    input_tokens: list  # by request; the new one comes after those of the events
    output_tokens: list
    at_ms: float
    ttft_ms: float
    e2e_ms: float
    added_ms: float


def moments(name, kind, utilisations, seeds, n_later=0):
    """Moments of one engine; `n_later` requests come behind the new one at the same rate."""
    return [
        _moment(name, kind, utilisation, seed, n_later)
        for utilisation in utilisations
        for seed in range(seeds)
    ]


@lru_cache(maxsize=2000)
def _moment(name, kind, utilisation, seed, n_later):
    engine = ENGINES[name]
    random = np.random.default_rng([seed, int(100 * utilisation)])
    rate = engine.rate_per_ms(utilisation)
    n = int(rate * MEAN_OUTPUT * 6 * engine.step_ms * 2) + 5
    arrived_ms = np.cumsum(random.exponential(1 / rate, n + 1 + n_later))
    prompt, output = (each.tolist() for each in lengths(random, arrived_ms.size, kind))
    arrived_ps = (arrived_ms * PS_PER_MS).astype(np.int64).tolist()
    with_it, load = _run(engine, arrived_ps, prompt, output, n, True)
    without, _ = _run(engine, arrived_ps, prompt, output, n, False)
    others = [i for i in range(len(prompt)) if i != n]
    now_ps = arrived_ps[n]
    events = [(arrived_ps[i], 0, i) for i in range(n)]
    events += [(t, 1, i) for i, t in enumerate(with_it.first_ps[:n]) if t < now_ps]
    events += [(t, 2, i) for i, t in enumerate(with_it.done_ps[:n]) if t < now_ps]
    return Moment(
        load=load,
        events=[(t / PS_PER_MS, what, i) for t, what, i in sorted(events)],
        input_tokens=prompt,
        output_tokens=output,
        at_ms=now_ps / PS_PER_MS,
        ttft_ms=(with_it.first_ps[n] - now_ps) / PS_PER_MS,
        e2e_ms=(with_it.done_ps[n] - now_ps) / PS_PER_MS,
        added_ms=sum(with_it.done_ps[i] - without.done_ps[i] for i in others) / PS_PER_MS,
    )


def _run(engine, arrived_ps, prompt, output, n, with_it):
    """The times of all requests, and the load that number n found."""
    times = Times.none_yet(len(prompt))
    replica = Replica(engine.settings, Tokens(prompt, prompt, output), times)
    load = Load()
    for i, at_ps in enumerate(arrived_ps):
        replica.advance(at_ps)
        if i == n:
            load = _load(replica._scheduler, prompt, output)
        if i != n or with_it:
            replica.submit(i, at_ps)
    replica.drain()
    return times, load


def _load(scheduler, prompt, output):
    generated, partial = scheduler._generated, scheduler._partial
    waiting = [*scheduler._finishing, *([partial] if partial >= 0 else []), *scheduler.waiting]
    decode = sum(output[i] - g for i, _, g in scheduler.decoding())
    begun = scheduler._partial_tokens if partial >= 0 else 0
    return Load(
        n_running=scheduler.n_running,
        n_waiting=scheduler.n_waiting,
        prefill_tokens=sum(prompt[i] + generated.get(i, 0) for i in waiting) - begun,
        decode_tokens=decode + sum(output[i] - generated.get(i, 0) for i in waiting),
        kv_tokens=scheduler.context_tokens + begun,
    )
