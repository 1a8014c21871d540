"""Where a pool of the fleet is reached, by every gateway target in the same way."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace

from planner.errors import Fault, InputError
from planner.export.fleet import Engine, Fleet, HostedEngine

SERVED_PREFIX = "rb/"  # rb serve knows a class as the model rb/CLASS: its clients need no change
BASE_PATH = "/v1"  # of an OpenAI-compatible server
# What clients may ask for, as of rb serve. More of an API is not theirs to reach: with our key, a
# provider would show or delete our files.
ASKED_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
MOST_TRIES = 3
"""Pools that one request is sent to, as of rb serve: one whose prompt kills engines must not get
through all that a class has."""
_PRIVATE = (  # what clients, and the proxies before us, say of themselves
    "cookie",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-real-ip",
    "x-envoy-external-address",  # an Envoy's own word for x-real-ip
)
_KEYS = ("authorization", "proxy-authorization", "x-api-key", "api-key")
_ACCOUNT = ("openai-organization", "openai-project")  # whom to bill: goes with the key
_URL = re.compile(r"(https?)://(\[[^]]+\]|[^/:]+)(?::(\d+))?(/.*)?")  # as spec/endpoints.py lets in


@dataclass(frozen=True)
class Upstream:
    """The servers of one pool, taken apart: all speak the same way, only hosts and ports differ."""

    pool: str
    dns_name: str
    model_name: str  # what these servers call the model
    api_key_env: str | None
    is_hosted: bool
    is_secure: bool  # https
    hosts: tuple[tuple[str, int], ...]  # name or address, port; IPv6 without brackets
    base_path: str  # e.g. /v1

    @property
    def host_header(self) -> str:
        """Returns the first server's name as a request's Host: with its port where it needs one."""
        host, port = self.hosts[0]
        host = f"[{host}]" if ":" in host else host
        return host if port == (443 if self.is_secure else 80) else f"{host}:{port}"

    @property
    def headers_kept_back(self) -> tuple[str, ...]:
        """Returns the headers of clients that are not passed on: keys, and all that is private.

        Own engines get them all. Of a pool with a key of ours, authorization is not among them: it
        is overwritten.
        """
        if not self.is_hosted:
            return ()
        kept_back = (*_PRIVATE, *_KEYS, *_ACCOUNT)
        return tuple(h for h in kept_back if not (self.api_key_env and h == "authorization"))

    @property
    def health_path(self) -> str:
        """Returns where an engine says that it is well: beside its API, behind the same prefix."""
        return self.base_path.removesuffix(BASE_PATH) + "/health"

    def with_hosts(self, hosts: tuple[tuple[str, int], ...]) -> Upstream:
        """Returns the same pool, reached elsewhere."""
        return replace(self, hosts=hosts)


def is_address(host: str) -> bool:
    """Returns whether a host is given by its IP address rather than by a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def base_urls(pool: Engine | HostedEngine) -> tuple[str, ...]:
    """Returns the base addresses of a pool's servers, those of endpoints.yaml where there is one.

    Otherwise an own pool is the Service of its name in Kubernetes, which spreads over its replicas;
    a hosted one gets a name that cannot exist (RFC 2606), so that no gateway sends prompts to a
    provider of its own choice.
    """
    if isinstance(pool, HostedEngine):
        return (pool.url or f"https://{pool.dns_name}.invalid{BASE_PATH}",)
    return pool.urls or (f"http://{pool.dns_name}:{pool.port}{BASE_PATH}",)


def says_of_addresses(fleet: Fleet) -> tuple[str, ...]:
    """Returns what a file says where addresses are not those of endpoints.yaml."""
    says = []
    if any(isinstance(pool, Engine) and not pool.urls for pool in routed(fleet)):
        says.append(
            "pools are reached as Services in Kubernetes, as rb export --to kubernetes makes them; "
            "elsewhere give --endpoints FILE"
        )
    says += [
        f"the address of {pool.pool} is not known: put it into endpoints.yaml"
        for pool in routed(fleet)
        if isinstance(pool, HostedEngine) and pool.url is None
    ]
    return tuple(says)


def routed(fleet: Fleet) -> tuple[Engine | HostedEngine, ...]:
    """Returns the pools that some class is routed or may fall back to, in the fleet's order."""
    used = {pool for route in fleet.routes for pool, _ in route.shares}
    used |= {pool for route in fleet.routes for pool in route.fallback}
    pools: tuple[Engine | HostedEngine, ...] = (*fleet.engines, *fleet.hosted)
    return tuple(pool for pool in pools if pool.pool in used)


def upstream(pool: Engine | HostedEngine) -> Upstream:
    """Returns where and how a pool's servers are asked.

    Raises InputError where they do not all have the same scheme and path.
    """
    parts = [_parts(pool.pool, url) for url in base_urls(pool)]
    if len({(scheme, path) for scheme, _, path in parts}) > 1:
        what = "the servers of a pool must have the same scheme and path for this target"
        fix = "give them the same, or make two pools of them"
        raise InputError([Fault("endpoints.yaml", pool.pool, what, fix)])
    scheme, _, path = parts[0]
    is_hosted = isinstance(pool, HostedEngine)
    return Upstream(
        pool=pool.pool,
        dns_name=pool.dns_name,
        model_name=pool.model_name if isinstance(pool, HostedEngine) else pool.served_model_name,
        api_key_env=pool.api_key_env,
        is_hosted=is_hosted,
        is_secure=scheme == "https",
        hosts=tuple(host for _, host, _ in parts),
        base_path=path,
    )


def _parts(pool: str, url: str) -> tuple[str, tuple[str, int], str]:
    """Returns the scheme of an address, its host and port, and its path."""
    found = _URL.fullmatch(url)
    if found is None:
        fix = "write an address such as http://10.0.0.1:8000/v1"
        raise InputError([Fault("endpoints.yaml", pool, f"is no address: {url}", fix)])
    scheme, host, port, path = found.groups()
    default = 443 if scheme == "https" else 80
    return scheme, (host.strip("[]").lower(), int(port or default)), (path or "").rstrip("/")
