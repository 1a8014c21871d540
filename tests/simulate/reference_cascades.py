"""A cluster with cascades, boundary by boundary: whatever happens next, anywhere, happens next.

At one moment changes come first, then arrivals, then boundaries by pool and replica, then second
answers are asked for. Answers have numbers: i is the first one of request i, N + i its second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from reference_cluster import Balance, Happening
from reference_engine import ReferenceReplica

from planner.simulate.settings import Times, Tokens

Row = tuple[int, int, int]
"""Prompt, fresh and output tokens."""


@dataclass(frozen=True)
class Way:
    """How a request is to be answered."""

    pool: int
    asks: Row  # of that pool
    alone: dict[int, Row]  # what it asks of any pool that answers alone, in order of fallback
    cascade: int | None = None
    is_escalated: bool = False
    second: dict[int, Row] = field(default_factory=dict)  # of each pool of the second stage


@dataclass
class Answer:
    """One answer that was asked for."""

    at_ps: int
    pool: int
    stage: int  # 2 o + stage of cascade o, -1: it stands alone
    replica: int = -1
    outcome: str = "ok"
    n_sent: int = 0
    n_died: int = 0


@dataclass
class CascadedReference:
    """Pools of replicas that share `times`; `tokens` of a pool are those of its replicas."""

    pools: Sequence[Sequence[ReferenceReplica]]
    tokens: Sequence[Tokens]
    times: Times
    request_ps: Sequence[int]
    balance: Balance
    pick_second: Callable[[int], int]  # the pool of the next second answer of a cascade
    ways: Sequence[Way]
    answers: dict[int, Answer] = field(default_factory=dict)
    due: list[tuple[int, int, int]] = field(default_factory=list)
    n_due: int = 0

    def run(self, arrived_ps: Sequence[int], happenings: Sequence[Happening]) -> None:
        self.is_up = [[True] * len(replicas) for replicas in self.pools]
        moments = [(happening.at_ps, 0, happening) for happening in happenings]
        moments += [(at_ps, 1, index) for index, at_ps in enumerate(arrived_ps)]
        for at_ps, _, what in sorted(moments, key=lambda moment: moment[:2]):
            self.go_on(at_ps)
            if isinstance(what, Happening):
                self.change(what)
            else:
                way = self.ways[what]
                stage = -1 if way.cascade is None else 2 * way.cascade
                self.ask(what, way.pool, way.asks, stage, at_ps)
        self.go_on(None)

    def go_on(self, until_ps: int | None) -> None:
        while True:
            moments = [(*boundary, "boundary") for boundary in self.boundaries()]
            moments += [(at_ps, order, index, "due") for at_ps, order, index in self.due]
            if not moments:
                return
            at_ps, one, other, what = min(moments, key=lambda m: (m[0], m[3] == "due", *m[1:3]))
            if until_ps is not None and at_ps >= until_ps:
                return
            if what == "boundary":
                if self.pools[one][other].boundary():
                    self.settle(one, other, at_ps)
            else:
                self.due.remove((at_ps, one, other))
                self.escalate(other, at_ps)

    def boundaries(self) -> list[tuple[int, int, int]]:
        return [
            (replica.boundary_ps, p, r)
            for p, replicas in enumerate(self.pools)
            for r, replica in enumerate(replicas)
            if replica.boundary_ps is not None
        ]

    def settle(self, pool: int, replica: int, at_ps: int) -> None:
        """Notes whose first answer was done at this boundary and is not trusted."""
        for index, way in enumerate(self.ways):
            answer = self.answers.get(index)
            is_here = answer is not None and (answer.pool, answer.replica) == (pool, replica)
            done = self.times.done_ps[index] == at_ps and len(self.ways) + index not in self.answers
            noted = any(index == each for _, _, each in self.due)
            if is_here and done and not noted and answer.stage >= 0 and way.is_escalated:
                self.due.append((at_ps + self.request_ps[pool], self.n_due, index))
                self.n_due += 1

    def escalate(self, index: int, at_ps: int) -> None:
        way = self.ways[index]
        pool = self.pick_second(way.cascade)
        second = len(self.ways) + index
        self.ask(second, pool, way.second[pool], 2 * way.cascade + 1, at_ps)

    def ask(self, number: int, pool: int, row: Row, stage: int, at_ps: int) -> None:
        self.answers[number] = Answer(at_ps, pool, stage)
        self.write(number, pool, row)
        self.send(number, at_ps)

    def write(self, number: int, pool: int, row: Row) -> None:
        tokens = self.tokens[pool]
        tokens.prompt[number], tokens.fresh[number], tokens.output[number] = row

    def send(self, number: int, at_ps: int) -> None:
        answer = self.answers[number]
        answer.n_sent += 1
        if not any(self.is_up[answer.pool]):
            alone = self.ways[number % len(self.ways)].alone
            answer.stage = -1
            up = [pool for pool in alone if any(self.is_up[pool])]
            if not up:
                answer.outcome = "failed"
                return
            answer.pool = up[0]
            self.write(number, answer.pool, alone[answer.pool])
        replicas = self.pools[answer.pool]
        prompt = self.tokens[answer.pool].prompt[number]
        answer.replica = self.balance(answer.pool, prompt, replicas, self.is_up[answer.pool])
        if not replicas[answer.replica].submit(number, at_ps):
            answer.outcome = "refused"

    def change(self, what: Happening) -> None:
        for number in what.befall(self.pools[what.pool], self.is_up[what.pool]):
            answer = self.answers[number]
            answer.n_died += 1
            if answer.stage >= 0 and answer.stage % 2 == 0:
                self.times.first_ps[number] = -1
            if self.times.first_ps[number] >= 0:
                answer.outcome = "failed"
            else:
                self.send(number, what.at_ps)
