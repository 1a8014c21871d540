"""KServe: what is merged into its template, and routes by the plan's shares."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from typing import Any

import pytest
from k8s_checks import Document, by_path, documents, expanded, gpus, of_kind, validate_pod
from made_fleets import FLEETS

from planner.errors import InputError
from planner.export import kserve
from planner.export.engine_flags import vllm_flags
from planner.export.fleet import Fleet

REFUSED = {"sglang": "SGLang", "spanning": "span nodes", "hosted": "is hosted"}


@pytest.fixture(params=("demo", "data-parallel", "odd-names"))
def fleet(request: pytest.FixtureRequest) -> Fleet:
    return FLEETS[request.param]()


def made(fleet: Fleet, kind: str) -> list[Document]:
    files = by_path(kserve.files(fleet))
    return of_kind([d for n in ("services", "routes") for d in documents(files[f"{n}.yaml"])], kind)


def services(fleet: Fleet) -> list[tuple[Any, Document]]:
    """Returns the engine and the service of every pool."""
    docs = made(fleet, "LLMInferenceService")
    return list(zip(fleet.engines, docs, strict=True))


def test_each_pool_is_a_service_with_its_replicas_and_gpus(fleet: Fleet) -> None:
    for engine, doc in services(fleet):
        spec = doc["spec"]
        assert spec["replicas"] == engine.replicas
        assert spec["parallelism"] == {"tensor": engine.tensor_parallel}
        assert spec["model"]["name"] == engine.served_model_name
        assert spec["model"]["uri"].startswith(f"hf://{engine.weights}")
        assert gpus({"spec": spec["template"]}) == {engine.gpu_resource: engine.gpus_per_replica}


def test_what_is_merged_into_the_template_is_a_pod(fleet: Fleet) -> None:
    for _, doc in services(fleet):
        pod = doc["spec"]["template"]
        (container,) = pod["containers"]
        assert container["name"] == "main"
        # The template brings the probe's request and the mount of dshm.
        probe = {**container["startupProbe"], "httpGet": {"path": "/health", "port": 8000}}
        validate_pod({"spec": {**pod, "containers": [{**container, "startupProbe": probe}]}})
        assert [v["name"] for v in pod["volumes"]] == ["dshm"]


def test_vllm_gets_every_flag_of_the_plan_through_the_shell_of_the_template(fleet: Fleet) -> None:
    for engine, doc in services(fleet):
        args = expanded(doc["spec"]["template"]["containers"][0]["args"])
        # As the template does it: the arguments of a script, evaluated once more.
        script = "eval \"printf '%s\\n' --tensor-parallel-size T --revision R $@\""
        done = subprocess.run(
            ["bash", "-c", script, "--", *args], capture_output=True, text=True, check=True
        )
        words = done.stdout.splitlines()
        i = words.index("--served-model-name")
        names = words[i + 1 :]
        assert names[:2] == [
            engine.served_model_name,
            f"publishers/{fleet.address.namespace}/models/{engine.served_model_name}",
        ]
        assert set(names[2:]) == set(engine.served_aliases) - set(names[:2])
        given = words[4:i]
        of_template = {"--tensor-parallel-size", str(engine.tensor_parallel), "--revision", "main"}
        assert [w for w in vllm_flags(engine) if w not in given] == [
            w for w in vllm_flags(engine) if w in of_template and w not in given
        ]
        assert shlex.split(shlex.join(given)) == given


def test_weights_are_the_shares_between_the_pools_that_kserve_makes(fleet: Fleet) -> None:
    by_pool = {kserve.pool_name(e): e.pool for e in fleet.engines}
    rules = [r for doc in made(fleet, "HTTPRoute") for r in doc["spec"]["rules"]]
    shares = [{by_pool[b["name"]]: b["weight"] for b in r["backendRefs"]} for r in rules]
    assert shares == [dict(route.shares) for route in fleet.routes]


def test_services_start_patiently_end_slowly_and_find_their_nodes(fleet: Fleet) -> None:
    for engine, doc in services(fleet):
        spec = doc["spec"]
        assert spec["rolloutStrategy"] == {"maxSurge": 1, "maxUnavailable": 0}
        pod = spec["template"]
        probe = pod["containers"][0]["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= engine.startup_s
        assert pod["terminationGracePeriodSeconds"] >= 600  # KServe tells vLLM to drain for it
        assert pod.get("nodeSelector", {}) == engine.node_selector


def test_services_know_the_routes_and_the_gateway(fleet: Fleet) -> None:
    routes = [{"name": d["metadata"]["name"]} for d in made(fleet, "HTTPRoute")]
    (gateway,) = made(fleet, "Gateway")
    where = {k: gateway["metadata"][k] for k in ("name", "namespace")}
    for _, doc in services(fleet):
        router = doc["spec"]["router"]
        assert router["route"]["http"]["refs"] == routes
        assert router["gateway"]["refs"] == [where]
        assert router["scheduler"] == {}


def test_long_names_leave_room_for_the_pool(demo_fleet: Fleet) -> None:
    names = [f"{'a-very-long-name-of-a-pool-' * 2}"[:48] + f"{i}x" for i in range(3)]
    engines = tuple(
        replace(e, dns_name=n, pool=n) for e, n in zip(demo_fleet.engines, names, strict=True)
    )
    pools = {kserve.pool_name(e) for e in engines}
    assert len(pools) == 3
    assert all(len(name) <= 63 for name in pools)


@pytest.mark.parametrize(("weights", "uri"), [("a/b", "hf://a/b:v1"), ("pvc://x/y", "pvc://x/y")])
def test_weights_lie_where_the_settings_say(demo_fleet: Fleet, weights: str, uri: str) -> None:
    engine = replace(demo_fleet.engines[0], weights=weights, revision="v1")
    fleet = replace(demo_fleet, engines=(engine, *demo_fleet.engines[1:]))
    assert services(fleet)[0][1]["spec"]["model"]["uri"] == uri


def test_weights_at_a_path_are_refused(demo_fleet: Fleet) -> None:
    engine = replace(demo_fleet.engines[0], weights="/models/llama")
    with pytest.raises(InputError, match="pvc://"):
        kserve.files(replace(demo_fleet, engines=(engine,)))


@pytest.mark.parametrize(("kind", "why"), REFUSED.items())
def test_what_it_cannot_do_is_refused(kind: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        kserve.files(FLEETS[kind]())


def test_cascades_are_refused(cascade_fleet: Fleet) -> None:
    with pytest.raises(InputError, match="cascades"):
        kserve.files(cascade_fleet)
