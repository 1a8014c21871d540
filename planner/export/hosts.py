"""Which replica lies on which GPUs of which machine: for targets that start engines by hand.

Replicas whose GPUs the plan names lie there. The others are put on the first machine of their kind
of GPU that has room, those with the most GPUs first; a replica over several machines has them for
itself. Machines are as large as the profiles say (gpus_per_node).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.export.fleet import Engine, Fleet

FIRST_PORT = 8001
"""Of the engines of a machine; the router listens before it."""
EPSILON = 1e-9


@dataclass(frozen=True)
class Part:
    """One replica, or what of it lies on one machine."""

    engine: Engine
    replica: int  # counted from 0 in its pool
    gpus: tuple[int, ...]  # of the machine, counted from 0
    port: int  # on the machine
    node_rank: int = 0  # of a replica over several machines
    master: str = ""  # name of the machine with its first part

    @property
    def name(self) -> str:
        """Returns the label of the replica."""
        return f"{self.engine.dns_name}-{self.replica}"


@dataclass
class Host:
    """One machine while it is filled: which part of each GPU is free."""

    name: str
    gpu: str
    n_gpus: int
    parts: list[Part] = field(default_factory=list)
    free_compute: list[float] = field(default_factory=list)
    free_memory: list[float] = field(default_factory=list)

    def room(self, engine: Engine, n_gpus: int) -> tuple[int, ...] | None:
        """Returns GPUs, the fullest first, with room for a replica; None where too few have."""
        compute, memory = _needs(engine)
        fits = [
            g
            for g in range(self.n_gpus)
            if self.free_compute[g] >= compute - EPSILON and self.free_memory[g] >= memory - EPSILON
        ]
        fits.sort(key=lambda g: (self.free_compute[g], g))
        return tuple(sorted(fits[:n_gpus])) if len(fits) >= n_gpus else None

    def take(self, part: Part) -> None:
        """Puts a part of a replica on its GPUs."""
        compute, memory = _needs(part.engine)
        for g in part.gpus:
            self.free_compute[g] -= compute
            self.free_memory[g] -= memory
        self.parts.append(part)

    @property
    def next_port(self) -> int:
        """Returns the port of the next replica."""
        return FIRST_PORT + len(self.parts)


def hosts_of(fleet: Fleet) -> tuple[Host, ...]:
    """Returns the machines that a plan needs, by kind of GPU, and what lies on each."""
    kinds = sorted({engine.gpu for engine in fleet.engines})
    return tuple(host for gpu in kinds for host in _of_kind(gpu, fleet.engines))


def _of_kind(gpu: str, engines: Sequence[Engine]) -> list[Host]:
    own = [engine for engine in engines if engine.gpu == gpu]
    hosts: list[Host] = []
    for engine in own:
        for replica, gpus in enumerate(engine.placement[: engine.replicas]):
            _put_where_planned(hosts, engine, replica, gpus)
    waiting = [(e, r) for e in own for r in range(len(e.placement[: e.replicas]), e.replicas)]
    for engine, replica in sorted(waiting, key=lambda each: -each[0].gpus_per_replica):
        _put(hosts, engine, replica)
    return [host for host in hosts if host.parts]


def _put_where_planned(
    hosts: list[Host], engine: Engine, replica: int, gpus: Sequence[int]
) -> None:
    """Puts a replica on its GPUs, which are numbered over all machines of their kind."""
    size = engine.gpus_per_node
    nodes = sorted({g // size for g in gpus})
    for rank, node in enumerate(nodes):
        while len(hosts) <= node:
            _open(hosts, engine)
        here = tuple(g % size for g in sorted(gpus) if g // size == node)
        _take(hosts[node], engine, replica, here, rank, hosts[nodes[0]].name)


def _put(hosts: list[Host], engine: Engine, replica: int) -> None:
    """Puts a replica on the first machine with room, or on as many new ones as it needs."""
    if engine.n_nodes > 1:
        first = len(hosts)
        left = engine.gpus_per_replica
        for rank in range(engine.n_nodes):
            host = _open(hosts, engine)
            here = tuple(range(min(left, host.n_gpus)))
            left -= len(here)
            _take(host, engine, replica, here, rank, hosts[first].name)
        return
    for host in hosts:
        room = host.room(engine, engine.gpus_per_replica)
        if room is not None:
            _take(host, engine, replica, room, 0, host.name)
            return
    host = _open(hosts, engine)
    _take(host, engine, replica, tuple(range(engine.gpus_per_replica)), 0, host.name)


def _take(
    host: Host, engine: Engine, replica: int, gpus: tuple[int, ...], rank: int, master: str
) -> None:
    host.take(Part(engine, replica, gpus, host.next_port, rank, master))


def _open(hosts: list[Host], engine: Engine) -> Host:
    """Returns a new machine of an engine's kind of GPU."""
    size = max(engine.gpus_per_node, 1)
    label = "".join(c if c.isalnum() else "-" for c in engine.gpu.lower()).strip("-")
    host = Host(f"{label}-{len(hosts)}", engine.gpu, size)
    host.free_compute, host.free_memory = [1.0] * size, [1.0] * size
    hosts.append(host)
    return host


def _needs(engine: Engine) -> tuple[float, float]:
    """Returns which part of a GPU's compute and memory a replica takes: all, unless it shares."""
    if engine.gpu_compute_ratio is None:
        return 1.0, 1.0
    return engine.gpu_compute_ratio, engine.gpu_memory_ratio
