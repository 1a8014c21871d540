"""llm-d: a Deployment and an InferencePool per pool, an HTTPRoute with the plan's shares.

The layout is that of llm-d's guides: model servers are plain Deployments; per pool, the chart
llm-d-router-gateway makes the InferencePool and the endpoint picker, which chooses a replica by its
load and its prefix cache; the route chooses the pool. A rewrite per pool gives requests the name
that its engines know, whatever the client wrote.
"""

from __future__ import annotations

from collections.abc import Mapping

from planner.export.fleet import Engine, File, Fleet
from planner.export.k8s_objects import (
    Document,
    about,
    change_comments,
    disruption_budget,
    engine_labels,
    engine_selector,
    kustomized,
    metadata,
)
from planner.export.k8s_pods import CACHE_VOLUME, cache_claim, engine_container, engine_pod
from planner.export.k8s_router import key_comments
from planner.export.k8s_routes import (
    GATEWAY_CLASS,
    class_routes,
    gateway,
    refuse_hosted,
    refuse_keys,
    refuse_spanning,
    route_comments,
)
from planner.export.manifest import engine_comments, header, yaml_text
from planner.export.targets import refuse_cascades

TARGET = "llm-d"
CHART = "oci://ghcr.io/llm-d/charts/llm-d-router-gateway"
VERSION = "v0.10.0"
_KINDS = "deployment,poddisruptionbudget,httproute,inferencemodelrewrite"
_ENGINE_TYPE = "llm-d.ai/engine-type"
_PROVIDERS = ("istio", "gke")  # gateways for which the chart makes more


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns model servers, routes, and values of the router's chart for each pool.

    Raises InputError for what llm-d cannot do: cascades, hosted pools, replicas over nodes.
    """
    refuse_cascades(fleet, TARGET)
    refuse_hosted(fleet, TARGET)
    refuse_spanning(fleet, TARGET)
    refuse_keys(fleet, TARGET)
    install = _install_comments(fleet)
    parts = {
        "modelservers.yaml": (_model_servers(fleet), _server_comments(fleet)),
        "routes.yaml": (_routes(fleet), [*route_comments(fleet), *install]),
    }
    values = (_values(fleet, engine) for engine in fleet.engines)
    return (*kustomized(fleet, TARGET, install, parts), *values)


def deployment(fleet: Fleet, engine: Engine, marks: Mapping[str, str]) -> Document:
    """Returns a Deployment of a pool's replicas; a replica is only taken once another is there."""
    claim: Document = {"metadata": {"labels": dict(marks)}, "spec": cache_claim(engine)}
    cache: Document = {"name": CACHE_VOLUME, "ephemeral": {"volumeClaimTemplate": claim}}
    pod = engine_pod(engine, marks, engine_container(fleet, engine), [cache])
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(fleet, engine.dns_name, marks, about(engine)),
        "spec": {
            "replicas": engine.replicas,
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": engine.startup_s + 600,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "selector": {"matchLabels": engine_selector(engine)},
            "template": pod,
        },
    }


def _model_servers(fleet: Fleet) -> list[Document]:
    docs: list[Document] = []
    for engine in fleet.engines:
        marks = {**engine_labels(engine), _ENGINE_TYPE: engine.engine}
        docs.append(deployment(fleet, engine, marks))
        docs.append(disruption_budget(fleet, engine.dns_name, marks, engine_selector(engine)))
    return docs


def _routes(fleet: Fleet) -> list[Document]:
    pool: Document = {"group": "inference.networking.k8s.io", "kind": "InferencePool"}
    return [
        gateway(fleet),
        *class_routes(fleet, lambda engine: {**pool, "name": engine.dns_name}),
        *(_rewrite(fleet, engine) for engine in fleet.engines),
    ]


def _rewrite(fleet: Fleet, engine: Engine) -> Document:
    """Returns that every request that came to a pool asks for the model that is there."""
    target = {"modelRewrite": engine.served_model_name, "weight": 1}
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": metadata(fleet, engine.dns_name, engine_labels(engine), about(engine)),
        "spec": {
            "poolRef": {
                "group": "inference.networking.k8s.io",
                "kind": "InferencePool",
                "name": engine.dns_name,
            },
            "rules": [{"targets": [target]}],
        },
    }


def _values(fleet: Fleet, engine: Engine) -> File:
    """Returns the values of the router's chart for one pool; the release is named as the pool."""
    values: Document = {
        "router": {
            "modelServers": {
                "type": engine.engine,
                "protocol": "http",
                "targetPorts": [{"number": engine.port}],
                "matchLabels": engine_selector(engine),
            },
            "epp": {"replicas": 1, "image": {"tag": VERSION, "pullPolicy": "IfNotPresent"}},
            "inferencePool": {"create": True, "failureMode": "FailOpen"},
        },
        "provider": {"name": _provider(fleet)},
        "httpRoute": {"create": False},
    }
    says = ["Install with:", _install(fleet, engine)]
    text = yaml_text([values], header(fleet, TARGET, says))
    return File(_values_path(engine), text)


def _values_path(engine: Engine) -> str:
    return f"router-{engine.dns_name}.values.yaml"


def _provider(fleet: Fleet) -> str:
    """Returns the gateway that the chart is told of."""
    asked = fleet.address.gateway_class or GATEWAY_CLASS
    return next((p for p in _PROVIDERS if asked.startswith(p)), "none")


def _install(fleet: Fleet, engine: Engine) -> str:
    where = f"-n {fleet.address.namespace} --version {VERSION}"
    return f"$ helm upgrade --install {engine.dns_name} {CHART} -f {_values_path(engine)} {where}"


def _install_comments(fleet: Fleet) -> list[str]:
    gateway_class = fleet.address.gateway_class or GATEWAY_CLASS
    return [
        f"Needs the CRDs of the Gateway API (v1), of its inference extension (v1) and of the llm-d "
        f"router, and a gateway of class {gateway_class} that knows InferencePools.",
        *change_comments(fleet, _KINDS),
        "For each pool the router's chart (helm uninstall for a pool that has left the plan):",
        *(_install(fleet, engine) for engine in fleet.engines),
    ]


def _server_comments(fleet: Fleet) -> list[str]:
    return [
        "A changed engine starts one replica more before an old one goes, which needs the GPUs of "
        "one replica for as long as the weights load; where there are none, set maxSurge 0 and "
        "maxUnavailable 1, and the pool is one replica short meanwhile.",
        "Each pod downloads its weights to a disk of its own; name a shared one if you have it.",
        *key_comments(fleet),
        *(line for e in fleet.engines for line in engine_comments(e)),
        *fleet.notes,
    ]
