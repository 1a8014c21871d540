"""Choosing among all instances of a cluster: what is heard and when, and what the choosers do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_simulate_cascades_against_reference import case_of, engine_run

from planner.scheduling.fused import Prices
from planner.scheduling.ledger import Seen
from planner.scheduling.routebalance import PRESETS, Weights
from planner.simulate.choosers import Believed, ByRouteBalance, Fused
from planner.simulate.choosing import Rhythm
from planner.simulate.cluster import Cluster, PoolSetup, run
from planner.simulate.curves import curve_of
from planner.simulate.demand import CascadeDemand, Demand, TokenArrays
from planner.simulate.failures import Failure
from planner.simulate.hosted import HostedSettings
from planner.simulate.records import Outcome
from planner.simulate.replicas import mean_answers
from planner.simulate.settings import EngineSettings, StepTimes
from planner.simulate.units import PS_PER_MS, PS_PER_S
from planner.spec.plan import CascadeEntry, WeightedPool

STEP_MS = {"small": 10.0, "big": 30.0}
N_SMALL, N_BIG = 2, 1
SMALL, BIG = (0, 1), (2,)


def engine(step_ms: float) -> EngineSettings:
    steps = StepTimes.linear(8, step_ms, sequence_ms=1.0, prompt_token_ms=0.1)
    return EngineSettings(steps, 8, max_num_batched_tokens=512, kv_blocks=1000)


def cluster(t0_ms: float = 0.0) -> Cluster:
    counts = {"small": N_SMALL, "big": N_BIG}
    pools = [
        PoolSetup(name, engine(STEP_MS[name]), n, round(t0_ms * PS_PER_MS))
        for name, n in counts.items()
    ]
    return Cluster.of(pools, {"all": {"small": 0.5, "big": 0.5}})


def demand(*arrived_s: float, output: int = 10) -> Demand:
    n = len(arrived_s)
    return Demand.of(np.array(arrived_s), np.full(n, 100), np.full(n, output), n_pools=2)


def believed(n: int, quality: tuple[float, float] = (0.4, 0.8), tokens: float = 10.0) -> Believed:
    usd = np.tile([1e-5, 4e-5], (n, 1))
    return Believed(np.tile(quality, (n, 1)), np.full((n, 2), tokens), usd)


class Script:
    """Sends requests where it was told to, and writes down what it hears."""

    def __init__(self, *instances: int) -> None:
        self.instances = list(instances)
        self.heard: list[tuple[object, ...]] = []

    def order(self, batch):
        return sorted(batch, reverse=True)

    def choose(self, i, instances, now_s):
        self.heard.append(("choose", i, tuple(instances), round(now_s, 9)))
        return self.instances.pop(0)

    def sent(self, i, instance, now_s):
        pass

    def first_token(self, i, now_s):
        self.heard.append(("first", i, round(now_s, 9)))

    def ended(self, i, now_s, output_tokens):
        self.heard.append(("ended", i, round(now_s, 9), output_tokens))

    def seen(self, instance, report: Seen, now_s):
        self.heard.append(("seen", instance, report.n_running, report.at_s, now_s))


def of_kind(script: Script, kind: str) -> list[tuple[object, ...]]:
    return [entry[1:] for entry in script.heard if entry[0] == kind]


# ---- What is heard -------------------------------------------------------------------------------


def test_a_proxy_hears_first_token_and_end_when_the_client_does():
    """Prefill 100 x 0.1 + 10 ms, then nine steps of 11 ms; t0 = 5 ms comes on top of both."""
    script = Script(0, 2)
    run(cluster(t0_ms=5.0), demand(1.0, 3.0), chooser=script)
    assert script.heard == [
        ("choose", 0, (0, 1, 2), 1.0),
        ("first", 0, 1.025),
        ("ended", 0, 1.124, 10),
        ("choose", 1, (0, 1, 2), 3.0),
    ]


def test_what_has_not_happened_yet_is_not_heard():
    script = Script(0, 0, 0)
    run(cluster(), demand(0.0, 0.019, 0.5), chooser=script)
    first = of_kind(script, "first")
    assert script.heard[:2] == [("choose", 0, (0, 1, 2), 0.0), ("choose", 1, (0, 1, 2), 0.019)]
    assert [entry[0] for entry in first] == [0, 1]
    assert first[0][1] == 0.02


def test_a_batch_closes_by_time_or_when_it_is_full_and_is_sent_when_all_is_decided():
    rhythm = Rhythm(window_s=0.1, n_most=3, decision_s=0.02)
    script = Script(0, 0, 0, 1, 1)
    moments = (0.0, 0.03, 0.05, 0.06, 0.5)
    records = run(cluster(), demand(*moments), chooser=script, rhythm=rhythm).records
    # Full with the third at 0.05, decided by 0.11; then 0.06 waits for its window to pass.
    assert [entry[::2] for entry in of_kind(script, "choose")] == [
        (2, 0.05),
        (1, 0.05),
        (0, 0.05),
        (3, 0.16),
        (4, 0.6),
    ]
    alone_s = 0.02  # its prefill, once it was sent
    assert records.first_ps[3] / PS_PER_S == pytest.approx(0.16 + 0.02 + alone_s)
    assert records.ttft_ms[4] == pytest.approx(100 + 20 + 20)
    assert records.first_ps[:3].min() / PS_PER_S >= 0.05 + 3 * 0.02


def test_a_decider_that_is_late_takes_what_has_come_meanwhile():
    rhythm = Rhythm(n_most=8, decision_s=0.1)
    script = Script(0, 0, 0)
    run(cluster(), demand(0.0, 0.01, 0.09), chooser=script, rhythm=rhythm)
    assert [entry[::2] for entry in of_kind(script, "choose")] == [(0, 0.0), (2, 0.1), (1, 0.1)]


def test_looks_come_at_their_time_and_are_heard_later():
    rhythm = Rhythm(look_every_s=0.05, look_age_s=0.02)
    script = Script(0, 1)
    run(cluster(), demand(0.0, 0.13, output=5), chooser=script, rhythm=rhythm)
    at_small = [entry[1:] for entry in of_kind(script, "seen") if entry[0] == 0]
    assert at_small == [(1, 0.05, 0.07), (0, 0.1, 0.12)]  # done at 0.02 + 4 x 0.011


def test_a_look_at_every_decision_is_fresh():
    script = Script(0, 0)
    run(cluster(), demand(0.0, 0.03), chooser=script, rhythm=Rhythm(look_every_s=0.0))
    seen = of_kind(script, "seen")
    assert [entry[1:] for entry in seen if entry[0] == 0] == [(0, 0.0, 0.0), (1, 0.03, 0.03)]


def test_what_dies_with_its_replica_is_chosen_for_again_elsewhere():
    script = Script(2, 0)
    failures = [Failure("big", 1, 0.01)]
    records = run(cluster(), demand(0.0), failures, chooser=script).records
    assert script.heard == [
        ("choose", 0, (0, 1, 2), 0.0),
        ("ended", 0, 0.01, None),
        ("choose", 0, (0, 1), 0.01),
    ]
    assert records.outcome.tolist() == [Outcome.OK]
    assert records.pool_index.tolist() == [0]
    assert records.ttft_ms[0] == pytest.approx(10 + 20)


def test_a_decided_request_whose_replica_died_before_it_was_sent_is_chosen_for_again():
    script = Script(2, 1)
    rhythm = Rhythm(decision_s=0.05)
    records = run(
        cluster(), demand(0.0), [Failure("big", 1, 0.01)], chooser=script, rhythm=rhythm
    ).records
    assert of_kind(script, "ended") == [(0, 0.05, None)]
    assert of_kind(script, "choose") == [(0, (0, 1, 2), 0.0), (0, (0, 1), 0.05)]
    assert records.replica_index.tolist() == [1]


def test_nobody_up_fails_the_request():
    failures = [Failure("big", 1, 0.0), Failure("small", 1, 0.0), Failure("small", 2, 0.0)]
    records = run(cluster(), demand(1.0), failures, chooser=Script()).records
    assert records.outcome.tolist() == [Outcome.FAILED]
    assert records.replica_index.tolist() == [-1]


def test_what_fits_nowhere_is_refused_and_heard_of():
    script = Script(0)
    records = run(cluster(), demand(0.0, output=20_000), chooser=script).records
    assert records.outcome.tolist() == [Outcome.REFUSED]
    assert of_kind(script, "ended") == [(0, 0.0, None)]


def test_only_pools_that_a_class_may_use_are_offered():
    asked = demand(0.0)
    nothing = TokenArrays(*(np.zeros(1, np.int64) for _ in range(3)))
    for tokens, offered in (((asked.tokens[0], nothing), SMALL), ((None, asked.tokens[1]), BIG)):
        script = Script(offered[0])
        run(cluster(), replace(asked, tokens=tokens), chooser=script)
        assert of_kind(script, "choose") == [(0, offered, 0.0)]


def test_cascades_leave_nothing_to_choose():
    asked = demand(0.0)
    stage = CascadeDemand(np.array([True]), asked.tokens, asked.tokens)
    plain = cluster()
    entry = CascadeEntry(
        first=(WeightedPool(pool="small", share=1.0),),
        second=(WeightedPool(pool="big", share=1.0),),
        share=1.0,
        signal="answered",
        below=0.5,
        escalated_ratio=0.5,
        quality=0.5,
    )
    routes = plain.routes.model_copy(update={"classes": {"all": ()}, "cascades": {"all": (entry,)}})
    with pytest.raises(ValueError, match="cascade"):
        run(replace(plain, routes=routes), replace(asked, cascades=(stage,)), chooser=Script())


@pytest.mark.parametrize(
    "wrong", [{"window_s": -1.0}, {"n_most": 0}, {"look_every_s": -0.1}, {"look_age_s": -0.1}]
)
def test_a_rhythm_that_cannot_be(wrong):
    with pytest.raises(ValueError, match=r"not negative|at least one"):
        Rhythm(**wrong)


# ---- Choosers ------------------------------------------------------------------------------------


def chosen(make, moments, beliefs, rhythm=None, **more) -> list[tuple[int, int]]:
    setup, asked = cluster(), demand(*moments, **more)
    rhythm = rhythm or Rhythm()
    records = run(setup, asked, chooser=make(setup, asked, beliefs), rhythm=rhythm).records
    return list(zip(records.pool_index.tolist(), records.replica_index.tolist(), strict=True))


@pytest.mark.parametrize(
    ("prices", "pool"),
    [
        (Prices(), 1),  # 0.8 against 0.4
        (Prices(quality_per_usd=1.3e4), 1),  # 0.4 of quality against 3e-5 USD: up to 13,333
        (Prices(quality_per_usd=1.4e4), 0),
        # Ten tokens: 100 x 0.1 + 10 + 9 x 11 = 119 ms against 10 + 30 + 9 x 31 = 319.
        (Prices(quality_per_s=1.9), 1),
        (Prices(quality_per_s=2.1), 0),
    ],
)
def test_an_idle_cluster_is_chosen_from_by_quality_less_prices(prices, pool):
    found = chosen(lambda *given: Fused(*given, prices), [0.0], believed(1))
    assert found[0][0] == pool


def test_a_ledger_spreads_what_comes_at_once():
    """Nothing was heard yet of the first two when the third comes."""
    prices = Prices(quality_per_s=10.0, quality_per_added_s=10.0)
    found = chosen(lambda *given: Fused(*given, prices), [0.0, 0.001, 0.002], believed(3))
    assert sorted(found[:2]) == [(0, 0), (0, 1)]


def test_the_longest_predicted_answer_is_decided_first():
    beliefs = believed(3)
    beliefs.output_tokens[:, 1] = [5.0, 50.0, 20.0]
    setup, asked = cluster(), demand(0.0, 0.0, 0.0)
    for chooser in (
        Fused(setup, asked, beliefs, Prices()),
        ByRouteBalance(setup, asked, beliefs, PRESETS["balance"]),
    ):
        assert list(chooser.order([0, 1, 2])) == [1, 2, 0]


@pytest.mark.parametrize(
    ("weights", "pool"),
    [
        # Idle, one sequence: T = 10 x 11 against 10 x 31 ms: 1 - T / max T = 0.645 for the small;
        # 1 - cost / max cost = 0.75 for the small; quality 1 for the big one.
        (Weights(1.0, 0.0, 0.0), 1),
        (Weights(0.4, 0.6, 0.0), 1),  # 0.387 against 0.4
        (Weights(0.39, 0.61, 0.0), 0),  # 0.393 against 0.39
        (Weights(0.43, 0.0, 0.57), 1),  # 0.4275 against 0.43
        (Weights(0.42, 0.0, 0.58), 0),  # 0.435 against 0.42
    ],
)
def test_routebalance_scores_an_idle_cluster(weights, pool):
    rhythm = Rhythm(look_every_s=0.0)
    make = lambda *given: ByRouteBalance(*given, weights)  # noqa: E731
    assert chosen(make, [0.0], believed(1), rhythm)[0][0] == pool


def test_routebalance_counts_what_it_sent_within_a_batch_and_forgets_it_at_the_next():
    """Four at once go to both small ones in turn; without a look nothing ever leaves the counts."""
    rhythm = Rhythm(window_s=0.01, n_most=4, look_every_s=0.0)
    make = lambda *given: ByRouteBalance(*given, Weights(0.0, 1.0, 0.0))  # noqa: E731
    found = chosen(make, [0.0] * 4, believed(4), rhythm)
    assert sorted(found) == [(0, 0), (0, 0), (0, 1), (0, 1)]
    setup, asked = cluster(), demand(0.0)
    chooser = make(setup, asked, believed(1))
    chooser.sent(0, 1, 0.0)
    assert chooser.choose(0, SMALL, 0.0) == 0
    chooser.seen(1, Seen(0, 0, 0.0, 0.1), 0.1)
    assert chooser.choose(0, SMALL, 0.1) == 1  # as idle as the other, which was used last


def test_routebalance_waits_for_what_is_pending_where_no_place_is_free():
    """T = (pending / running + L) x time per token, with pending = believed less what is cached."""
    setup, asked = cluster(), demand(*([0.0] * 9))
    chooser = ByRouteBalance(setup, asked, believed(9, tokens=50.0), Weights(0.0, 1.0, 0.0))
    for i in range(8):
        chooser.sent(i, 0, 0.0)
    chooser.seen(0, Seen(8, 0, 8 * 100.0, 0.0), 0.0)  # 8 x (100 + 50) less 800: 50 each
    full = chooser._bid(8, 0)
    assert not full.has_free_slot
    assert full.latency_ms == pytest.approx((50.0 + 50.0) * (10.0 + 8.0))
    empty = chooser._bid(8, 1)
    assert empty.has_free_slot
    assert empty.latency_ms == pytest.approx(50.0 * 11.0)


# ---- Step times as they are known ----------------------------------------------------------------


def test_the_curve_of_an_engine_is_its_table():
    random = np.random.default_rng(0)
    decode_ps, context_ps = random.integers(0, 10 * PS_PER_MS, (2, 9)).cumsum(axis=1).tolist()
    steps = StepTimes(tuple(decode_ps), tuple(context_ps), prompt_token_ps=PS_PER_MS // 10)
    setup = EngineSettings(steps, 8, max_num_batched_tokens=512, kv_blocks=1000)
    curve = curve_of(setup, 3 * PS_PER_MS)
    for n in range(9):
        wanted_ms = (decode_ps[n] + 700 * context_ps[n]) / PS_PER_MS
        assert curve.step_ms(n, 700) == pytest.approx(wanted_ms)
    assert (curve.request_ms, curve.prompt_token_ms, curve.max_num_seqs) == (3.0, 0.1, 8)
    assert curve.kv_capacity_tokens == 16_000


def test_the_ranks_of_a_group_share_what_it_has():
    steps = StepTimes.linear(8, 10.0, sequence_ms=1.0, context_token_ms=0.02, prompt_token_ms=0.1)
    group = EngineSettings(steps, 8, max_num_batched_tokens=512, kv_blocks=1000, n_ranks=4)
    curve = curve_of(group, 0)
    assert (curve.max_num_seqs, curve.kv_capacity_tokens) == (32, 64_000)
    assert curve.step_ms(8, 4000) == pytest.approx(10 + 2 + 0.02 * 1000)  # of each rank
    assert curve.prompt_token_ms == pytest.approx(0.025)


def test_a_hosted_pool_takes_the_same_whatever_its_load():
    curve = curve_of(HostedSettings(ttft_ms=200.0, tpot_ms=10.0), 5 * PS_PER_MS)
    assert (curve.is_fixed, curve.request_ms, curve.step_ms(50, 1e5)) == (True, 205.0, 10.0)


# ---- Between the replicas of a pool --------------------------------------------------------------


def test_least_delay_keeps_away_from_a_replica_that_is_slow():
    """Every first request looks alike; whoever is slow is known by its answers soon."""
    random = np.random.default_rng(0)
    arrived_s = np.cumsum(random.exponential(0.05, 400))
    asked = Demand.of(arrived_s, np.full(400, 100), random.integers(5, 40, 400), n_pools=1)
    setup = Cluster.of(
        [PoolSetup("small", engine(10.0), 3)], {"all": {"small": 1.0}}, balance="least_delay"
    )
    slow = [Failure("small", 1, 0.0, slow_ratio=4.0)]
    found = run(setup, asked, slow).records
    turns = run(replace(setup, balance="round_robin"), asked, slow).records
    n_slow = int((found.replica_index[100:] == 0).sum())
    assert 0 < n_slow < 0.5 * (turns.replica_index[100:] == 0).sum()
    assert found.e2e_ms.mean() < 0.8 * turns.e2e_ms.mean()


def test_least_delay_lives_through_deaths_and_hosted_pools():
    asked = demand(*np.arange(40) * 0.01)
    hosted = PoolSetup("hosted", HostedSettings(100.0, 5.0), 2)
    setup = Cluster.of(
        [PoolSetup("small", engine(10.0), 3), hosted],
        {"all": {"small": 0.5, "hosted": 0.5}},
        balance="least_delay",
    )
    failures = [Failure("small", 1, 0.05), Failure("small", 2, 0.1, until_s=0.2)]
    records = run(setup, asked, failures).records
    assert set(records.outcome.tolist()) <= {Outcome.OK, Outcome.FAILED}
    after = (records.arrived_ps > 0.05 * PS_PER_S) & (records.pool_index == 0)
    assert after.any()
    assert not (records.replica_index[after] == 0).any()
    assert set(records.replica_index[records.pool_index == 1]) == {0, 1}


def test_least_delay_expects_the_mean_of_the_class_in_every_stage():
    output = [10, 30, 7, 0, 0]
    one = TokenArrays(*(np.array(output) for _ in range(3)))
    stage = TokenArrays(*(np.array([20, 0, 0, 0, 0]) for _ in range(3)))
    asked = replace(
        demand(0.0, 1.0, 2.0, 3.0, 4.0),
        class_index=np.array([0, 0, 1, 2, 2]),
        tokens=(one, None),
        cascades=(CascadeDemand(np.array([True] * 5), (stage, None), (None, stage)),),
    )
    assert mean_answers(asked, 0) == [(10 + 30 + 20) / 3, 7.0, (10 + 30 + 20 + 7) / 4]
    assert mean_answers(asked, 1) == [20.0, 20.0, 20.0]


def test_least_delay_in_clusters_with_cascades():
    """Whoever waits for a second answer, or dies on the way, comes to the same kind of end."""
    n_escalated = 0
    for seed in range(25):
        case = case_of(seed)
        calm = replace(case, cluster=replace(case.cluster, failures=[]))
        ends = []
        for balance in ("least_delay", "fewest_requests"):
            found = engine_run(replace(calm, cluster=replace(calm.cluster, balance=balance)))
            ends.append(found.records.outcome.tolist())
            n_escalated += found.records.visits.n_requests - found.records.n_requests
        assert ends[0] == ends[1], seed
        engine_run(replace(case, cluster=replace(case.cluster, balance="least_delay")))
    assert n_escalated > 50
