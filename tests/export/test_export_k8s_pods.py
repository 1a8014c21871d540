"""Pods of the kubernetes target: rights, room, secrets, and how they start and end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from k8s_checks import (
    Document,
    expanded,
    gpus,
    of_kind,
    pods_of,
    selects,
    validate_core,
)
from k8s_made import KINDS, made, named
from made_fleets import FLEETS

from planner.export import k8s_pods, kubernetes
from planner.export.fleet import Engine, Fleet

Made = tuple[Fleet, list[Document]]


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest) -> Made:
    """Returns a fleet and its documents."""
    fleet = FLEETS[request.param]()
    return fleet, made(fleet)


def test_engines_start_drain_and_are_watched(demo_fleet: Fleet) -> None:
    for doc in of_kind(made(demo_fleet), "StatefulSet"):
        engine = demo_fleet.engine(doc["metadata"]["annotations"]["rb-planner/pool"])
        assert engine is not None
        spec = doc["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        start = container["startupProbe"]
        assert start["periodSeconds"] * start["failureThreshold"] >= engine.startup_s
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}
        mounts = {m["name"]: m["mountPath"] for m in container["volumeMounts"]}
        assert mounts == {"shm": "/dev/shm", "cache": "/cache"}
        (shm,) = spec["volumes"]
        assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": f"{engine.shm_gib}Gi"}
        (claim,) = doc["spec"]["volumeClaimTemplates"]
        disk = claim["spec"]["resources"]["requests"]["storage"]
        assert int(disk.removesuffix("Gi")) > (engine.weights_gib or 0.0)
        assert spec["terminationGracePeriodSeconds"] > k8s_pods.NOTICE_S + k8s_pods.DRAIN_S
        # What hangs is not waited for.
        assert container["livenessProbe"]["terminationGracePeriodSeconds"] <= 60
        assert spec["nodeSelector"] == engine.node_selector
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_pods_have_no_more_rights_than_they_need(exported: Made) -> None:
    _, docs = exported
    for doc in docs:
        for pod in pods_of(doc):
            spec = pod["spec"]
            assert spec["automountServiceAccountToken"] is False
            assert spec["enableServiceLinks"] is False  # VLLM_PORT of a service called vllm
            assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in spec["containers"]:
                rights = container["securityContext"]
                assert rights["allowPrivilegeEscalation"] is False
                assert rights["capabilities"] == {"drop": ["ALL"]}
    router = named(docs, "Deployment", "rb-router")["spec"]["template"]["spec"]
    assert router["securityContext"]["runAsNonRoot"] is True
    (container,) = router["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "/tmp" in {m["mountPath"] for m in container["volumeMounts"]}


def test_pods_have_room_for_weights_and_shared_memory(demo_fleet: Fleet) -> None:
    for engine, doc in zip(
        demo_fleet.engines, of_kind(made(demo_fleet), "StatefulSet"), strict=True
    ):
        asked = doc["spec"]["template"]["spec"]["containers"][0]["resources"]
        least, most = (
            int(asked[each]["memory"].removesuffix("Gi")) for each in ("requests", "limits")
        )
        assert least > engine.shm_gib + 8 * engine.gpus_per_replica
        assert most > least + (engine.weights_gib or 0.0) - 1


def test_pools_grow_at_once_and_change_one_by_one(exported: Made) -> None:
    fleet, docs = exported
    gone = {"whenDeleted": "Delete", "whenScaled": "Delete"}  # disks, with who used them
    for doc in of_kind(docs, "StatefulSet"):
        assert doc["spec"]["podManagementPolicy"] == "Parallel"
        assert doc["spec"]["updateStrategy"] == {"type": "RollingUpdate"}
        assert doc["spec"]["persistentVolumeClaimRetentionPolicy"] == gone
    for doc in of_kind(docs, "LeaderWorkerSet"):
        one = doc["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
        assert one == {"maxSurge": 0, "maxUnavailable": 1}  # there is no GPU for one more
        group = doc["spec"]["leaderWorkerTemplate"]
        assert group["persistentVolumeClaimRetentionPolicy"] == gone
        assert group["restartPolicy"] == "RecreateGroupOnPodRestart"  # half a replica is none
    budgets = of_kind(docs, "PodDisruptionBudget")
    assert len(budgets) == len(fleet.engines) + 1
    for doc in budgets:
        assert doc["spec"]["maxUnavailable"] == 1
        assert doc["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_routers_are_two_and_stay_two_and_end_what_they_answer(demo_fleet: Fleet) -> None:
    spec = named(made(demo_fleet), "Deployment", "rb-router")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    args = container["args"]
    waits_s = [int(args[args.index(o) + 1]) for o in ("--answer-timeout-s", "--drain-s")]
    notice_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert waits_s[0] == waits_s[1]
    assert pod["terminationGracePeriodSeconds"] > waits_s[1] + notice_s
    # /ready is of all classes: one that has no engine must not take the router from the others.
    assert container["readinessProbe"]["httpGet"]["path"] == "/health"
    (spread,) = pod["topologySpreadConstraints"]  # on two nodes, where there are two
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert selects(spread["labelSelector"]["matchLabels"], spec["template"]["metadata"]["labels"])


def test_no_document_holds_a_secret(hosted_fleet: Fleet) -> None:
    docs = made(hosted_fleet)
    assert not of_kind(docs, "Secret")
    router = named(docs, "Deployment", "rb-router")["spec"]["template"]["spec"]["containers"][0]
    keys = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in router["env"] if "valueFrom" in e}
    assert keys == {"PROVIDER_API_KEY": {"name": "gpt-hosted-api-key", "key": "apiKey"}}
    (token,) = {
        json.dumps(e["valueFrom"])
        for doc in of_kind(docs, "StatefulSet")
        for e in doc["spec"]["template"]["spec"]["containers"][0]["env"]
        if "valueFrom" in e
    }
    secret = hosted_fleet.token_secret
    assert secret is not None
    ref = {"name": secret.name, "key": secret.key, "optional": True}
    assert json.loads(token) == {"secretKeyRef": ref}


def test_gpus_of_any_vendor_are_tolerated(demo_fleet: Fleet) -> None:
    engine = replace(demo_fleet.engines[0], gpu_resource="amd.com/gpu")
    fleet = replace(demo_fleet, engines=(engine,))
    (pod,) = [p for d in of_kind(made(fleet), "StatefulSet") for p in pods_of(d)]
    assert [t["key"] for t in pod["spec"]["tolerations"]] == ["amd.com/gpu"]
    assert gpus(pod) == {"amd.com/gpu": engine.gpus_per_replica}


def test_pools_of_one_provider_share_its_key(hosted_fleet: Fleet) -> None:
    (first,) = hosted_fleet.hosted
    second = replace(first, pool="gpt-large", dns_name="gpt-large", model_name="gpt-x-large")
    docs = made(replace(hosted_fleet, hosted=(first, second)))
    assert validate_core(docs)
    names = [e["name"] for e in router_container(docs)["env"]]
    assert names.count("PROVIDER_API_KEY") == 1 and len(set(names)) == len(names)
    endpoints = yaml.safe_load(named(docs, "ConfigMap", "rb-plan")["data"]["endpoints.yaml"])
    assert {endpoints[h][0]["api_key_env"] for h in ("gpt-hosted", "gpt-large")} == {
        "PROVIDER_API_KEY"
    }


def router_container(docs: list[Document]) -> Document:
    (router,) = named(docs, "Deployment", "rb-router")["spec"]["template"]["spec"]["containers"]
    return router


@pytest.mark.parametrize("kind", ["demo", "sglang"])
def test_engines_with_a_key_read_it_from_a_secret_as_the_router_does(kind: str) -> None:
    fleet = FLEETS[kind]()
    engines = tuple(replace(e, api_key_env="ENGINE_KEY") for e in fleet.engines)
    fleet = replace(fleet, engines=engines, client_key_env="CLIENT_KEY")
    docs = made(fleet)
    assert validate_core(docs)
    for engine, doc in zip(engines, of_kind(docs, "StatefulSet"), strict=True):
        (container,) = doc["spec"]["template"]["spec"]["containers"]
        refs = {
            e["name"]: e["valueFrom"]["secretKeyRef"]
            for e in container["env"]
            if "valueFrom" in e and e["name"] != fleet.token_env
        }
        variable = {"vllm": "VLLM_API_KEY", "sglang": "ENGINE_KEY"}[engine.engine]
        assert refs == {variable: {"name": f"{engine.dns_name}-api-key", "key": "apiKey"}}
        told = expanded(container["args"], {variable: "THE KEY"})
        assert (told[-2:] == ["--api-key", "THE KEY"]) is (engine.engine == "sglang")
    router = router_container(docs)
    refs = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in router["env"] if "valueFrom" in e}
    assert {k: v["name"] for k, v in refs.items()} == {
        "ENGINE_KEY": f"{engines[0].dns_name}-api-key",
        "CLIENT_KEY": "rb-router-api-key",
    }
    args = router["args"]
    assert args[args.index("--api-key-env") + 1] == "CLIENT_KEY"
    endpoints = yaml.safe_load(named(docs, "ConfigMap", "rb-plan")["data"]["endpoints.yaml"])
    servers = [server for each in endpoints.values() for server in each]
    assert {server["api_key_env"] for server in servers} == {"ENGINE_KEY"}
    heads = " ".join(" ".join(f.text.split("\n# ")) for f in kubernetes.files(fleet))
    for secret in {r["name"] for r in refs.values()} | {f"{e.dns_name}-api-key" for e in engines}:
        assert f"secret generic {secret} -n llm" in heads


def test_words_of_the_settings_are_taken_as_they_are() -> None:
    fleet = FLEETS["odd-names"]()
    first = replace(
        fleet.engines[0], extra_args=("$(HF_TOKEN)", "$$", "$5"), env={"A": "$(HF_TOKEN) $$x"}
    )
    docs = of_kind(made(replace(fleet, engines=(first, *fleet.engines[1:]))), "StatefulSet")
    (container,) = docs[0]["spec"]["template"]["spec"]["containers"]
    assert expanded(container["args"], {"HF_TOKEN": "secret"})[-3:] == ["$(HF_TOKEN)", "$$", "$5"]
    (value,) = [e["value"] for e in container["env"] if e["name"] == "A"]
    assert expanded([value], {"HF_TOKEN": "secret"}) == ["$(HF_TOKEN) $$x"]


class _Page(BaseHTTPRequestHandler):
    """A metrics page whose count of running requests falls by one at each look."""

    running = 3
    n_silent = 0  # looks that get no answer in time
    n_cut = 0  # looks that get half an answer
    engine = "vllm:num_requests_running"

    def do_GET(self) -> None:
        if type(self).n_silent:
            type(self).n_silent -= 1
            time.sleep(0.4)
            return
        lines = [f'{self.engine}{{model_name="x"}} {float(type(self).running)}', "other 7.0", ""]
        type(self).running -= 1
        body = "\n".join(lines).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body) + type(self).n_cut))
        self.end_headers()
        self.wfile.write(body)
        type(self).n_cut = 0

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def engine_page(pool: Engine) -> Iterator[tuple[type[_Page], int]]:
    names = {"vllm": "vllm:num_requests_running", "sglang": "sglang:num_queue_reqs"}
    page = type(
        "Page", (_Page,), {"running": 3, "n_silent": 0, "n_cut": 0, "engine": names[pool.engine]}
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield page, server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def drained(engine: Engine, port: int) -> subprocess.CompletedProcess[bytes]:
    """Returns how the preStop command ended, without the waits that are only for the clock."""
    python, *words = k8s_pods.drain_command(replace(engine, port=port))
    assert python == "python3"
    script = words[-1]
    for said, meant in {
        f"time.sleep({k8s_pods.NOTICE_S})": "pass",
        "time.sleep(1)": "time.sleep(0.01)",
        "timeout=10": "timeout=0.2",
    }.items():
        assert said in script
        script = script.replace(said, meant, 1)
    return subprocess.run([sys.executable, "-c", script], timeout=30, check=False)


@pytest.mark.parametrize("kind", ["demo", "sglang"])
def test_a_pod_waits_until_it_has_nothing_to_answer(kind: str) -> None:
    engine = FLEETS[kind]().engines[0]
    with engine_page(engine) as (page, port):
        assert drained(engine, port).returncode == 0
        assert page.running == -1  # it saw 3, 2, 1 and 0 requests, then let go


def test_a_pod_too_busy_to_say_is_waited_for(demo_fleet: Fleet) -> None:
    engine = demo_fleet.engines[0]
    with engine_page(engine) as (page, port):
        page.n_silent, page.n_cut = 1, 1
        assert drained(engine, port).returncode == 0
        assert page.running == -1


def test_a_pod_that_still_loads_is_not_waited_for(demo_fleet: Fleet) -> None:
    with engine_page(demo_fleet.engines[0]) as (_, port):
        pass  # nobody listens there any more
    assert drained(demo_fleet.engines[0], port).returncode == 0
