"""KServe: an LLMInferenceService per pool, an HTTPRoute with the plan's shares.

KServe starts vLLM by its own template: model, port and certificates are its business, so what is
said here is the rest, which it hands on to vLLM. Each service gets an InferencePool and an endpoint
picker, which chooses the replica; the route of ours chooses the pool (KServe's own weights split
one model, not classes over models). Engines answer to the names of their classes, too.
"""

from __future__ import annotations

import shlex

from planner.export.dns_names import short_name
from planner.export.engine_flags import vllm_flags
from planner.export.fleet import Engine, File, Fleet
from planner.export.k8s_objects import (
    Document,
    about,
    change_comments,
    engine_labels,
    kustomized,
    metadata,
)
from planner.export.k8s_pods import (
    GRACE_S,
    PROBE_PERIOD_S,
    literal,
    plain_env,
    resources,
    token_env,
    tolerations,
    without,
)
from planner.export.k8s_router import key_comments
from planner.export.k8s_routes import (
    class_routes,
    gateway,
    refuse_each,
    refuse_hosted,
    refuse_keys,
    refuse_other_makers,
    refuse_sglang,
    refuse_spanning,
    route_comments,
    route_names,
)
from planner.export.manifest import engine_comments
from planner.export.targets import refuse_cascades

TARGET = "kserve"
_PORT = 8000  # of KServe's template
_OF_TEMPLATE = ("--tensor-parallel-size", "--revision")
_URI = "hf://"
_POOL = "-inference-pool"
_LONGEST_NAME = 63 - len(_POOL)  # KServe would hash what does not fit


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns the services and the routes, and a kustomization over them.

    Raises InputError for what KServe cannot do: cascades, hosted pools, SGLang, several nodes,
    GPUs of other makers than NVIDIA, weights at a path.
    """
    refuse_other_makers(fleet, TARGET)
    refuse_cascades(fleet, TARGET)
    refuse_hosted(fleet, TARGET)
    refuse_sglang(fleet, TARGET)
    refuse_spanning(fleet, TARGET)
    refuse_keys(fleet, TARGET)
    refuse_each(
        [e.pool for e in fleet.engines if e.weights.startswith(("/", "."))],
        "has weights at a path, and KServe asks for an address",
        "name them in export.yaml as pvc://CLAIM/PATH, s3://... or a repository",
    )
    services = [_service(fleet, engine) for engine in fleet.engines]
    parts = {
        "services.yaml": (services, _comments(fleet)),
        "routes.yaml": (_routes(fleet), route_comments(fleet)),
    }
    says = [
        "Needs KServe 0.20 with LLMInferenceService.",
        *change_comments(fleet, "llminferenceservice,httproute"),
    ]
    return kustomized(fleet, TARGET, says, parts)


def service_name(engine: Engine) -> str:
    """Returns the name of a pool's service."""
    return short_name(engine.dns_name, engine.pool, _LONGEST_NAME)


def pool_name(engine: Engine) -> str:
    """Returns the InferencePool that KServe makes for a service."""
    return f"{service_name(engine)}{_POOL}"


def _service(fleet: Fleet, engine: Engine) -> Document:
    refs = [{"name": name} for name in route_names(fleet)]
    gateways = [{"name": fleet.address.gateway_name, "namespace": fleet.address.namespace}]
    return {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": metadata(fleet, service_name(engine), engine_labels(engine), about(engine)),
        "spec": {
            "model": {"uri": _uri(engine), "name": engine.served_model_name},
            "replicas": engine.replicas,
            "parallelism": {"tensor": engine.tensor_parallel},
            "rolloutStrategy": {"maxSurge": 1, "maxUnavailable": 0},
            "router": {
                "gateway": {"refs": gateways},
                "route": {"http": {"refs": refs}},
                "scheduler": {},
            },
            "template": _pod(fleet, engine),
        },
    }


def _pod(fleet: Fleet, engine: Engine) -> Document:
    """Returns what is ours of the pod: KServe merges it into its template, by names."""
    container: Document = {
        "name": "main",
        # Its template evaluates them in a shell, after Kubernetes has looked for variables.
        "args": [literal(shlex.quote(word)) for word in _args(fleet, engine)],
        "resources": resources(engine),
        "startupProbe": {
            "periodSeconds": PROBE_PERIOD_S,
            "failureThreshold": max(engine.startup_s // PROBE_PERIOD_S, 60),
        },
    }
    env = [*token_env(fleet), *plain_env(engine)]
    if env:
        container["env"] = env
    size = f"{engine.shm_gib}Gi"
    pod: Document = {
        "terminationGracePeriodSeconds": GRACE_S,
        "tolerations": tolerations(engine),
        "containers": [container],
        "volumes": [{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": size}}],
    }
    if engine.node_selector:
        pod["nodeSelector"] = dict(engine.node_selector)
    return pod


def _args(fleet: Fleet, engine: Engine) -> list[str]:
    """Returns vLLM's arguments beyond those of the template; of names, the last list holds."""
    names = [engine.served_model_name]
    names.append(f"publishers/{fleet.address.namespace}/models/{engine.served_model_name}")
    names += [name for name in engine.served_aliases if name not in names]
    return [*without(vllm_flags(engine), *_OF_TEMPLATE), "--served-model-name", *names]


def _uri(engine: Engine) -> str:
    """Returns where KServe finds the weights."""
    if "://" in engine.weights:
        return engine.weights
    revision = "" if engine.revision is None else f":{engine.revision}"
    return f"{_URI}{engine.weights}{revision}"


def _routes(fleet: Fleet) -> list[Document]:
    pool: Document = {"group": "inference.networking.k8s.io", "kind": "InferencePool"}
    backends = class_routes(
        fleet, lambda engine: {**pool, "name": pool_name(engine), "port": _PORT}
    )
    return [gateway(fleet), *backends]


def _comments(fleet: Fleet) -> list[str]:
    return [
        "KServe runs vLLM from its own image (config kserve-config-llm-template), on its port "
        "8000, and mounts the weights at /mnt/models: compare its version with the one that was "
        "measured.",
        "A changed engine starts one replica more before an old one goes, which needs the GPUs of "
        "one replica; where there are none, set maxSurge 0 and maxUnavailable 1.",
        *key_comments(fleet),
        *(line for e in fleet.engines for line in engine_comments(e)),
        *fleet.notes,
    ]
