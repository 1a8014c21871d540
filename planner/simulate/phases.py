"""A cluster that changes while it serves: replicas that come and go, routes that become others.

Notation
    k      a phase, from its moment on until the next one's
    n_kp   replicas of pool p that take requests in phase k

Program
    replica r of pool p (from 0)   takes requests while n_kp > r
                                   from then on none; it answers what it has ("draining")
    a request that arrives         goes by the routes of the phase it arrives in: their turns begin
                                   with the phase, as a runtime that loads a new file begins anew

What comes up is empty and serves at once: a phase begins when a cold start is over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from planner.simulate.demand import Demand, TokenArrays
from planner.simulate.failures import Change
from planner.simulate.units import PS_PER_S
from planner.spec.arrays import IntArray
from planner.spec.plan import Routes


@dataclass(frozen=True)
class Phase:
    """What is in service from a moment on."""

    from_s: float
    replicas: tuple[int, ...]  # that take requests, by pool of the cluster, (P,)
    routes: Routes

    @property
    def from_ps(self) -> int:
        """Returns when it begins, in ps."""
        return round(self.from_s * PS_PER_S)


def most_replicas(phases: Sequence[Phase]) -> tuple[int, ...]:
    """Returns how many replicas of each pool a cluster must have for all phases, (P,)."""
    return tuple(max(column) for column in zip(*(p.replicas for p in phases), strict=True))


def phase_changes(phases: Sequence[Phase], n_replicas: Sequence[int]) -> list[Change]:
    """Returns which replica stops taking requests, or begins to, and when, in order of time.

    Args:
        phases: in order of time, the first one from 0 on.
        n_replicas: that the cluster has of each pool, (P,).

    Raises:
        ValueError: the phases do not begin at 0, do not ascend, or ask for more replicas.
    """
    moments = [phase.from_ps for phase in phases]
    if moments != sorted(set(moments)) or moments[:1] not in ([], [0]):
        raise ValueError(f"phases ascend from 0 s on, got {[p.from_s for p in phases]}")
    up = [[True] * n for n in n_replicas]
    found = []
    for phase in phases:
        if any(k > n for k, n in zip(phase.replicas, n_replicas, strict=True)):
            raise ValueError(f"a phase asks for {phase.replicas} replicas of {tuple(n_replicas)}")
        for p, k in enumerate(phase.replicas):
            for r, is_up in enumerate(up[p]):
                if is_up != (r < k):
                    found.append(Change(phase.from_ps, p, r, "return" if r < k else "drain"))
                    up[p][r] = r < k
    return found


def joined(
    first: Demand, second: Demand, at_ps: int, first_of: Sequence[int], second_of: Sequence[int]
) -> Demand:
    """Returns the requests of one demand, and from a moment on those of another one.

    Args:
        first: of which nothing comes from that moment on.
        second: whose times count from that moment on.
        at_ps: the moment.
        first_of: the class in the whole of each class of the first, (C,).
        second_of: of each class of the second.

    Raises:
        ValueError: one of them has cascades.
    """
    if first.cascades or second.cascades:
        raise ValueError("demands with cascades cannot be joined")
    kept = int(np.searchsorted(first.arrived_ps, at_ps, side="left"))

    def column(one: IntArray, other: IntArray) -> IntArray:
        return np.concatenate([one[:kept], other])

    def tokens(one: TokenArrays | None, other: TokenArrays | None) -> TokenArrays | None:
        if one is None and other is None:
            return None
        a, b = (
            each or TokenArrays(*[np.zeros(n, dtype=np.int64)] * 3)
            for each, n in ((one, first.arrived_ps.size), (other, second.arrived_ps.size))
        )
        return TokenArrays(
            column(a.prompt, b.prompt), column(a.fresh, b.fresh), column(a.output, b.output)
        )

    of_first, of_second = (np.array(of, dtype=np.int64) for of in (first_of, second_of))
    return Demand(
        arrived_ps=column(first.arrived_ps, second.arrived_ps + at_ps),
        class_index=column(of_first[first.class_index], of_second[second.class_index]),
        priority=column(first.priority, second.priority),
        tokens=tuple(map(tokens, first.tokens, second.tokens)),
    )
