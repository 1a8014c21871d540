"""Which waiting requests go to which data-parallel worker: the types and the simple policies.

The workers of a group share a step barrier: every step lasts as long as the most loaded one.
At a boundary a batch policy fills free places from the requests that wait for the whole group;
what it does not place waits for the next boundary. Places are sticky.

Notation
    G     number of workers
    L_g   load_tokens: KV tokens that worker g reads in the next step              tokens, (G,)
    s_i   KV tokens that waiting request i would add to it                         tokens
    M     max_g L_g, the envelope: what the step waits for                         tokens
    I     G M - sum_g L_g, the imbalance: reads for which there was time in vain   tokens

Taking the oldest and putting the largest of them first onto the least loaded worker is Graham's
rule "longest processing time first" for machines that are partly loaded already.

Reference: R. L. Graham, Bounds on multiprocessing timing anomalies, SIAM Journal on Applied
Mathematics 17(2), 1969.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Protocol

from planner.scheduling.balance import Policy, Workers
from planner.spec.arrays import IntArray

AGE_GUARD = 2_000  # younger requests that may overtake one before it goes before all others
Placement = tuple[int, int]  # (index of the waiting request, worker)


@dataclass(frozen=True, slots=True)
class Running:
    """The requests that decode in the next step, by worker and place, (G, places) each."""

    kv_tokens: IntArray  # what each reads in the next step
    age_tokens: IntArray  # what each has generated so far; -1: the place is free
    keys: IntArray  # what a predictor may know each by, such as a hash of its prompt


@dataclass(frozen=True, slots=True)
class DecodeWorkers:
    """The workers of one group at a step boundary."""

    load_tokens: Sequence[int]  # (G,) KV tokens that each reads in the next step
    free_slots: Sequence[int]  # (G,) how many more requests each can take, 0: none
    running: Running | None = None  # for policies that look ahead


class BatchPolicy(Protocol):
    """A way to fill the free places of a group."""

    def __call__(
        self, waiting: Sequence[int], workers: DecodeWorkers, n_overdue: int = 0
    ) -> list[Placement]:
        """Returns what is placed where, in the order of the decisions.

        `waiting` has the KV tokens of the requests that wait, oldest first; the first `n_overdue`
        of them are placed before any other, in order.
        """


def n_overdue(turns: Sequence[int], n_placed: int) -> int:
    """Returns how many of the oldest waiting requests have been overtaken too often.

    `turns` has, oldest first, how many requests had come to the group before each; `n_placed` is
    how many it has placed by now. A request with j others before it in the queue has let
    n_placed + j - turn younger ones pass: as many as were placed but had not come before it.
    """
    for j, turn in enumerate(turns):
        if n_placed + j - turn < AGE_GUARD:
            return j
    return len(turns)


def fifo(waiting: Sequence[int], workers: DecodeWorkers, n_overdue: int = 0) -> list[Placement]:
    """Returns the oldest requests in order, each placed on the least loaded worker."""
    return _onto_least_loaded(range(_n_placeable(waiting, workers)), waiting, workers)


def largest_first(
    waiting: Sequence[int], workers: DecodeWorkers, n_overdue: int = 0
) -> list[Placement]:
    """Returns the oldest requests, the largest first, each placed on the least loaded worker.

    Who is placed is decided by age alone, so nobody starves; size only decides where. Equal sizes
    keep their order of age.
    """
    batch = range(_n_placeable(waiting, workers))
    ordered = sorted(batch, key=waiting.__getitem__, reverse=True)
    return _onto_least_loaded(ordered, waiting, workers)


class OneByOne:
    """An arrival policy at a boundary: the oldest in order, over the workers with a place."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def __call__(
        self, waiting: Sequence[int], workers: DecodeWorkers, n_overdue: int = 0
    ) -> list[Placement]:
        """Returns the oldest requests in order, each where the policy sends it.

        All workers have as many places, so the most free one runs the fewest requests.
        """
        free = list(workers.free_slots)
        seen = Workers(
            n_running=[max(free) - n for n in free],
            n_waiting=[0] * len(free),
            kv_tokens=list(workers.load_tokens),
            is_up=[n > 0 for n in free],
        )
        placed = []
        for i in range(_n_placeable(waiting, workers)):
            g = self._policy.pick(waiting[i], seen)
            placed.append((i, g))
            free[g] -= 1
            seen.n_running[g] += 1
            seen.kv_tokens[g] += waiting[i]
            seen.is_up[g] = free[g] > 0
        return placed


def _n_placeable(waiting: Sequence[int], workers: DecodeWorkers) -> int:
    """Returns how many of the waiting requests find a free place."""
    return min(len(waiting), sum(workers.free_slots))


def _onto_least_loaded(
    order: Sequence[int], waiting: Sequence[int], workers: DecodeWorkers
) -> list[Placement]:
    """Returns each request of the order on the worker of least KV with a place; lowest index first.

    At most as many requests as there are places.
    """
    free = list(workers.free_slots)
    loads = [(load, g) for g, load in enumerate(workers.load_tokens) if free[g] > 0]
    heapify(loads)
    placed = []
    for i in order:
        load, g = loads[0]
        placed.append((i, g))
        free[g] -= 1
        if free[g]:
            heapreplace(loads, (load + waiting[i], g))
        else:
            heappop(loads)
    return placed
