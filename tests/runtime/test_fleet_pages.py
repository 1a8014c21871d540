"""What the ledger hears of a /metrics page: whose figures they are, and how full the cache is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fleets import ask, class_sheet, known_setup, pool_sheet, servers, setup_of, sheet_of

from planner.metrics_page import EngineState
from planner.runtime.fleet import Fleet
from planner.runtime.instance import curve_of, root
from planner.runtime.ledger import seen_of
from planner.scheduling.delay import UNBOUNDED, StepCurve
from planner.spec.endpoints import Server

CURVE = curve_of(pool_sheet(kv_capacity_tokens=50_000.0))


def state(**changes: object) -> EngineState:
    facts: dict[str, object] = {
        "engine": "vllm",
        "kv_capacity_tokens": 10_000,
        "kv_used_ratio": 0.25,
        "n_running": 3.0,
        "n_waiting": 1.0,
        "n_preempted": 0.0,
    }
    return EngineState(**{**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "curve", "kv_tokens"),
    [
        ({}, CURVE, 2_500.0),
        ({"kv_capacity_tokens": None}, CURVE, 12_500.0),  # the plan knows it
        ({"kv_capacity_tokens": None}, None, None),
        ({"kv_used_ratio": None}, CURVE, None),
        ({"kv_used_ratio": 0.0}, CURVE, 0.0),
        ({"kv_used_ratio": 7.0}, CURVE, 10_000.0),  # a ratio above 1 is a full cache
        ({"kv_capacity_tokens": None}, StepCurve.fixed(100.0, 10.0), None),
    ],
)
def test_a_cache_is_as_full_as_the_page_says_of_what_somebody_knows(changes, curve, kv_tokens):
    seen = seen_of(state(**changes), curve, 7.0)
    assert (seen.n_running, seen.n_waiting, seen.kv_tokens, seen.at_s) == (3, 1, kv_tokens, 7.0)


def test_a_page_without_numbers_of_requests_tells_nothing():
    assert seen_of(state(n_running=None), CURVE, 0.0) is None
    assert seen_of(state(n_waiting=None), CURVE, 0.0).n_waiting == 0


def test_a_page_of_one_engine_that_serves_several_names_is_nobodys():
    """Adapters of one model: the sum of all says nothing of any."""
    there = tuple(Server(url="http://10.0.0.1:8000/v1", served_model_name=n) for n in "ab")
    fleet = Fleet(replace(known_setup(1), endpoints={"pool": there}), 0.0)
    [backend] = fleet.backends.values()
    assert fleet.observed(backend, "vllm:num_requests_running 8\n", 1.0, 1.0)
    assert [row["n_running"] for row in fleet.status(1.0)] == [0.0, 0.0]
    assert backend.metrics_url == "http://10.0.0.1:8000/metrics"


def test_a_server_without_labels_tells_nothing_of_its_ranks():
    setup = replace(known_setup(1), endpoints={"pool": servers(1, data_parallel_ranks=2)})
    fleet = Fleet(setup, 0.0)
    [backend] = fleet.backends.values()
    assert not fleet.observed(backend, "vllm:num_requests_running 8\n", 1.0, 1.0)
    page = 'sglang:num_running_reqs{dp_rank="1"} 6\nsglang:num_running_reqs{dp_rank="5"} 1\n'
    assert fleet.observed(backend, page, 1.0, 1.0)
    first, second = (row["n_running"] for row in fleet.status(1.0))
    assert first == 0.0 < second


def test_what_others_sent_counts_when_an_instance_is_chosen():
    fleet = Fleet(known_setup(2), 0.0)
    first, second = fleet.backends.values()
    for at_s in (1.0, 2.0, 3.0):
        fleet.observed(first, "vllm:num_requests_running 6\n", at_s, at_s)
        fleet.observed(second, "vllm:num_requests_running 0\n", at_s, at_s)
    assert [fleet.choose("pool", ask(), 3.0).name for _ in range(3)] == ["pool/1"] * 3


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h:1", "http://h:1"),
        ("http://h:1/v1", "http://h:1"),
        ("http://h:1/v1/", "http://h:1"),
        ("https://h/gate/v1", "https://h/gate"),
        ("https://h/v10", "https://h/v10"),
    ],
)
def test_the_address_of_a_servers_own_pages(url, expected):
    assert root(url) == expected


def test_curves_of_all_kinds_of_pools():
    hosted = {"steps": None, "max_num_seqs": None, "max_num_batched_tokens": None}
    assert curve_of(pool_sheet(**hosted)) is None
    fixed = curve_of(pool_sheet(**hosted, ttft_ms=200.0, tpot_ms=15.0))
    assert (fixed.request_ms, fixed.step_ms(5, 10_000)) == (200.0, 15.0)
    assert curve_of(pool_sheet(kv_capacity_tokens=None)).kv_capacity_tokens == UNBOUNDED
    assert CURVE.step_ms(4, 0) == 12.0


def test_pools_that_no_sheet_knows_are_served_all_the_same():
    sheet = sheet_of({"a": pool_sheet()}, {"chat": class_sheet(["a"])})
    fleet = Fleet(setup_of({"a": servers(1), "b": servers(1, 9000)}, sheet), 0.0)
    assert fleet.delay("a", ask(), 0.0) is not None
    assert fleet.delay("b", ask(), 0.0) is None
    assert fleet.choose("b", ask(), 0.0).name == "b/0"
