"""The exported resources of Envoy AI Gateway: exact weights, references that resolve, no keys."""

from __future__ import annotations

from collections import Counter
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
    made_engine,
    made_fleet,
    made_route,
)
from gateway_fleets import hosted_fleet as fleet_with_hosted

from planner.errors import InputError
from planner.export.envoy_ai_gateway import MODEL_HEADER, files
from planner.export.fleet import MILLION, Fleet
from planner.export.gateway_api import MOST_BACKENDS

Document = dict[str, Any]


def _documents(fleet: Fleet) -> list[Document]:
    (file,) = files(fleet)
    assert file.path == "ai-gateway.yaml"
    return documents(file.text)


def _by_name(docs: list[Document], kind: str) -> dict[str, Document]:
    return {d["metadata"]["name"]: d for d in docs if d["kind"] == kind}


def _rules(docs: list[Document]) -> dict[str, Document]:
    """Returns the rule of each class, by the model that it matches."""
    found = {}
    for route in _by_name(docs, "AIGatewayRoute").values():
        (rule,) = route["spec"]["rules"]
        headers = [header for match in rule["matches"] for header in match["headers"]]
        assert {(h["type"], h["name"]) for h in headers} == {("Exact", MODEL_HEADER)}
        name, served = (header["value"] for header in headers)
        assert served == f"rb/{name}"
        found[name] = rule
    return found


def test_weights_of_every_class_sum_to_a_million(any_fleet: Fleet) -> None:
    rules = _rules(_documents(any_fleet))
    assert set(rules) == {route.class_name for route in any_fleet.routes}
    for rule in rules.values():
        first = [r["weight"] for r in rule["backendRefs"] if r["priority"] == 0]
        assert all(type(weight) is int for weight in first)
        assert sum(first) == MILLION


def test_shares_come_first_and_fallbacks_behind_them_in_order() -> None:
    for name, rule in _rules(_documents(made_fleet())).items():
        models = [r["modelNameOverride"].removeprefix("served/") for r in rule["backendRefs"]]
        shares = {
            model: r["weight"]
            for model, r in zip(models, rule["backendRefs"], strict=True)
            if r["priority"] == 0
        }
        assert shares == SHARES[name]
        others = [pool for pool in FALLBACK[name] if pool not in shares]
        assert models[len(shares) :] == others
        assert [r["priority"] for r in rule["backendRefs"][len(shares) :]] == [
            *range(1, len(others) + 1)
        ]


def test_all_that_is_named_is_there(any_fleet: Fleet) -> None:
    docs = _documents(any_fleet)
    counted = Counter((d["kind"], d["metadata"]["name"]) for d in docs)
    assert set(counted.values()) == {1}
    for rule in _rules(docs).values():
        assert {r["name"] for r in rule["backendRefs"]} <= set(_by_name(docs, "AIServiceBackend"))
    made_later = {("HTTPRoute", name) for name in _by_name(docs, "AIGatewayRoute")}
    for document in docs:
        spec = document.get("spec", {})
        targets = spec.get("targetRefs", []) + spec.get("parentRefs", [])
        targets += [spec["backendRef"]] if "backendRef" in spec else []
        for target in targets:
            place = (target["kind"], target["name"])
            assert place in counted or place in made_later


def test_services_are_reached_by_their_full_names() -> None:
    fleet = made_fleet()
    docs = _documents(replace(fleet, address=replace(fleet.address, namespace="llm")))
    backends = _by_name(docs, "Backend")
    name = SMALL.replace(".", "-")
    assert backends[name]["spec"]["endpoints"] == [
        {"fqdn": {"hostname": f"{name}.llm.svc.cluster.local", "port": 8000}}
    ]


@pytest.mark.parametrize(
    ("urls", "endpoints"),
    [
        (["http://10.0.0.1:8000/v1"], [{"ip": {"address": "10.0.0.1", "port": 8000}}]),
        (["http://a.example/v1"], [{"fqdn": {"hostname": "a.example", "port": 80}}]),
    ],
)
def test_endpoints_are_used_as_they_are(urls: list[str], endpoints: list[Document]) -> None:
    backends = _by_name(_documents(made_fleet({BIG: urls})), "Backend")
    assert backends[BIG.replace(".", "-")]["spec"]["endpoints"] == endpoints


@pytest.mark.parametrize(
    "urls",
    [
        ["http://10.0.0.1:8000/v1", "http://a.example:8000/v1"],
        ["http://under_score.example:8000/v1"],
        ["https://10.0.0.1:8000/v1"],
    ],
)
def test_servers_that_a_backend_cannot_name_are_refused(urls: list[str]) -> None:
    with pytest.raises(InputError, match="by name or all by address"):
        files(made_fleet({BIG: urls}))


def test_servers_over_tls_with_several_names_are_refused() -> None:
    with pytest.raises(InputError, match="share one name"):
        files(made_fleet({BIG: ["https://a.example/v1", "https://b.example/v1"]}))
    assert files(made_fleet({BIG: ["https://a.example/v1", "https://a.example:8443/v1"]}))


def test_a_provider_gets_nothing_of_a_client_that_is_private() -> None:
    backends = _by_name(_documents(fleet_with_hosted()), "AIServiceBackend")
    removed = backends["gpt"]["spec"]["headerMutation"]["remove"]
    assert {"cookie", "x-forwarded-for", "x-api-key"} < set(removed)
    assert "authorization" not in removed  # it is overwritten with our key
    assert all("headerMutation" not in b["spec"] for n, b in backends.items() if n != "gpt")
    nobodys = replace(fleet_with_hosted(), hosted=(replace(HOSTED, api_key_env=None),))
    backend = _by_name(_documents(nobodys), "AIServiceBackend")["gpt"]
    assert "authorization" in backend["spec"]["headerMutation"]["remove"]


def test_keys_of_our_own_servers_are_secrets_by_reference() -> None:
    fleet = made_fleet()
    first, *others = fleet.engines
    fleet = replace(fleet, engines=(replace(first, api_key_env="OWN_KEY"), *others))
    (file,) = files(fleet)
    (key,) = _by_name(documents(file.text), "BackendSecurityPolicy").values()
    assert key["spec"]["apiKey"] == {"secretRef": {"name": f"{first.dns_name}-api-key"}}
    assert "OWN_KEY" in file.text


def test_health_is_asked_behind_the_prefix_of_the_api() -> None:
    urls = {BIG: ["http://a/x/v1"], SMALL: ["http://b/x/v1"], NEW: ["http://c/x/v1"]}
    policies = _by_name(_documents(made_fleet(urls)), "BackendTrafficPolicy")
    assert policies["rb-gsm"]["spec"]["healthCheck"]["active"]["http"] == {"path": "/x/health"}
    mixed = _by_name(_documents(made_fleet({BIG: urls[BIG]})), "BackendTrafficPolicy")
    assert "active" not in mixed["rb-gsm"]["spec"]["healthCheck"]  # one path for all, or none


def test_a_gateway_class_that_is_named_is_there_already() -> None:
    fleet = made_fleet()
    assert set(_by_name(_documents(fleet), "GatewayClass")) == {"rb"}
    named = replace(fleet, address=replace(fleet.address, gateway_class="theirs"))
    docs = _documents(named)
    assert not _by_name(docs, "GatewayClass")
    assert _by_name(docs, "Gateway")["rb"]["spec"]["gatewayClassName"] == "theirs"


def test_what_it_leaves_open_is_said() -> None:
    assert "no keys for clients" in files(made_fleet())[0].text


def test_a_provider_gets_tls_and_a_key_by_reference() -> None:
    (file,) = files(fleet_with_hosted())
    docs = documents(file.text)
    tls = _by_name(docs, "BackendTLSPolicy")["gpt"]["spec"]["validation"]
    assert tls == {"wellKnownCACertificates": "System", "hostname": "api.example.com"}
    key = _by_name(docs, "BackendSecurityPolicy")["gpt"]["spec"]
    assert key["type"] == "APIKey"
    assert key["apiKey"] == {"secretRef": {"name": "gpt-api-key"}}
    assert _by_name(docs, "AIServiceBackend")["gpt"]["spec"]["schema"] == {
        "name": "OpenAI",
        "prefix": "/openai/v1",
    }
    assert "kubectl create secret generic gpt-api-key -n default" in file.text.replace("\n# ", " ")
    assert not _by_name(docs, "Secret")


def test_health_is_asked_only_of_own_engines() -> None:
    policies = _by_name(_documents(fleet_with_hosted()), "BackendTrafficPolicy")
    assert policies["rb-gsm"]["spec"]["healthCheck"]["active"]["http"] == {"path": "/health"}
    assert "active" not in policies["rb-chat"]["spec"]["healthCheck"]


def test_each_pool_of_a_class_is_tried_once() -> None:
    policies = _by_name(_documents(made_fleet()), "BackendTrafficPolicy")
    for policy in policies.values():
        assert policy["spec"]["retry"]["numRetries"] == 2
        assert policy["spec"]["retry"]["numAttemptsPerPriority"] == 1


def test_answers_may_take_their_time_and_prompts_may_be_long() -> None:
    docs = _documents(made_fleet())
    rules = _rules(docs)
    assert [rule["timeouts"] for rule in rules.values()] == [{"request": "0s"}] * 3
    assert {rule["streamIdleTimeout"] for rule in rules.values()} == {"15m"}
    (buffers,) = _by_name(docs, "ClientTrafficPolicy").values()
    assert buffers["spec"]["connection"] == {"bufferLimit": "32Mi"}
    assert [each["kind"] for each in buffers["spec"]["targetRefs"]] == ["Gateway"]


def test_engines_queue_and_who_fails_is_left_out_whoever_remains() -> None:
    for policy in _by_name(_documents(made_fleet()), "BackendTrafficPolicy").values():
        spec = policy["spec"]
        assert min(spec["circuitBreaker"].values()) > 1_000_000
        assert len(spec["circuitBreaker"]) == 4
        assert spec["healthCheck"]["panicThreshold"] == 0  # else the dead are asked, too
        assert spec["healthCheck"]["passive"]["maxEjectionPercent"] == 100
        assert spec["timeout"] == {"http": {"connectionIdleTimeout": "4s"}}  # uvicorn's are 5 s


def test_a_rule_has_room_for_only_so_many() -> None:
    pools = [f"p{i}" for i in range(20)]
    route = made_route("c", {"p0": 400_000, "p1": 600_000}, fallback=pools)
    engines = tuple(made_engine(pool) for pool in pools)
    fleet = replace(made_fleet(routes=[route]), engines=engines)
    (rule,) = _rules(_documents(fleet)).values()
    assert [r["name"] for r in rule["backendRefs"]] == pools[:MOST_BACKENDS]
    crowded = made_route("c", dict.fromkeys(pools, 50_000))
    with pytest.raises(InputError, match="20 pools"):
        files(replace(fleet, routes=(crowded,)))


def test_a_provider_without_an_address_cannot_be_reached_by_mistake() -> None:
    fleet = replace(fleet_with_hosted(), hosted=(replace(HOSTED, url=None),))
    backend = _by_name(_documents(fleet), "Backend")["gpt"]
    assert backend["spec"]["endpoints"] == [{"fqdn": {"hostname": "gpt.invalid", "port": 443}}]


def test_cascades_are_refused(cascade_fleet: Fleet) -> None:
    with pytest.raises(InputError, match="cascades"):
        files(cascade_fleet)


def test_the_same_fleet_makes_the_same_bytes(any_fleet: Fleet) -> None:
    assert files(any_fleet) == files(replace(any_fleet))
