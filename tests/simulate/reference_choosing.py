"""Choosing among all instances, told moment by moment: the truth of the tests of choosing.

One list of moments at which anything may happen is gone through in order; at each of them every
replica is brought there, and what a proxy would have heard is worked out anew from the times of all
requests that were ever sent. Nothing is kept but what was said already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reference_cluster import Happening
from reference_engine import ReferenceReplica

from planner.scheduling.ledger import Seen
from planner.simulate.choosing import Chooser
from planner.simulate.settings import Times
from planner.simulate.units import PS_PER_S

Outcome = Literal["ok", "failed", "refused"]
Usable = Callable[[int], Sequence[int]]
"""A request -> the pools that it may use."""


@dataclass(frozen=True)
class Pace:
    """The rhythm of the proxy in picoseconds."""

    window_ps: int
    n_most: int
    decision_ps: int
    look_every_ps: int | None  # 0: at every decision
    look_age_ps: int


@dataclass
class Sent:
    """One try of one request."""

    index: int
    place: int  # of all replicas
    said_first: bool = False
    said_end: bool = False


@dataclass
class ReferenceChoosing:
    """Pools of replicas and a chooser; `run` leaves the outcome and the replica of each request."""

    pools: Sequence[Sequence[ReferenceReplica]]
    request_ps: Sequence[int]  # by pool
    times: Times
    usable: Usable
    chooser: Chooser
    pace: Pace
    waiting: list[tuple[int, int]] = field(default_factory=list)  # since when, who
    sent: list[Sent] = field(default_factory=list)
    place_of: dict[int, tuple[int, int]] = field(default_factory=dict)
    outcome: dict[int, Outcome] = field(default_factory=dict)
    decided: list[tuple[int, int]] = field(default_factory=list)
    free_ps: int = 0
    n_looks: int = 0
    reports: list[tuple[int, list[Seen]]] = field(default_factory=list)

    def run(self, arrived_ps: Sequence[int], happenings: Sequence[Happening]) -> None:
        self.places = [(p, r) for p, pool in enumerate(self.pools) for r in range(len(pool))]
        self.is_up = [[True] * len(pool) for pool in self.pools]
        outside = [(h.at_ps, 0, n, h) for n, h in enumerate(happenings)]
        outside += [(at_ps, 1, index, None) for index, at_ps in enumerate(arrived_ps)]
        for at_ps, _, index, happening in sorted(outside, key=lambda each: each[:3]):
            self.go_on(at_ps)
            if happening is None:
                self.waiting.append((at_ps, index))
                self.outcome[index] = "ok"
            else:
                self.look_until(at_ps)
                self.hear(at_ps)
                self.change(happening)
        self.go_on(None)
        for pool in self.pools:
            for replica in pool:
                replica.drain()

    def go_on(self, until_ps: int | None) -> None:
        """Does all that is due before a moment; None: all there is."""
        while self.decided or self.waiting:
            at_ps = self.free_ps if self.decided else self.closing_ps()
            if until_ps is not None and at_ps >= until_ps:
                return
            if self.decided:
                self.send(at_ps)
            else:
                self.decide(at_ps)

    def closing_ps(self) -> int:
        first_ps = self.waiting[0][0]
        full = [since for since, _ in self.waiting][self.pace.n_most - 1 :][:1]
        return max(self.free_ps, min([first_ps + self.pace.window_ps, *full]))

    def decide(self, at_ps: int) -> None:
        self.look_until(at_ps)
        self.hear(at_ps)
        if self.pace.look_every_ps == 0:
            self.tell(self.look(at_ps), at_ps)
        batch = [index for _, index in self.waiting[: self.pace.n_most]]
        del self.waiting[: self.pace.n_most]
        for index in self.chooser.order(batch) if len(batch) > 1 else batch:
            instances = [
                k
                for k, (p, r) in enumerate(self.places)
                if self.is_up[p][r] and p in self.usable(index)
            ]
            if not instances:
                self.outcome[index] = "failed"
                continue
            k = self.chooser.choose(index, instances, at_ps / PS_PER_S)
            self.chooser.sent(index, k, at_ps / PS_PER_S)
            self.decided.append((index, k))
        self.free_ps = at_ps + len(batch) * self.pace.decision_ps

    def send(self, at_ps: int) -> None:
        self.look_until(at_ps)
        decided, self.decided = self.decided, []
        for index, k in decided:
            p, r = self.place_of[index] = self.places[k]
            if not self.is_up[p][r]:
                self.chooser.ended(index, at_ps / PS_PER_S, None)
                self.waiting.append((at_ps, index))
                continue
            self.advance(at_ps)
            if self.pools[p][r].submit(index, at_ps):
                self.sent.append(Sent(index, k))
            else:
                self.outcome[index] = "refused"
                self.chooser.ended(index, at_ps / PS_PER_S, None)

    def change(self, what: Happening) -> None:
        for index in what.befall(self.pools[what.pool], self.is_up[what.pool]):
            self.sent = [each for each in self.sent if each.index != index]
            self.chooser.ended(index, what.at_ps / PS_PER_S, None)
            if self.times.first_ps[index] >= 0:
                self.outcome[index] = "failed"
            else:
                self.waiting.append((what.at_ps, index))

    def advance(self, until_ps: int) -> None:
        for pool in self.pools:
            for replica in pool:
                replica.advance(until_ps)

    def hear(self, at_ps: int) -> None:
        self.advance(at_ps)
        news = []
        for each in self.sent:
            late_ps = self.request_ps[self.places[each.place][0]]
            first_ps, done_ps = self.times.first_ps[each.index], self.times.done_ps[each.index]
            if not each.said_first and first_ps >= 0 and first_ps + late_ps < at_ps:
                news.append((first_ps + late_ps, False, each.index))
                each.said_first = True
            if not each.said_end and done_ps >= 0 and done_ps + late_ps < at_ps:
                news.append((done_ps + late_ps, True, each.index))
                each.said_end = True
        for heard_ps, is_end, index in sorted(news):
            if is_end:
                p, r = self.place_of[index]
                n_tokens = self.pools[p][r].tokens.output[index]
                self.chooser.ended(index, heard_ps / PS_PER_S, n_tokens)
            else:
                self.chooser.first_token(index, heard_ps / PS_PER_S)

    def look_until(self, at_ps: int) -> None:
        """Looks whenever that is due, and hears what was seen when it is there."""
        every_ps = self.pace.look_every_ps
        while True:
            due = [(due_ps, 0) for due_ps, _ in self.reports[:1]]
            if every_ps:
                due.append(((self.n_looks + 1) * every_ps, 1))
            due = [each for each in due if each[0] <= at_ps]
            if not due:
                break
            moment_ps, is_look = min(due)
            self.hear(moment_ps)
            if is_look:
                self.n_looks += 1
                self.reports.append((moment_ps + self.pace.look_age_ps, self.look(moment_ps)))
            else:
                self.tell(self.reports.pop(0)[1], moment_ps)

    def look(self, at_ps: int) -> list[Seen]:
        replicas = [self.pools[p][r] for p, r in self.places]
        return [Seen(r.n_running, r.n_waiting, r.kv_tokens, at_ps / PS_PER_S) for r in replicas]

    def tell(self, reports: Sequence[Seen], at_ps: int) -> None:
        for k, (p, r) in enumerate(self.places):
            if self.is_up[p][r]:
                self.chooser.seen(k, reports[k], at_ps / PS_PER_S)
