"""Plays the story of a case to a replica, be it the engine's or the reference's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from random_clusters import ReplicaCase

from planner.simulate.settings import Times

FAR_PS = 10**18


class AnyReplica(Protocol):
    """What the engine's replica, its group and the reference have in common."""

    n_running: int
    n_waiting: int
    n_outstanding: int
    kv_tokens: int
    busy_ps: int
    n_steps: int
    n_decoded: int
    n_prefilled_tokens: int

    def submit(self, index: int, at_ps: int) -> bool: ...
    def advance(self, until_ps: int, to_completion: bool = False) -> bool: ...
    def drain(self) -> None: ...
    def fail(self, at_ps: int) -> list[int]: ...
    def slow(self, at_ps: int, ratio: float) -> None: ...


@dataclass(frozen=True)
class Played:
    """All that can be seen of a story from outside."""

    times: Times
    refused: list[int]
    lost: list[int]
    seen: list[tuple[int, ...]]  # at every event, before it: moment, running, waiting, KV tokens
    totals: tuple[int, ...]


def play(replica: AnyReplica, case: ReplicaCase, times: Times) -> Played:
    """Tells the story of `case` to a fresh replica that writes into `times`."""
    refused, lost, seen = [], [], []
    for event in case.events:
        replica.advance(event.at_ps)
        seen.append((event.at_ps, *state(replica)))
        if event.kind == "submit" and not replica.submit(int(event.value), event.at_ps):
            refused.append(int(event.value))
        if event.kind == "slow":
            replica.slow(event.at_ps, event.value)
        if event.kind == "fail":
            dropped = replica.fail(event.at_ps)
            lost.extend(dropped)
            for index in dropped:
                if times.first_ps[index] < 0:  # nobody has seen a token of it: it may start anew
                    replica.submit(index, event.at_ps)
    replica.drain()
    return Played(times, refused, lost, seen, totals(replica))


def play_closed(replica: AnyReplica, case: ReplicaCase, times: Times, n_users: int) -> Played:
    """Has `n_users` users ask one request after the other, each at the end of the last."""
    n_requests = len(case.tokens.prompt)
    seen, refused, n_done, following = [], [], 0, 0

    def ask(n_users: int, at_ps: int) -> int:
        nonlocal following
        while n_users and following < n_requests:
            if replica.submit(following, at_ps):
                n_users -= 1
            else:
                refused.append(following)
            following += 1
        return following

    ask(n_users, 0)
    while replica.advance(FAR_PS, to_completion=True):
        now_ps, n_done_before, n_done = max(times.done_ps), n_done, count_done(times)
        seen.append((now_ps, *state(replica)))
        ask(n_done - n_done_before, now_ps)
    return Played(times, refused, [], seen, totals(replica))


def state(replica: AnyReplica) -> Sequence[int]:
    return replica.n_running, replica.n_waiting, replica.n_outstanding, replica.kv_tokens


def totals(replica: AnyReplica) -> tuple[int, ...]:
    return replica.busy_ps, replica.n_steps, replica.n_decoded, replica.n_prefilled_tokens


def count_done(times: Times) -> int:
    return sum(done_ps >= 0 for done_ps in times.done_ps)
