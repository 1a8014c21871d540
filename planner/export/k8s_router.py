"""`rb serve` in Kubernetes: the plan in a ConfigMap, two routers behind a service.

A ConfigMap that changes is seen by the pods within a minute or so, and `rb serve` takes over what
it finds there while requests run: another plan restarts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from planner.errors import Fault, InputError
from planner.export.addresses import base_urls
from planner.export.compose import default_rb_image, dockerfile
from planner.export.fleet import Engine, File, Fleet, HostedEngine
from planner.export.k8s_objects import (
    SECRET_KEY,
    Document,
    disruption_budget,
    key_secret,
    labels,
    metadata,
    selector,
    service,
)
from planner.export.k8s_pods import DRAIN_S, GRACE_S, NOTICE_S, key_ref
from planner.export.router_files import client_key_words, serve_options
from planner.files.manifest_yaml import manifest_yaml

NAME = "rb-router"
PLAN = "rb-plan"
PORT_INSIDE = 8000
MOST_BYTES = 1_000_000  # a ConfigMap may hold 1 MiB, names and all
N_ROUTERS = 2
_FOLDER = "/plan"
_CLIENTS = f"{NAME}-api-key"
"""The secret with the key that clients must send."""


def router_documents(
    fleet: Fleet, servers: Mapping[str, Sequence[Document]], options: Sequence[str] = ()
) -> list[Document]:
    """Returns ConfigMap, Deployment, service and disruption budget of `rb serve`.

    Args:
        fleet: what runs, and who is routed where.
        servers: entries of endpoints.yaml by pool, for every own pool; hosted ones are added.
        options: of `rb serve`, beyond those that hold everywhere.

    Raises InputError where the files of the plan are too large for a ConfigMap.
    """
    marks = labels("rb-serve", NAME, "router")
    selects = selector("rb-serve", NAME)
    return [
        _config_map(fleet, marks, servers),
        _deployment(fleet, marks, selects, options),
        service(fleet, NAME, marks, selects, fleet.address.port),
        disruption_budget(fleet, NAME, marks, selects),
    ]


def server(url: str, model_name: str, ranks: int = 1, api_key_env: str | None = None) -> Document:
    """Returns an entry of endpoints.yaml."""
    entry: Document = {"url": url, "served_model_name": model_name}
    if ranks > 1:
        entry["data_parallel_ranks"] = ranks
    if api_key_env is not None:
        entry["api_key_env"] = api_key_env
    return entry


def one_server_per_replica(engine: Engine, address: str) -> list[Document]:
    """Returns entries for the replicas of a pool; `address` has {} where the number goes."""
    return [
        server(
            f"http://{address.format(i)}:{engine.port}",
            engine.served_model_name,
            engine.data_parallel if engine.engine == "vllm" else 1,  # it reads a header for it
            engine.api_key_env,
        )
        for i in range(engine.replicas)
    ]


def _secrets(fleet: Fleet) -> dict[str, str]:
    """Returns the secret that holds each key which the router reads, by variable.

    Pools of one provider share a variable: the router reads it from the secret of the first.
    """
    found: dict[str, str] = {}
    pools: tuple[Engine | HostedEngine, ...] = (*fleet.engines, *fleet.hosted)
    for pool in pools:
        if pool.api_key_env is not None:
            found.setdefault(pool.api_key_env, key_secret(pool.dns_name))
    if fleet.client_key_env is not None:
        found.setdefault(fleet.client_key_env, _CLIENTS)
    return found


def key_comments(fleet: Fleet) -> list[str]:
    """Returns which secrets a cluster must have before, and how they are made."""
    namespace = fleet.address.namespace
    where = f"-n {namespace}"
    wanted = {name: variable for variable, name in _secrets(fleet).items()}
    wanted |= {
        key_secret(e.dns_name): e.api_key_env for e in fleet.engines if e.api_key_env is not None
    }
    said = [
        f'$ kubectl create secret generic {name} {where} --from-literal={SECRET_KEY}="${variable}"'
        for name, variable in wanted.items()
    ]
    secret = fleet.token_secret
    if fleet.engines and secret is not None:
        said.append("a token, for weights that are not public:")
        said.append(
            f"$ kubectl create secret generic "
            f'{secret.name} {where} --from-literal={secret.key}="${fleet.token_env}"'
        )
    space = "" if namespace == "default" else f" (kubectl create namespace {namespace})"
    return [f"Secrets come before all else{space}:", *said] if said else []


def client_comments(fleet: Fleet) -> list[str]:
    """Returns where clients ask, and what the manifests of the router leave to do."""
    address = f"http://{NAME}.{fleet.address.namespace}.svc:{fleet.address.port}/v1"
    return [
        f"Clients ask {address} for the model rb/auto, or rb/CLASS to say what class a request is "
        "of; the header x-rb-class does so, too.",
        f"The router: {client_key_words(fleet)}",
        "The routers take over what changes in the ConfigMap within two minutes, while requests "
        "run.",
        f"The image {fleet.images['rb']} must hold rb: build it from the Dockerfile and push it "
        "where the cluster finds it, then name it in export.yaml."
        if image_files(fleet)
        else f"The routers run the image {fleet.images['rb']}, which must hold rb.",
    ]


def image_files(fleet: Fleet) -> tuple[File, ...]:
    """Returns the Dockerfile of the router's image, unless export.yaml names an image."""
    if fleet.images["rb"] != default_rb_image(fleet):
        return ()
    return (File("Dockerfile", dockerfile(fleet)),)


def _config_map(
    fleet: Fleet, marks: Mapping[str, str], servers: Mapping[str, Sequence[Document]]
) -> Document:
    hosted = {
        h.pool: [server(base_urls(h)[0], h.model_name, api_key_env=h.api_key_env)]
        for h in fleet.hosted
    }
    endpoints = {pool: list(entries) for pool, entries in {**servers, **hosted}.items()}
    data = {**fleet.plan_files, "endpoints.yaml": manifest_yaml(endpoints)}
    if _n_bytes(data) > MOST_BYTES:
        data = {name: _dense(name, text) for name, text in data.items()}
    if _n_bytes(data) > MOST_BYTES:
        what = f"is too large for a ConfigMap with the other files: {_n_bytes(data):,} bytes"
        fix = "export --to compose: its folder plan/ is what rb serve reads, wherever it lies"
        raise InputError([Fault("serving.json", "", what, fix)])
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(fleet, PLAN, marks),
        "data": data,
    }


def _n_bytes(data: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(text.encode()) for name, text in data.items())


def _dense(name: str, text: str) -> str:
    """Returns a file of JSON without the blanks that are there for readers."""
    return json.dumps(json.loads(text), separators=(",", ":")) if name.endswith(".json") else text


def _deployment(
    fleet: Fleet,
    marks: Mapping[str, str],
    selects: Mapping[str, str],
    options: Sequence[str],
) -> Document:
    spread: Document = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": dict(selects)},
    }
    pod: Document = {
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [spread],
        "containers": [_container(fleet, options)],
        "volumes": [
            {"name": "plan", "configMap": {"name": PLAN}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        ],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(fleet, NAME, marks),
        "spec": {
            "replicas": N_ROUTERS,
            "revisionHistoryLimit": 3,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "selector": {"matchLabels": dict(selects)},
            "template": {"metadata": {"labels": dict(marks)}, "spec": pod},
        },
    }


def _container(fleet: Fleet, options: Sequence[str]) -> Document:
    waits = ["--answer-timeout-s", str(DRAIN_S), "--drain-s", str(DRAIN_S)]
    return {
        "name": "router",
        "image": fleet.images["rb"],
        "imagePullPolicy": "IfNotPresent",
        "command": ["rb"],
        "args": ["serve", _FOLDER, *serve_options(fleet, PORT_INSIDE), *waits, *options],
        "env": [
            {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
            *(key_ref(variable, secret) for variable, secret in _secrets(fleet).items()),
        ],
        "ports": [{"name": "http", "containerPort": PORT_INSIDE, "protocol": "TCP"}],
        "startupProbe": _probe("/health", 2, 30),
        # Not /ready: one class without an engine must not take the router from all others.
        "readinessProbe": _probe("/health", 5, 2),
        "livenessProbe": _probe("/health", 10, 6),
        "lifecycle": {"preStop": {"sleep": {"seconds": NOTICE_S}}},
        "resources": {
            "requests": {"cpu": "1", "memory": "512Mi"},
            "limits": {"memory": "1Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "plan", "mountPath": _FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }


def _probe(path: str, period_s: int, n_failures: int) -> Document:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": n_failures,
    }
