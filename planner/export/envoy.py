"""The plan as a static Envoy configuration, in two stages within one process.

    client --> listener "gateway": class by header --> weighted clusters CLASS/POOL
           --> internal listener "pool/POOL": model renamed --> cluster POOL: its servers

A cluster CLASS/POOL has that pool first and the class's fallbacks, in the plan's order, behind it
as lower priorities. A request that a pool could not take is tried at the next priority, where the
other pool's listener gives it that pool's model name; one stage of clusters could not do that.
Weights are the plan's millionths; Envoy draws at random in proportion to them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from planner.export.addresses import (
    ASKED_PATHS,
    MOST_TRIES,
    Upstream,
    is_address,
    routed,
    says_of_addresses,
    upstream,
)
from planner.export.envoy_model import renaming
from planner.export.fleet import ClassRoute, File, Fleet
from planner.export.manifest import header, yaml_text
from planner.export.shares import weights
from planner.export.targets import refuse_cascades

TARGET = "envoy"
ADMIN_PORT = 9901
CONNECT = "2s"
REST = "4s"  # an unused connection to an engine is kept so long: its uvicorn closes it after 5 s
IDLE = "900s"  # a stream, or the prefill before it, may be silent for so long
COMES_IN = "300s"  # a request: who sends more slowly holds its memory for nothing
BUFFER_BYTES = 32 * 1024 * 1024  # a prompt waits as a whole, to be renamed and perhaps tried again
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # in Envoy's image and on Debian
_MANY = 1_000_000_000  # engines queue by themselves, as the plan counts on; Envoy's default is 1024
_NOT_TAKEN = "connect-failure,refused-stream,reset-before-request"
_NO_ANSWER = "gateway-error,connect-failure,refused-stream,reset"  # 502, 503, 504 or nothing

Config = dict[str, object]


def files(fleet: Fleet) -> tuple[File, ...]:
    """Returns envoy.yaml.

    Raises InputError for a plan with cascades, or where a pool's servers differ in scheme or path.
    """
    refuse_cascades(fleet, TARGET)
    pools = [upstream(pool) for pool in routed(fleet)]
    internal = "bootstrap.internal_listener.v3.InternalListener"
    class_header = fleet.address.class_header
    config = {
        "admin": {"address": _socket("127.0.0.1", ADMIN_PORT)},
        "bootstrap_extensions": [_typed("envoy.bootstrap.internal_listener", internal)],
        "static_resources": {
            "listeners": [_gateway(fleet), *(_pool_listener(pool, class_header) for pool in pools)],
            "clusters": [
                *(_way(route, pool) for route in fleet.routes for pool, _ in _shares(route)),
                *(_servers(pool) for pool in pools),
            ],
        },
    }
    return (File("envoy.yaml", yaml_text([config], header(fleet, TARGET, _says(fleet)))),)


# ---- First stage: by class -----------------------------------------------------------------------


def _gateway(fleet: Fleet) -> Config:
    names = [route.class_name for route in fleet.routes]
    class_header = fleet.address.class_header
    listing = {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}
    said = (
        f"requests are POST {', '.join(ASKED_PATHS)}, and their header {class_header} must name a "
        f"class: {', '.join(names)}"
    )
    error = {"error": {"message": said, "type": "invalid_request_error", "code": 404}}
    host: Config = {
        "name": "classes",
        "domains": ["*"],
        "routes": [
            _own_answer({"path": "/health"}, 200, {"status": "ok"}),
            _own_answer({"path": "/v1/models"}, 200, listing),
            *(_class_route(route, class_header) for route in fleet.routes),
            _own_answer({"prefix": "/"}, 404, error),
        ],
    }
    manager = {
        **_manager("gateway", host),
        # As at an edge: x-envoy-max-retries and its like are only taken from insiders, and nobody
        # is one, neither by an address such as 10.0.0.1 nor by what x-forwarded-for says.
        "use_remote_address": True,
        "normalize_path": True,
        "merge_slashes": True,
        "request_headers_timeout": "10s",
        "request_timeout": COMES_IN,  # until the last byte of it has come; answers have no limit
        "access_log": [_access_log(class_header)],
    }
    return {
        "name": "gateway",
        "address": _socket("0.0.0.0", fleet.address.port),  # others are to reach it
        **_listens(manager),
    }


def _class_route(route: ClassRoute, class_header: str) -> Config:
    """Returns the route of a class: only what clients may ask for matches it."""
    named = {"name": class_header, "string_match": {"exact": route.class_name}}
    posted = {"name": ":method", "string_match": {"exact": "POST"}}
    asked = {"regex": "|".join(ASKED_PATHS)}
    previous = "retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
    priority = _typed("envoy.retry_priorities.previous_priorities", previous, update_frequency=1)
    n_others = max(len(_order(route, pool)) - 1 for pool, _ in _shares(route))
    action: Config = {
        "weighted_clusters": {
            "clusters": [
                {"name": _way_name(route, pool), "weight": weight}
                for pool, weight in _shares(route)
            ]
        },
        "timeout": "0s",  # an answer takes as long as it takes
        "retry_policy": {
            "retry_on": _NO_ANSWER,
            "num_retries": max(1, min(n_others, MOST_TRIES - 1)),
            "retry_priority": priority,
        },
    }
    return {"match": {"safe_regex": asked, "headers": [named, posted]}, "route": action}


def _way(route: ClassRoute, pool: str) -> Config:
    """Returns the cluster of what a class sends to a pool: its listener, then the fallbacks'."""
    raw = _typed("envoy.transport_sockets.raw_buffer", "transport_sockets.raw_buffer.v3.RawBuffer")
    inside = "transport_sockets.internal_upstream.v3.InternalUpstreamTransport"
    endpoints = [
        {"priority": priority, "lb_endpoints": [_endpoint(_listener(other))]}
        for priority, other in enumerate(_order(route, pool))
    ]
    return _cluster(
        _way_name(route, pool),
        endpoints,
        transport_socket=_typed(
            "envoy.transport_sockets.internal_upstream", inside, transport_socket=raw
        ),
    )


def _shares(route: ClassRoute) -> list[tuple[str, int]]:
    return [(pool, weight) for pool, weight in weights(route.shares).of if weight]


def _way_name(route: ClassRoute, pool: str) -> str:
    return f"{route.class_name}/{pool}"


def _order(route: ClassRoute, pool: str) -> list[str]:
    """Returns a pool and, behind it, the others that the class may use."""
    return [pool, *(other for other in route.fallback if other != pool)]


def _own_answer(match: Config, status: int, body: object) -> Config:
    plain = {"status": status, "body": {"inline_string": json.dumps(body)}}
    kind = {"header": {"key": "content-type", "value": "application/json"}}
    overwrite = {"append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {
        "match": match,
        "direct_response": plain,
        "response_headers_to_add": [{**kind, **overwrite}],
    }


def _access_log(class_header: str) -> Config:
    """Returns a log of one JSON line per request; of prompts, answers and keys nothing is in it."""
    line = {
        "at": "%START_TIME%",
        "class": f"%REQ({class_header}):80%",
        "path": "%PATH(NQ):80%",
        "to": "%UPSTREAM_CLUSTER%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "tries": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "first_byte_ms": "%RESPONSE_DURATION%",
        "ms": "%DURATION%",
    }
    kind = "access_loggers.stream.v3.StdoutAccessLog"
    return _typed("envoy.access_loggers.stdout", kind, log_format={"json_format": line})


# ---- Second stage: by pool -----------------------------------------------------------------------


def _pool_listener(pool: Upstream, class_header: str) -> Config:
    action: Config = {"cluster": pool.pool, "timeout": "0s", "retry_policy": _retry(pool)}
    if pool.base_path != "/v1":
        action["prefix_rewrite"] = f"{pool.base_path}/"
    if pool.is_hosted:
        action["host_rewrite_literal"] = pool.host_header
    elif _is_named(pool):
        action["auto_host_rewrite"] = True  # what serves several names is asked by its own
    route: Config = {
        "match": {"prefix": "/v1/"},
        "route": action,
        **_credentials(pool, class_header),
    }
    host: Config = {"name": pool.pool, "domains": ["*"], "routes": [route]}
    script = {"default_source_code": {"inline_string": renaming(pool.model_name)}}
    rename = _typed("envoy.filters.http.lua", "filters.http.lua.v3.Lua", **script)
    return {
        "name": _listener_name(pool.pool),
        "internal_listener": {},
        **_listens(_manager(_listener_name(pool.pool), host, rename)),
    }


def _retry(pool: Upstream) -> Config:
    """Returns what is done where a server did not take a request: another one is asked, if any."""
    retry: Config = {"retry_on": _NOT_TAKEN, "num_retries": 1}
    if len(pool.hosts) > 1:
        others = "retry.host.previous_hosts.v3.PreviousHostsPredicate"
        predicate = _typed("envoy.retry_host_predicates.previous_hosts", others)
        retry |= {"retry_host_predicate": [predicate], "host_selection_retry_max_attempts": 3}
    return retry


def _credentials(pool: Upstream, class_header: str) -> Config:
    """Returns what becomes of a client's headers: a provider gets our key and nothing private."""
    changes: Config = {}
    if pool.is_hosted:
        changes["request_headers_to_remove"] = [class_header, *pool.headers_kept_back]
    if pool.api_key_env is not None:
        key = {"key": "authorization", "value": f"Bearer %ENVIRONMENT({pool.api_key_env})%"}
        entry = {"header": key, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        changes["request_headers_to_add"] = [entry]
    return changes


def _servers(pool: Upstream) -> Config:
    endpoints = [{"lb_endpoints": [_endpoint(_socket(host, port)) for host, port in pool.hosts]}]
    by_name = "LOGICAL_DNS" if pool.is_hosted else "STRICT_DNS"
    more: Config = {
        "type": by_name if _is_named(pool) else "STATIC",
        "lb_policy": "LEAST_REQUEST",
        # With nobody healthy it answers 503 at once, which the first stage takes elsewhere.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "outlier_detection": {
            "consecutive_5xx": 1_000,  # an engine's own 500 may be the request's fault
            "consecutive_gateway_failure": 5,
            "enforcing_consecutive_gateway_failure": 100,
            "base_ejection_time": "10s",
            "max_ejection_percent": 100,
        },
    }
    if _is_named(pool):
        more["dns_lookup_family"] = "V4_PREFERRED"  # else a name's IPv6 is all that is tried
    if not pool.is_hosted:
        more["health_checks"] = [_health_check(pool.health_path)]
        more["typed_extension_protocol_options"] = _short_rest()
    if pool.is_secure:
        more["transport_socket"] = _tls(pool)
    return _cluster(pool.pool, endpoints, **more)


def _is_named(pool: Upstream) -> bool:
    return any(not is_address(host) for host, _ in pool.hosts)


def _short_rest() -> Config:
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {
        "@type": f"type.googleapis.com/{kind}",
        "common_http_protocol_options": {"idle_timeout": REST},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {kind: options}


def _health_check(path: str) -> Config:
    return {
        "timeout": "3s",
        "interval": "5s",
        "no_traffic_interval": "5s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": path},
    }


def _tls(pool: Upstream) -> Config:
    """Returns how a server is reached over TLS: its certificate must be of its name or address."""
    trusted: Config = {"trusted_ca": {"filename": CERTIFICATES}}
    context: Config = {"auto_host_sni": True, "auto_sni_san_validation": True}
    if not _is_named(pool):
        of_addresses = [
            {"san_type": "IP_ADDRESS", "matcher": {"exact": host}} for host, _ in pool.hosts
        ]
        trusted["match_typed_subject_alt_names"] = of_addresses
        context = {}
    kind = "transport_sockets.tls.v3.UpstreamTlsContext"
    common = {"common_tls_context": {"validation_context": trusted}}
    return _typed("envoy.transport_sockets.tls", kind, **context, **common)


# ---- What both are made of -----------------------------------------------------------------------


def _typed(name: str, kind: str, **fields: object) -> Config:
    """Returns an extension by its name and its type below envoy.extensions."""
    at = {"@type": f"type.googleapis.com/envoy.extensions.{kind}"}
    return {"name": name, "typed_config": {**at, **fields}}


def _cluster(name: str, endpoints: Sequence[Mapping[str, object]], **more: object) -> Config:
    most = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {
        "name": name,
        "connect_timeout": CONNECT,
        "circuit_breakers": {"thresholds": [dict.fromkeys(most, _MANY)]},
        **more,
        "load_assignment": {"cluster_name": name, "endpoints": list(endpoints)},
    }


def _manager(name: str, host: Config, *filters: Config) -> Config:
    kind = "filters.http.router.v3.Router"
    router = _typed("envoy.filters.http.router", kind, suppress_envoy_headers=True)
    return {
        "stat_prefix": name,
        "internal_address_config": {},  # none; older Envoys trust private addresses by default
        "stream_idle_timeout": IDLE,
        "route_config": {"name": name, "virtual_hosts": [host]},
        "http_filters": [*filters, router],
    }


def _listens(manager: Config) -> Config:
    kind = "filters.network.http_connection_manager.v3.HttpConnectionManager"
    http = _typed("envoy.filters.network.http_connection_manager", kind, **manager)
    return {
        "per_connection_buffer_limit_bytes": BUFFER_BYTES,
        "filter_chains": [{"filters": [http]}],
    }


def _listener_name(pool: str) -> str:
    return f"pool/{pool}"


def _listener(pool: str) -> Config:
    return {"envoy_internal_address": {"server_listener_name": _listener_name(pool)}}


def _socket(host: str, port: int) -> Config:
    return {"socket_address": {"address": host, "port_value": port}}


def _endpoint(address: Config) -> Config:
    return {"endpoint": {"address": address}}


def _says(fleet: Fleet) -> tuple[str, ...]:
    class_header = fleet.address.class_header
    says = [
        "run: envoy -c envoy.yaml; its admin page is on loopback only",
        f"a request names its class in the header {class_header}; its model may be anything: "
        "every pool's requests are renamed to what its servers call the model",
        "weights are the plan's shares in millionths, exact; Envoy draws at random, so short "
        "windows stray from the shares",
        "what a pool does not take (502, 503, 504, no connection) goes to the class's next pool; a "
        f"request comes to {MOST_TRIES} pools at most, in each to two servers",
        "there are no keys for clients and no TLS towards them: put it behind something that has",
        f"clients may ask {', '.join(ASKED_PATHS)} and nothing else: what a provider's key is good "
        "for besides is not theirs",
    ]
    keys = sorted({pool.api_key_env for pool in routed(fleet) if pool.api_key_env is not None})
    if keys:
        says.append(
            f"its environment must hold {', '.join(keys)}; where there is such a key, or somebody "
            "else's server, clients' own are not passed on"
        )
    return (*says, *says_of_addresses(fleet), *fleet.notes)
