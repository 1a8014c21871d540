"""A hosted API in a cluster: a delay with the provider's means, whatever else is under way."""

from __future__ import annotations

import numpy as np
import pytest

from planner.latency.capacity import HOSTED_CV
from planner.simulate.cluster import Cluster, PoolSetup, Run, run
from planner.simulate.demand import Demand, TokenArrays
from planner.simulate.failures import Failure
from planner.simulate.hosted import Hosted, HostedSettings
from planner.simulate.records import Outcome
from planner.simulate.settings import EngineSettings, StepTimes, Times, Tokens
from planner.simulate.units import PS_PER_MS, PS_PER_S
from planner.spec.plan import Routes

N = 20_000
KNOWN = HostedSettings(ttft_ms=400.0, tpot_ms=12.0)
OWN_ENGINE = EngineSettings(StepTimes.linear(8, 10.0), 8, 512, 1000)


def answered(settings: HostedSettings = KNOWN, seed: int = 0, n: int = N, ratio: float = 1.0):
    """First and done times in ms since submission, (n,), of requests of 1 + i % 50 tokens."""
    output = [1 + i % 50 for i in range(n)]
    times = Times.none_yet(n)
    hosted = Hosted(settings, Tokens([10] * n, [10] * n, output), times, seed)
    if ratio != 1.0:
        hosted.slow(0, ratio)
    at_ps = [PS_PER_S * (i // 100) for i in range(n)]  # a hundred at a time
    assert all(hosted.submit(i, t) for i, t in enumerate(at_ps))
    since = np.array([times.first_ps, times.done_ps]) - np.array(at_ps)
    return since[0] / PS_PER_MS, since[1] / PS_PER_MS, np.array(output)


def test_its_latencies_have_the_means_and_the_spread_of_the_tables() -> None:
    first, done, output = answered()
    many = output >= 2
    token = (done - first)[many] / (output[many] - 1)
    for values, mean, cv in (
        (first, 400.0, HOSTED_CV["ttft"]),
        (token, 12.0, HOSTED_CV["tpot"]),
    ):
        error = 4.0 * mean * cv / np.sqrt(values.size)
        assert values.mean() == pytest.approx(mean, abs=error)
        assert values.std() / values.mean() == pytest.approx(cv, rel=0.06)
        # A lognormal one: the spread of its logarithm follows from the cv.
        assert np.log(values).std() == pytest.approx(np.sqrt(np.log1p(cv**2)), rel=0.03)


def test_nothing_queues() -> None:
    first, _, _ = answered()
    at_once = first.reshape(-1, 100)
    assert at_once[:, 0].mean() == pytest.approx(at_once[:, 99].mean(), rel=0.25)
    assert np.corrcoef(np.tile(np.arange(100), N // 100), first)[0, 1] == pytest.approx(0, abs=0.03)


def test_an_answer_of_one_token_is_done_when_it_begins() -> None:
    first, done, output = answered()
    assert (done[output == 1] == first[output == 1]).all()
    assert (done[output > 1] > first[output > 1]).all()


def test_the_same_seed_gives_the_same_times() -> None:
    assert (answered(seed=3)[1] == answered(seed=3)[1]).all()
    assert (answered(seed=3)[1] != answered(seed=4)[1]).any()


def test_slow_is_everything_so_many_times_as_long() -> None:
    plain, slow = answered(n=500), answered(n=500, ratio=2.5)
    assert slow[0] == pytest.approx(2.5 * plain[0])
    assert slow[1] == pytest.approx(2.5 * plain[1])


# ---- In a cluster --------------------------------------------------------------------------------


def served(
    settings: HostedSettings, n_replicas: int = 1, failures: tuple[Failure, ...] = (), n: int = 200
) -> Run:
    """A hosted pool with own GPUs to fall back to, a request each 100 ms."""
    of_all = TokenArrays(*(np.full(n, v, dtype=np.int64) for v in (20, 20, 5)))
    zeros = np.zeros(n, dtype=np.int64)
    demand = Demand(np.arange(n) * (PS_PER_S // 10), zeros, zeros, (of_all, of_all))
    routes = Routes.model_validate(
        {
            "classes": {"chat": [{"pool": "api", "share": 1.0}]},
            "load_prices": {},
            "fallback": {"chat": ["api", "own"]},
            "plan_hash": "0" * 64,
        }
    )
    setups = (PoolSetup("api", settings, n_replicas), PoolSetup("own", OWN_ENGINE, 1))
    return run(Cluster(setups, routes, ("chat",)), demand, failures)


def test_an_answer_in_a_time_that_nobody_knows_is_untimed() -> None:
    records = served(HostedSettings()).records
    assert set(records.outcome.tolist()) == {Outcome.UNTIMED}
    assert records.is_answered.all()
    assert np.isnan(records.e2e_ms).all()
    assert set(served(KNOWN).records.outcome.tolist()) == {Outcome.OK}


def test_without_the_provider_the_fallback_serves() -> None:
    gone = Failure("api", None, 5.0, 10.0)
    records = served(KNOWN, failures=(gone,)).records
    at_s = records.arrived_ps / PS_PER_S
    away = (at_s >= 5.0) & (at_s < 10.0)
    assert (records.pool_index == away).all()  # pool 1 is the fallback
    assert (records.outcome == Outcome.OK).all()  # what the provider has taken, it answers


def test_one_of_two_replicas_without_known_latency_may_die() -> None:
    gone = Failure("api", 2, 5.0)
    records = served(HostedSettings(), n_replicas=2, failures=(gone,)).records
    assert set(records.pool_index.tolist()) == {0}
    at_s = records.arrived_ps / PS_PER_S
    assert set(records.replica_index[at_s < 5.0].tolist()) == {0, 1}
    assert set(records.replica_index[at_s >= 5.0].tolist()) == {0}
