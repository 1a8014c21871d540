"""The vLLM production stack: values of its Helm chart, `rb serve` in front of its router.

The stack's router sends a request to any engine that serves the model it asks for: it has no
weights, and two pools of one model would be one to it. So every pool is served under its own name;
`rb serve` chooses the pool by the plan's shares and asks the stack's router for that name, which
chooses the replica by the stack's own rules.
"""

from __future__ import annotations

from planner.errors import Fault, InputError
from planner.export.dns_names import short_name
from planner.export.engine_flags import vllm_flags
from planner.export.fleet import Engine, File, Fleet
from planner.export.k8s_objects import ANNOTATIONS, Document, about, namespace_documents
from planner.export.k8s_pods import (
    DRAIN_S,
    NOTICE_S,
    PROBE_PERIOD_S,
    cache_gib,
    literal,
    plain_env,
    resources,
    token_env,
    tolerations,
    without,
)
from planner.export.k8s_router import (
    client_comments,
    image_files,
    key_comments,
    router_documents,
    server,
)
from planner.export.k8s_routes import refuse_keys, refuse_sglang, refuse_spanning
from planner.export.manifest import engine_comments, header, yaml_text

TARGET = "helm-production-stack"
RELEASE = "rb"
CHART_VERSION = "0.1.12"
_PORT = 8000
# What the chart writes from fields of its own; --enable-prefix-caching, too, which it negates.
_OF_CHART = (
    "--revision",
    "--tensor-parallel-size",
    "--dtype",
    "--max-model-len",
    "--max-num-seqs",
    "--gpu-memory-utilization",
)
_LONGEST_NAME = 63 - len(f"{RELEASE}--engine-service")
_PREFIX = "--enable-prefix-caching"
_WEIGHTS = "weights"


def served_name(engine: Engine) -> str:
    """Returns the name of a pool in the chart, by which its engines are asked, too."""
    return short_name(engine.dns_name, engine.pool, _LONGEST_NAME)


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns values.yaml of the chart and the manifests of the router in front of it.

    Raises InputError for what the chart cannot do: SGLang, replicas over nodes, engines that ask
    for a key, images by digest.
    """
    refuse_sglang(fleet, TARGET)
    refuse_spanning(fleet, TARGET)
    refuse_keys(fleet, TARGET)
    stack = f"http://{RELEASE}-router-service.{fleet.address.namespace}.svc"
    servers = {e.pool: [{**server(stack, served_name(e)), "metrics": "off"}] for e in fleet.engines}
    # The stack's router is one server to ours, whatever stands behind it: no capacity to count.
    router = [
        *namespace_documents(fleet),
        *router_documents(fleet, servers, ["--no-admission"]),
    ]
    return (
        File("values.yaml", yaml_text([_values(fleet)], header(fleet, TARGET, _comments(fleet)))),
        File("router.yaml", yaml_text(router, header(fleet, TARGET, _router_comments(fleet)))),
        *image_files(fleet),
    )


def _values(fleet: Fleet) -> Document:
    get = {"path": "/health", "port": _PORT}
    patience_s = max((e.startup_s for e in fleet.engines), default=600)
    return {
        "servingEngineSpec": {
            "enableEngine": True,
            "labels": {"environment": "rb", "release": RELEASE},
            "containerPort": _PORT,
            "servicePort": 80,
            "imagePullPolicy": "IfNotPresent",
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "startupProbe": {
                "initialDelaySeconds": PROBE_PERIOD_S,
                "periodSeconds": PROBE_PERIOD_S,
                "timeoutSeconds": 5,
                "failureThreshold": patience_s // PROBE_PERIOD_S,
                "httpGet": dict(get),
            },
            "readinessProbe": {
                "initialDelaySeconds": 5,
                "periodSeconds": 5,
                "timeoutSeconds": 5,
                "failureThreshold": 3,
                "httpGet": dict(get),
            },
            "livenessProbe": {
                "initialDelaySeconds": 15,
                "periodSeconds": PROBE_PERIOD_S,
                "timeoutSeconds": 10,
                "failureThreshold": 6,
                "httpGet": dict(get),
            },
            "containerSecurityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
            "modelSpec": [_model(fleet, engine) for engine in fleet.engines],
        },
        "routerSpec": {
            "enableRouter": True,
            "replicaCount": 2,
            "serviceDiscovery": "k8s",
            "routingLogic": "roundrobin",
            "servicePort": 80,
            "pdb": {"enabled": True, "maxUnavailable": 1},
        },
    }


def _model(fleet: Fleet, engine: Engine) -> Document:
    """Returns the entry of one pool in modelSpec."""
    repository, tag = _image(engine)
    annotations = {f"{ANNOTATIONS}/plan": fleet.plan_hash, **about(engine)}
    model: Document = {
        "name": served_name(engine),
        "annotations": annotations,
        "repository": repository,
        "tag": tag,
        "modelURL": engine.weights,
        **({} if engine.revision is None else {"modelRevision": engine.revision}),
        "replicaCount": engine.replicas,
        "resources": resources(engine),
        "vllmConfig": _vllm_config(engine),
        "shmSize": f"{engine.shm_gib}Gi",
        # The chart keeps weights in /tmp unless it has a claim, which all replicas would share.
        "extraVolumes": [{"name": _WEIGHTS, "emptyDir": {"sizeLimit": f"{cache_gib(engine)}Gi"}}],
        "extraVolumeMounts": [{"name": _WEIGHTS, "mountPath": "/tmp"}],
        "tolerations": tolerations(engine),
        "pdb": {"enabled": True, "maxUnavailable": 1},
    }
    if engine.maker != "nvidia":
        model["runtimeClassName"] = ""  # none, where the chart would ask for nvidia
    env = [*token_env(fleet), *plain_env(engine)]
    if env:
        model["env"] = env  # the chart's hf_token would not start without its secret
    if engine.node_selector:
        terms = [
            {"key": key, "operator": "In", "values": [value]}
            for key, value in sorted(engine.node_selector.items())
        ]
        model["nodeSelectorTerms"] = [{"matchExpressions": terms}]
    return model


def _vllm_config(engine: Engine) -> Document:
    """Returns vLLM's settings: those that the chart has a field for, then its other arguments."""
    args = vllm_flags(engine)
    config: Document = {
        "enablePrefixCaching": True,  # vLLM's default, which the chart would switch off
        "tensorParallelSize": engine.tensor_parallel,
        "gpuMemoryUtilization": engine.gpu_memory_ratio,
    }
    if engine.max_model_len is not None:
        config["maxModelLen"] = engine.max_model_len
    if engine.max_num_seqs is not None:
        config["maxNumSeqs"] = engine.max_num_seqs
    if "--dtype" in args:
        config["dtype"] = args[args.index("--dtype") + 1]
    rest = [literal(arg) for arg in without(args, *_OF_CHART) if arg != _PREFIX]
    return {**config, "extraArgs": [*rest, "--served-model-name", served_name(engine)]}


def _image(engine: Engine) -> tuple[str, str]:
    """Returns repository and tag, which the chart wants apart."""
    repository, colon, tag = engine.image.rpartition(":")
    if "@" in engine.image or "/" in tag or not colon:
        what = f"image {engine.image} has no tag, and the chart asks for one"
        fix = "name it as repository:tag in export.yaml"
        raise InputError([Fault("export.yaml", f"pools.{engine.pool}.image", what, fix)])
    return repository, tag


def _comments(fleet: Fleet) -> list[str]:
    where = f"-n {fleet.address.namespace} --create-namespace"
    return [
        f"Chart vllm-stack {CHART_VERSION}:",
        "$ helm repo add vllm https://vllm-project.github.io/production-stack",
        f"$ helm upgrade --install {RELEASE} vllm/vllm-stack --version {CHART_VERSION} "
        f"-f values.yaml {where}",
        "The stack's router has no weights: it sends a request to any engine of the model that it "
        "asks for. So each pool is served under its own name, and rb serve (router.yaml) chooses "
        "among them by the plan's shares.",
        "A changed engine starts one replica more before an old one goes, which needs the GPUs of "
        "one replica; where there are none, set maxSurge 0 and maxUnavailable 1.",
        f"The chart gives pods {NOTICE_S * 2} s to end their answers, and has no field for more; "
        f"answers may take up to {DRAIN_S} s: change engines when little is under way.",
        "Pods with GPUs of NVIDIA ask for the RuntimeClass nvidia, as the chart has it.",
        *key_comments(fleet),
        *(line for e in fleet.engines for line in engine_comments(e)),
        *fleet.notes,
    ]


def _router_comments(fleet: Fleet) -> list[str]:
    return [
        f"Apply with: kubectl apply --server-side -f router.yaml, after the release {RELEASE}.",
        *client_comments(fleet),
    ]
