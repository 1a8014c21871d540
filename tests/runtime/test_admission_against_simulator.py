"""Overload of simulated engines: who is important keeps its promise, and little is left unused."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from fleets import PLACES, ask, class_sheet, pool_sheet, servers, setup_of, sheet_of

from planner.runtime.admission import Admission
from planner.runtime.fleet import Fleet
from planner.runtime.promises import Promises
from planner.simulate.replica import Replica
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens
from planner.simulate.units import PS_PER_S
from planner.spec.plan import WeightedPool
from planner.spec.question import Limit
from planner.spec.sheet import StepKnots

N_INPUT, N_OUTPUT, N_REPLICAS = 200, 60, 3
LIMIT_MS = 1_000.0
STEPS = StepTimes.linear(
    PLACES, step_ms=10.0, sequence_ms=0.5, context_token_ms=1e-4, prompt_token_ms=0.1
)
KNOTS = StepKnots(n=(0, PLACES), decode_ms=(10.0, 14.0), context_token_ms=(1e-4, 1e-4))
# Of one replica: 8 places, each for 60 steps and the prefills of 7 others.
CAPACITY_RPS = N_REPLICAS * PLACES / (N_OUTPUT * 0.0141 + PLACES * N_INPUT * 0.1e-3)


class Played(NamedTuple):
    """What became of one class."""

    n: int
    n_admitted: int
    n_good: int  # within the limit, of all that came
    worst_ms: float  # of those admitted


def played(load: float, high_part: float, has_admission: bool, n: int = 1_200) -> dict[str, Played]:
    """Plays Poisson arrivals at so many times the capacity, a part of them of the high class."""
    limit = Limit(metric="ttft", statistic="p95", at_most_ms=LIMIT_MS)
    classes = {
        "high": class_sheet(["pool"], 2, [limit], 1.0, N_INPUT, N_OUTPUT),
        "low": class_sheet(["pool"], 1, (), 1.0, N_INPUT, N_OUTPUT),
    }
    sheet = sheet_of(
        {"pool": pool_sheet(n_replicas=N_REPLICAS, steps=KNOTS, request_ms=0.0)}, classes
    )
    setup = setup_of({"pool": servers(N_REPLICAS)}, sheet)
    shares = {name: (WeightedPool(pool="pool", share=1.0),) for name in classes}
    setup = replace(setup, routes=setup.routes.model_copy(update={"classes": shares}))
    fleet, admission = Fleet(setup, 0.0), Admission(setup)
    draw = np.random.default_rng(5)
    at_s = np.cumsum(draw.exponential(1.0 / (load * CAPACITY_RPS), n))
    is_high = draw.random(n) < high_part
    n_output = draw.geometric(1.0 / N_OUTPUT, n).tolist()
    times = Times.none_yet(n)
    engines = _engines(n_output, times)
    here: dict[int, int] = {}  # ticket by request
    begun: set[int] = set()
    turned_away = set()
    for i in range(n):
        _hear(engines, fleet, times, here, begun, at_s[i])
        name = "high" if is_high[i] else "low"
        asked = ask(N_INPUT, N_OUTPUT, class_name=name, priority=classes[name].priority)
        if has_admission and admission.admit(asked, fleet, ["pool"], at_s[i]) is not None:
            turned_away.add(i)
            continue
        instance = fleet.choose("pool", asked, at_s[i])
        engines[instance.index].submit(i, round(at_s[i] * PS_PER_S))
        here[i] = fleet.sent(instance, asked, at_s[i])
    for engine in engines:
        engine.drain()
    ttft_ms = np.array(times.first_ps) / PS_PER_S * 1e3 - at_s * 1e3
    came_in = np.array([i not in turned_away for i in range(n)])
    return {
        name: Played(
            n=int(of.sum()),
            n_admitted=int((of & came_in).sum()),
            n_good=int((of & came_in & (ttft_ms <= LIMIT_MS)).sum()),
            worst_ms=float(ttft_ms[of & came_in].max(initial=0.0)),
        )
        for name, of in (("high", is_high), ("low", ~is_high))
    }


def _engines(n_output: list[int], times: Times) -> list[Replica]:
    n = len(n_output)
    settings = EngineSettings(
        steps=STEPS, max_num_seqs=PLACES, max_num_batched_tokens=512, kv_blocks=100_000 // 16
    )
    tokens = Tokens([N_INPUT] * n, [N_INPUT] * n, n_output)
    return [Replica(settings, tokens, times) for _ in range(N_REPLICAS)]


def _hear(
    engines: list[Replica],
    fleet: Fleet,
    times: Times,
    here: dict[int, int],
    begun: set[int],
    now_s: float,
) -> None:
    """Lets the fleet know of every first token and every end up to now, in order."""
    for engine in engines:
        engine.advance(round(now_s * PS_PER_S))
    heard = []
    for i, ticket in here.items():
        if i not in begun and times.first_ps[i] >= 0:
            heard.append((times.first_ps[i], 0, i, ticket))
        if times.done_ps[i] >= 0:
            heard.append((times.done_ps[i], 1, i, ticket))
    for at_ps, is_end, i, ticket in sorted(heard):
        if is_end:
            fleet.ended(ticket, at_ps / PS_PER_S)
            del here[i]
        else:
            fleet.first_token(ticket, at_ps / PS_PER_S)
            begun.add(i)


def test_the_planned_level_is_that_of_the_simulator():
    """Two classes at half the capacity: how many are there on average, by the area they take."""
    rates = {"short": 0.35 * CAPACITY_RPS, "long": 0.075 * CAPACITY_RPS}
    lengths = {"short": (N_INPUT, 40), "long": (N_INPUT, 160)}
    classes = {n: class_sheet(["pool"], 1, (), rates[n], *lengths[n]) for n in rates}
    sheet = sheet_of(
        {"pool": pool_sheet(n_replicas=N_REPLICAS, steps=KNOTS, request_ms=0.0)}, classes
    )
    setup = setup_of({"pool": servers(N_REPLICAS)}, sheet)
    shares = {name: (WeightedPool(pool="pool", share=1.0),) for name in classes}
    setup = replace(setup, routes=setup.routes.model_copy(update={"classes": shares}))
    planned, peak = Promises(setup, sheet).levels["pool"]
    n, draw = 3_000, np.random.default_rng(3)
    at_s = np.cumsum(draw.exponential(1.0 / sum(rates.values()), n))
    is_long = draw.random(n) < rates["long"] / sum(rates.values())
    times = Times.none_yet(n)
    engines = _engines(np.where(is_long, 160, 40).tolist(), times)
    for i in range(n):  # by turns: a third of the stream each, a little more even than Poisson
        engines[i % N_REPLICAS].advance(round(at_s[i] * PS_PER_S))
        engines[i % N_REPLICAS].submit(i, round(at_s[i] * PS_PER_S))
    for engine in engines:
        engine.drain()
    there_s = np.array(times.done_ps) / PS_PER_S - at_s
    mean_there = there_s.sum() / at_s[-1] / N_REPLICAS
    assert planned.n_running == pytest.approx(mean_there, rel=0.06)
    assert planned.n_running < peak.n_running <= PLACES - 1


def test_within_capacity_nobody_is_turned_away():
    for each in played(0.8, 0.5, has_admission=True).values():
        assert each.n_admitted == each.n
        assert each.n_good >= 0.97 * each.n


@pytest.mark.parametrize("load", [1.5, 3.0])
def test_in_overload_the_high_class_keeps_its_promise_and_the_rest_is_used(load):
    without = played(load, 0.6 / load, has_admission=False)["high"]
    assert without.n_good <= 0.2 * without.n
    found = played(load, 0.6 / load, has_admission=True)
    high, low = found["high"], found["low"]
    assert high.n_good >= 0.9 * high.n  # five seconds of learning included
    assert high.worst_ms <= 1.5 * LIMIT_MS
    served = high.n_admitted + low.n_admitted
    assert served >= 0.95 * (high.n + low.n) / load  # the capacity is used
    assert low.n_admitted <= 0.5 * low.n


def test_a_high_class_that_is_too_much_alone_is_held_to_what_can_be_served_in_time():
    found = played(2.0, 1.0, has_admission=True)["high"]
    assert found.n_admitted >= 0.5 * found.n
    assert found.n_good >= 0.9 * found.n_admitted
