"""GPUs on the way: how many replicas take, how many there are, and whether all have their places.

Notation (one kind of GPU)
    taken   GPUs that replicas hold; of shared ones all that carry anything (planner/space)
    there   GPUs that a change may hold: the stock, or what one of the plans holds by itself
    rent    of the GPUs taken, the cheapest of each kind first; beyond all offers the dearest again

Places are looked for as if every replica could be placed anew. What runs stays where it is, so a
change may find too few free GPUs on one node where this finds enough: only the cluster knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from planner.gate.way.members import Member
from planner.space import MOST_PLACED_GPUS, Offer, Packing, part_of
from planner.spec.pool import Profile

GPU_ROUNDING = 1e-6


@dataclass(frozen=True)
class Room:
    """The GPUs of a change."""

    members: tuple[Member, ...]
    stock: Mapping[str, float] | None = None  # by kind; None: nobody knows
    packings: Mapping[str, Packing] = field(default_factory=dict)  # where a sum does not say all
    offers: Mapping[str, Sequence[Offer]] = field(default_factory=dict)  # cheapest first

    @staticmethod
    def of(
        members: tuple[Member, ...],
        profiles: Sequence[Profile],
        stock: Mapping[str, float],
        offers: Mapping[str, Sequence[Offer]] | None = None,
    ) -> Room:
        """Returns the room of members with their profiles, (M,)."""
        packings = {}
        for gpu in sorted({m.gpu for m in members if m.gpu is not None}):
            pairs = zip(members, profiles, strict=True)
            mine = [(m, p, p.gpu) for m, p in pairs if p.gpu is not None and m.gpu == gpu]
            node = mine[0][2].gpus_per_node
            parts = tuple(part_of(profile, facts.memory_gib) for _, profile, facts in mine)
            most = [max(member.n_old, member.n_new) for member, _, _ in mine]
            # A node for each replica is room enough for any state.
            nodes = (n * -(-p.n_gpus // node) for p, n in zip(parts, most, strict=True))
            enough = node * sum(nodes)
            packing = Packing(enough, node, parts)
            if not packing.is_plain and enough <= MOST_PLACED_GPUS:
                packings[gpu] = packing
        return Room(members, stock, packings, offers or {})

    def taken(self, replicas: Sequence[int]) -> dict[str, float]:
        """Returns the GPUs of each kind that replicas (M,) hold."""
        counts: dict[str, float] = {}
        for member, n in zip(self.members, replicas, strict=True):
            if member.gpu is not None:
                counts[member.gpu] = counts.get(member.gpu, 0.0) + n * member.gpus_per_replica
        for gpu, packing in self.packings.items():
            if packing.shared:
                counts[gpu] = float(packing.used(self._on(gpu, replicas))[0])
        return {gpu: round(n_gpus, 6) for gpu, n_gpus in counts.items()}

    def rent_usd_per_h(self, n_gpus: Mapping[str, float]) -> float | None:
        """Returns what so many GPUs of each kind cost in $/h; None: there is no price of one."""
        total = 0.0
        for gpu, n in n_gpus.items():
            left = n
            for offer in self.offers.get(gpu, ()):
                taken = min(left, offer.count)
                total, left = total + taken * offer.usd_per_h, left - taken
            if left > GPU_ROUNDING:
                if not self.offers.get(gpu):
                    return None
                total += left * self.offers[gpu][-1].usd_per_h
        return total

    def missing(self, replicas: Sequence[int], there: Mapping[str, float]) -> dict[str, float]:
        """Returns the GPUs of each kind that replicas (M,) lack: too few, or none together."""
        found = {}
        for gpu, n_gpus in self.taken(replicas).items():
            if n_gpus > there[gpu] + GPU_ROUNDING:
                found[gpu] = n_gpus - there[gpu]
            if gpu in self.packings:
                has = math.floor(there[gpu] + found.get(gpu, 0.0) + GPU_ROUNDING)
                more = self._more_for_places(gpu, replicas, has)
                if more:
                    found[gpu] = found.get(gpu, 0.0) + more
        return found

    def _more_for_places(self, gpu: str, replicas: Sequence[int], has: int) -> int:
        """Returns how many GPUs more than there are give every replica its places."""
        packing, counts = self.packings[gpu], self._on(gpu, replicas)
        more = 0
        while has + more < packing.n_gpus and not self._at(gpu, has + more).used(counts)[1]:
            more += 1
        return more

    def _at(self, gpu: str, n_gpus: int) -> Packing:
        """Returns the packing of so many GPUs; it remembers what it has found."""
        if (gpu, n_gpus) not in self._known:
            self._known[gpu, n_gpus] = replace(self.packings[gpu], n_gpus=n_gpus)
        return self._known[gpu, n_gpus]

    def _on(self, gpu: str, replicas: Sequence[int]) -> list[int]:
        return [n for m, n in zip(self.members, replicas, strict=True) if m.gpu == gpu]

    _known: dict[tuple[str, int], Packing] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
