"""The Kubernetes objects of engines, as every target for Kubernetes builds them.

What a pod asks for beside its GPUs follows from the replica: processor cores for the API server and
one worker per GPU, memory for the processes, the shared memory and the pages of the weights as they
are read. A pod that is told to go first gets time to be taken off the lists of those who send
(NOTICE_S), then to end what it answers (DRAIN_S, the longest that `rb serve` waits for an answer).

The hash of the plan stands on the objects, never on the pods: another plan with the same engines
must not restart one of them. As a label it finds what an older plan has left behind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TypeAlias

from planner.errors import InputError
from planner.export.engine_flags import container_args, environment, key_settings
from planner.export.fleet import Engine, File, Fleet, HostedEngine
from planner.export.manifest import header, yaml_text

Document: TypeAlias = dict[str, object]

NOTICE_S = 15
DRAIN_S = 600
GRACE_S = NOTICE_S + DRAIN_S + 15  # then a pod is killed
PROBE_PERIOD_S = 10
CACHE = "/cache"
CACHE_VOLUME, SHM_VOLUME = "cache", "shm"
CONTAINER = "engine"
_ENGINE = "llm-engine"  # whichever it is: a pool that goes from vLLM to SGLang keeps its selector
_BUSY = {
    "vllm": ("vllm:num_requests_running", "vllm:num_requests_waiting"),
    "sglang": ("sglang:num_running_reqs", "sglang:num_queue_reqs"),
}
_DRAIN = """\
import time, urllib.request
time.sleep({notice_s})
end = time.monotonic() + {drain_s}
while time.monotonic() < end:
    try:
        page = urllib.request.urlopen("http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    except OSError as error:
        if "refused" in str(error):
            break  # nobody is there: it was still loading
        continue  # it is too busy to say
    said = [line.rsplit(" ", 1)[1] for line in page.splitlines() if line.startswith({busy})]
    if not any(float(value) for value in said):
        break
    time.sleep(1)
"""
_HUNG_S = 30
"""For an engine that answers no probe: its answers will not end, so nothing waits for them."""
_HASH_LENGTH = 12  # of a plan in a label, which holds 63 characters
SECRET_KEY = "apiKey"  # of the entry in every secret with a key
LWS = "leaderworkerset.sigs.k8s.io"  # the prefix of its labels
ANNOTATIONS = "rb-planner"  # the prefix of our own annotations and labels


def namespace_documents(fleet: Fleet) -> list[Document]:
    """Returns the namespace, unless it is the one that every cluster has."""
    name = fleet.address.namespace
    if name == "default":
        return []
    labels = {"app.kubernetes.io/part-of": "rb", "app.kubernetes.io/managed-by": "rb-export"}
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}]


def kustomized(
    fleet: Fleet,
    target: str,
    says: Sequence[str],
    parts: Mapping[str, tuple[Sequence[Document], Sequence[str]]],
) -> tuple[File, ...]:
    """Returns manifests and a kustomization over them, which `kubectl apply -k` takes in order.

    Args:
        fleet: what is exported.
        target: its name.
        says: what the reader of the kustomization must know, one sentence each.
        parts: documents by file, and what the reader of each must know; empty ones are left out.

    Raises InputError where two documents would be one object.
    """
    refuse_same_names([doc for docs, _ in parts.values() for doc in docs])
    parts = {"namespace.yaml": (namespace_documents(fleet), ()), **parts}
    written = {name: part for name, part in parts.items() if part[0]}
    over: Document = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(written),
    }
    return (
        File("kustomization.yaml", yaml_text([over], header(fleet, target, says))),
        *(File(n, yaml_text(docs, header(fleet, target, s))) for n, (docs, s) in written.items()),
    )


def change_comments(fleet: Fleet, kinds: str) -> list[str]:
    """Returns how a folder is applied, again for another plan, and what is deleted then.

    Args:
        fleet: what is exported.
        kinds: of objects that an older plan may have more of, as kubectl takes them.
    """
    ours = f"app.kubernetes.io/managed-by=rb-export,{ANNOTATIONS}/plan!={plan_label(fleet)}"
    # What a LeaderWorkerSet makes has its labels, as they were when it was made: it goes with it.
    marks = f"{ours},!{LWS}/name"
    return [
        # An object of more than 256 KiB does not fit the annotation that kubectl would keep of it.
        "Apply with: kubectl apply --server-side -k .",
        "Another plan: rb diff OLD NEW says what grows and what goes. First apply what grows (add: "
        "-l app.kubernetes.io/instance=POOL), and wait until it is ready; then apply this folder; "
        "then delete what only the old plan had:",
        f"kubectl delete {kinds} -n {fleet.address.namespace} -l '{marks}'",
        "A namespace holds one plan.",
    ]


def refuse_same_names(documents: Sequence[Document]) -> None:
    """Raises InputError where two documents are of one kind and name: the last would win.

    Names of pools differ, but what is made of them may be another pool's, or the router's.
    """
    seen: set[tuple[object, object]] = set()
    for document in documents:
        place = document["metadata"]
        assert isinstance(place, dict)
        kind, name = document["kind"], place["name"]
        if (kind, name) in seen:
            what = f"two objects of kind {kind} would be called {name}"
            raise InputError.single("plan.json", "deployment", what, "give the pool another name")
        seen.add((kind, name))


def metadata(
    fleet: Fleet,
    name: str,
    labels: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
) -> Document:
    """Returns the metadata of an object: where it lives, what it is, by which plan."""
    return {
        "name": name,
        "namespace": fleet.address.namespace,
        "labels": {**labels, f"{ANNOTATIONS}/plan": plan_label(fleet)},
        "annotations": {f"{ANNOTATIONS}/plan": fleet.plan_hash, **(annotations or {})},
    }


def plan_label(fleet: Fleet) -> str:
    """Returns the first letters of the plan's hash, by which its objects are found."""
    return fleet.plan_hash[:_HASH_LENGTH]


def about(engine: Engine) -> dict[str, str]:
    """Returns what an object says of its pool, as annotations: names may hold any character."""
    said = {
        **pool_mark(engine),
        f"{ANNOTATIONS}/model": engine.model_name,
        f"{ANNOTATIONS}/gpu": engine.gpu,
        f"{ANNOTATIONS}/engine": engine.engine,
    }
    if engine.kv_capacity_tokens is not None:
        said[f"{ANNOTATIONS}/kv-capacity-tokens"] = str(engine.kv_capacity_tokens)
    return said


def pool_mark(engine: Engine) -> dict[str, str]:
    """Returns the name of a pool as an annotation: all that pods say of it, as it never changes."""
    return {f"{ANNOTATIONS}/pool": engine.pool}


def labels(name: str, instance: str, component: str) -> dict[str, str]:
    """Returns the labels that Kubernetes recommends; the first two select."""
    return {
        **selector(name, instance),
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "rb",
        "app.kubernetes.io/managed-by": "rb-export",
    }


def selector(name: str, instance: str) -> dict[str, str]:
    """Returns the labels by which pods are found.

    They must never change, so they say nothing that a plan or export.yaml may change.
    """
    return {"app.kubernetes.io/name": name, "app.kubernetes.io/instance": instance}


def engine_labels(engine: Engine) -> dict[str, str]:
    """Returns the labels of everything of a pool."""
    return labels(_ENGINE, engine.dns_name, "engine")


def engine_selector(engine: Engine) -> dict[str, str]:
    """Returns the labels by which the pods of a pool are found."""
    return selector(_ENGINE, engine.dns_name)


def service(
    fleet: Fleet,
    name: str,
    marks: Mapping[str, str],
    selects: Mapping[str, str],
    port: int,
    is_headless: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> Document:
    """Returns a service: one address for all pods, or (headless) a name for each of them."""
    spec: Document = {
        "type": "ClusterIP",
        "selector": dict(selects),
        "ports": [{"name": "http", "port": port, "targetPort": "http", "protocol": "TCP"}],
    }
    if is_headless:
        spec["clusterIP"] = "None"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(fleet, name, marks, annotations),
        "spec": spec,
    }


def disruption_budget(
    fleet: Fleet, name: str, marks: Mapping[str, str], selects: Mapping[str, str]
) -> Document:
    """Returns that one pod at a time may be evicted, and any that is not healthy."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(fleet, name, marks),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": dict(selects)},
        },
    }


def engine_pod(
    engine: Engine,
    marks: Mapping[str, str],
    container: Document,
    volumes: Sequence[Document] = (),
) -> Document:
    """Returns the template of a pod that holds one replica, or one node of it."""
    spec: Document = {
        # Another service called vllm would otherwise set VLLM_PORT, and the engine not start.
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": tolerations(engine),
        "containers": [container],
        "volumes": [shared_memory(engine), *volumes],
    }
    if engine.node_selector:
        spec["nodeSelector"] = dict(engine.node_selector)
    return {"metadata": {"labels": dict(marks), "annotations": pool_mark(engine)}, "spec": spec}


def engine_container(
    fleet: Fleet, engine: Engine, words: tuple[list[str], list[str]] | None = None
) -> Document:
    """Returns the container of an engine that answers on its port."""
    command, args = words or engine_words(engine)
    return {
        "name": CONTAINER,
        "image": engine.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "args": args,
        "env": engine_env(fleet, engine),
        "ports": [{"name": "http", "containerPort": engine.port, "protocol": "TCP"}],
        **probes(engine),
        "lifecycle": {"preStop": {"exec": {"command": drain_command(engine)}}},
        "resources": resources(engine),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": SHM_VOLUME, "mountPath": "/dev/shm"},
            {"name": CACHE_VOLUME, "mountPath": CACHE},
        ],
    }


def engine_words(engine: Engine) -> tuple[list[str], list[str]]:
    """Returns command and arguments of an engine's container, as Kubernetes is told them."""
    command, args = container_args(engine)
    _, key = key_settings(engine, f"$({engine.api_key_env})")
    return command, [*(literal(word) for word in args), *key]


def literal(word: str) -> str:
    """Returns a word of a pod's arguments or environment in which Kubernetes replaces nothing.

    >>> literal("costs $5"), literal("$(HOME) $$")
    ('costs $5', '$$(HOME) $$$$')
    """
    return word.replace("$", "$$") if "$(" in word or "$$" in word else word


def engine_env(fleet: Fleet, engine: Engine) -> list[Document]:
    """Returns the environment: caches that outlive a restart, the token by reference, the rest."""
    env: list[Document] = [
        {"name": "HF_HOME", "value": f"{CACHE}/huggingface"},
        {"name": "XDG_CACHE_HOME", "value": f"{CACHE}/xdg"},
    ]
    if engine.engine == "vllm":
        env.append({"name": "VLLM_CACHE_ROOT", "value": f"{CACHE}/vllm"})
    env += [*token_env(fleet), *_key_env(engine)]
    ours = plain_env(engine)
    named = {each["name"] for each in ours}
    return [each for each in env if each["name"] not in named] + ours


def plain_env(engine: Engine) -> list[Document]:
    """Returns the variables that the pool itself asks for."""
    return [{"name": k, "value": literal(v)} for k, v in sorted(environment(engine).items())]


def _key_env(engine: Engine) -> list[Document]:
    """Returns the key that an engine asks its clients for, where it asks for one."""
    if engine.api_key_env is None:
        return []
    read, _ = key_settings(engine, "")
    return [key_ref(next(iter(read), engine.api_key_env), key_secret(engine))]


def key_secret(pool: Engine | HostedEngine) -> str:
    """Returns the name of the secret that holds the key of a pool."""
    return f"{pool.dns_name}-api-key"


def key_ref(variable: str, secret: str) -> Document:
    """Returns an environment variable that holds the key in a secret."""
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": SECRET_KEY}}}


def token_env(fleet: Fleet) -> list[Document]:
    """Returns the token that downloads weights, from a secret that public weights do not need."""
    if fleet.token_secret is None:
        return []
    ref = {"name": fleet.token_secret.name, "key": fleet.token_secret.key, "optional": True}
    return [{"name": fleet.token_env, "valueFrom": {"secretKeyRef": ref}}]


def probes(engine: Engine) -> Document:
    """Returns the three probes: patient at the start, quick to take off, slow to restart.

    A restart loads the weights again, so liveness waits for a minute of silence; then it does not
    wait for answers that will never end.
    """
    get = {"path": "/health", "port": "http"}
    patience = math.ceil(engine.startup_s / PROBE_PERIOD_S)
    return {
        "startupProbe": {
            "httpGet": dict(get),
            "periodSeconds": PROBE_PERIOD_S,
            "timeoutSeconds": 5,
            "failureThreshold": patience,
        },
        "readinessProbe": {
            "httpGet": dict(get),
            "periodSeconds": 5,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "httpGet": dict(get),
            "periodSeconds": PROBE_PERIOD_S,
            "timeoutSeconds": 10,
            "failureThreshold": 6,
            "terminationGracePeriodSeconds": _HUNG_S,
        },
    }


def drain_command(engine: Engine) -> list[str]:
    """Returns what a pod does before it is told to stop: waits until it has nothing to answer.

    Engines cut their answers when they are told to stop (vLLM before 0.18 at once), so the wait is
    ours: NOTICE_S for those who send to hear of it, then until no request runs or waits.
    """
    script = _DRAIN.format(
        notice_s=NOTICE_S, drain_s=DRAIN_S, port=engine.port, busy=_BUSY[engine.engine]
    )
    return ["python3", "-c", script]


def resources(engine: Engine) -> Document:
    """Returns requests and limits of one pod; a GPU's request is its limit."""
    gpus = {engine.gpu_resource: str(gpus_per_pod(engine))}
    asked_gib = memory_gib(engine)
    most_gib = asked_gib + math.ceil(engine.weights_gib or 100.0)
    return {
        "requests": {"cpu": str(cpu_cores(engine)), "memory": f"{asked_gib}Gi", **gpus},
        "limits": {"memory": f"{most_gib}Gi", **gpus},
    }


def gpus_per_pod(engine: Engine) -> int:
    """Returns the GPUs of one pod: of a replica, or of its part on one node."""
    return -(-engine.gpus_per_replica // engine.n_nodes)


def cpu_cores(engine: Engine) -> int:
    """Returns the cores of one pod: two for the server, two per GPU."""
    return 2 + 2 * gpus_per_pod(engine)


def memory_gib(engine: Engine) -> int:
    """Returns the memory of one pod in GiB, without the pages of the weights."""
    return 16 + 8 * gpus_per_pod(engine) + engine.shm_gib


def cache_gib(engine: Engine) -> int:
    """Returns the disk that weights and compiled kernels take, in GiB, in steps of ten."""
    return 10 * math.ceil((10 + 1.2 * (engine.weights_gib or 200.0)) / 10)


def shared_memory(engine: Engine) -> Document:
    """Returns the volume through which the GPUs of a replica talk."""
    size = f"{engine.shm_gib}Gi"
    return {"name": SHM_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": size}}


def cache_claim(engine: Engine) -> Document:
    """Returns the claim of the disk that keeps the weights, of the cluster's default class."""
    return {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": f"{cache_gib(engine)}Gi"}},
    }


def short_name(name: str, unique: str, longest: int) -> str:
    """Returns a name that fits: cut where it is too long, with a hash of what it stands for."""
    if len(name) <= longest:
        return name
    mark = sha256(unique.encode()).hexdigest()[:6]
    return f"{name[: longest - 7].rstrip('-')}-{mark}"


def tolerations(engine: Engine) -> list[Document]:
    """Returns that a pod may run on nodes that are kept for GPUs like its own."""
    return [{"key": taint(engine.gpu_resource), "operator": "Exists", "effect": "NoSchedule"}]


def taint(gpu_resource: str) -> str:
    """Returns the key that nodes with such GPUs are tainted with by convention.

    >>> taint("nvidia.com/mig-3g.40gb")
    'nvidia.com/gpu'
    """
    vendor, slash, _ = gpu_resource.partition("/")
    return f"{vendor}/gpu" if slash else gpu_resource


def without(args: Sequence[str], *flags: str) -> list[str]:
    """Returns arguments without some flags and all values that follow them.

    >>> without(["--a", "1", "--b", "--c", "2", "3"], "--b", "--c")
    ['--a', '1']
    """
    kept: list[str] = []
    skips = False
    for arg in args:
        skips = arg in flags or (skips and not arg.startswith("--"))
        if not skips:
            kept.append(arg)
    return kept
