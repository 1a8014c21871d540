"""Routes by the plan's shares through the Gateway API: a class is a header, a weight a millionth.

A backend's weight is a whole number up to a million, so the plan's shares are met exactly in the
long run; which request goes where is drawn, not counted out. No backend takes over for another
that is down: the API has no such thing.
"""

from __future__ import annotations

from collections.abc import Callable

from planner.errors import Fault, InputError
from planner.export.dns_names import refuse_look_alikes
from planner.export.fleet import ClassRoute, Engine, Fleet
from planner.export.k8s_objects import Document, labels, metadata

MOST_RULES = 16  # of one HTTPRoute
MOST_BACKENDS = 16  # of one rule
GATEWAY_CLASS = "istio"  # where export.yaml names none
API_VERSION = "gateway.networking.k8s.io/v1"
NO_TIMEOUT = "0s"  # an answer takes as long as it takes


def gateway(fleet: Fleet, gateway_class: str = GATEWAY_CLASS) -> Document:
    """Returns the gateway that clients ask, plain HTTP: certificates are the cluster's business.

    Its class is that of export.yaml, else this one.
    """
    name = fleet.address.gateway_name
    listener: Document = {
        "name": "http",
        "port": fleet.address.port,
        "protocol": "HTTP",
        "allowedRoutes": {"namespaces": {"from": "Same"}},
    }
    if fleet.address.hostname is not None:
        listener["hostname"] = fleet.address.hostname
    return {
        "apiVersion": API_VERSION,
        "kind": "Gateway",
        "metadata": metadata(fleet, name, gateway_labels(fleet)),
        "spec": {
            "gatewayClassName": fleet.address.gateway_class or gateway_class,
            "listeners": [listener],
        },
    }


def gateway_labels(fleet: Fleet) -> dict[str, str]:
    """Returns the labels of the gateway and of all that hangs on it."""
    return labels("gateway", fleet.address.gateway_name, "gateway")


def refuse_same_classes(fleet: Fleet) -> None:
    """Raises InputError where the routes of two classes would have one name."""
    refuse_look_alikes({route.class_name: route.dns_name for route in fleet.routes}, "routing")


def class_routes(fleet: Fleet, backend: Callable[[Engine], Document]) -> list[Document]:
    """Returns HTTPRoutes with a rule per class, as many as their rules need.

    Args:
        fleet: what runs, and who is routed where; its pools are all its own.
        backend: what a rule refers to for a pool, without the weight.

    Raises InputError where a class goes to more pools than a rule may name, or names look alike.
    """
    refuse_same_classes(fleet)
    rules = [_rule(fleet, route, backend) for route in fleet.routes]
    parts = [rules[i : i + MOST_RULES] for i in range(0, len(rules), MOST_RULES)]
    return [_route(fleet, route_name(i), part) for i, part in enumerate(parts)]


def route_names(fleet: Fleet) -> list[str]:
    """Returns the names of the routes that class_routes makes."""
    return [route_name(i) for i in range(-(-len(fleet.routes) // MOST_RULES))]


def route_name(i: int) -> str:
    """Returns the name of the i-th route."""
    return "rb-classes" if i == 0 else f"rb-classes-{i + 1}"


def refuse_hosted(fleet: Fleet, target: str) -> None:
    """Raises InputError where classes go to somebody else's servers.

    A Gateway API route can reach them, but has no word for the key that they ask for.
    """
    refuse_each(
        [h.pool for h in fleet.hosted],
        f"is hosted, and routes of {target} cannot give its provider the key",
        "export --to kubernetes, envoy-ai-gateway or litellm",
    )


def refuse_spanning(fleet: Fleet, target: str) -> None:
    """Raises InputError where a replica needs several nodes."""
    refuse_each(
        [e.pool for e in fleet.engines if e.n_nodes > 1],
        f"has replicas that span nodes, which rb does not write for {target}",
        "export --to kubernetes, which writes a LeaderWorkerSet",
    )


def refuse_keys(fleet: Fleet, target: str) -> None:
    """Raises InputError where a pool of one's own asks for a key, by endpoints.yaml."""
    refuse_each(
        [e.pool for e in fleet.engines if e.api_key_env is not None],
        f"asks its clients for a key, and rb writes none for {target}",
        "export --to kubernetes, or leave api_key_env out of endpoints.yaml",
    )


def refuse_uneven(fleet: Fleet) -> None:
    """Raises InputError where the parts of a replica on its nodes would not be alike."""
    refuse_each(
        [e.pool for e in fleet.engines if not _is_even(e)],
        "has replicas whose GPUs or ranks do not divide evenly over their nodes",
        "plan it with a parallelism that fills whole nodes",
    )


def _is_even(engine: Engine) -> bool:
    fewer, more = sorted((engine.data_parallel, engine.n_nodes))
    return engine.gpus_per_replica % engine.n_nodes == 0 and more % fewer == 0


def refuse_sglang(fleet: Fleet, target: str) -> None:
    """Raises InputError where a pool is to be run by SGLang."""
    refuse_each(
        [e.pool for e in fleet.engines if e.engine == "sglang"],
        f"is served by SGLang, and {target} starts vLLM",
        "export --to kubernetes, or name engine: vllm in export.yaml if its figures hold there",
    )


def refuse_other_makers(fleet: Fleet, target: str) -> None:
    """Raises InputError where a pool has GPUs that a target's own image is not built for."""
    refuse_each(
        [e.pool for e in fleet.engines if e.maker != "nvidia"],
        f"runs on GPUs that are not NVIDIA's, and {target} brings an image that is built for those",
        "export --to kubernetes, whose image export.yaml may name",
    )


def refuse_each(pools: list[str], what: str, fix: str) -> None:
    """Raises InputError with a fault per pool, if there are any."""
    if pools:
        raise InputError([Fault("plan.json", pool, what, fix) for pool in pools])


def route_comments(fleet: Fleet) -> list[str]:
    """Returns how a client says its class, and what these routes cannot do."""
    header = fleet.address.class_header
    first = fleet.routes[0].class_name if fleet.routes else "CLASS"
    return [
        f"Clients send the header {header} with the name of the class, e.g. {header}: {first}; a "
        "request without it, or with another, is answered 404.",
        "Weights are millionths: the plan's shares as they are, drawn request by request.",
        "A pool that is down gets its share all the same: the Gateway API has no fallback. rb "
        "serve does (--to kubernetes).",
    ]


def _rule(fleet: Fleet, route: ClassRoute, backend: Callable[[Engine], Document]) -> Document:
    if len(route.shares) > MOST_BACKENDS:
        what = f"goes to {len(route.shares)} pools, and a rule may name {MOST_BACKENDS}"
        fix = "plan with fewer pools, or export --to kubernetes"
        raise InputError([Fault("plan.json", f"routing.{route.class_name}", what, fix)])
    header = {"type": "Exact", "name": fleet.address.class_header, "value": route.class_name}
    engines = {engine.pool: engine for engine in fleet.engines}  # KeyError: it is not its own
    return {
        "name": route.dns_name,
        "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}, "headers": [header]}],
        "backendRefs": [
            {**backend(engines[pool]), "weight": share} for pool, share in route.shares
        ],
        "timeouts": {"request": NO_TIMEOUT},
    }


def _route(fleet: Fleet, name: str, rules: list[Document]) -> Document:
    spec: Document = {"parentRefs": [{"name": fleet.address.gateway_name}]}
    if fleet.address.hostname is not None:
        spec["hostnames"] = [fleet.address.hostname]
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": metadata(fleet, name, gateway_labels(fleet)),
        "spec": {**spec, "rules": rules},
    }
