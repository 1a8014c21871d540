"""Plain Kubernetes: a StatefulSet per pool, `rb serve` as the router.

A StatefulSet gives every replica a name of its own, which `rb serve` asks: it balances by what each
replica has to do, and counts the plan's capacity per replica that answers. One service address for
all of them would look like one replica to it. A replica that spans nodes is a group of a
LeaderWorkerSet, whose leader answers.

StatefulSets replace a replica where it is: the plan rents no GPU that could hold one more. So a
changed engine is rolled out one replica at a time, and the pool is one short meanwhile.
"""

from __future__ import annotations

from planner.export.dns_names import short_name
from planner.export.fleet import Engine, File, Fleet
from planner.export.k8s_objects import (
    LWS,
    Document,
    about,
    change_comments,
    delete_command,
    disruption_budget,
    engine_labels,
    engine_selector,
    kustomized,
    metadata,
    service,
)
from planner.export.k8s_pods import (
    CACHE_VOLUME,
    cache_claim,
    engine_container,
    engine_pod,
    engine_words,
    gpus_per_pod,
)
from planner.export.k8s_router import (
    client_comments,
    image_files,
    key_comments,
    one_server_per_replica,
    router_documents,
)
from planner.export.k8s_routes import refuse_uneven
from planner.export.manifest import engine_comments

TARGET = "kubernetes"
_GONE = {"whenDeleted": "Delete", "whenScaled": "Delete"}  # weights can be downloaded again
_RPC_PORT = 13345
_LONGEST_GROUP = 63 - len("-rep-999-0123456789")


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns the manifests: namespace, engines, router, and a kustomization over them.

    Raises InputError where names would clash, a replica does not divide over its nodes, or the plan
    is too large for a ConfigMap.
    """
    refuse_uneven(fleet)
    parts = {
        "engines.yaml": (_engines(fleet), _engine_comments(fleet)),
        "router.yaml": (_router(fleet), client_comments(fleet)),
    }
    return (
        *kustomized(fleet, TARGET, _kustomization_comments(fleet), parts),
        *image_files(fleet),
    )


def replica_address(fleet: Fleet, engine: Engine) -> str:
    """Returns the host name of a pool's replicas, with {} where the number of the replica goes."""
    group = _group_name(engine)
    return f"{group}-{{}}.{group}.{fleet.address.namespace}.svc"


def engine_documents(fleet: Fleet, engine: Engine) -> list[Document]:
    """Returns the objects of one pool: its replicas, their names, one address for all, a budget."""
    marks, group = engine_labels(engine), _group_name(engine)
    spans = engine.n_nodes > 1
    answers = engine_selector(engine)
    if spans:
        answers = {f"{LWS}/name": group, f"{LWS}/worker-index": "0"}
    own = service(fleet, group, marks, answers, engine.port, True)  # LWS makes its own
    return [
        _leader_worker_set(fleet, engine) if spans else _stateful_set(fleet, engine),
        *([] if spans else [own]),
        service(fleet, engine.dns_name, marks, answers, engine.port, annotations=about(engine)),
        disruption_budget(fleet, engine.dns_name, marks, engine_selector(engine)),
    ]


def _engines(fleet: Fleet) -> list[Document]:
    return [doc for engine in fleet.engines for doc in engine_documents(fleet, engine)]


def _router(fleet: Fleet) -> list[Document]:
    servers = {e.pool: one_server_per_replica(e, replica_address(fleet, e)) for e in fleet.engines}
    return router_documents(fleet, servers)


def _group_name(engine: Engine) -> str:
    """Returns the name of the replicas; Kubernetes makes labels of it, with number and hash."""
    return f"{short_name(engine.dns_name, engine.pool, _LONGEST_GROUP)}-rep"


def _stateful_set(fleet: Fleet, engine: Engine) -> Document:
    marks = engine_labels(engine)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(fleet, _group_name(engine), marks, about(engine)),
        "spec": {
            "replicas": engine.replicas,
            "serviceName": _group_name(engine),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "revisionHistoryLimit": 3,
            "persistentVolumeClaimRetentionPolicy": dict(_GONE),
            "selector": {"matchLabels": engine_selector(engine)},
            "template": engine_pod(engine, marks, engine_container(fleet, engine)),
            "volumeClaimTemplates": [_claim_template(engine)],
        },
    }


def _claim_template(engine: Engine) -> Document:
    return {"metadata": {"name": CACHE_VOLUME}, "spec": cache_claim(engine)}


def _leader_worker_set(fleet: Fleet, engine: Engine) -> Document:
    marks = engine_labels(engine)
    leader = engine_container(fleet, engine, _node_words(engine, is_leader=True))
    worker = engine_container(fleet, engine, _node_words(engine, is_leader=False))
    for unanswered in ("ports", "startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
        worker.pop(unanswered)  # it answers nobody but its leader
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": metadata(fleet, _group_name(engine), marks, about(engine)),
        "spec": {
            "replicas": engine.replicas,
            "networkConfig": {"subdomainPolicy": "Shared"},
            "rolloutStrategy": {
                "type": "RollingUpdate",
                "rollingUpdateConfiguration": {"maxSurge": 0, "maxUnavailable": 1},
            },
            "leaderWorkerTemplate": {
                "size": engine.n_nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "persistentVolumeClaimRetentionPolicy": dict(_GONE),
                "volumeClaimTemplates": [_claim_template(engine)],
                "leaderTemplate": engine_pod(engine, marks, leader),
                "workerTemplate": engine_pod(engine, marks, worker),
            },
        },
    }


def _node_words(engine: Engine, is_leader: bool) -> tuple[list[str], list[str]]:
    """Returns command and arguments of one node of a replica that spans nodes.

    LWS sets the variables. Ranks that fit a node are spread over the nodes; else the nodes are
    one engine. The number of a node's first rank is a product, which takes a shell.
    """
    command, args = engine_words(engine)
    leader, size, index = (
        f"$(LWS_{name})" for name in ("LEADER_ADDRESS", "GROUP_SIZE", "WORKER_INDEX")
    )
    if engine.engine == "sglang":
        nodes = ["--dist-init-addr", f"{leader}:{_RPC_PORT}", "--nnodes", size, "--node-rank"]
        return command, [*args, *nodes, index]
    headless = [] if is_leader else ["--headless"]
    if engine.data_parallel < engine.n_nodes:
        nodes = ["--nnodes", size, "--node-rank", index, "--master-addr", leader]
        return command, [*args, *nodes, *headless]
    local = engine.data_parallel // engine.n_nodes
    nodes = ["--data-parallel-size-local", str(local), "--data-parallel-address", leader]
    nodes += ["--data-parallel-rpc-port", str(_RPC_PORT), *headless]
    if is_leader:
        return command, [*args, *nodes]
    first = f'exec "$@" --data-parallel-start-rank $(( LWS_WORKER_INDEX * {local} ))'
    return ["/bin/sh", "-c"], [first, "sh", *command, *args, *nodes]


def _kustomization_comments(fleet: Fleet) -> list[str]:
    says = change_comments(fleet, "statefulset,service,poddisruptionbudget")
    where = "where LeaderWorkerSet is installed, also:"  # kubectl knows no such kind elsewhere
    return [*says, where, delete_command(fleet, "leaderworkerset")]


def _engine_comments(fleet: Fleet) -> list[str]:
    said = [
        "Each pool: a StatefulSet, a name for each replica, one service for all of them, a budget "
        "for evictions. A changed engine is replaced one replica at a time, since the plan rents "
        "no GPU for one more: the pool is one replica short for as long as the weights load. The "
        "names of all classes are among what an engine answers to: a class that is new to the plan "
        "restarts it, too.",
        "Where kubectl forbids a change of a StatefulSet (a larger disk): kubectl delete "
        "statefulset NAME --cascade=orphan leaves its pods, then apply again.",
        "A pod that goes has 10 minutes to end its answers. Its name is gone within half a minute: "
        "then routers open no new connection to it.",
        "Engines are reached from everywhere in the cluster: a NetworkPolicy keeps others off, or "
        "api_key_env in endpoints.yaml makes them ask for a key.",
        *key_comments(fleet),
    ]
    if any(e.n_nodes > 1 for e in fleet.engines):
        said.append(
            "Replicas that span nodes need LeaderWorkerSet 0.10: "
            "https://lws.sigs.k8s.io/docs/installation. Their nodes talk over the network of the "
            "pods; for InfiniBand give the pods its device and the capability IPC_LOCK."
        )
    about_pools = [line for e in fleet.engines for line in engine_comments(e)]
    return [*said, *_packing(fleet), *_sharing(fleet), *about_pools, *fleet.notes]


def _packing(fleet: Fleet) -> list[str]:
    """Returns which pools must be first, where small pods could take a place on every node."""
    sizes: dict[str, set[int]] = {}
    for engine in fleet.engines:
        sizes.setdefault(engine.gpu, set()).add(gpus_per_pod(engine))
    return [
        f"Pods with {gpu} ask for {' or '.join(map(str, sorted(n)))} GPUs: the small ones, spread "
        "over all nodes, could leave no place for a large one. Start the large ones first, or let "
        "the scheduler fill nodes (scoringStrategy MostAllocated)."
        for gpu, n in sizes.items()
        if len(n) > 1
    ]


def _sharing(fleet: Fleet) -> list[str]:
    return [
        f"{e.pool} uses {e.gpu_compute_ratio:.0%} of its GPU: let the device plugin share GPUs "
        "(MPS or MIG), and name the resource and the label of such nodes in export.yaml (the label "
        "ends in -SHARED where the plugin adds that); as it is, each replica takes a whole GPU"
        for e in fleet.engines
        if e.gpu_compute_ratio is not None
    ]
