"""Kubernetes manifests: valid by the API's own schemas, of one piece, and as the plan says."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from k8s_checks import (
    Document,
    by_path,
    documents,
    gpus,
    kubectl_reads,
    of_kind,
    pods_of,
    selects,
    validate_core,
    validate_pod,
)
from k8s_made import KINDS, made, named
from made_fleets import FLEETS
from serving import engine as upstream_engine
from serving import serving

from planner.errors import InputError
from planner.export import kubernetes
from planner.export.fleet import Fleet
from planner.files.serving import read_serving
from planner.runtime.setup import Options, Setup, setup_faults

Made = tuple[Fleet, list[Document]]


@pytest.fixture(scope="module", params=KINDS)
def exported(request: pytest.FixtureRequest) -> Made:
    """Returns a fleet and its documents."""
    fleet = FLEETS[request.param]()
    return fleet, made(fleet)


def test_every_document_is_valid(exported: Made) -> None:
    fleet, docs = exported
    groups = of_kind(docs, "LeaderWorkerSet")
    assert validate_core(docs) == len(docs) - len(groups)
    assert len(groups) == sum(e.n_nodes > 1 for e in fleet.engines)
    for group in groups:
        for pod in pods_of(group):
            validate_pod(pod)


def test_the_same_fleet_gives_the_same_bytes(demo_fleet: Fleet) -> None:
    assert kubernetes.files(demo_fleet) == kubernetes.files(demo_fleet)


@pytest.mark.parametrize("kind", ["spanning", "hosted", "odd-names"])
def test_kubectl_builds_the_folder(kind: str, tmp_path: Path) -> None:
    fleet = FLEETS[kind]()
    for file in kubernetes.files(fleet):
        (tmp_path / file.path).write_text(file.text)
    key = lambda d: (d["kind"], d["metadata"]["name"])  # noqa: E731 - for both sides
    assert sorted(kubectl_reads(tmp_path), key=key) == sorted(made(fleet), key=key)


def test_replicas_and_gpus_are_those_of_the_plan(exported: Made) -> None:
    fleet, docs = exported
    for engine in fleet.engines:
        pools = [
            d
            for d in (*of_kind(docs, "StatefulSet"), *of_kind(docs, "LeaderWorkerSet"))
            if d["metadata"]["annotations"]["rb-planner/pool"] == engine.pool
        ]
        assert len(pools) == 1
        assert pools[0]["spec"]["replicas"] == engine.replicas
        templates = list(pods_of(pools[0]))
        n_pods = pools[0]["spec"].get("leaderWorkerTemplate", {"size": 1})["size"]
        asked = [gpus(pod)[engine.gpu_resource] for pod in templates]
        assert set(asked) == {engine.gpus_per_replica // n_pods}
        assert asked[0] * n_pods * engine.replicas == engine.n_gpus


def test_names_and_selectors_fit_together(exported: Made) -> None:
    fleet, docs = exported
    names = [(d["kind"], d["metadata"]["name"]) for d in docs]
    assert len(names) == len(set(names))
    pods = [pod["metadata"]["labels"] for doc in docs for pod in pods_of(doc)]
    for doc in of_kind(docs, "Service"):
        chosen = {k: v for k, v in doc["spec"]["selector"].items() if "leaderworker" not in k}
        if chosen:
            assert sum(selects(chosen, labels) for labels in pods) == 1
    for doc in of_kind(docs, "PodDisruptionBudget"):
        assert any(selects(doc["spec"]["selector"]["matchLabels"], labels) for labels in pods)
    for doc in (*of_kind(docs, "StatefulSet"), *of_kind(docs, "Deployment")):
        labels = doc["spec"]["template"]["metadata"]["labels"]
        assert selects(doc["spec"]["selector"]["matchLabels"], labels)
    for engine in fleet.engines:  # what gateways and the routes of other targets ask
        address = named(docs, "Service", engine.dns_name)
        assert [p["port"] for p in address["spec"]["ports"]] == [engine.port]


def test_comments_say_what_the_plan_cannot(demo_fleet: Fleet) -> None:
    def head(fleet: Fleet, path: str = "engines.yaml") -> str:
        text = by_path(kubernetes.files(fleet))[path].text
        return " ".join(line[2:] for line in text.splitlines() if line.startswith("# "))

    assert "h100-sxm-80g ask for 1 or 4 GPUs" in head(demo_fleet)
    assert "device plugin share GPUs" in head(FLEETS["shared"]())
    assert "device plugin" not in head(demo_fleet)
    assert "kubectl create namespace llm" in head(demo_fleet)
    assert "LeaderWorkerSet 0.10" in head(FLEETS["spanning"]())
    for fleet in (demo_fleet, FLEETS["spanning"]()):  # the older plan may have had such replicas
        assert "$ kubectl delete leaderworkerset -n llm -l" in head(fleet, "kustomization.yaml")


def test_another_engine_keeps_what_can_never_be_changed(demo_fleet: Fleet) -> None:
    sglang = FLEETS["sglang"]()
    for kind, fields in {
        "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
        "Deployment": ("selector",),
    }.items():
        pairs = zip(of_kind(made(demo_fleet), kind), of_kind(made(sglang), kind), strict=True)
        for before, after in pairs:
            assert before["metadata"]["name"] == after["metadata"]["name"]
            assert [before["spec"][f] for f in fields] == [after["spec"][f] for f in fields]


def older_and_new(fleet: Fleet) -> list[Document]:
    return made(fleet) + made(replace(fleet, plan_hash="0" * 64))


def test_what_an_older_plan_left_is_found_by_a_label(demo_fleet: Fleet) -> None:
    (head,) = [f.text for f in kubernetes.files(demo_fleet) if f.path == "kustomization.yaml"]
    words = " ".join(head.replace("\n# ", " ").split())
    found = re.search(r"kubectl delete (\S+) -n (\S+) -l '(\S+)'", words)
    assert found is not None
    kinds, namespace, marks = found.groups()
    assert namespace == demo_fleet.address.namespace
    same, other, foreign = marks.split(",")
    assert foreign.startswith("!")
    assert not any(foreign[1:] in doc["metadata"]["labels"] for doc in older_and_new(demo_fleet))
    older = made(replace(demo_fleet, plan_hash="0" * 64))
    for docs, is_left in ((made(demo_fleet), False), (older, True)):
        for doc in docs:
            labels = doc["metadata"]["labels"]
            if doc["kind"].lower() in kinds.split(","):
                name, value = same.split("=")
                assert labels[name] == value
                name, value = other.split("!=")
                assert (labels[name] != value) is is_left
    assert {"statefulset", "service", "poddisruptionbudget"} == set(kinds.split(","))


def test_another_period_of_a_plan_is_told_from_this_one(demo_fleet: Fleet) -> None:
    periods = [None, "day", "N" * 80]
    found = []
    for period in periods:
        docs = made(replace(demo_fleet, period=period))
        (label,) = {
            d["metadata"]["labels"]["rb-planner/plan"] for d in docs if d["kind"] != "Namespace"
        }
        assert re.fullmatch(r"[0-9a-f]{12}(-[-a-z0-9]+[a-z0-9])?", label)
        assert len(label) <= 63
        head = kubernetes.files(replace(demo_fleet, period=period))[0].text
        assert f"rb-planner/plan!={label}," in head
        found.append(label)
    assert len(set(found)) == len(periods)


def test_another_plan_restarts_no_engine(demo_fleet: Fleet) -> None:
    # What a plan only counts on may be estimated anew: the engine is started as it was.
    engines = tuple(replace(e, kv_capacity_tokens=1) for e in demo_fleet.engines)
    other = replace(demo_fleet, plan_hash="0" * 64, engines=engines)
    before, after = (
        [pod for doc in made(fleet) for pod in pods_of(doc)] for fleet in (demo_fleet, other)
    )
    assert before == after
    assert made(demo_fleet) != made(other)


def test_rb_serve_takes_the_files_of_the_config_map(exported: Made, tmp_path: Path) -> None:
    fleet, docs = exported
    data = named(docs, "ConfigMap", "rb-plan")["data"]
    for name, text in data.items():
        (tmp_path / name).write_text(text)
    faults: list[Any] = []
    read = read_serving(tmp_path, tmp_path / "endpoints.yaml", faults)
    assert read is not None
    assert not faults
    setup = Setup(read.routes, read.endpoints, read.sheet, read.models, options=Options())
    wrong = setup_faults(setup)
    if {p.pool for p in (*fleet.engines, *fleet.hosted)} == set(setup.pools):
        assert not wrong  # of a fleet whose routes.json is its own
    for engine in fleet.engines:
        servers = read.endpoints[engine.pool]
        assert len({s.url for s in servers}) == engine.replicas
        ranks = engine.data_parallel if engine.engine == "vllm" else 1
        assert {s.data_parallel_ranks for s in servers} == {ranks}
        assert {s.served_model_name for s in servers} == {engine.served_model_name}


@pytest.mark.slow
def test_the_router_of_the_manifests_serves_by_the_shares(
    demo_fleet: Fleet, tmp_path: Path
) -> None:
    docs = made(demo_fleet)
    for name, text in named(docs, "ConfigMap", "rb-plan")["data"].items():
        (tmp_path / name).write_text(text)
    pod = named(docs, "Deployment", "rb-router")["spec"]["template"]["spec"]
    (router,) = pod["containers"]
    folder, *rest = router["args"][1:]
    assert [router["args"][0], folder] == ["serve", router["volumeMounts"][0]["mountPath"]]
    assert rest[:4] == ["--host", "0.0.0.0", "--port", "8000"]
    with upstream_engine() as upstream:
        # Both replicas of a pool are this one, by two names.
        endpoints = (tmp_path / "endpoints.yaml").read_text()
        port = upstream.server_address[1]
        endpoints = re.sub(r"http://\S+-0\.\S+", f"http://127.0.0.1:{port}", endpoints)
        endpoints = re.sub(r"http://\S+-1\.\S+", f"http://localhost:{port}", endpoints)
        (tmp_path / "endpoints.yaml").write_text(endpoints)
        with serving(tmp_path, *rest[4:]) as rb:
            assert rb.get(router["livenessProbe"]["httpGet"]["path"])[0] == 200
            assert rb.get(router["readinessProbe"]["httpGet"]["path"])[0] == 200
            answers = [rb.ask("rb/gsm") for _ in range(100)]
    assert {status for status, _ in answers} == {200}
    asked = Counter(head["x-rb-pool"] for _, head in answers)
    (gsm,) = [r for r in demo_fleet.routes if r.class_name == "gsm"]
    for pool, share in gsm.shares:
        assert abs(asked[pool] - share / 10_000) <= 2
    assert sum(upstream.asked.values()) == 100


def test_each_replica_is_asked_by_the_name_that_kubernetes_gives_it(exported: Made) -> None:
    fleet, docs = exported
    endpoints = yaml.safe_load(named(docs, "ConfigMap", "rb-plan")["data"]["endpoints.yaml"])
    for engine in fleet.engines:
        pool = next(
            d
            for d in docs
            if d["kind"] in ("StatefulSet", "LeaderWorkerSet")
            and d["metadata"]["annotations"]["rb-planner/pool"] == engine.pool
        )
        name, space = pool["metadata"]["name"], pool["metadata"]["namespace"]
        # Pods of a StatefulSet by its serviceName; leaders of LWS by the service of its own name.
        domain = pool["spec"].get("serviceName", name)
        assert [s["url"] for s in endpoints[engine.pool]] == [
            f"http://{name}-{i}.{domain}.{space}.svc:{engine.port}" for i in range(engine.replicas)
        ]
        if pool["kind"] == "StatefulSet":
            assert named(docs, "Service", domain)["spec"]["clusterIP"] == "None"


def test_a_replica_over_two_nodes_is_one_engine_whose_leader_answers() -> None:
    fleet = FLEETS["spanning"]()
    docs = made(fleet)
    (group,) = of_kind(docs, "LeaderWorkerSet")
    template = group["spec"]["leaderWorkerTemplate"]
    assert template["size"] == 2
    leader, worker = (
        template[who]["spec"]["containers"][0] for who in ("leaderTemplate", "workerTemplate")
    )
    nodes = ["--nnodes", "$(LWS_GROUP_SIZE)", "--node-rank", "$(LWS_WORKER_INDEX)"]
    nodes += ["--master-addr", "$(LWS_LEADER_ADDRESS)"]
    assert leader["args"][-6:] == nodes
    assert worker["args"] == [*leader["args"], "--headless"]
    assert {"ports", "lifecycle", "readinessProbe", "livenessProbe", "startupProbe"} & set(
        worker
    ) == set()  # it answers nobody
    address = named(docs, "Service", fleet.engines[0].dns_name)
    assert address["spec"]["selector"]["leaderworkerset.sigs.k8s.io/worker-index"] == "0"


def test_ranks_over_nodes_start_where_the_node_before_ends() -> None:
    first = FLEETS["spanning"]().engines[0]
    engine = replace(
        first, tensor_parallel=2, pipeline_parallel=1, data_parallel=8, gpus_per_replica=16
    )
    fleet = replace(FLEETS["spanning"](), engines=(engine,))
    (group,) = of_kind(made(fleet), "LeaderWorkerSet")
    worker = group["spec"]["leaderWorkerTemplate"]["workerTemplate"]["spec"]["containers"][0]
    words = [*worker["command"], *worker["args"]]
    shown = words[2].replace('exec "$@"', 'printf "%s " "$@"').replace("--", "; echo --", 1)
    done = subprocess.run(
        [words[0], words[1], shown, *words[3:]],
        capture_output=True,
        text=True,
        check=True,
        env={"LWS_WORKER_INDEX": "1"},
    )
    assert "--data-parallel-size-local 4" in done.stdout
    assert "--headless" in done.stdout
    assert done.stdout.endswith("--data-parallel-start-rank 4\n")


def test_an_image_of_the_router_is_built_unless_one_is_named(demo_fleet: Fleet) -> None:
    assert "Dockerfile" in by_path(kubernetes.files(demo_fleet))
    named_image = {**demo_fleet.images, "rb": "registry.example.com/rb:1"}
    files = by_path(kubernetes.files(replace(demo_fleet, images=named_image)))
    assert "Dockerfile" not in files
    (router,) = of_kind(documents(files["router.yaml"]), "Deployment")
    assert router["spec"]["template"]["spec"]["containers"][0]["image"] == named_image["rb"]


def test_a_plan_too_large_for_a_config_map_is_refused(demo_fleet: Fleet) -> None:
    files = {**demo_fleet.plan_files, "serving.json": json.dumps("x" * 1_000_001)}
    with pytest.raises(InputError, match="ConfigMap"):
        kubernetes.files(replace(demo_fleet, plan_files=files))


def test_a_plan_that_fits_a_config_map_without_its_blanks_loses_nothing(demo_fleet: Fleet) -> None:
    large = {str(i): {"é": [i, 0.1, None]} for i in range(1000)}
    text = json.dumps(large, indent=200, ensure_ascii=False)
    assert len(text.encode()) > 1_048_576
    files = {**demo_fleet.plan_files, "serving.json": text}
    data = named(made(replace(demo_fleet, plan_files=files)), "ConfigMap", "rb-plan")["data"]
    assert sum(len(each.encode()) for each in data.values()) < 1_048_576
    assert json.loads(data["serving.json"]) == large
    assert json.loads(data["routes.json"]) == json.loads(demo_fleet.plan_files["routes.json"])


@pytest.mark.parametrize("name", ["rb-router", "llama-3-1-8b-h100-rep"])
def test_two_objects_of_one_name_are_refused(demo_fleet: Fleet, name: str) -> None:
    first = replace(demo_fleet.engines[0], pool=name, dns_name=name)
    with pytest.raises(InputError, match=f"would be called {name}"):
        kubernetes.files(replace(demo_fleet, engines=(first, *demo_fleet.engines[1:])))


@pytest.mark.parametrize(("data", "tensor", "pipeline"), [(3, 4, 1), (1, 9, 1), (2, 4, 3)])
def test_replicas_that_do_not_divide_over_their_nodes_are_refused(
    data: int, tensor: int, pipeline: int
) -> None:
    fleet = FLEETS["spanning"]()
    engine = replace(
        fleet.engines[0],
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        data_parallel=data,
        gpus_per_replica=data * tensor * pipeline,
    )
    wrong = replace(fleet, engines=(engine, *fleet.engines[1:]))
    with pytest.raises(InputError, match="divide evenly"):
        kubernetes.files(wrong)
