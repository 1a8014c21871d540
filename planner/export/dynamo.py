"""NVIDIA Dynamo: a DynamoGraphDeployment per pool, `rb serve` in front of their frontends.

A frontend of Dynamo knows all workers of its graph and spreads a model's requests over them. Shares
between pools it has none, and two pools of one model in one graph would be one to it. So each pool
is a graph of its own, whose frontend chooses the replica, and `rb serve` chooses the pool.
"""

from __future__ import annotations

from planner.export.dns_names import short_name
from planner.export.engine_flags import sglang_args, vllm_flags
from planner.export.fleet import Engine, File, Fleet
from planner.export.k8s_objects import (
    Document,
    about,
    change_comments,
    engine_labels,
    kustomized,
    metadata,
    pool_mark,
)
from planner.export.k8s_pods import (
    CACHE,
    CACHE_VOLUME,
    GRACE_S,
    cache_claim,
    engine_env,
    literal,
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
from planner.export.k8s_routes import refuse_keys, refuse_other_makers, refuse_uneven
from planner.export.manifest import engine_comments

TARGET = "dynamo"
VERSION = "1.3.1"
"""Of the runtime's images: the operator reads the version from the tag."""
_RUNTIMES = {
    "vllm": f"nvcr.io/nvidia/ai-dynamo/vllm-runtime:{VERSION}",
    "sglang": f"nvcr.io/nvidia/ai-dynamo/sglang-runtime:{VERSION}",
}
_LONGEST_NAME = 24
"""Of a graph: Grove joins names of graph, component and role, 45 characters together."""
FRONTEND, WORKER = "Frontend", "Worker"
_FRONTEND_PORT = 8000
N_FRONTENDS = 2


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns the graphs, the router, and a kustomization over them.

    Raises InputError for what Dynamo cannot do: engines that ask for a key, uneven nodes, GPUs of
    other makers than NVIDIA.
    """
    refuse_other_makers(fleet, TARGET)
    refuse_keys(fleet, TARGET)
    refuse_uneven(fleet)
    servers = {
        e.pool: [{**server(f"http://{frontend(fleet, e)}", e.served_model_name), "metrics": "off"}]
        for e in fleet.engines
    }
    # A frontend is one server to the router, whatever stands behind it: it cannot count capacity.
    router = router_documents(fleet, servers, ["--no-admission"])
    graphs = [_graph(fleet, engine) for engine in fleet.engines]
    parts = {
        "graphs.yaml": (graphs, _comments(fleet)),
        "router.yaml": (router, _router_comments(fleet)),
    }
    says = [
        "Needs the Dynamo platform (operator and CRDs).",
        *change_comments(fleet, "dynamographdeployment"),
    ]
    return (*kustomized(fleet, TARGET, says, parts), *image_files(fleet))


def graph_name(engine: Engine) -> str:
    """Returns the name of a pool's graph, shortened by a hash where it would be too long."""
    return short_name(engine.dns_name, engine.pool, _LONGEST_NAME)


def frontend(fleet: Fleet, engine: Engine) -> str:
    """Returns host and port of a pool's frontend, as the operator names its service."""
    host = f"{graph_name(engine)}-{FRONTEND.lower()}.{fleet.address.namespace}.svc"
    return f"{host}:{_FRONTEND_PORT}"


def _graph(fleet: Fleet, engine: Engine) -> Document:
    return {
        "apiVersion": "nvidia.com/v1beta1",
        "kind": "DynamoGraphDeployment",
        "metadata": metadata(fleet, graph_name(engine), engine_labels(engine), about(engine)),
        "spec": {
            "backendFramework": engine.engine,
            "components": [_frontend(fleet, engine), _worker(fleet, engine)],
        },
    }


def _frontend(fleet: Fleet, engine: Engine) -> Document:
    container: Document = {
        "name": "main",
        "image": _RUNTIMES[engine.engine],
        "env": token_env(fleet),  # it downloads the tokenizer
        "resources": {
            "requests": {"cpu": "2", "memory": "4Gi"},
            "limits": {"memory": "8Gi"},
        },
    }
    pod: Document = {
        "terminationGracePeriodSeconds": GRACE_S,
        "containers": [container],
    }
    return {
        "name": FRONTEND,
        "type": "frontend",
        "replicas": N_FRONTENDS,
        "podTemplate": {"spec": pod},
    }


def _worker(fleet: Fleet, engine: Engine) -> Document:
    command, args = _words(engine)
    container: Document = {
        "name": "main",
        "image": _RUNTIMES[engine.engine],
        "command": command,
        "args": args,
        "env": engine_env(fleet, engine),
        "resources": resources(engine),
        "volumeMounts": [{"name": CACHE_VOLUME, "mountPath": CACHE}],
    }
    claim: Document = {"spec": cache_claim(engine)}
    pod: Document = {
        "terminationGracePeriodSeconds": GRACE_S,
        "tolerations": tolerations(engine),
        "containers": [container],
        "volumes": [{"name": CACHE_VOLUME, "ephemeral": {"volumeClaimTemplate": claim}}],
    }
    if engine.node_selector:
        pod["nodeSelector"] = dict(engine.node_selector)
    worker: Document = {
        "name": WORKER,
        "type": "worker",
        "replicas": engine.replicas,
        "sharedMemorySize": f"{engine.shm_gib}Gi",
        "podTemplate": {"metadata": {"annotations": pool_mark(engine)}, "spec": pod},
    }
    if engine.n_nodes > 1:
        worker["multinode"] = {"nodeCount": engine.n_nodes}
    return worker


def _words(engine: Engine) -> tuple[list[str], list[str]]:
    """Returns command and arguments of a worker: the engine's, without an address of its own."""
    if engine.engine == "sglang":
        args = without(sglang_args(engine), "--host", "--port")
    else:
        names = ["--model", engine.weights, "--served-model-name", engine.served_model_name]
        args = [*names, *vllm_flags(engine)]
    return ["python3", "-m", f"dynamo.{engine.engine}"], [literal(word) for word in args]


def _comments(fleet: Fleet) -> list[str]:
    return [
        f"Runs in Dynamo's runtime images {VERSION}, whose engines have versions of their own: "
        "compare them with those that were measured.",
        "Probes, shared memory and rolling updates are the operator's; a changed graph needs the "
        "GPUs of one replica more, or is one replica short meanwhile.",
        *key_comments(fleet),
        *(line for e in fleet.engines for line in engine_comments(e)),
        *fleet.notes,
    ]


def _router_comments(fleet: Fleet) -> list[str]:
    return [
        "rb serve chooses the pool by the plan's shares, Dynamo's frontend the replica.",
        *client_comments(fleet),
    ]
