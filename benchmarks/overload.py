"""Overload: what each priority keeps of its promise, with admission and without.

    python benchmarks/overload.py

Four simulated replicas of 32 places, chunked prefill, Poisson arrivals, answers of geometric length
(150 tokens on average; that mean is all that is predicted). A third of what is within capacity is
of a high class (first token within 1 s), a third of a middle one (2 s), the rest of a low one that
was promised nothing; in overload it is the low class that brings more. The fleet and the admission
are those of `rb serve`, told of every first token and every end at its moment. Goodput is the share
of all that came that was served within its limit; of the low class, within a minute. Used is the
rate of tokens over that of replicas that are always full. The first 20 s of 120 are not counted.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

import numpy as np

from planner.runtime.admission import Admission
from planner.runtime.ask import Ask, Size
from planner.runtime.fleet import Fleet
from planner.runtime.setup import Setup
from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens
from planner.simulate.units import PS_PER_S
from planner.spec.endpoints import Server
from planner.spec.plan import Routes, WeightedPool
from planner.spec.question import Limit
from planner.spec.sheet import AnswerSheet, ClassSheet, PoolSheet, ServingSheet, StepKnots

N_REPLICAS, PLACES, N_INPUT, N_OUTPUT = 4, 32, 500, 150
STEP_MS, SEQUENCE_MS, CONTEXT_MS, PROMPT_MS = 12.0, 0.15, 1e-4, 0.04
LIMITS_MS = {"high": 1_000.0, "middle": 2_000.0, "low": None}
PRIORITIES = {"high": 3, "middle": 2, "low": 1}
SECONDS, WARM_S, SEEDS = 120.0, 20.0, range(5)
FULL_STEP_MS = STEP_MS + PLACES * (SEQUENCE_MS + CONTEXT_MS * (N_INPUT + N_OUTPUT / 2))
# A full replica: each answer takes its steps, and its prompt holds all others up.
CAPACITY_RPS = N_REPLICAS / (N_OUTPUT * FULL_STEP_MS / PLACES + N_INPUT * PROMPT_MS) * 1e3


class Sized:
    """Every request has the same expected size."""

    def size(self, ask: Ask, pool: str) -> Size:
        return Size(N_INPUT, N_INPUT, N_OUTPUT)


class Kept(NamedTuple):
    """What one run keeps."""

    goodput: dict[str, float]
    used: float


def make_setup() -> Setup:
    """Returns the plan of one pool as `rb serve` would read it."""
    per_token = (CONTEXT_MS, CONTEXT_MS)
    pool = PoolSheet(
        model_name="m", n_replicas=N_REPLICAS, usd_per_h=1.0, max_num_seqs=PLACES,
        max_num_batched_tokens=2048, kv_capacity_tokens=1e6, prompt_token_ms=PROMPT_MS,
        steps=StepKnots(n=(0, PLACES), decode_ms=(STEP_MS, STEP_MS + SEQUENCE_MS * PLACES),
                        context_token_ms=per_token),
        low_ratio=0.9, high_ratio=1.1, utilisation_ratio=0.8, max_load_ratio=1.0,
        rate_rps=0.8 * CAPACITY_RPS,
    )  # fmt: skip
    answer = AnswerSheet(
        input_tokens=N_INPUT, output_tokens=N_OUTPUT, quality=0.5, work_s=N_REPLICAS / CAPACITY_RPS,
        work_s_per_input_token=0.0, work_s_per_output_token=0.0,
    )  # fmt: skip
    classes = {}
    for name, at_most_ms in LIMITS_MS.items():
        limit = at_most_ms and Limit(metric="ttft", statistic="p95", at_most_ms=at_most_ms)
        classes[name] = ClassSheet(
            rate_rps=1.0, mean_rate_rps=1.0, priority=PRIORITIES[name], input_tokens=N_INPUT,
            cached_input_ratio=0.0, limits=(limit,) if limit else (), quality=0.5, latency=(),
            answers={"pool": answer},
        )  # fmt: skip
    sheet = ServingSheet(
        plan_hash="0" * 64, title="overload", headroom_ratio=0.2, arrivals="poisson",
        arrival_cv=1.0, quality=0.5, limits=(), latency=(), delay_price_per_s=0.0,
        pools={"pool": pool}, classes=classes,
    )  # fmt: skip
    shares = {name: (WeightedPool(pool="pool", share=1.0),) for name in classes}
    routes = Routes(classes=shares, load_prices={}, fallback={}, plan_hash="0" * 64)
    there = tuple(Server(url=f"http://10.0.0.1:{8000 + k}") for k in range(N_REPLICAS))
    return Setup(routes=routes, endpoints={"pool": there}, sheet=sheet)


def play(load: float, seed: int, has_admission: bool) -> Kept:
    """Returns what is kept at so many times the capacity."""
    draw = np.random.default_rng(seed)
    n = draw.poisson(load * CAPACITY_RPS * SECONDS)
    at_s = np.sort(draw.uniform(0.0, SECONDS, n))
    part = 1.0 / 3.0 / max(load, 1.0)
    names = draw.choice(["high", "middle", "low"], n, p=[part, part, 1.0 - 2.0 * part])
    n_output = draw.geometric(1.0 / N_OUTPUT, n).tolist()
    times, setup = Times.none_yet(n), make_setup()
    fleet, admission = Fleet(setup, 0.0), Admission(setup)
    engines = make_engines(n_output, times)
    asks = {
        name: Ask(name, priority, None, None, None, None, N_INPUT, None, Sized())
        for name, priority in PRIORITIES.items()
    }
    tickets: dict[int, int] = {}
    begun: set[int] = set()
    for i, now_s in enumerate(at_s.tolist()):
        hear(engines, fleet, times, tickets, begun, now_s)
        asked = asks[names[i]]
        if has_admission and admission.admit(asked, fleet, ["pool"], now_s) is not None:
            continue
        instance = fleet.choose("pool", asked, now_s)
        engines[instance.index].submit(i, round(now_s * PS_PER_S))
        tickets[i] = fleet.sent(instance, asked, now_s)
    for engine in engines:
        engine.advance(round(SECONDS * PS_PER_S))
    return kept(times, at_s, names, n_output)


def make_engines(n_output: list[int], times: Times) -> list[Replica]:
    steps = StepTimes.linear(
        PLACES, STEP_MS, sequence_ms=SEQUENCE_MS, context_token_ms=CONTEXT_MS,
        prompt_token_ms=PROMPT_MS,
    )  # fmt: skip
    settings = EngineSettings(steps, PLACES, max_num_batched_tokens=2048, kv_blocks=1_000_000 // 16)
    n = len(n_output)
    tokens = Tokens([N_INPUT] * n, [N_INPUT] * n, n_output)
    return [Replica(settings, tokens, times) for _ in range(N_REPLICAS)]


def hear(
    engines: list[Replica],
    fleet: Fleet,
    times: Times,
    tickets: dict[int, int],
    begun: set[int],
    now_s: float,
) -> None:
    """Tells the fleet of every first token and every end up to now, in order."""
    for engine in engines:
        engine.advance(round(now_s * PS_PER_S))
    heard = [
        (times.first_ps[i], False, i) for i in tickets if times.first_ps[i] >= 0 and i not in begun
    ]
    heard += [(times.done_ps[i], True, i) for i in tickets if times.done_ps[i] >= 0]
    for at_ps, is_end, i in sorted(heard):
        if is_end:
            fleet.ended(tickets.pop(i), at_ps / PS_PER_S)
        else:
            fleet.first_token(tickets[i], at_ps / PS_PER_S)
            begun.add(i)


def kept(times: Times, at_s: np.ndarray, names: np.ndarray, n_output: list[int]) -> Kept:
    """Returns the goodput by class and the capacity that was used, after the first seconds."""
    first_s = np.array(times.first_ps) / PS_PER_S
    done_s = np.array(times.done_ps) / PS_PER_S
    counts = (at_s >= WARM_S) & (at_s < SECONDS - 10.0)
    goodput = {}
    for name, at_most_ms in LIMITS_MS.items():
        of = counts & (names == name)
        limit_s = (at_most_ms or 60_000.0) / 1e3
        in_time = (first_s >= 0.0) & (first_s - at_s <= limit_s)
        goodput[name] = float((of & in_time).sum() / of.sum())
    was_done = (done_s >= WARM_S) & (done_s < SECONDS)
    rate_rps = float(np.array(n_output)[was_done].sum()) / N_OUTPUT / (SECONDS - WARM_S)
    return Kept(goodput, rate_rps / CAPACITY_RPS)


def main() -> None:
    print(f"capacity {CAPACITY_RPS:.1f} requests/s; mean of {len(SEEDS)} seeds (least of them)\n")
    print("| load | admission | high | middle | low | used |")
    print("|--:|---|--:|--:|--:|--:|")
    for load in (0.8, 0.95, 1.1, 1.5, 2.0, 3.0):
        for has_admission in (False, True):
            runs = [play(load, seed, has_admission) for seed in SEEDS]
            cells = []
            for name in LIMITS_MS:
                shares = [run.goodput[name] for run in runs]
                cells.append(f"{statistics.mean(shares):.3f} ({min(shares):.3f})")
            used = statistics.mean(run.used for run in runs)
            word = "yes" if has_admission else "no"
            print(f"| {load} | {word} | {' | '.join(cells)} | {used:.2f} |", flush=True)


if __name__ == "__main__":
    main()
