"""What is simulated is what is served: least_delay of a simulated pool and of the fleet at runtime.

One run is told where to send by the simulator's own policy, the other one by a Fleet that hears of
every request what a proxy would.
"""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from fleets import ask, class_sheet, pool_sheet, servers, setup_of, sheet_of

from planner.runtime.fleet import Fleet
from planner.simulate.cluster import Cluster, PoolSetup, run
from planner.simulate.demand import Demand
from planner.simulate.failures import Failure
from planner.simulate.replicas import mean_answers
from planner.simulate.settings import EngineSettings, StepTimes
from planner.simulate.units import PS_PER_MS
from planner.spec.sheet import StepKnots

N_REQUESTS = 200
REQUEST_MS = 3.0


class ByFleet:
    """Sends every request where the fleet says."""

    def __init__(self, fleet: Fleet, demand: Demand) -> None:
        self._fleet = fleet
        (tokens,) = demand.tokens
        (expected,) = mean_answers(demand, 0)
        self._asks = [ask(prompt, expected) for prompt in tokens.prompt.tolist()]
        self._chosen: dict[int, object] = {}
        self._tickets: dict[int, int] = {}

    def order(self, batch):
        return batch

    def choose(self, i, instances, now_s):
        self._chosen[i] = self._fleet.choose("pool", self._asks[i], now_s)
        return self._chosen[i].index

    def sent(self, i, instance, now_s):
        self._tickets[i] = self._fleet.sent(self._chosen.pop(i), self._asks[i], now_s)

    def first_token(self, i, now_s):
        self._fleet.first_token(self._tickets[i], now_s)

    def ended(self, i, now_s, output_tokens):
        self._fleet.ended(self._tickets.pop(i), now_s, output_tokens)

    def seen(self, instance, report, now_s):
        raise AssertionError("nobody looked")


def engine_of(random: Random) -> EngineSettings:
    places = random.choice([4, 9, 32])
    steps = StepTimes.linear(
        places,
        random.uniform(2.0, 30.0),
        sequence_ms=random.uniform(0.0, 2.0),
        context_token_ms=random.choice([0.0, 1e-3]),
        prompt_token_ms=random.uniform(0.01, 0.3),
    )
    return EngineSettings(
        steps, places, max_num_batched_tokens=256, kv_blocks=random.choice([100, 1000])
    )


def fleet_of_engine(engine: EngineSettings, n_replicas: int) -> Fleet:
    steps = engine.steps
    sheet = pool_sheet(
        n_replicas=n_replicas,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        kv_capacity_tokens=float(engine.kv_blocks * engine.block_tokens),
        steps=StepKnots(
            n=tuple(range(engine.max_num_seqs + 1)),
            decode_ms=tuple(each / PS_PER_MS for each in steps.decode_ps),
            context_token_ms=tuple(each / PS_PER_MS for each in steps.context_ps),
        ),
        prompt_token_ms=steps.prompt_token_ps / PS_PER_MS,
        request_ms=REQUEST_MS,
    )
    given = sheet_of({"pool": sheet}, {"chat": class_sheet(["pool"])})
    return Fleet(setup_of({"pool": servers(n_replicas)}, given), 0.0)


@pytest.mark.parametrize("seed", range(12))
def test_a_simulated_pool_sends_where_the_fleet_would(seed):
    random, draws = Random(f"team {seed}"), np.random.default_rng(seed)
    engine, n_replicas = engine_of(random), random.choice([2, 3, 5])
    gap_s = random.choice([0.2, 1.0]) * engine.steps.decode_ps[1] * 1e-12 * 20 / n_replicas
    demand = Demand.of(
        draws.exponential(gap_s, N_REQUESTS).cumsum(),
        draws.integers(1, 400, N_REQUESTS),
        draws.integers(1, 120, N_REQUESTS),
        n_pools=1,
    )
    slow = [Failure("pool", 1, 0.0, slow_ratio=3.0)] if seed % 2 else []
    pool = PoolSetup("pool", engine, n_replicas, round(REQUEST_MS * PS_PER_MS))
    cluster = Cluster.of([pool], {"chat": {"pool": 1.0}}, balance="least_delay")
    simulated = run(cluster, demand, slow).records.replica_index
    chooser = ByFleet(fleet_of_engine(engine, n_replicas), demand)
    served = run(cluster, demand, slow, chooser=chooser).records.replica_index
    assert served.tolist() == simulated.tolist()
    turns = np.arange(N_REQUESTS) % n_replicas
    assert (simulated != turns).any()
