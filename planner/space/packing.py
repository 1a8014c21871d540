"""Which replica lies on which GPU: whole GPUs on nodes, and parts of GPUs that pools share.

Notation (one kind of GPU)
    D      GPUs, in nodes of N; the last node has what is left        count
    z_p    replicas of pool p                                         count           (P,)
    s_p    GPUs of one replica, all of them different                 count           (P,)
    c_p    part of the compute of each of its GPUs                    ratio           (P,)
    m_p    part of the memory of each of its GPUs                     ratio           (P,)

A placement gives every replica s_p GPUs such that
    compute   sum of c_p over what lies on a GPU   <= 1        (a whole GPU is a part of 1)
    memory    sum of m_p over what lies on a GPU   <= 1
    models    no two shards on one GPU are of the same model
    nodes     a replica that does not span nodes lies on one

Fewest GPUs are looked for, since each that is used is paid whole. First fit by decreasing size
comes first. Where it fails, or opens more GPUs than the sums ask for, patterns decide exactly
(bins.py): shards on GPUs as if there were no nodes, and whole replicas on nodes, which leave the
rest to the shared GPUs. Where replicas of several shared GPUs meet several nodes the two do not
come apart: then all shared GPUs are tried on one node. Where they need more, and where the patterns
are too many to try, first fit has the last word. It may find no place where there is one, or open
a GPU too many: never a placement that is none.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from planner.space.bins import Pattern, fewest_bins, maximal_patterns
from planner.space.first_fit import first_fit
from planner.space.parts import EPSILON, Part, Places, fit_together


@dataclass(frozen=True)
class Packed:
    """Where the replicas of all pools of a kind of GPU lie; GPU i is in node i // node_size."""

    n_gpus: int  # that carry anything
    places: tuple[Places, ...] | None  # by pool; None: no placement was found


@dataclass(frozen=True)
class Packing:
    """GPUs of one kind in nodes, and the pools that want places on them."""

    n_gpus: int
    node_size: int
    parts: tuple[Part, ...]
    _known: dict[Pattern, tuple[int, bool]] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )

    @property
    def nodes(self) -> tuple[int, ...]:
        """Returns the GPUs of each node."""
        full, rest = divmod(self.n_gpus, self.node_size)
        return (self.node_size,) * full + ((rest,) if rest else ())

    @cached_property
    def shared(self) -> tuple[int, ...]:
        """Returns the parts that share GPUs."""
        return tuple(i for i, part in enumerate(self.parts) if part.shares)

    @cached_property
    def whole_sizes(self) -> tuple[int, ...]:
        """Returns the sizes of replicas of whole GPUs that lie on one node, largest first."""
        whole = {p.n_gpus for p in self.parts if not p.shares and not p.spans_nodes}
        return tuple(sorted(whole, reverse=True))

    @cached_property
    def is_plain(self) -> bool:
        """Returns whether replicas can be placed exactly where there are GPUs enough for them."""
        return self.fills_nodes and not self.shared

    @cached_property
    def fills_nodes(self) -> bool:
        """Returns whether whole replicas leave no gaps on nodes that others could not fill.

        So it is where each size divides the next larger one and the node.
        """
        chain = (self.node_size, *self.whole_sizes)
        return all(larger % smaller == 0 for larger, smaller in itertools.pairwise(chain))

    @cached_property
    def is_separable(self) -> bool:
        """Returns whether shared GPUs may lie on any node."""
        several = any(
            self.parts[i].n_gpus > 1 and not self.parts[i].spans_nodes for i in self.shared
        )
        return not several or self.n_gpus <= self.node_size

    @cached_property
    def shard_kinds(self) -> tuple[tuple[int, ...], ...]:
        """Returns the shared parts (indices) whose shards are alike on a GPU, kind by kind."""
        kinds: dict[tuple[str, float, float], list[int]] = {}
        for i in self.shared:
            part = self.parts[i]
            key = part.model_name, part.compute_ratio, part.memory_ratio
            kinds.setdefault(key, []).append(i)
        return tuple(tuple(members) for members in kinds.values())

    @cached_property
    def gpu_patterns(self) -> tuple[Pattern, ...] | None:
        """Returns which kinds of shards fit on one GPU together, (., kinds); None: too many."""
        return maximal_patterns([1] * len(self.shard_kinds), self._fit_on_a_gpu)

    def node_patterns(
        self, node: int, sizes: Sequence[int] | None = None
    ) -> tuple[Pattern, ...] | None:
        """Returns how many of each size, by default the whole ones, fit on a node of some GPUs.

        None where there are too many ways.
        """
        sizes = self.whole_sizes if sizes is None else sizes

        def fits(pattern: Pattern) -> bool:
            return sum(n * size for n, size in zip(pattern, sizes, strict=True)) <= node

        return maximal_patterns([node // size for size in sizes], fits)

    def most(self, i: int) -> int:
        """Returns how many replicas of one part can be placed when nothing else is there."""
        size = self.parts[i].n_gpus
        if self.parts[i].spans_nodes:
            return self.n_gpus // size
        return sum(node // size for node in self.nodes)

    def least_gpus(self, counts: Sequence[int]) -> int:
        """Returns GPUs that replicas (parts,) take at least, by compute, memory and models."""
        whole = [
            int(n) * part.n_gpus
            for part, n in zip(self.parts, counts, strict=True)
            if not part.shares
        ]
        return sum(whole) + self._least_shared(counts)

    def _least_shared(self, counts: Sequence[int]) -> int:
        """Returns GPUs that are shared at least, of replicas (parts,)."""
        compute = memory = 0.0
        shards: dict[str, int] = {}
        for i in self.shared:
            part = self.parts[i]
            n_shards = int(counts[i]) * part.n_gpus
            compute += n_shards * part.compute_ratio
            memory += n_shards * part.memory_ratio
            shards[part.model_name] = shards.get(part.model_name, 0) + n_shards
        return max(_whole(compute), _whole(memory), max(shards.values(), default=0))

    def used(self, counts: Sequence[int]) -> tuple[int, bool]:
        """Returns the GPUs that replicas of each part (parts,) use, and whether they have places.

        Without places the GPUs that they would use at least.
        """
        key = tuple(int(n) for n in counts)
        if key not in self._known:
            packed = self.packed(key)
            self._known[key] = packed.n_gpus, packed.places is not None
        return self._known[key]

    def packed(self, counts: Sequence[int]) -> Packed:
        """Returns where replicas of each part (parts,) can lie on as few GPUs as can be found."""
        counts = tuple(int(n) for n in counts)
        least = self.least_gpus(counts)
        if least > self.n_gpus:
            return Packed(least, None)
        places = first_fit(self.nodes, self.parts, counts)
        first = Packed(least, None) if places is None else Packed(_n_used(places), places)
        if first.places is not None and first.n_gpus <= least:
            return first
        exact = self._by_patterns(counts)
        return first if exact is None or _is_better(first, exact) else exact

    def _by_patterns(self, counts: tuple[int, ...]) -> Packed | None:
        """Returns the placement on fewest GPUs; without places where there is none.

        None where it cannot be told: with too many patterns, or where shared GPUs are bound to
        nodes and do not all find room on one of them.
        """
        patterns = self.gpu_patterns
        if patterns is None:
            return None
        shards = tuple(
            sum(counts[i] * self.parts[i].n_gpus for i in members) for members in self.shard_kinds
        )
        nowhere = Packed(self.least_gpus(counts), None)
        if not self.is_separable and self._least_shared(counts) > self.node_size:
            return None
        at_most = self.n_gpus if self.is_separable else self.node_size
        bins = fewest_bins(shards, patterns, at_most)
        if bins is None:
            return nowhere if self.is_separable else None
        block = 0 if self.is_separable else len(bins)
        blocks = self._on_nodes(counts, block)
        if blocks is None:
            return None if block else nowhere
        whole, free = blocks
        opened = list(whole[block].pop()) if block else free[: len(bins)]
        rest = free if block else free[len(bins) :]
        n_spanning = sum(
            n * p.n_gpus
            for p, n in zip(self.parts, counts, strict=True)
            if not p.shares and p.spans_nodes
        )
        if len(opened) < len(bins) or n_spanning > len(rest):
            return None if block else nowhere
        return self._assembled(counts, whole, rest, dict(zip(opened, bins, strict=True)))

    def _on_nodes(
        self, counts: tuple[int, ...], block: int
    ) -> tuple[dict[int, list[tuple[int, ...]]], list[int]] | None:
        """Returns GPUs for the replicas of each whole size, and the GPUs that are left.

        With a block of GPUs on one node besides, the last one of its size; none for 0. None where
        they do not fit.
        """
        sizes = sorted({*self.whole_sizes, *([block] if block else [])}, reverse=True)
        wanted = [int(size == block) for size in sizes]
        for part, n in zip(self.parts, counts, strict=True):
            if not part.shares and not part.spans_nodes:
                wanted[sizes.index(part.n_gpus)] += n
        found = self._node_fillings(tuple(wanted), sizes)
        if found is None:
            return None
        places: dict[int, list[tuple[int, ...]]] = {size: [] for size in sizes}
        free: list[int] = []
        start = 0
        for node, filling in zip(self.nodes, found, strict=True):
            at = start
            for size, n in zip(sizes, filling, strict=True):
                for _ in range(n):
                    places[size].append(tuple(range(at, at + size)))
                    at += size
            free += range(at, start + node)
            start += node
        return places, free

    def _node_fillings(self, wanted: Pattern, sizes: Sequence[int]) -> list[Pattern] | None:
        """Returns how many of each size lie on each node, None where they do not fit."""
        nodes = self.nodes
        none = (0,) * len(wanted)
        full = [node for node in nodes if node == self.node_size]
        patterns = self.node_patterns(self.node_size, sizes)
        if patterns is None:
            return None
        last = [none]
        if len(full) < len(nodes):
            last = [none, *(self.node_patterns(nodes[-1], sizes) or ())]
        for on_last in last:
            taken = tuple(min(n, a) for n, a in zip(wanted, on_last, strict=True))
            left = tuple(n - a for n, a in zip(wanted, taken, strict=True))
            bins = fewest_bins(left, patterns, len(full))
            if bins is not None:
                found = [*bins, *[none] * (len(full) - len(bins))]
                return [*found, taken] if len(full) < len(nodes) else found
        return None

    def _assembled(
        self,
        counts: tuple[int, ...],
        whole: dict[int, list[tuple[int, ...]]],
        free: list[int],
        opened: dict[int, Pattern],
    ) -> Packed:
        """Returns the placement of whole replicas on their blocks and of shards on opened GPUs."""
        rest = iter(free)
        shards: dict[int, list[int]] = {}
        for kind, members in enumerate(self.shard_kinds):
            at = [gpu for gpu, pattern in opened.items() if pattern[kind]]
            for i in members:
                n_shards = counts[i] * self.parts[i].n_gpus
                shards[i], at = at[:n_shards], at[n_shards:]
        blocks = {size: iter(listed) for size, listed in whole.items()}
        places: list[Places] = []
        for i, (part, n) in enumerate(zip(self.parts, counts, strict=True)):
            size = part.n_gpus
            if part.shares:
                mine = shards[i]
                places.append(tuple(tuple(mine[k * size : (k + 1) * size]) for k in range(n)))
            elif part.spans_nodes:
                places.append(tuple(tuple(next(rest) for _ in range(size)) for _ in range(n)))
            else:
                places.append(tuple(next(blocks[size]) for _ in range(n)))
        return Packed(_n_used(places), tuple(places))

    def _fit_on_a_gpu(self, pattern: Pattern) -> bool:
        kinds = zip(self.shard_kinds, pattern, strict=True)
        return fit_together([self.parts[members[0]] for members, n in kinds if n])


def _n_used(places: Sequence[Places]) -> int:
    """Returns the GPUs that carry anything."""
    return len({gpu for each in places for replica in each for gpu in replica})


def _whole(value: float) -> int:
    """Returns the least whole number that is not below a sum of parts."""
    return int(-((-value + EPSILON) // 1))


def _is_better(first: Packed, other: Packed) -> bool:
    """Returns whether one placement is there, and on no more GPUs than another one."""
    if first.places is None or other.places is None:
        return other.places is None and first.places is not None
    return first.n_gpus <= other.n_gpus
