"""The exported Gateway and HTTPRoutes: exact weights, references that resolve, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from gateway_fleets import BIG, SHARES, SMALL, documents, made_engine, made_fleet, made_route
from gateway_fleets import hosted_fleet as fleet_with_hosted

from planner.errors import InputError
from planner.export.fleet import MILLION, Fleet
from planner.export.gateway_api import MOST_BACKENDS, files
from planner.export.kubernetes import files as kubernetes_files

Document = dict[str, Any]


def _documents(fleet: Fleet) -> list[Document]:
    (file,) = files(fleet)
    assert file.path == "gateway.yaml"
    return documents(file.text)


def _of_kind(docs: list[Document], kind: str) -> list[Document]:
    return [document for document in docs if document["kind"] == kind]


def _rule(route: Document) -> Document:
    (rule,) = route["spec"]["rules"]
    return dict(rule)


def test_each_class_has_a_route_by_its_header_with_its_shares(demo_fleet: Fleet) -> None:
    found = _of_kind(_documents(demo_fleet), "HTTPRoute")
    assert len(found) == len(demo_fleet.routes)
    for document, route in zip(found, demo_fleet.routes, strict=True):
        rule = _rule(document)
        (match,) = rule["matches"]
        assert match["headers"] == [
            {"type": "Exact", "name": "x-rb-class", "value": route.class_name}
        ]
        weights = [reference["weight"] for reference in rule["backendRefs"]]
        assert weights == [share for _, share in route.shares]
        assert sum(weights) == MILLION


def test_backends_are_the_services_of_the_kubernetes_target(demo_fleet: Fleet) -> None:
    services = {
        (document["metadata"]["namespace"], document["metadata"]["name"], port["port"])
        for file in kubernetes_files(demo_fleet)
        if file.path.endswith(".yaml")
        for document in documents(file.text)
        if document and document["kind"] == "Service"
        for port in document["spec"]["ports"]
    }
    for document in _of_kind(_documents(demo_fleet), "HTTPRoute"):
        for reference in _rule(document)["backendRefs"]:
            assert reference["kind"] == "Service"
            place = (document["metadata"]["namespace"], reference["name"], reference["port"])
            assert place in services


def test_routes_hang_on_the_gateway() -> None:
    fleet = made_fleet()
    address = replace(
        fleet.address, gateway_class="istio", gateway_name="front", hostname="llm.example"
    )
    docs = _documents(replace(fleet, address=address))
    (gateway,) = _of_kind(docs, "Gateway")
    (listener,) = gateway["spec"]["listeners"]
    assert gateway["spec"]["gatewayClassName"] == "istio"
    assert listener == {
        "name": "http",
        "protocol": "HTTP",
        "port": 8080,
        "hostname": "llm.example",
        "allowedRoutes": {"namespaces": {"from": "Same"}},
    }
    names = []
    for document in _of_kind(docs, "HTTPRoute"):
        (parent,) = document["spec"]["parentRefs"]
        assert parent == {"name": gateway["metadata"]["name"], "sectionName": listener["name"]}
        assert document["spec"]["hostnames"] == ["llm.example"]
        assert document["metadata"]["namespace"] == gateway["metadata"]["namespace"]
        names.append(document["metadata"]["name"])
    assert names == ["front-gsm", "front-crux", "front-math-l5"]


def test_answers_may_take_their_time() -> None:
    found = _of_kind(_documents(made_fleet()), "HTTPRoute")
    assert [_rule(route)["timeouts"] for route in found] == [{"request": "0s"}] * len(SHARES)


def test_a_share_of_nothing_has_no_backend() -> None:
    route = made_route("c", {BIG: MILLION, SMALL: 0})
    (document,) = _of_kind(_documents(made_fleet(routes=[route])), "HTTPRoute")
    assert [reference["weight"] for reference in _rule(document)["backendRefs"]] == [MILLION]


def test_hosted_pools_are_refused_where_traffic_goes_to_them() -> None:
    with pytest.raises(InputError, match="somebody else's") as error:
        files(fleet_with_hosted())
    assert [fault.field for fault in error.value.faults] == ["gpt"]
    assert files(replace(fleet_with_hosted(), routes=made_fleet().routes))


@pytest.mark.parametrize(("n", "fits"), [(MOST_BACKENDS, True), (MOST_BACKENDS + 1, False)])
def test_more_pools_than_a_rule_holds_are_refused(n: int, fits: bool) -> None:
    each, rest = divmod(MILLION, n)
    shares = {f"p{i}": each + (i < rest) for i in range(n)}
    engines = tuple(made_engine(pool) for pool in shares)
    fleet = replace(made_fleet(routes=[made_route("c", shares)]), engines=engines)
    if fits:
        assert len(_rule(_of_kind(_documents(fleet), "HTTPRoute")[0])["backendRefs"]) == n
    else:
        with pytest.raises(InputError, match="17 pools"):
            files(fleet)


def test_what_was_guessed_is_said() -> None:
    text = files(made_fleet({BIG: ["http://10.0.0.1:8000/v1"]}))[0].text
    assert "gatewayClassName eg is a guess" in text
    assert "addresses of endpoints.yaml are not used" in text


def test_what_it_leaves_open_is_said() -> None:
    assert "no keys for clients" in files(made_fleet())[0].text


def test_cascades_are_refused(cascade_fleet: Fleet) -> None:
    with pytest.raises(InputError, match="cascades"):
        files(cascade_fleet)
