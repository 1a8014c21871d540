"""Small random replicas and what happens to them: tight, full of ties, with every rule in play.

Times are drawn from few values on purpose, so that arrivals, failures and the ends of steps fall
on the same picosecond again and again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from planner.simulate.failures import Failure
from planner.simulate.settings import EngineSettings, StepTimes, Tokens
from planner.simulate.units import PS_PER_S

ARRIVAL_POLICIES = ["random", "round_robin", "fewest_requests", "least_kv", "power_of_two", "vllm"]
BATCH_POLICIES = ["fifo", "largest_first"]
RATIOS = [0.5, 1.0, 1.0, 1.37, 3.0]  # of slow-downs; 1 is back to normal


@dataclass(frozen=True)
class Event:
    """Something that happens to a replica from outside."""

    at_ps: int
    kind: Literal["submit", "fail", "slow", "look"]
    value: float = 0  # the request of a submit; the ratio of a slow-down


@dataclass(frozen=True)
class ReplicaCase:
    """One replica, its requests, and its story in order of time."""

    settings: EngineSettings
    tokens: Tokens
    priority: list[int]
    events: list[Event]


def step_times(random: Random, max_num_seqs: int) -> StepTimes:
    """Tables of any shape: coarse (many ties), all zero, or as uneven as a real machine's."""
    kind = random.choice(["coarse", "coarse", "zero", "uneven", "uneven"])
    if kind == "zero":
        zeros = (0,) * (max_num_seqs + 1)
        return StepTimes(zeros, zeros, random.choice([0, 1]))
    most_ps = 5 if kind == "coarse" else 10**10
    return StepTimes(
        decode_ps=tuple(random.randint(0, most_ps) for _ in range(max_num_seqs + 1)),
        context_ps=tuple(
            random.choice([0, random.randint(0, most_ps // 5)]) for _ in range(max_num_seqs + 1)
        ),
        prompt_token_ps=random.choice([0, random.randint(0, most_ps // 5)]),
        attention_ps=random.choice([0, 0, random.randint(0, max(1, most_ps // 200))]),
    )


def engine_settings(random: Random, tokens: Tokens, n_ranks: int = 1) -> EngineSettings:
    """A replica whose KV cache holds about one of the longest requests, or a few, or all."""
    longest = max(map(sum, zip(tokens.prompt, tokens.output, strict=True)))
    max_num_seqs = random.choice([1, 2, 3, 4, 8])
    block_tokens = random.choice([1, 2, 4, 16])
    return EngineSettings(
        steps=step_times(random, max_num_seqs),
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_seqs + random.choice([0, 1, 3, 10, 40, 1000]),
        kv_blocks=max(
            1, int(longest * random.choice([0.8, 1, 1, 1.2, 1.5, 2, 3, 20])) // block_tokens
        ),
        block_tokens=block_tokens,
        prefill=random.choice(["chunked", "chunked", "chunked", "pausing", "elsewhere"]),
        waiting_ratio=random.choice([0.0, 0.3, 0.5, 1.2]),
        most_decode_steps=random.choice([0, 1, 3, 20]),
        lag_steps=random.choice([0, 0, 1]),
        by_priority=random.random() < 0.3,
        n_ranks=n_ranks,
        reserve_prompt=random.random() < 0.5,
    )


def request_tokens(random: Random, n_requests: int) -> Tokens:
    """Requests of which some want one token, some are mostly cached, and some never fit."""
    longest = random.choice([10, 40, 60, 400])
    prompt = [random.choice([1, 2, 5, 16, 17, random.randint(1, 50)]) for _ in range(n_requests)]
    return Tokens(
        prompt=prompt,
        fresh=[random.choice([tokens, random.randint(1, tokens)]) for tokens in prompt],
        output=[random.choice([1, 2, 8, random.randint(1, longest)]) for _ in range(n_requests)],
    )


def arrivals_ps(random: Random, n_requests: int, unit_ps: int) -> list[int]:
    """Bursts of equal moments, a few steps apart or so far apart that the replica runs dry."""
    now_ps, moments = random.randint(0, 3), []
    gap_ps = random.choice([1, 5, 20, 200]) * unit_ps
    for _ in range(n_requests):
        if random.random() < 0.6:
            now_ps += random.randint(0, 2 * gap_ps)
        moments.append(now_ps)
    return moments


def troubles(random: Random, moments: list[int], end_ps: int) -> list[Event]:
    """Looks at any moment, and in some cases failures and slow-downs, some just at an arrival."""
    n_looks, n_slow, n_fail = random.randint(0, 10), 0, 0
    if random.random() < 0.3:
        n_slow = random.randint(1, 3)
    if random.random() < 0.3:
        n_fail = random.randint(1, 2)

    def moment() -> int:
        return random.choice([random.choice(moments), random.randint(0, end_ps)])

    return [
        *(Event(random.randint(0, end_ps), "look") for _ in range(n_looks)),
        *(Event(moment(), "slow", random.choice(RATIOS)) for _ in range(n_slow)),
        *(Event(moment(), "fail") for _ in range(n_fail)),
    ]


def replica_case(seed: int) -> ReplicaCase:
    random = Random(seed)
    n_requests = random.randint(1, 30)
    tokens = request_tokens(random, n_requests)
    settings = engine_settings(random, tokens)
    unit_ps = max(1, sum(settings.steps.decode_ps) // (settings.max_num_seqs + 1))
    moments = arrivals_ps(random, n_requests, unit_ps)
    events = [Event(at_ps, "submit", index) for index, at_ps in enumerate(moments)]
    events += troubles(random, moments, moments[-1] + 50 * unit_ps)
    return ReplicaCase(
        settings=settings,
        tokens=tokens,
        priority=[random.randint(0, 2) for _ in range(n_requests)],
        events=sorted(events, key=lambda event: (event.at_ps, event.kind == "submit")),
    )


def busy_case(seed: int, n_requests: int, load: float) -> ReplicaCase:
    """A replica of real size near `load` of its capacity: long answers, wide batches, tight KV."""
    random, n_places = Random(f"busy {seed}"), 48
    steps = StepTimes(
        decode_ps=tuple(8_123_456_789 + 41_234_567 * n + n % 7 for n in range(n_places + 1)),
        context_ps=tuple(91_237 + 13 * n for n in range(n_places + 1)),
        prompt_token_ps=19_876_543,
        attention_ps=seed % 2 * 1_234,
    )
    prompt = [min(4_000, 1 + int(random.expovariate(1 / 400))) for _ in range(n_requests)]
    output = [min(2_000, 1 + int(random.expovariate(1 / 120))) for _ in range(n_requests)]
    mean_gap_ps = (120 * steps.decode_ps[-1] / n_places + 400 * steps.prompt_token_ps) / load
    now_ps, events = 0, []
    for index in range(n_requests):
        now_ps += int(random.expovariate(1 / mean_gap_ps))
        events.append(Event(now_ps, "submit", index))
    return ReplicaCase(
        settings=EngineSettings(
            steps=steps,
            max_num_seqs=n_places,
            max_num_batched_tokens=512,
            kv_blocks=1_200,
            prefill=["chunked", "chunked", "pausing", "elsewhere"][seed % 4],
            lag_steps=int(seed % 3 == 1),
            by_priority=seed % 5 == 4,
        ),
        tokens=Tokens(prompt, prompt, output),
        priority=[random.randint(0, 2) for _ in range(n_requests)],
        events=events,
    )


@dataclass(frozen=True)
class GroupCase(ReplicaCase):
    """A replica of several ranks; the policy says which rank takes a request."""

    policy: str
    is_central: bool  # the requests wait in one pool, and a batch policy deals them out


def group_case(seed: int) -> GroupCase:
    random, alone = Random(f"group {seed}"), replica_case(seed)
    is_central = random.random() < 0.4
    settings = replace(alone.settings, n_ranks=random.choice([2, 3, 4]))
    if is_central:  # which knows neither a lag nor priorities
        settings = replace(settings, lag_steps=0, by_priority=False)
    return GroupCase(
        settings=settings,
        tokens=alone.tokens,
        priority=alone.priority,
        events=alone.events,
        policy=random.choice(BATCH_POLICIES if is_central else ARRIVAL_POLICIES),
        is_central=is_central,
    )


@dataclass(frozen=True)
class ClusterCase:
    """Pools of replicas, the requests of all classes, and what goes wrong."""

    engines: list[EngineSettings]  # by pool
    n_replicas: list[int]
    request_ps: list[int]
    tokens: list[Tokens]  # by pool
    arrived_ps: list[int]
    class_index: list[int]
    priority: list[int]
    usable: list[list[int]]  # by class: pools
    shares: list[list[float]]  # by class: of its usable pools
    fallback: list[list[int]]  # by class
    balance: str
    failures: list[Failure]


def cluster_case(seed: int) -> ClusterCase:
    random = Random(seed)
    n_pools, n_classes, n_requests = random.randint(1, 3), random.randint(1, 3), 40
    usable = [
        sorted(random.sample(range(n_pools), random.randint(1, n_pools))) for _ in range(n_classes)
    ]
    class_index = [random.randrange(n_classes) for _ in range(n_requests)]
    tokens = [request_tokens(random, n_requests) for _ in range(n_pools)]
    engines = [
        engine_settings(random, tokens[p], random.choice([1, 1, 1, 2])) for p in range(n_pools)
    ]
    unit_ps = max(1, *(max(engine.steps.decode_ps) for engine in engines))
    arrived_ps = arrivals_ps(random, n_requests, unit_ps)
    n_replicas = [random.randint(1, 4) for _ in range(n_pools)]
    return ClusterCase(
        engines=engines,
        n_replicas=n_replicas,
        request_ps=[random.choice([0, unit_ps // 2]) for _ in range(n_pools)],
        tokens=tokens,
        arrived_ps=arrived_ps,
        class_index=class_index,
        priority=[random.randint(0, 2) for _ in range(n_requests)],
        usable=usable,
        shares=[random_shares(random, len(pools)) for pools in usable],
        fallback=[random.sample(range(n_pools), random.randint(0, n_pools)) for _ in usable],
        balance=random.choice(["round_robin", "fewest_requests", "least_kv", "vllm"]),
        failures=failures(random, n_replicas, arrived_ps[-1] + 50 * unit_ps),
    )


def random_shares(random: Random, n_pools: int) -> list[float]:
    """Whole percents that add up to 1; some are none at all."""
    cuts = sorted(random.choice([0, 100, random.randint(0, 100)]) for _ in range(n_pools - 1))
    return [(b - a) / 100 for a, b in zip([0, *cuts], [*cuts, 100], strict=True)]


def failures(random: Random, n_replicas: list[int], end_ps: int) -> list[Failure]:
    """Some replicas die or slow down once or twice, and most of them return."""
    found = []
    for pool, n in enumerate(n_replicas):
        for replica in range(n):
            n_moments = random.choice([0, 1, 2, 4])
            moments = sorted({random.randint(0, end_ps) for _ in range(n_moments)})
            spans = list(zip(moments[::2], [*moments[1::2], None], strict=False))
            for begin_ps, until_ps in spans:
                found.append(
                    Failure(
                        pool=f"pool-{pool}",
                        replica=replica + 1,
                        at_s=begin_ps / PS_PER_S,
                        until_s=None if until_ps is None else until_ps / PS_PER_S,
                        slow_ratio=random.choice([None, None, 1.5, 3.0]),
                    )
                )
    return found
