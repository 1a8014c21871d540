"""Which instance takes a request: by load, by health, by what was tried, across a reload."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from fleets import (
    ask,
    class_sheet,
    fleet_of,
    known_setup,
    pool_sheet,
    servers,
    setup_of,
    sheet_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.runtime.fleet import Fleet
from planner.runtime.health import FIRST_SHARE, SLOW_START_S
from planner.runtime.team import PANIC_TRIES, REQUEST_PROBE_S
from planner.scheduling.balance import Workers, make_policy
from planner.scheduling.delay import predict_delay
from planner.scheduling.least_delay import NAMES


def play(fleet: Fleet, n: int, now_s: float = 0.0, pool: str = "pool") -> Counter[str]:
    """Who takes n requests, each of which ends before the next one comes."""
    taken: Counter[str] = Counter()
    for _ in range(n):
        instance = fleet.choose(pool, ask(), now_s)
        ticket = fleet.sent(instance, ask(), now_s)
        fleet.ended(ticket, now_s)
        taken[instance.name] += 1
    return taken


def eject(fleet: Fleet, k: int, now_s: float) -> None:
    fleet.failed(fleet.instances[k], now_s, "connect")


# ---- Who is there --------------------------------------------------------------------------------


def test_instances_have_the_names_and_keys_of_their_servers():
    server = servers(1, api_key_env="KEY", served_model_name="org/m")[0]
    setup = replace(
        setup_of({"a": (*servers(2), server), "b": servers(1, 9000)}), keys={"KEY": "s3cret"}
    )
    fleet = Fleet(setup, 0.0)
    assert [i.name for i in fleet.instances] == ["a/0", "a/1", "a/2", "b/0"]
    assert [i.served_model_name for i in fleet.instances] == ["a", "a", "org/m", "b"]
    assert [i.api_key for i in fleet.instances] == [None, None, "s3cret", None]
    assert fleet.instances[1].address == ("10.0.0.1", 8001, False)
    assert "s3cret" not in repr(fleet.instances) + repr(fleet.status(0.0)) + repr(fleet.backends)


def test_a_model_may_be_named_instead_of_its_pool():
    sheet = sheet_of({"pool": pool_sheet()}, {"chat": class_sheet(["pool"])})
    setup = replace(setup_of({"model": servers(2)}, sheet), endpoints={"model": servers(2)})
    fleet = Fleet(setup, 0.0)
    named = [(i.name, i.served_model_name) for i in fleet.instances if i.pool == "pool"]
    assert named == [("pool/0", "model"), ("pool/1", "model")]


def test_nobody_takes_requests_of_a_pool_without_servers():
    fleet = fleet_of(1)
    assert fleet.choose("unknown", ask(), 0.0) is None
    assert fleet.delay("unknown", ask(), 0.0) is None
    assert fleet.offers("unknown", ask(), 0.0) == []
    assert not fleet.is_up("unknown", 0.0)


# ---- By load -------------------------------------------------------------------------------------


def test_least_delay_takes_the_one_with_least_to_do():
    fleet = fleet_of(3)
    for name in ("pool/0", "pool/2"):
        fleet.sent(next(i for i in fleet.instances if i.name == name), ask(), 0.0)
    assert fleet.choose("pool", ask(), 0.0).name == "pool/1"


def test_the_delay_is_that_of_the_best_instance():
    fleet = fleet_of(2)
    idle = fleet.delay("pool", ask(), 0.0)
    fleet.sent(fleet.instances[0], ask(), 0.0)
    assert fleet.delay("pool", ask(), 0.0) == idle
    fleet.sent(fleet.instances[1], ask(), 0.0)
    loads = [load for _, load in fleet.offers("pool", ask(), 0.0)]
    both = [predict_delay(fleet.curve("pool"), load, 100.0, 100.0, 50.0) for load in loads]
    assert fleet.delay("pool", ask(), 0.0) in both
    assert both[0].e2e_ms > idle.e2e_ms


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 2_000)), max_size=30))
def test_what_is_predicted_is_of_the_instance_that_is_chosen(busy):
    fleet = fleet_of(4)
    for k, n_tokens in busy:
        fleet.sent(fleet.instances[k], ask(float(n_tokens)), 0.0)
    predicted, asked = fleet.delay("pool", ask(), 0.0), ask()
    chosen = fleet.choose("pool", asked, 0.0)
    loads = dict(fleet.offers("pool", asked, 0.0))
    assert predict_delay(fleet.curve("pool"), loads[chosen], 100.0, 100.0, 50.0) == predicted


def test_the_same_request_at_the_same_moment_is_judged_anew_when_anything_has_happened():
    fleet, asked = fleet_of(2), ask()
    idle = fleet.delay("pool", asked, 0.0)
    tickets = []
    for name in ("pool/0", "pool/1"):
        instance = fleet.choose("pool", asked, 0.0)
        assert instance.name == name
        tickets.append(fleet.sent(instance, asked, 0.0))
    waiting = fleet.delay("pool", asked, 0.0)
    assert waiting.ttft_ms > idle.ttft_ms
    fleet.first_token(tickets[0], 0.0)
    assert fleet.delay("pool", asked, 0.0).ttft_ms < waiting.ttft_ms
    fleet.ended(tickets[1], 0.0)
    assert fleet.delay("pool", asked, 0.0).ttft_ms == idle.ttft_ms


def test_without_a_plan_the_fewest_requests_decide_and_nothing_is_predicted():
    fleet = Fleet(setup_of({"pool": servers(3)}), 0.0)
    assert fleet.delay("pool", ask(), 0.0) is None
    for n, instance in enumerate(fleet.instances):
        for _ in range(2 - n):
            fleet.sent(instance, ask(), 0.0)
    assert fleet.choose("pool", ask(), 0.0).name == "pool/2"


@pytest.mark.parametrize("policy", NAMES)
def test_every_policy_serves_every_server(policy):
    fleet = fleet_of(3, policy=policy)
    tickets = []
    taken: Counter[str] = Counter()
    for n in range(60):
        instance = fleet.choose("pool", ask(), 0.01 * n)
        tickets.append(fleet.sent(instance, ask(), 0.01 * n))
        taken[instance.name] += 1
    assert len(taken) == 3
    for ticket in tickets:
        fleet.ended(ticket, 1.0)
    assert sum(row["n_in_flight"] for row in fleet.status(1.0)) == 0


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    st.sampled_from(["fewest_requests", "least_kv", "vllm", "round_robin"]),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 900)), max_size=25),
)
def test_a_named_policy_decides_as_in_the_simulator(policy, busy):
    """On the same loads: requests that were sent and have not begun."""
    fleet = fleet_of(4, policy=policy)
    tokens = [0] * 4
    counts = [0] * 4
    reference = make_policy(policy, 0)
    for k, n_tokens in busy:
        fleet.sent(fleet.instances[k], ask(float(n_tokens)), 0.0)
        tokens[k] += n_tokens
        counts[k] += 1
    for _ in range(3):
        running = [min(n, 8) for n in counts]
        waiting = [n - r for n, r in zip(counts, running, strict=True)]
        loads = [load for _, load in fleet.offers("pool", ask(), 0.0)]
        workers = Workers(
            [round(load.n_running) for load in loads],
            [round(load.n_waiting) for load in loads],
            tokens,
            [True] * 4,
        )
        assert list(map(sum, zip(workers.n_running, workers.n_waiting, strict=True))) == [
            r + w for r, w in zip(running, waiting, strict=True)
        ]
        chosen = fleet.choose("pool", ask(7.0), 0.0)
        assert chosen.index == reference.pick(7, workers)
        fleet.sent(chosen, ask(7.0), 0.0)
        tokens[chosen.index] += 7
        counts[chosen.index] += 1


def test_a_session_stays_where_its_tokens_are_unless_that_is_slower():
    fleet = fleet_of(3)
    long = ask(4_000.0, 20.0, session=7)
    home = fleet.choose("pool", long, 0.0)
    fleet.ended(fleet.sent(home, long, 0.0), 1.0)
    for n in range(5):
        again = fleet.choose("pool", long, 1.0 + n)
        assert again is home
        fleet.ended(fleet.sent(again, long, 1.0 + n), 1.5 + n)
    for _ in range(60):
        fleet.sent(home, ask(500.0, 400.0), 7.0)
    assert fleet.choose("pool", long, 7.0) is not home


# ---- By health -----------------------------------------------------------------------------------


def test_an_instance_that_refuses_connections_gets_no_more():
    fleet = fleet_of(3)
    eject(fleet, 1, 0.0)
    assert set(play(fleet, 30)) == {"pool/0", "pool/2"}
    assert fleet.n_up("pool", 0.0) == 2
    assert [i.name for i, _ in fleet.offers("pool", ask(), 0.0)] == ["pool/0", "pool/2"]


def test_what_was_tried_is_not_tried_again():
    fleet = fleet_of(3)
    tried: list[int] = []
    for _ in range(3):
        instance = fleet.choose("pool", ask(), 0.0, tried)
        assert instance.index not in tried
        tried.append(instance.index)
    assert fleet.choose("pool", ask(), 0.0, tried) is None


def test_when_all_are_ejected_one_request_tries_few_and_all_are_tried_in_turn():
    fleet = fleet_of(5)
    for k in range(5):
        eject(fleet, k, 0.001 * k)
    asked: list[str] = []
    for n in range(6):
        tried: list[int] = []
        while (instance := fleet.choose("pool", ask(), 0.01 * n, tried)) is not None:
            fleet.failed(instance, 0.01 * n + 0.001 * len(tried), "connect")
            tried.append(instance.index)
            asked.append(instance.name)
        assert len(tried) == PANIC_TRIES
    assert set(asked) == {f"pool/{k}" for k in range(5)}
    assert asked[:2] == ["pool/0", "pool/1"]  # who failed longest ago


def test_the_only_server_is_tried_though_it_is_ejected_and_is_back_when_it_answers():
    fleet = fleet_of(1)
    eject(fleet, 0, 0.0)
    instance = fleet.choose("pool", ask(), 0.1)
    ticket = fleet.sent(instance, ask(), 0.1)
    assert not fleet.is_up("pool", 0.1)
    fleet.first_token(ticket, 0.2)
    assert fleet.is_up("pool", 0.2)


def test_all_servers_dead_but_one_that_nobody_knows_of_yet():
    fleet = fleet_of(4)
    tried: list[int] = []
    while (instance := fleet.choose("pool", ask(), 0.0, tried)).name != "pool/3":
        fleet.failed(instance, 0.0, "connect")
        tried.append(instance.index)
    assert set(play(fleet, 10)) == {"pool/3"}


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6])
def test_a_returning_server_gets_its_part_of_an_even_share(part):
    fleet = fleet_of(4, policy="fewest_requests")
    eject(fleet, 2, 0.0)
    back_s = fleet.backends[fleet.instances[2].backend].health.retry_at_s
    fleet.succeeded(fleet.instances[2], back_s)
    for k in (0, 1, 3):  # so that the idle one takes whatever it may
        fleet.sent(fleet.instances[k], ask(), back_s)
    taken = play(fleet, 2_000, back_s + part * SLOW_START_S)
    share = FIRST_SHARE + (1 - FIRST_SHARE) * part
    assert taken["pool/2"] == pytest.approx(2_000 * share / 4, abs=2)
    assert play(fleet, 100, back_s + SLOW_START_S)["pool/2"] == 100


def test_a_suspected_server_gets_half_of_an_even_share():
    fleet = fleet_of(2)
    fleet.failed(fleet.instances[0], 0.0, "timeout")
    fleet.sent(fleet.instances[1], ask(), 0.0)
    assert play(fleet, 1_000)["pool/0"] == pytest.approx(250, abs=1)


def test_without_a_poller_a_request_probes_one_at_a_time():
    fleet = fleet_of(2)
    eject(fleet, 0, 0.0)
    assert set(play(fleet, 20, 2.0)) == {"pool/1"}
    now_s = 1.0 + REQUEST_PROBE_S
    probes = []
    for _ in range(10):  # busy, so that the idle one is preferred as soon as it is let in
        instance = fleet.choose("pool", ask(), now_s)
        probes.append((instance, fleet.sent(instance, ask(), now_s)))
    [(probe, ticket)] = [(i, t) for i, t in probes if i.name == "pool/0"]
    fleet.failed(probe, now_s, "connect", ticket)
    fleet.ended(ticket, now_s)
    assert fleet.choose("pool", ask(), now_s).name == "pool/1"


def test_a_cancelled_probe_frees_its_place():
    fleet = fleet_of(1)
    eject(fleet, 0, 0.0)
    health = fleet.backends[fleet.instances[0].backend].health
    ticket = fleet.sent(fleet.instances[0], ask(), 2.0)
    assert not health.may_probe(2.0)
    fleet.ended(ticket, 2.1)
    assert health.may_probe(2.1)


def test_streams_that_break_with_their_server_count_once():
    fleet = fleet_of(2)
    tickets = [fleet.sent(fleet.instances[0], ask(), 0.0) for _ in range(50)]
    for ticket in tickets:
        fleet.failed(fleet.instances[0], 1.0, "reset", ticket)
        fleet.ended(ticket, 1.0)
    health = fleet.backends[fleet.instances[0].backend].health
    assert health.retry_at_s <= 2.0
    assert health.n_failed == 50


def test_a_ticket_ends_once():
    fleet = fleet_of(1)
    ticket = fleet.sent(fleet.instances[0], ask(), 0.0)
    fleet.ended(ticket, 0.0)
    with pytest.raises(KeyError):
        fleet.ended(ticket, 0.0)


# ---- Reload --------------------------------------------------------------------------------------


def test_who_stays_keeps_its_load_its_health_and_its_index():
    fleet = fleet_of(3)
    old = list(fleet.instances)
    tickets = [fleet.sent(instance, ask(), 0.0) for instance in old for _ in range(2)]
    eject(fleet, 1, 0.0)
    kept = known_setup(3)
    fleet.renew(replace(kept, endpoints={"pool": (*servers(1, 9000), *servers(3)[1:])}), 0.5)
    assert [i.name for i in fleet.instances] == ["pool/0", "pool/1", "pool/2"]
    assert [i.index for i in fleet.instances] == [3, 1, 2]
    rows = fleet.status(0.5)
    assert [row["n_in_flight"] for row in rows] == [0, 2, 2]
    assert [row["up"] for row in rows] == [True, False, True]
    fleet.failed(old[0], 0.6, "connect")  # it is gone: nobody's health
    for ticket in tickets:
        fleet.first_token(ticket, 0.6)
        fleet.ended(ticket, 0.7)
    assert [row["n_in_flight"] for row in fleet.status(0.7)] == [0, 0, 0]
    fleet.renew(kept, 0.8)
    assert [i.index for i in fleet.instances] == [4, 1, 2]  # its old index is nobody's


def test_a_reload_may_change_policy_and_plan():
    fleet = fleet_of(2)
    assert fleet.curve("pool") is not None
    fleet.renew(setup_of({"pool": servers(2)}, policy="round_robin"), 1.0)
    assert fleet.curve("pool") is None
    assert [fleet.choose("pool", ask(), 1.0).name for _ in range(4)] == [
        "pool/0", "pool/1", "pool/0", "pool/1",
    ]  # fmt: skip


# ---- What is shown -------------------------------------------------------------------------------


def test_status_is_plain_and_complete():
    fleet = fleet_of(2)
    fleet.sent(fleet.instances[0], ask(), 0.0)
    eject(fleet, 1, 0.0)
    first, second = fleet.status(0.0)
    assert (first["state"], first["up"], first["n_in_flight"]) == ("up", True, 1)
    assert first["predicted_delay_s"] > 0
    assert (second["state"], second["up"], second["predicted_delay_s"]) == ("ejected", False, None)
    assert all(row["telemetry_age_s"] is None for row in (first, second))


def test_a_page_of_an_engine_is_seen_with_its_age():
    fleet = fleet_of(2)
    backend = fleet.backends[fleet.instances[0].backend]
    page = "vllm:num_requests_running 3\nvllm:num_requests_waiting 0\n"
    assert fleet.observed(backend, page, 4.9, 5.0)
    assert not fleet.observed(backend, "python_info 1", 5.9, 6.0)
    assert fleet.status(7.0)[0]["telemetry_age_s"] == 2.0
    assert fleet.status(7.0)[1]["telemetry_age_s"] is None
