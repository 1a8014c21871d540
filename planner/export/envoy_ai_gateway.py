"""The plan as resources of Envoy AI Gateway: a class is a model name, its pools are backends.

Per class an AIGatewayRoute: pools with a share stand at priority 0 with their weights, the other
pools that the class may use behind them, in the plan's order; a BackendTrafficPolicy tries the next
one where a pool does not answer. Each backend renames the model to what its servers call it.
"""

from __future__ import annotations

import re

from planner.errors import Fault, InputError
from planner.export.addresses import (
    MOST_TRIES,
    SERVED_PREFIX,
    Upstream,
    is_address,
    routed,
    says_of_addresses,
    upstream,
)
from planner.export.fleet import ClassRoute, Engine, File, Fleet, HostedEngine
from planner.export.gateway_api import NO_LOCKS, route_name, shares_of
from planner.export.k8s_objects import (
    SECRET_KEY,
    Document,
    key_secret,
    labels,
    metadata,
    namespace_documents,
)
from planner.export.k8s_routes import (
    API_VERSION,
    MOST_BACKENDS,
    NO_TIMEOUT,
    gateway,
    gateway_labels,
    refuse_same_classes,
)
from planner.export.manifest import header, yaml_text
from planner.export.targets import refuse_cascades

TARGET = "envoy-ai-gateway"
MODEL_HEADER = "x-ai-eg-model"  # the gateway writes the request's model there before it routes
BUFFER = "32Mi"  # of a request; Envoy Gateway's default of 32 KiB is less than a prompt
REST = "4s"  # an unused connection to an engine is kept so long: its uvicorn closes it after 5 s
IDLE = "15m"  # a stream, or the prefill before it, may be silent for so long
_MANY = 4_294_967_295  # engines queue by themselves, as the plan counts on; the default is 1024
_AI = "aigateway.envoyproxy.io/v1beta1"
_ENVOY = "gateway.envoyproxy.io/v1alpha1"
_HOST = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns ai-gateway.yaml: the gateway, a route per class, a backend per pool.

    Raises InputError for a plan with cascades, servers that a Backend cannot name, or classes whose
    names look alike.
    """
    refuse_cascades(fleet, TARGET)
    refuse_same_classes(fleet)
    pools = {pool.pool: _in_cluster(fleet, pool, upstream(pool)) for pool in routed(fleet)}
    name = fleet.address.gateway_class or fleet.address.gateway_name
    documents = [
        *namespace_documents(fleet),
        *([] if fleet.address.gateway_class else [_gateway_class(name)]),  # else it is there
        gateway(fleet, name),
        _buffer_policy(fleet),
        *(_route(fleet, route, pools) for route in fleet.routes),
        *(_retry_policy(fleet, route, pools) for route in fleet.routes),
        *(document for pool in pools.values() for document in _backend(fleet, pool)),
    ]
    return (File("ai-gateway.yaml", yaml_text(documents, header(fleet, TARGET, _says(fleet)))),)


# ---- Gateway -------------------------------------------------------------------------------------


def _gateway_class(name: str) -> Document:
    return {
        "apiVersion": API_VERSION,
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
    }


def _buffer_policy(fleet: Fleet) -> Document:
    return {
        "apiVersion": _ENVOY,
        "kind": "ClientTrafficPolicy",
        "metadata": metadata(fleet, fleet.address.gateway_name, gateway_labels(fleet)),
        "spec": {
            "targetRefs": [_target("gateway.networking.k8s.io", "Gateway", _gateway_name(fleet))],
            "connection": {"bufferLimit": BUFFER},
        },
    }


def _gateway_name(fleet: Fleet) -> str:
    return fleet.address.gateway_name


def _target(group: str, kind: str, name: str) -> Document:
    return {"group": group, "kind": kind, "name": name}


# ---- Classes -------------------------------------------------------------------------------------


def _route(fleet: Fleet, route: ClassRoute, pools: dict[str, Upstream]) -> Document:
    names = (route.class_name, SERVED_PREFIX + route.class_name)
    references = [
        _reference(pools[pool], weight=weight, priority=0) for pool, weight in shares_of(route)
    ]
    references += [
        _reference(pools[pool], weight=1, priority=priority)
        for priority, pool in enumerate(_others(route), 1)
    ]
    rule = {
        "matches": [
            {"headers": [{"type": "Exact", "name": MODEL_HEADER, "value": name}]} for name in names
        ],
        "backendRefs": references,
        "timeouts": {"request": NO_TIMEOUT},
        "streamIdleTimeout": IDLE,
        "modelsOwnedBy": "rb",
    }
    parent = _target("gateway.networking.k8s.io", "Gateway", _gateway_name(fleet))
    return {
        "apiVersion": _AI,
        "kind": "AIGatewayRoute",
        "metadata": metadata(fleet, route_name(fleet, route), gateway_labels(fleet)),
        "spec": {"parentRefs": [parent], "rules": [rule]},
    }


def _others(route: ClassRoute) -> list[str]:
    """Returns the pools that only take over, as many as a rule has room for."""
    used = [pool for pool, _ in shares_of(route)]
    return [pool for pool in route.fallback if pool not in used][: MOST_BACKENDS - len(used)]


def _reference(pool: Upstream, weight: int, priority: int) -> Document:
    return {
        "name": pool.dns_name,
        "modelNameOverride": pool.model_name,
        "weight": weight,
        "priority": priority,
    }


def _retry_policy(fleet: Fleet, route: ClassRoute, pools: dict[str, Upstream]) -> Document:
    used = [pool for pool, _ in shares_of(route)] + _others(route)
    health: Document = {
        "panicThreshold": 0,
        "passive": {
            "consecutiveGatewayErrors": 5,
            "consecutive5XxErrors": 1_000,  # an engine's own 500 may be the request's fault
            "baseEjectionTime": "10s",
            "maxEjectionPercent": 100,
        },
    }
    paths = {pools[pool].health_path for pool in used}
    if len(paths) == 1 and not any(pools[pool].is_hosted for pool in used):
        health["active"] = {
            "type": "HTTP",
            "timeout": "3s",
            "interval": "5s",
            "unhealthyThreshold": 2,
            "healthyThreshold": 1,
            "http": {"path": paths.pop()},
        }
    name = route_name(fleet, route)
    triggers = ["connect-failure", "refused-stream", "reset", "gateway-error"]
    many = ("maxConnections", "maxPendingRequests", "maxParallelRequests", "maxParallelRetries")
    return {
        "apiVersion": _ENVOY,
        "kind": "BackendTrafficPolicy",
        "metadata": metadata(fleet, name, gateway_labels(fleet)),
        "spec": {
            # The HTTPRoute that the gateway makes of an AIGatewayRoute has its name.
            "targetRefs": [_target("gateway.networking.k8s.io", "HTTPRoute", name)],
            "retry": {
                "numRetries": max(1, min(len(used), MOST_TRIES) - 1),
                "numAttemptsPerPriority": 1,
                "retryOn": {"triggers": triggers},
            },
            "healthCheck": health,
            "timeout": {"http": {"connectionIdleTimeout": REST}},
            "circuitBreaker": dict.fromkeys(many, _MANY),
        },
    }


# ---- Pools ---------------------------------------------------------------------------------------


def _in_cluster(fleet: Fleet, pool: Engine | HostedEngine, at: Upstream) -> Upstream:
    """Returns where a pool is; without endpoints.yaml it is its Service, by its full name."""
    if isinstance(pool, Engine) and not pool.urls:
        name = f"{pool.dns_name}.{fleet.address.namespace}.svc.cluster.local"
        return at.with_hosts(((name, pool.port),))
    return at


def _backend(fleet: Fleet, pool: Upstream) -> list[Document]:
    marks = labels("backend", pool.dns_name, "backend")
    schema = {"name": "OpenAI", "prefix": pool.base_path or "/"}
    about = metadata(fleet, pool.dns_name, marks)
    headers = {"headerMutation": {"remove": list(pool.headers_kept_back)}}
    documents: list[Document] = [
        {
            "apiVersion": _AI,
            "kind": "AIServiceBackend",
            "metadata": about,
            "spec": {
                "schema": schema,
                "backendRef": _target("gateway.envoyproxy.io", "Backend", pool.dns_name),
                **(headers if pool.headers_kept_back else {}),
            },
        },
        {
            "apiVersion": _ENVOY,
            "kind": "Backend",
            "metadata": about,
            "spec": {"endpoints": _endpoints(pool)},
        },
    ]
    if pool.is_secure:
        documents.append(_tls(fleet, pool, marks))
    if pool.api_key_env is not None:
        documents.append(_key(fleet, pool, marks))
    return documents


def _endpoints(pool: Upstream) -> list[Document]:
    """Returns the servers of a Backend: all by name, or all by address."""
    kinds = {is_address(host) for host, _ in pool.hosts}
    wrong = [host for host, _ in pool.hosts if not (is_address(host) or _HOST.fullmatch(host))]
    if len(kinds) > 1 or wrong or (pool.is_secure and kinds == {True}):
        what = "a Backend of Envoy Gateway has servers all by name or all by address, over TLS by "
        fix = "name the servers of this pool by DNS names"
        raise InputError([Fault("endpoints.yaml", pool.pool, f"{what}name", fix)])
    if pool.is_secure and len({host for host, _ in pool.hosts}) > 1:
        what = "servers over TLS must share one name: a BackendTLSPolicy checks certificates by one"
        fix = "give them one name, or make a pool of each"
        raise InputError([Fault("endpoints.yaml", pool.pool, what, fix)])
    if kinds == {True}:
        return [{"ip": {"address": host, "port": port}} for host, port in pool.hosts]
    return [{"fqdn": {"hostname": host, "port": port}} for host, port in pool.hosts]


def _tls(fleet: Fleet, pool: Upstream, marks: dict[str, str]) -> Document:
    return {
        "apiVersion": API_VERSION,
        "kind": "BackendTLSPolicy",
        "metadata": metadata(fleet, pool.dns_name, marks),
        "spec": {
            "targetRefs": [_target("gateway.envoyproxy.io", "Backend", pool.dns_name)],
            "validation": {"wellKnownCACertificates": "System", "hostname": pool.hosts[0][0]},
        },
    }


def _key(fleet: Fleet, pool: Upstream, marks: dict[str, str]) -> Document:
    return {
        "apiVersion": _AI,
        "kind": "BackendSecurityPolicy",
        "metadata": metadata(fleet, pool.dns_name, marks),
        "spec": {
            "targetRefs": [_target("aigateway.envoyproxy.io", "AIServiceBackend", pool.dns_name)],
            "type": "APIKey",
            "apiKey": {"secretRef": {"name": key_secret(pool.dns_name)}},
        },
    }


def _says(fleet: Fleet) -> tuple[str, ...]:
    classes = ", ".join(route.class_name for route in fleet.routes)
    says = [
        "run: kubectl apply -f ai-gateway.yaml, in a cluster with Envoy Gateway (its Backend API "
        "switched on) and Envoy AI Gateway, beside the pools of rb export --to kubernetes",
        f"a request names its class as its model: {classes} (or {SERVED_PREFIX}CLASS, as for rb "
        "serve)",
        "weights are the plan's shares in millionths, exact; Envoy draws in proportion to them",
    ]
    for pool in routed(fleet):
        if pool.api_key_env is not None:
            says += [
                f"the key of {pool.pool}:",
                f"$ kubectl create secret generic {key_secret(pool.dns_name)} "
                f'-n {fleet.address.namespace} --from-literal={SECRET_KEY}="${pool.api_key_env}"',
            ]
    says.append(NO_LOCKS)
    return (*says, *says_of_addresses(fleet), *fleet.notes)
