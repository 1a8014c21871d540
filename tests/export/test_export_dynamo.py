"""Dynamo: a graph per pool by the fields of its API, `rb serve` in front of the frontends."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml
from k8s_checks import (
    Document,
    by_path,
    documents,
    expanded,
    gpus,
    of_kind,
    validate_core,
    validate_pod,
)
from made_fleets import FLEETS

from planner.export import dynamo
from planner.export.engine_flags import sglang_args, vllm_flags
from planner.export.fleet import Fleet

# deploy/operator/api/v1beta1 of ai-dynamo/dynamo: json names of the Go types.
SPEC = {"annotations", "labels", "components", "env", "backendFramework", "priorityClassName"}
COMPONENT = {"name", "type", "replicas", "podTemplate", "multinode", "sharedMemorySize"}
NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?")
VERSIONED = re.compile(r"nvcr\.io/nvidia/ai-dynamo/(vllm|sglang)-runtime:\d+\.\d+\.\d+")


@pytest.fixture(params=("demo", "sglang", "data-parallel", "spanning", "hosted", "odd-names"))
def fleet(request: pytest.FixtureRequest) -> Fleet:
    return FLEETS[request.param]()


def made(fleet: Fleet, name: str = "graphs.yaml") -> list[Document]:
    return documents(by_path(dynamo.files(fleet))[name])


def test_graphs_have_the_fields_of_the_api(fleet: Fleet) -> None:
    for doc in made(fleet):
        assert doc["apiVersion"] == "nvidia.com/v1beta1"
        assert set(doc["spec"]) <= SPEC
        assert doc["spec"]["backendFramework"] in ("vllm", "sglang", "trtllm")
        names = [c["name"] for c in doc["spec"]["components"]]
        assert len({name.lower() for name in names}) == len(names) <= 25
        for component in doc["spec"]["components"]:
            assert set(component) <= COMPONENT
            assert NAME.fullmatch(component["name"])
            assert len(component["name"]) <= 63
            assert component["type"] in ("frontend", "worker")
            assert component.get("multinode", {"nodeCount": 2})["nodeCount"] >= 2
            (main,) = component["podTemplate"]["spec"]["containers"]
            assert main["name"] == "main"
            assert VERSIONED.fullmatch(main["image"])  # the operator reads the version there
            validate_pod(component["podTemplate"])


def test_workers_are_the_replicas_of_the_plan(fleet: Fleet) -> None:
    docs = made(fleet)
    for engine, doc in zip(fleet.engines, docs, strict=True):
        (worker,) = [c for c in doc["spec"]["components"] if c["type"] == "worker"]
        assert worker["replicas"] == engine.replicas
        n_nodes = worker.get("multinode", {"nodeCount": 1})["nodeCount"]
        asked = gpus(worker["podTemplate"])[engine.gpu_resource]
        assert asked * n_nodes == engine.gpus_per_replica
        (main,) = worker["podTemplate"]["spec"]["containers"]
        args = expanded(main["args"])
        if engine.engine == "vllm":
            assert args[4:] == vllm_flags(engine)
            assert args[:4] == [
                "--model", engine.weights, "--served-model-name", engine.served_model_name
            ]  # fmt: skip
        else:
            words = [w for w in sglang_args(engine) if w not in ("--host", "0.0.0.0", "--port")]
            words.remove(str(engine.port))
            assert args == words


def test_pods_start_where_the_plan_says_and_end_what_they_answer(fleet: Fleet) -> None:
    for engine, doc in zip(fleet.engines, made(fleet), strict=True):
        frontend, worker = doc["spec"]["components"]
        (server,) = frontend["podTemplate"]["spec"]["containers"]
        assert server["resources"]["requests"] == {"cpu": "2", "memory": "4Gi"}
        for component in (frontend, worker):
            pod = component["podTemplate"]["spec"]
            assert pod["terminationGracePeriodSeconds"] > 600
            token = {e["name"] for e in pod["containers"][0]["env"]}
            assert fleet.token_env in token  # the frontend loads the tokenizer
        assert worker["podTemplate"]["spec"].get("nodeSelector", {}) == engine.node_selector
        assert worker["sharedMemorySize"] == f"{engine.shm_gib}Gi"
    (router,) = of_kind(made(fleet, "router.yaml"), "Deployment")
    assert "--no-admission" in router["spec"]["template"]["spec"]["containers"][0]["args"]


def test_the_router_asks_each_frontend_and_is_valid(fleet: Fleet) -> None:
    router = made(fleet, "router.yaml")
    assert validate_core(router) == len(router)
    (plan,) = of_kind(router, "ConfigMap")
    endpoints = yaml.safe_load(plan["data"]["endpoints.yaml"])
    space = fleet.address.namespace
    for engine, doc in zip(fleet.engines, made(fleet), strict=True):
        (frontend,) = [c for c in doc["spec"]["components"] if c["type"] == "frontend"]
        host = f"{doc['metadata']['name']}-{frontend['name'].lower()}.{space}.svc"
        (server,) = endpoints[engine.pool]
        assert server["url"] == f"http://{host}:8000"
        assert server["served_model_name"] == engine.served_model_name


def test_names_of_graphs_are_short_and_differ(demo_fleet: Fleet) -> None:
    names = [f"a-very-long-name-of-a-model-on-a-gpu-tp{i}" for i in (2, 4, 8)]
    engines = [
        replace(e, dns_name=n, pool=n) for e, n in zip(demo_fleet.engines, names, strict=True)
    ]
    graphs = [dynamo.graph_name(e) for e in engines]
    assert len(set(graphs)) == 3
    assert all(len(g) <= 24 and NAME.fullmatch(g) for g in graphs)


def test_cascades_are_served_by_rb_serve(cascade_fleet: Fleet) -> None:
    assert of_kind(made(cascade_fleet, "router.yaml"), "Deployment")
