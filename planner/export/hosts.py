"""Which replica lies on which GPUs of which machine: for targets that start engines by hand.

Replicas whose GPUs the plan names lie there. The others are put on the first machine of their kind
of GPU that has room, those with the most GPUs first; a replica over several machines has them for
itself. Machines are as large as the profiles say (gpus_per_node). Engines want as many GPUs on each
machine of a replica: a plan that cannot give them that is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from planner.errors import Fault, InputError
from planner.export.dns_names import dns_names
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
    n_nodes: int  # machines that the replica lies on
    node_rank: int  # of this one among them
    master: str  # name of the machine with its first part

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
    """Returns the machines that a plan needs, by kind of GPU, and what lies on each.

    Raises InputError where the GPUs of a replica do not divide evenly over its machines, or two
    kinds of GPU would make machines of one name.
    """
    labels = dns_names(sorted({engine.gpu for engine in fleet.engines}), "gpu")
    return tuple(h for gpu, label in labels.items() for h in _of_kind(gpu, label, fleet.engines))


def uneven(engine: Engine) -> InputError:
    """Returns what is wrong where a replica's GPUs do not divide evenly over its machines."""
    what = "has replicas whose GPUs do not divide evenly over their machines"
    fix = "plan it with a parallelism that does: an engine wants as many on each"
    return InputError([Fault("plan.json", engine.pool, what, fix)])


def _of_kind(gpu: str, label: str, engines: Sequence[Engine]) -> list[Host]:
    own = [engine for engine in engines if engine.gpu == gpu]
    hosts = _Hosts(label)
    for engine in own:
        for replica, gpus in enumerate(engine.placement[: engine.replicas]):
            hosts.put_where_planned(engine, replica, gpus)
    waiting = [(e, r) for e in own for r in range(len(e.placement[: e.replicas]), e.replicas)]
    for engine, replica in sorted(waiting, key=lambda each: -each[0].gpus_per_replica):
        hosts.put(engine, replica)
    return [host for host in hosts.all if host.parts]


@dataclass
class _Hosts:
    """The machines of one kind of GPU while they are filled."""

    label: str  # of the kind, in their names
    all: list[Host] = field(default_factory=list)

    def put_where_planned(self, engine: Engine, replica: int, gpus: Sequence[int]) -> None:
        """Puts a replica on its GPUs, which are numbered over all machines of their kind."""
        size = engine.gpus_per_node
        at: dict[int, tuple[int, ...]] = {}
        for g in sorted(gpus):
            at[g // size] = (*at.get(g // size, ()), g % size)
        while len(self.all) <= max(at):
            self._open(engine)
        self._take(engine, replica, [(self.all[node], here) for node, here in at.items()])

    def put(self, engine: Engine, replica: int) -> None:
        """Puts a replica on the first machine with room, or on as many new ones as it needs."""
        for host in self.all:
            room = host.room(engine, engine.gpus_per_replica)
            if room is not None:
                self._take(engine, replica, [(host, room)])
                return
        n, left = engine.n_nodes, engine.gpus_per_replica
        sizes = [left // n + (rank < left % n) for rank in range(n)]
        self._take(engine, replica, [(self._open(engine), tuple(range(each))) for each in sizes])

    def _take(self, engine: Engine, replica: int, at: list[tuple[Host, tuple[int, ...]]]) -> None:
        if len({len(gpus) for _, gpus in at}) > 1:
            raise uneven(engine)
        for rank, (host, gpus) in enumerate(at):
            host.take(Part(engine, replica, gpus, host.next_port, len(at), rank, at[0][0].name))

    def _open(self, engine: Engine) -> Host:
        """Returns a new machine of an engine's kind of GPU."""
        size = max(engine.gpus_per_node, 1)
        host = Host(f"{self.label}-{len(self.all)}", engine.gpu, size)
        host.free_compute, host.free_memory = [1.0] * size, [1.0] * size
        self.all.append(host)
        return host


def _needs(engine: Engine) -> tuple[float, float]:
    """Returns which part of a GPU's compute and memory a replica takes: all, unless it shares."""
    if engine.gpu_compute_ratio is None:
        return 1.0, 1.0
    return engine.gpu_compute_ratio, engine.gpu_memory_ratio
