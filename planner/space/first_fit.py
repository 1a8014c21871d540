"""First fit by decreasing size: a placement that is quick to find, and mostly the best one."""

from __future__ import annotations

from collections.abc import Sequence

from planner.space.parts import Part, Places, fit_together


def first_fit(
    nodes: Sequence[int], parts: Sequence[Part], counts: Sequence[int]
) -> tuple[Places, ...] | None:
    """Returns GPUs for replicas of each part, None where first fit finds no place for one.

    Whole replicas come first, those bound to a node before those that are not, larger before
    smaller ones.

    Args:
        nodes: GPUs of each node; GPUs are numbered through.
        parts: what one replica takes, (parts,).
        counts: replicas of each part, (parts,).
    """
    gpus = _Gpus(nodes)
    places: dict[int, Places] = {}

    def order(i: int) -> tuple[bool, bool, int, float, int]:
        part = parts[i]
        largest = max(part.compute_ratio, part.memory_ratio)
        return part.shares, part.spans_nodes, -part.n_gpus, -largest, i

    for i in sorted(range(len(parts)), key=order):
        found = []
        for _ in range(counts[i]):
            at = gpus.place(parts[i])
            if at is None:
                return None
            found.append(at)
        places[i] = tuple(found)
    return tuple(places[i] for i in range(len(parts)))


class _Gpus:
    """The empty and the shared GPUs of each node."""

    def __init__(self, nodes: Sequence[int]) -> None:
        starts = [sum(nodes[:k]) for k in range(len(nodes))]
        self._empty = [list(range(s, s + n)) for s, n in zip(starts, nodes, strict=True)]
        self._shared: list[dict[int, list[Part]]] = [{} for _ in nodes]

    def place(self, part: Part) -> tuple[int, ...] | None:
        """Returns the GPUs for one more replica, and puts it there; None: there is no place."""
        every = list(range(len(self._empty)))
        found = []
        for nodes in [every] if part.spans_nodes else [[node] for node in every]:
            gpus, n_opened = self._best(nodes, part)
            if len(gpus) == part.n_gpus:
                # Open few GPUs, and leave the node with the most empty ones to larger replicas.
                found.append((n_opened, sum(len(self._empty[k]) for k in nodes), nodes, gpus))
        if not found:
            return None
        *_, nodes, gpus = min(found)
        for gpu in gpus:
            self._put(nodes, gpu, part)
        return tuple(sorted(gpus))

    def _best(self, nodes: Sequence[int], part: Part) -> tuple[list[int], int]:
        """Returns the fullest GPUs of some nodes that a replica can lie on, and the empty ones."""
        filled = []
        if part.shares:
            filled = [
                (-_fullness(on), gpu)
                for node in nodes
                for gpu, on in self._shared[node].items()
                if fit_together([*on, part])
            ]
        gpus = [gpu for _, gpu in sorted(filled)[: part.n_gpus]]
        by_room = sorted(nodes, key=lambda node: (len(self._empty[node]), node))
        empty = [gpu for node in by_room for gpu in self._empty[node]]
        n_opened = min(part.n_gpus - len(gpus), len(empty))
        return gpus + empty[:n_opened], n_opened

    def _put(self, nodes: Sequence[int], gpu: int, part: Part) -> None:
        node = next(k for k in nodes if gpu in self._shared[k] or gpu in self._empty[k])
        if gpu in self._shared[node]:
            self._shared[node][gpu].append(part)
            return
        self._empty[node].remove(gpu)
        if part.shares:
            self._shared[node][gpu] = [part]


def _fullness(on: Sequence[Part]) -> float:
    """Returns how much of a GPU is taken, of what is taken most."""
    return max(sum(p.compute_ratio for p in on), sum(p.memory_ratio for p in on))
