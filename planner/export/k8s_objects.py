"""What all objects of a plan in Kubernetes have in common: names, labels, the folder they lie in.

The hash of the plan stands on the objects, never on the pods: another plan with the same engines
must not restart one of them. As a label it finds what an older plan, or another period of the same,
has left behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from planner.errors import InputError
from planner.export.dns_names import dns_name
from planner.export.fleet import Engine, File, Fleet
from planner.export.manifest import header, yaml_text

Document: TypeAlias = dict[str, object]

_ENGINE = "llm-engine"  # whichever it is: a pool that goes from vLLM to SGLang keeps its selector
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
    return [
        # An object of more than 256 KiB does not fit the annotation that kubectl would keep of it.
        "Apply with: kubectl apply --server-side -k .",
        "Another plan: rb diff OLD NEW says what grows and what goes. First apply what grows (add: "
        "-l app.kubernetes.io/instance=NAME, as the labels of its objects say), and wait until it "
        "is ready; then apply this folder; then delete what only the old plan had:",
        delete_command(fleet, kinds),
        "A namespace holds one plan.",
    ]


def delete_command(fleet: Fleet, kinds: str) -> str:
    """Returns how objects of some kinds are deleted that are of another plan, or period of it."""
    ours = f"app.kubernetes.io/managed-by=rb-export,{ANNOTATIONS}/plan!={plan_label(fleet)}"
    # What a LeaderWorkerSet makes has its labels, as they were when it was made: it goes with it.
    return f"$ kubectl delete {kinds} -n {fleet.address.namespace} -l '{ours},!{LWS}/name'"


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
    """Returns the first letters of the plan's hash and its period: by them its objects are found.

    The pools of another period are of the same plan, and must be found as those of another plan.
    """
    period = "" if fleet.period is None else f"-{dns_name(fleet.period)}"
    return fleet.plan_hash[:_HASH_LENGTH] + period


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


def key_secret(dns_name: str) -> str:
    """Returns the name of the secret that holds the key of a pool."""
    return f"{dns_name}-api-key"
