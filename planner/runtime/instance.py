"""The instances of a plan's pools: one per server, or per data-parallel rank of a server.

An instance is what a request is sent to. A backend is a server as a process that answers or does
not: its ranks share one address, one health and one /metrics page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from zlib import crc32

from planner.runtime.health import Health
from planner.runtime.wire import Address
from planner.scheduling.delay import UNBOUNDED, StepCurve

if TYPE_CHECKING:
    from planner.runtime.setup import Setup
    from planner.spec.endpoints import Server
    from planner.spec.sheet import PoolSheet

Key = tuple[str, str, str, int | None, int]  # pool, url, served name, rank, which of equal ones


@dataclass(frozen=True, slots=True)
class Instance:
    """Where a request can be sent."""

    index: int  # its own for good: a reload neither moves nor gives it to another
    pool: str
    name: str  # "pool/0"; a rank: "pool/0#3"
    url: str  # without a slash at its end
    address: Address
    served_model_name: str
    api_key: str | None = field(repr=False)
    rank: int | None  # goes out as X-data-parallel-rank
    backend: str  # the address of its server's own pages


@dataclass(slots=True)
class Backend:
    """A server: its health, and where it tells of its load."""

    url: str  # of its own pages, without /v1
    metrics_url: str | None  # None: it is not to be asked
    api_key: str | None = field(repr=False)
    health: Health
    instances: tuple[Instance, ...]
    seen_s: float | None = None  # when its /metrics page was last read


def instances_of(setup: Setup, known: Mapping[Key, int], free_index: int) -> dict[Key, Instance]:
    """Returns the instances of all pools, in the order of the pools and their servers.

    Args:
        setup: names the servers of each pool.
        known: the indices of instances that were there before; they keep them.
        free_index: the first index that no instance has ever had.
    """
    found: dict[Key, Instance] = {}
    for pool, servers in setup.servers().items():
        for place, server in enumerate(servers):
            for rank in _ranks(server):
                served = server.served_model_name or _served_name(setup, pool)
                url = server.url.rstrip("/")
                n_equal = sum(key[:4] == (pool, url, served, rank) for key in found)
                key = (pool, url, served, rank, n_equal)
                index = known.get(key)
                if index is None:
                    index, free_index = free_index, free_index + 1
                found[key] = Instance(
                    index=index,
                    pool=pool,
                    name=f"{pool}/{place}" + ("" if rank is None else f"#{rank}"),
                    url=url,
                    address=Address.of(url),
                    served_model_name=served,
                    api_key=setup.keys.get(server.api_key_env) if server.api_key_env else None,
                    rank=rank,
                    backend=root(url),
                )
    return found


def backends_of(
    setup: Setup, instances: Iterable[Instance], known: Mapping[str, Backend]
) -> dict[str, Backend]:
    """Returns the servers behind some instances by address; those known keep their health."""
    metrics = _metrics_urls(setup)
    members: dict[str, list[Instance]] = {}
    for instance in instances:
        members.setdefault(instance.backend, []).append(instance)
    found = {}
    for url, of_url in members.items():
        before = known.get(url)
        found[url] = Backend(
            url=url,
            metrics_url=metrics[url],
            api_key=of_url[0].api_key,
            health=before.health if before else Health(crc32(url.encode())),
            instances=tuple(of_url),
            seen_s=before.seen_s if before else None,
        )
    return found


def ranks_together(pool: PoolSheet, servers: Iterable[Server]) -> int:
    """Returns how many data-parallel ranks one instance is: all of a replica, or one told apart."""
    return 1 if any(server.data_parallel_ranks > 1 for server in servers) else pool.n_ranks


def curve_of(pool: PoolSheet, n_together: int = 1) -> StepCurve | None:
    """Returns how fast one instance of a pool is; None where the plan does not know.

    The sheet tells of one data-parallel rank; n_together of them share evenly what comes.
    """
    if pool.steps is None or pool.max_num_seqs is None or pool.max_num_batched_tokens is None:
        if pool.ttft_ms is None or pool.tpot_ms is None:
            return None
        return StepCurve.fixed(pool.ttft_ms, pool.tpot_ms)
    capacity = pool.kv_capacity_tokens
    return StepCurve(
        n=tuple(n * n_together for n in pool.steps.n),
        decode_ms=pool.steps.decode_ms,
        context_token_ms=tuple(ms / n_together for ms in pool.steps.context_token_ms),
        prompt_token_ms=pool.prompt_token_ms / n_together,
        request_ms=pool.request_ms,
        max_num_seqs=pool.max_num_seqs * n_together,
        kv_capacity_tokens=UNBOUNDED if capacity is None else int(capacity) * n_together,
        max_num_batched_tokens=pool.max_num_batched_tokens * n_together,
    )


def root(url: str) -> str:
    """Returns the address of a server itself, without the path of its interface."""
    return re.sub(r"/v1(/.*)?$", "", url.rstrip("/"))


def _ranks(server: Server) -> Sequence[int | None]:
    n = server.data_parallel_ranks
    return range(n) if n > 1 else (None,)


def _served_name(setup: Setup, pool: str) -> str:
    """Returns the name in endpoints.yaml under which a pool's servers stand."""
    return pool if setup.endpoints.get(pool) else setup.model_of(pool)


def _metrics_urls(setup: Setup) -> dict[str, str | None]:
    """Returns where the page of each server is; of several entries for one the first counts."""
    found: dict[str, str | None] = {}
    for servers in setup.servers().values():
        for server in servers:
            url = root(server.url)
            said = server.metrics or f"{url}/metrics"
            found.setdefault(url, None if said == "off" else said)
    return found
