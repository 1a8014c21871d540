"""The pods of engines in Kubernetes, as every target that starts them builds them.

What a pod asks for beside its GPUs follows from the replica: processor cores for the API server and
one worker per GPU, memory for the processes, the shared memory and the pages of the weights as they
are read. A pod that is told to go first gets time to be taken off the lists of those who send
(NOTICE_S), then to end what it answers (DRAIN_S, the longest that `rb serve` waits for an answer).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from planner.export.engine_flags import container_args, environment, key_settings
from planner.export.fleet import Engine, Fleet
from planner.export.k8s_objects import SECRET_KEY, Document, key_secret, pool_mark

NOTICE_S = 15
DRAIN_S = 600
GRACE_S = NOTICE_S + DRAIN_S + 15  # then a pod is killed
PROBE_PERIOD_S = 10
CACHE = "/cache"
CACHE_VOLUME, SHM_VOLUME = "cache", "shm"
CONTAINER = "engine"
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
        said = [line.rsplit(" ", 1)[1] for line in page.splitlines() if line.startswith({busy})]
        if not any(float(value) for value in said):
            break
    except Exception as error:
        if "refused" in str(error):
            break  # nobody is there: it was still loading
    time.sleep(1)  # it answers somebody, or is too busy to say
"""
_HUNG_S = 30
"""For an engine that answers no probe: its answers will not end, so nothing waits for them."""


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
    return [key_ref(next(iter(read), engine.api_key_env), key_secret(engine.dns_name))]


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
