"""The exported envoy.yaml: exact weights, whole references, fallbacks in order, nothing secret.

That Envoy takes it and does so is tried in test_envoy_routes.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from gateway_fleets import (
    BIG,
    FALLBACK,
    HOSTED,
    NEW,
    SHARES,
    SMALL,
    documents,
    made_fleet,
    made_route,
)
from gateway_fleets import hosted_fleet as fleet_with_hosted

from planner.errors import InputError
from planner.export.envoy import BUFFER_BYTES, files
from planner.export.envoy_model import renaming
from planner.export.fleet import MILLION, Fleet
from planner.runtime.body import OPERATIONS

Config = dict[str, Any]


def _config(fleet: Fleet) -> Config:
    (file,) = files(fleet)
    assert file.path == "envoy.yaml"
    return documents(file.text)[0]


def _found(value: object, key: str) -> Iterator[Any]:
    """Yields what stands under a key, anywhere."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from _found(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _found(inner, key)


def _clusters(config: Config) -> dict[str, Config]:
    return {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}


def _listeners(config: Config) -> dict[str, Config]:
    return {each["name"]: each for each in config["static_resources"]["listeners"]}


def _class_routes(config: Config) -> dict[str, Config]:
    """Returns the routes of the gateway by the class that they match."""
    return {
        route["match"]["headers"][0]["string_match"]["exact"]: route
        for (host,) in _found(_listeners(config)["gateway"], "virtual_hosts")
        for route in host["routes"]
        if "headers" in route["match"]
    }


def _order(cluster: Config) -> list[str]:
    """Returns the internal listeners of a cluster by priority."""
    endpoints = cluster["load_assignment"]["endpoints"]
    assert [each["priority"] for each in endpoints] == list(range(len(endpoints)))
    return list(_found(endpoints, "server_listener_name"))


def test_weights_of_every_class_sum_to_a_million(any_fleet: Fleet) -> None:
    routes = _class_routes(_config(any_fleet))
    assert set(routes) == {route.class_name for route in any_fleet.routes}
    for route in routes.values():
        weights = [c["weight"] for c in route["route"]["weighted_clusters"]["clusters"]]
        assert all(type(w) is int and w > 0 for w in weights)
        assert sum(weights) == MILLION


def test_shares_are_the_plans() -> None:
    for name, route in _class_routes(_config(made_fleet())).items():
        clusters = route["route"]["weighted_clusters"]["clusters"]
        found = {c["name"].removeprefix(f"{name}/"): c["weight"] for c in clusters}
        assert found == SHARES[name]


def test_all_that_is_named_is_there(any_fleet: Fleet) -> None:
    config = _config(any_fleet)
    clusters, listeners = _clusters(config), _listeners(config)
    assert len(clusters) == len(config["static_resources"]["clusters"])
    assert len(listeners) == len(config["static_resources"]["listeners"])
    sent_to = set(_found(config["static_resources"]["listeners"], "cluster"))
    sent_to |= {c["name"] for each in _found(config, "weighted_clusters") for c in each["clusters"]}
    assert sent_to == set(clusters)
    inside = set(_found(config["static_resources"]["clusters"], "server_listener_name"))
    assert inside == set(listeners) - {"gateway"}


def test_fallbacks_stand_behind_a_pool_in_the_plans_order() -> None:
    clusters = _clusters(_config(made_fleet()))
    for name, shares in SHARES.items():
        for pool in shares:
            expected = [pool, *(other for other in FALLBACK[name] if other != pool)]
            assert _order(clusters[f"{name}/{pool}"]) == [f"pool/{p}" for p in expected]
    assert _order(clusters["gsm/" + SMALL]) == [f"pool/{p}" for p in (SMALL, BIG, NEW)]


def test_a_class_tries_its_next_pools(any_fleet: Fleet) -> None:
    config = _config(any_fleet)
    for route in _class_routes(config).values():
        tried = {c["name"] for c in route["route"]["weighted_clusters"]["clusters"]}
        longest = max(len(_order(_clusters(config)[name])) for name in tried)
        assert route["route"]["retry_policy"]["num_retries"] == max(1, min(longest, 3) - 1)


def test_answers_may_take_their_time_and_prompts_may_be_long(any_fleet: Fleet) -> None:
    config = _config(any_fleet)
    actions = list(_found(config, "route"))
    assert actions
    assert {action["timeout"] for action in actions} == {"0s"}
    assert all(
        each["per_connection_buffer_limit_bytes"] == BUFFER_BYTES
        for each in _listeners(config).values()
    )
    for cluster in _clusters(config).values():
        (most,) = cluster["circuit_breakers"]["thresholds"]
        assert min(most.values()) > 1_000_000  # engines queue, not the gateway


def test_only_the_gateway_is_reached_from_outside() -> None:
    config = _config(made_fleet())
    assert config["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    outside = [name for name, each in _listeners(config).items() if "address" in each]
    assert outside == ["gateway"]


def test_the_gateway_is_kept_as_an_edge_is() -> None:
    gateway = _listeners(_config(made_fleet()))["gateway"]
    (manager,) = [c for c in _found(gateway, "typed_config") if "route_config" in c]
    assert manager["use_remote_address"] is manager["normalize_path"] is True


def test_the_log_holds_no_key_no_query_and_no_body() -> None:
    (line,) = _found(_config(made_fleet()), "json_format")
    assert line["path"] == "%PATH(NQ):80%"
    said = set(re.findall(r"%REQ\((.*?)\).*?%", " ".join(line.values())))
    assert said == {"x-rb-class"}
    assert not re.findall("BODY|QUERY|RESP\\(", " ".join(line.values()))


def test_own_engines_are_watched_and_hosted_ones_are_not() -> None:
    clusters = _clusters(_config(fleet_with_hosted()))
    (check,) = clusters[BIG]["health_checks"]
    assert check["http_health_check"] == {"path": "/health"}
    assert "health_checks" not in clusters[HOSTED.pool]
    assert list(_found(clusters[BIG], "idle_timeout")) == ["4s"]  # uvicorn closes after 5 s
    assert clusters[BIG]["common_lb_config"]["healthy_panic_threshold"] == {"value": 0}


def test_a_hosted_pool_is_reached_over_tls_with_a_key_that_is_only_named() -> None:
    config = _config(fleet_with_hosted())
    cluster = _clusters(config)[HOSTED.pool]
    (tls,) = [c for c in _found(cluster, "typed_config") if "common_tls_context" in c]
    assert tls["auto_host_sni"] is tls["auto_sni_san_validation"] is True
    assert list(_found(cluster["load_assignment"], "address"))[-1] == "api.example.com"
    assert list(_found(tls, "trusted_ca"))
    (host,) = next(_found(_listeners(config)[f"pool/{HOSTED.pool}"], "virtual_hosts"))
    (route,) = host["routes"]
    (header,) = route["request_headers_to_add"]
    assert header["header"]["value"] == "Bearer %ENVIRONMENT(GPT_KEY)%"
    assert header["append_action"] == "OVERWRITE_IF_EXISTS_OR_ADD"
    assert route["route"]["prefix_rewrite"] == "/openai/v1/"
    assert route["route"]["host_rewrite_literal"] == "api.example.com"


def test_a_provider_without_a_key_does_not_get_the_clients() -> None:
    fleet = replace(fleet_with_hosted(), hosted=(replace(HOSTED, api_key_env=None),))
    listener = _listeners(_config(fleet))[f"pool/{HOSTED.pool}"]
    (removed,) = _found(listener, "request_headers_to_remove")
    assert {"authorization", "cookie", "x-api-key", "x-forwarded-for", "x-rb-class"} < set(removed)
    assert not list(_found(listener, "request_headers_to_add"))


def test_a_pool_of_our_own_with_a_key_gets_it_and_keeps_the_rest() -> None:
    fleet = made_fleet()
    fleet = replace(
        fleet, engines=tuple(replace(each, api_key_env="OWN_KEY") for each in fleet.engines)
    )
    listener = _listeners(_config(fleet))[f"pool/{BIG}"]
    ((entry,),) = _found(listener, "request_headers_to_add")
    assert entry["header"] == {"key": "authorization", "value": "Bearer %ENVIRONMENT(OWN_KEY)%"}
    assert not list(_found(listener, "request_headers_to_remove"))
    assert "must hold OWN_KEY" in files(fleet)[0].text


def test_clients_reach_what_rb_serve_answers_and_nothing_else() -> None:
    for route in _class_routes(_config(made_fleet())).values():
        (regex,) = _found(route["match"], "regex")
        assert all(re.fullmatch(regex, path) for path in OPERATIONS)
        for other in ("/v1/files", "/v1/chat/completions/", "/v1/chat/completionsX", "/v1/models"):
            assert not re.fullmatch(regex, other)
        assert {"name": ":method", "string_match": {"exact": "POST"}} in route["match"]["headers"]


def test_a_request_may_not_come_in_for_ever() -> None:
    gateway = _listeners(_config(made_fleet()))["gateway"]
    assert list(_found(gateway, "request_timeout")) == ["300s"]
    assert list(_found(gateway, "request_headers_timeout")) == ["10s"]


def test_nobody_is_an_insider_of_any_stage() -> None:
    listeners = _listeners(_config(made_fleet())).values()
    managers = [c for c in _found([*listeners], "typed_config") if "route_config" in c]
    assert len(managers) == len(listeners)
    assert all(manager["internal_address_config"] == {} for manager in managers)


def test_servers_by_name_are_asked_and_known_by_their_own_names() -> None:
    urls = ["https://a.example/team/v1", "https://b.example/team/v1"]
    config = _config(made_fleet({NEW: urls}))
    cluster = _clusters(config)[NEW]
    (tls,) = [c for c in _found(cluster, "typed_config") if "common_tls_context" in c]
    assert "sni" not in tls
    assert tls["auto_host_sni"] is tls["auto_sni_san_validation"] is True
    assert cluster["health_checks"][0]["http_health_check"] == {"path": "/team/health"}
    assert cluster["dns_lookup_family"] == "V4_PREFERRED"
    (action,) = _found(_listeners(config)[f"pool/{NEW}"], "route")
    assert action["auto_host_rewrite"] is True
    assert action["prefix_rewrite"] == "/team/v1/"


def test_a_server_by_address_must_prove_that_address() -> None:
    config = _config(made_fleet({NEW: ["https://10.0.0.1/v1", "https://10.0.0.2/v1"]}))
    (names,) = _found(_clusters(config)[NEW], "match_typed_subject_alt_names")
    assert not list(_found(_clusters(config)[NEW], "auto_sni_san_validation"))  # that is of names
    assert names == [
        {"san_type": "IP_ADDRESS", "matcher": {"exact": host}} for host in ("10.0.0.1", "10.0.0.2")
    ]
    assert not list(_found(_listeners(config)[f"pool/{NEW}"], "auto_host_rewrite"))


@pytest.mark.parametrize(
    ("urls", "kind"),
    [
        (["http://10.0.0.1:8000/v1", "http://10.0.0.2:8000/v1"], "STATIC"),
        (["http://a.example:8000/v1", "http://10.0.0.2:8000/v1"], "STRICT_DNS"),
    ],
)
def test_replicas_of_a_pool_are_the_servers_of_its_cluster(urls: list[str], kind: str) -> None:
    config = _config(made_fleet({NEW: urls}))
    cluster = _clusters(config)[NEW]
    found = [(a["address"], a["port_value"]) for a in _found(cluster, "socket_address")]
    assert found == [(url.split("/")[2].split(":")[0], 8000) for url in urls]
    assert cluster["type"] == kind
    assert cluster["lb_policy"] == "LEAST_REQUEST"
    (host,) = next(_found(_listeners(config)[f"pool/{NEW}"], "virtual_hosts"))
    assert host["routes"][0]["route"]["retry_policy"]["num_retries"] == 1


def test_own_answers_are_json() -> None:
    json_header = {"key": "content-type", "value": "application/json"}
    own = [
        route
        for host in _found(_config(made_fleet()), "virtual_hosts")
        for route in host[0]["routes"]
        if "direct_response" in route
    ]
    assert len(own) == 3
    for route in own:
        (added,) = route["response_headers_to_add"]
        assert added == {"header": json_header, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def test_the_models_page_lists_the_classes() -> None:
    bodies = [
        each["body"]["inline_string"] for each in _found(_config(made_fleet()), "direct_response")
    ]
    lists = [json.loads(body) for body in bodies if "list" in body]
    assert [[model["id"] for model in page["data"]] for page in lists] == [list(SHARES)]


@pytest.mark.parametrize("name", ["served/x", 'a"b\\c', "é模", "]] @NAME@ %s"])
def test_a_script_holds_the_models_name_as_json_in_a_literal_of_lua(name: str) -> None:
    first = renaming(name).splitlines()[0]
    assert first.startswith("local NAME = ")
    literal = first.removeprefix("local NAME = ")
    assert literal.isascii()
    assert set(re.findall(r"\\(.)", literal)) <= {'"', "\\"}  # all that Lua must unescape
    assert json.loads(re.sub(r"\\(.)", r"\1", literal[1:-1])) == name


def test_a_share_of_nothing_has_no_cluster() -> None:
    route = made_route("c", {BIG: MILLION, SMALL: 0}, fallback=(BIG, SMALL))
    assert "c/" + SMALL not in _clusters(_config(made_fleet(routes=[route])))


def test_cascades_are_refused(cascade_fleet: Fleet) -> None:
    with pytest.raises(InputError, match="cascades"):
        files(cascade_fleet)


def test_the_same_fleet_makes_the_same_bytes(any_fleet: Fleet) -> None:
    assert files(any_fleet) == files(replace(any_fleet))
