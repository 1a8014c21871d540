"""The plan as Gateway API resources: a Gateway, and per class an HTTPRoute with weights.

A class is known by a header; its backends are Services of pools. Weights are whole numbers up to a
million, so shares are exact. One HTTPRoute per class keeps clear of the limit of 16 rules.
"""

from __future__ import annotations

from planner.errors import Fault, InputError
from planner.export.fleet import ClassRoute, File, Fleet
from planner.export.k8s_objects import Document, metadata, namespace_documents
from planner.export.k8s_routes import (
    API_VERSION,
    MOST_BACKENDS,
    NO_TIMEOUT,
    gateway,
    gateway_labels,
    refuse_same_classes,
)
from planner.export.manifest import header, yaml_text
from planner.export.shares import weights
from planner.export.targets import refuse_cascades

TARGET = "gateway-api"
GATEWAY_CLASS = "eg"  # as Envoy Gateway's manual calls its own

NO_LOCKS = (
    "there are no keys for clients and no TLS towards them: add both to the Gateway before it is "
    "reached from outside"
)


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns gateway.yaml: a Gateway and its HTTPRoutes.

    Raises InputError for a plan with cascades or hosted pools, or with too many pools in a class.
    """
    own = gateway(fleet, GATEWAY_CLASS)
    documents = [*namespace_documents(fleet), own, *routes(fleet)]
    return (File("gateway.yaml", yaml_text(documents, header(fleet, TARGET, _says(fleet)))),)


def routes(fleet: Fleet) -> list[Document]:
    """Returns an HTTPRoute per class, to the Services of its pools.

    Raises InputError for a plan with cascades or hosted pools, with too many pools in a class, or
    with classes whose names look alike.
    """
    refuse_cascades(fleet, TARGET)
    _refuse_hosted(fleet)
    refuse_same_classes(fleet)
    return [_route(fleet, route) for route in fleet.routes]


def shares_of(route: ClassRoute) -> tuple[tuple[str, int], ...]:
    """Returns the pools of a class with their weights in millionths, none of them 0.

    Raises InputError where they are more than a rule may have.
    """
    shares = tuple((pool, weight) for pool, weight in weights(route.shares).of if weight)
    if len(shares) > MOST_BACKENDS:
        what = f"is sent to {len(shares)} pools, a route of the Gateway API has {MOST_BACKENDS}"
        fault = Fault("routes.json", route.class_name, what, "export to litellm or envoy")
        raise InputError([fault])
    return shares


def _route(fleet: Fleet, route: ClassRoute) -> Document:
    named = {"type": "Exact", "name": fleet.address.class_header, "value": route.class_name}
    path = {"type": "PathPrefix", "value": "/v1"}
    rule: Document = {
        "matches": [{"path": path, "headers": [named]}],
        "backendRefs": [
            {**_reference(fleet, pool), "weight": weight} for pool, weight in shares_of(route)
        ],
        "timeouts": {"request": NO_TIMEOUT},
    }
    parent = {"name": fleet.address.gateway_name, "sectionName": "http"}
    spec: Document = {"parentRefs": [parent], "rules": [rule]}
    if fleet.address.hostname is not None:
        spec["hostnames"] = [fleet.address.hostname]
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": metadata(fleet, route_name(fleet, route), gateway_labels(fleet)),
        "spec": spec,
    }


def route_name(fleet: Fleet, route: ClassRoute) -> str:
    """Returns what the route of a class is called in the cluster."""
    return f"{fleet.address.gateway_name}-{route.dns_name}"


def _reference(fleet: Fleet, pool: str) -> Document:
    engine = fleet.engine(pool)
    assert engine is not None  # hosted pools are refused, and routes name pools of the plan
    return {"kind": "Service", "name": engine.dns_name, "port": engine.port}


def _refuse_hosted(fleet: Fleet) -> None:
    used = {pool for route in fleet.routes for pool, share in route.shares if share}
    what = "is somebody else's: the Gateway API has no route to it, and none of its keys"
    fix = "export to envoy-ai-gateway, envoy or litellm"
    faults = [Fault("plan.json", h.pool, what, fix) for h in fleet.hosted if h.pool in used]
    if faults:
        raise InputError(faults)


def _says(fleet: Fleet) -> tuple[str, ...]:
    address = fleet.address
    says = [
        "run: kubectl apply -f gateway.yaml, beside the pools of rb export --to kubernetes, whose "
        "Services it names",
        f"a request names its class in the header {address.class_header}",
        "weights are the plan's shares in millionths, exact; how a controller draws is its own "
        "business",
        "HTTPRoutes rename no model: let requests give their class as the model, too; engines that "
        "rb export starts with vLLM answer to the names of their classes",
        "HTTPRoutes know no fallback: what a pool does not take is the client's to send again",
        NO_LOCKS,
    ]
    if address.gateway_class is None:
        says.append(
            f"gatewayClassName {GATEWAY_CLASS} is a guess: name yours in export.yaml, gateway: "
            "{gateway_class: ...}"
        )
    if any(engine.urls for engine in fleet.engines):
        says.append("addresses of endpoints.yaml are not used: a route goes to Services")
    return (*says, *fleet.notes)
