"""llm-d: valid documents, shares as weights, values that find the pods."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from k8s_checks import Document, by_path, documents, gpus, of_kind, pods_of, selects, validate_core
from made_fleets import FLEETS

from planner.errors import InputError
from planner.export import llm_d
from planner.export.fleet import MILLION, ClassRoute, Fleet
from planner.export.k8s_routes import MOST_RULES

CAN = ("demo", "sglang", "data-parallel", "odd-names")


@pytest.fixture(params=CAN)
def fleet(request: pytest.FixtureRequest) -> Fleet:
    return FLEETS[request.param]()


def made(fleet: Fleet) -> list[Document]:
    files = by_path(llm_d.files(fleet))
    names = ("namespace.yaml", "modelservers.yaml", "routes.yaml")
    return [d for name in names if name in files for d in documents(files[name])]


def test_every_document_of_kubernetes_is_valid(fleet: Fleet) -> None:
    docs = made(fleet)
    others = {"Gateway", "HTTPRoute", "InferenceModelRewrite"}
    assert validate_core(docs) == sum(doc["kind"] not in others for doc in docs)


def test_weights_are_the_shares_of_the_plan(fleet: Fleet) -> None:
    rules = {
        r["name"]: r for doc in of_kind(made(fleet), "HTTPRoute") for r in doc["spec"]["rules"]
    }
    assert len(rules) == len(fleet.routes)
    pools = {e.dns_name: e.pool for e in fleet.engines}
    for route in fleet.routes:
        rule = rules[route.dns_name]
        (match,) = rule["matches"]
        header = {"type": "Exact", "name": "x-rb-class", "value": route.class_name}
        assert match["headers"] == [header]
        weights = {pools[b["name"]]: b["weight"] for b in rule["backendRefs"]}
        assert weights == dict(route.shares)
        assert sum(weights.values()) == MILLION
        assert {b["kind"] for b in rule["backendRefs"]} == {"InferencePool"}


def test_each_pool_is_found_by_the_values_of_its_picker(fleet: Fleet) -> None:
    files = by_path(llm_d.files(fleet))
    pods = {
        doc["metadata"]["name"]: doc["spec"]["template"]["metadata"]["labels"]
        for doc in of_kind(made(fleet), "Deployment")
    }
    for engine in fleet.engines:
        values = yaml.safe_load(files[f"router-{engine.dns_name}.values.yaml"].text)
        servers = values["router"]["modelServers"]
        found = [n for n, labels in pods.items() if selects(servers["matchLabels"], labels)]
        assert found == [engine.dns_name]
        assert servers["targetPorts"] == [{"number": engine.port}]
        assert servers["type"] == engine.engine == pods[engine.dns_name]["llm-d.ai/engine-type"]


def test_requests_get_the_name_that_the_engines_know(fleet: Fleet) -> None:
    rewrites = {
        doc["spec"]["poolRef"]["name"]: doc["spec"]["rules"]
        for doc in of_kind(made(fleet), "InferenceModelRewrite")
    }
    assert rewrites == {
        e.dns_name: [{"targets": [{"modelRewrite": e.served_model_name, "weight": 1}]}]
        for e in fleet.engines
    }


def test_replicas_never_fall_below_the_plan(fleet: Fleet) -> None:
    for doc in of_kind(made(fleet), "Deployment"):
        engine = fleet.engine(doc["metadata"]["annotations"]["rb-planner/pool"])
        assert engine is not None
        assert doc["spec"]["replicas"] == engine.replicas
        assert doc["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        (pod,) = pods_of(doc)
        assert gpus(pod) == {engine.gpu_resource: engine.gpus_per_replica}


def test_more_classes_than_a_route_holds_get_more_routes(demo_fleet: Fleet) -> None:
    first = demo_fleet.routes[0]
    many = tuple(ClassRoute(f"c{i}", f"c{i}", first.shares, ()) for i in range(MOST_RULES + 1))
    routes = of_kind(made(replace(demo_fleet, routes=many)), "HTTPRoute")
    assert [len(r["spec"]["rules"]) for r in routes] == [MOST_RULES, 1]
    assert len({r["metadata"]["name"] for r in routes}) == 2


def test_a_hostname_of_the_settings_is_asked_for(demo_fleet: Fleet) -> None:
    address = replace(demo_fleet.address, hostname="llm.example.com", gateway_class="gke-l7")
    docs = made(replace(demo_fleet, address=address))
    (gateway,) = of_kind(docs, "Gateway")
    assert gateway["spec"]["gatewayClassName"] == "gke-l7"
    assert gateway["spec"]["listeners"][0]["hostname"] == "llm.example.com"
    assert of_kind(docs, "HTTPRoute")[0]["spec"]["hostnames"] == ["llm.example.com"]
    files = by_path(llm_d.files(replace(demo_fleet, address=address)))
    values = [documents(f)[0] for name, f in files.items() if name.startswith("router-")]
    assert {v["provider"]["name"] for v in values} == {"gke"}
    assert {v["router"]["inferencePool"]["failureMode"] for v in values} == {"FailOpen"}


@pytest.mark.parametrize("kind", ["hosted", "spanning"])
def test_what_it_cannot_do_is_refused_with_another_target(kind: str) -> None:
    with pytest.raises(InputError, match="export --to kubernetes"):
        llm_d.files(FLEETS[kind]())


def test_engines_that_ask_for_a_key_are_refused(demo_fleet: Fleet) -> None:
    engine = replace(demo_fleet.engines[0], api_key_env="KEY")
    with pytest.raises(InputError, match="asks its clients for a key"):
        llm_d.files(replace(demo_fleet, engines=(engine, *demo_fleet.engines[1:])))


def test_routes_let_a_long_answer_end_and_nobody_else_in(fleet: Fleet) -> None:
    docs = made(fleet)
    (gateway,) = of_kind(docs, "Gateway")
    assert gateway["spec"]["listeners"][0]["allowedRoutes"] == {"namespaces": {"from": "Same"}}
    for doc in of_kind(docs, "HTTPRoute"):
        for rule in doc["spec"]["rules"]:
            assert rule["timeouts"] == {"request": "0s"}
            assert rule["matches"][0]["path"] == {"type": "PathPrefix", "value": "/v1"}
    for doc in of_kind(docs, "Deployment"):
        engine = fleet.engine(doc["metadata"]["annotations"]["rb-planner/pool"])
        assert engine is not None
        assert doc["spec"]["progressDeadlineSeconds"] > engine.startup_s


def test_a_class_may_go_to_as_many_pools_as_a_rule_may_name(demo_fleet: Fleet) -> None:
    first = demo_fleet.engines[0]
    engines = tuple(replace(first, pool=f"p{i}", dns_name=f"p{i}") for i in range(17))
    for n in (16, 17):
        shares = tuple((f"p{i}", 1) for i in range(n))
        route = replace(demo_fleet.routes[0], shares=shares)
        fleet = replace(demo_fleet, engines=engines, routes=(route,))
        if n == 16:
            assert len(of_kind(made(fleet), "HTTPRoute")) == 1
        else:
            with pytest.raises(InputError, match="goes to 17 pools"):
                llm_d.files(fleet)


def test_cascades_are_refused(cascade_fleet: Fleet) -> None:
    with pytest.raises(InputError, match="cascades"):
        llm_d.files(cascade_fleet)
