"""Where gateways find the servers of a pool."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gateway_fleets import (
    BIG,
    HOSTED,
    SMALL,
    documents,
    made_engine,
    made_fleet,
    made_route,
)

from planner.errors import InputError
from planner.export import envoy, envoy_ai_gateway, litellm
from planner.export.addresses import (
    ASKED_PATHS,
    MOST_TRIES,
    SERVED_PREFIX,
    base_urls,
    is_address,
    routed,
    says_of_addresses,
    upstream,
)
from planner.export.fleet import MILLION
from planner.runtime.body import OPERATIONS
from planner.runtime.book import PREFIX
from planner.runtime.setup import Options


def test_a_pool_without_addresses_is_its_service() -> None:
    assert base_urls(made_engine("llama.8b")) == ("http://llama-8b:8000/v1",)


def test_endpoints_are_used_as_they_are() -> None:
    urls = ("http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1")
    found = upstream(made_engine(BIG, urls=urls))
    assert found.hosts == (("10.0.0.1", 8000), ("10.0.0.2", 8000))
    assert (found.base_path, found.is_secure, found.model_name) == ("/v1", False, f"served/{BIG}")


def test_a_provider_that_nobody_named_does_not_exist() -> None:
    assert base_urls(replace(HOSTED, url=None)) == ("https://gpt.invalid/v1",)


@pytest.mark.parametrize(
    ("url", "hosts", "host_header", "path"),
    [
        ("https://api.example.com/v1", (("api.example.com", 443),), "api.example.com", "/v1"),
        ("http://api.example.com/a/v1/", (("api.example.com", 80),), "api.example.com", "/a/v1"),
        ("http://[::1]:8000/v1", (("::1", 8000),), "[::1]:8000", "/v1"),
        ("https://x.example:8443", (("x.example", 8443),), "x.example:8443", ""),
    ],
)
def test_addresses_are_taken_apart(
    url: str, hosts: tuple[tuple[str, int], ...], host_header: str, path: str
) -> None:
    found = upstream(replace(HOSTED, url=url))
    assert (found.hosts, found.host_header, found.base_path) == (hosts, host_header, path)
    assert found.is_secure == url.startswith("https")
    assert found.api_key_env == "GPT_KEY"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://10.0.0.1:8000/v1", "/health"),
        ("https://x.example/team/v1", "/team/health"),
        ("http://10.0.0.1:8000", "/health"),
    ],
)
def test_an_engine_is_well_beside_its_api(url: str, path: str) -> None:
    assert upstream(made_engine(BIG, urls=(url,))).health_path == path


def test_a_provider_gets_no_key_but_ours_and_nothing_private() -> None:
    private = {"cookie", "x-api-key", "proxy-authorization", "x-forwarded-for", "x-real-ip"}
    with_key = set(upstream(HOSTED).headers_kept_back)
    without = set(upstream(replace(HOSTED, api_key_env=None)).headers_kept_back)
    assert private < with_key
    assert without - with_key == {"authorization"}  # that of a client is overwritten by ours
    assert len(without) <= 16  # as many as Envoy AI Gateway removes
    assert upstream(made_engine(BIG)).headers_kept_back == ()


def test_clients_may_ask_what_rb_serve_answers() -> None:
    assert set(ASKED_PATHS) == set(OPERATIONS)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(InputError, match="is no address: ftp://x"):
        upstream(replace(HOSTED, url="ftp://x"))


@pytest.mark.parametrize("other", ["https://10.0.0.2:8000/v1", "http://10.0.0.2:8000/x/v1"])
def test_servers_that_differ_are_refused(other: str) -> None:
    engine = made_engine(BIG, urls=("http://10.0.0.1:8000/v1", other))
    with pytest.raises(InputError, match="same scheme and path") as error:
        upstream(engine)
    assert error.value.faults[0].field == BIG


def test_clients_of_rb_serve_are_understood() -> None:
    assert SERVED_PREFIX == PREFIX


def test_what_is_not_known_of_addresses_is_said() -> None:
    one = ["http://10.0.0.1:8000/v1"]
    route = made_route("c", {BIG: 500_000, "gpt": 500_000})
    known = made_fleet({BIG: one}, hosted=[HOSTED], routes=[route])
    assert says_of_addresses(known) == ()
    unknown = made_fleet(hosted=[replace(HOSTED, url=None)], routes=[route])
    said = says_of_addresses(unknown)
    assert len(said) == 2
    assert "Services in Kubernetes" in said[0]
    assert "the address of gpt is not known" in said[1]


def test_only_pools_of_some_class_are_reached() -> None:
    route = made_route("c", {BIG: 1_000_000}, fallback=(BIG, SMALL))
    assert [pool.pool for pool in routed(made_fleet(routes=[route]))] == [BIG, SMALL]


@pytest.mark.parametrize(("host", "expected"), [("10.0.0.1", True), ("::1", True), ("a.b", False)])
def test_an_address_is_told_from_a_name(host: str, expected: bool) -> None:
    assert is_address(host) is expected


@pytest.mark.parametrize(("n_pools", "n_tries"), [(2, 2), (3, 3), (6, 3)])
def test_a_request_is_tried_at_as_many_pools_as_by_rb_serve(n_pools: int, n_tries: int) -> None:
    assert Options().max_tries == MOST_TRIES == 3
    engines = tuple(made_engine(f"p{i}") for i in range(n_pools))
    route = made_route("c", {engine.pool: MILLION // n_pools for engine in engines})
    fleet = replace(made_fleet(routes=[route]), engines=engines)
    (config,) = documents(envoy.files(fleet)[0].text)
    (gateway, *_) = config["static_resources"]["listeners"]
    manager = gateway["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    (by_class,) = [each["route"] for each in routes if "route" in each]
    assert by_class["retry_policy"]["num_retries"] == n_tries - 1
    (policy,) = [
        document["spec"]["retry"]
        for document in documents(envoy_ai_gateway.files(fleet)[0].text)
        if document["kind"] == "BackendTrafficPolicy"
    ]
    assert policy["numRetries"] == n_tries - 1
    (config,) = documents(litellm.files(fleet)[0].text)
    assert config["router_settings"]["max_fallbacks"] == n_tries  # the drawn one may be among them
