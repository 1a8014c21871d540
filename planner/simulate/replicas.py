"""The replicas of one pool while a cluster runs, and which of them takes a request.

Program
    by a policy on the state of the replicas (scheduling/balance.py)
                   a request goes where the policy says, which sees all replicas as they stand
    by a ledger    (scheduling/least_delay.py) it sees what a proxy knows: what was sent where, the
                   first tokens and the ends that came back, and how long answers of the class are
                   on average; nothing is read from the replicas
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from planner.scheduling.balance import Policy, Workers
from planner.scheduling.delay import StepCurve
from planner.scheduling.least_delay import LeastDelay
from planner.scheduling.ledger import Ledger
from planner.simulate.barrier import Group
from planner.simulate.demand import Demand
from planner.simulate.heard import Heard
from planner.simulate.hosted import Hosted
from planner.simulate.replica import Replica
from planner.simulate.settings import Times, Tokens
from planner.simulate.units import PS_PER_S

Station = Replica | Group | Hosted


class PoolRun:
    """The replicas of one pool: which are up, and what they take and lose."""

    def __init__(self, stations: list[Station]) -> None:
        self.stations = stations
        self.is_up = [True] * len(stations)
        self.n_up = len(stations)
        self._drains: set[int] = set()

    def choose(self, i: int, at_ps: int) -> int:
        """Returns the replica for request i at a moment, advanced to it."""
        raise NotImplementedError("somebody else chooses between these replicas")

    def submit(self, i: int, r: int, at_ps: int) -> bool:
        """Sends request i to the replica chosen for it; returns whether it can ever be served."""
        return self.stations[r].submit(i, at_ps)

    def take_down(self, r: int, at_ps: int) -> list[int]:
        """Returns what a replica loses by dying now, in order of submission."""
        if not self.is_up[r] and r not in self._drains:
            return []
        self.retire(r)
        self._drains.discard(r)
        return self.stations[r].fail(at_ps)

    def retire(self, r: int) -> None:
        """Lets a replica take no more requests; it answers those that it has."""
        if self.is_up[r]:
            self.is_up[r] = False
            self.n_up -= 1
            self._drains.add(r)

    def bring_up(self, r: int, at_ps: int) -> None:
        """Lets a dead replica take requests again: it is empty, and of its normal speed."""
        if not self.is_up[r]:
            self.is_up[r] = True
            self.n_up += 1
            self._drains.discard(r)
            self.stations[r].slow(at_ps, 1.0)


class PolicyRun(PoolRun):
    """The replicas of one pool, with a policy that looks at them."""

    def __init__(self, stations: list[Station], tokens: Tokens, policy: Policy) -> None:
        super().__init__(stations)
        n = len(stations)
        self._tokens, self._policy = tokens, policy
        self._workers = Workers([0] * n, [0] * n, [0] * n, self.is_up)

    def choose(self, i: int, at_ps: int) -> int:
        """Returns the replica for request i at a moment, advanced to it."""
        workers, stations, prompt = self._workers, self.stations, self._tokens.prompt[i]
        if not self._policy.reads_state:
            r = self._policy.pick(prompt, workers)
            stations[r].advance(at_ps)
            return r
        for r, station in enumerate(stations):
            station.advance(at_ps)
            workers.n_running[r] = station.n_running
            workers.n_waiting[r] = station.n_waiting
            workers.kv_tokens[r] = station.kv_tokens
        return self._policy.pick(prompt, workers)


class LedgerRun(PoolRun):
    """The replicas of one pool, with a ledger of what was sent to them."""

    def __init__(
        self,
        stations: list[Station],
        tokens: Tokens,
        times: Times,
        curve: StepCurve,
        request_ps: int,
        expected_tokens: Callable[[int], float],
    ) -> None:
        """Starts with nothing sent.

        Args:
            stations: the replicas.
            tokens: what requests ask.
            times: when things happen to them.
            curve: how fast a replica is.
            request_ps: what a request takes beside any step: it is heard of so much later.
            expected_tokens: how long the answer to a request is expected to be.
        """
        super().__init__(stations)
        self._tokens = tokens
        self._least = LeastDelay(curve)
        self._ledger = Ledger([curve] * len(stations))
        self._heard = Heard(times)
        self._request_ps, self._expected_tokens = request_ps, expected_tokens
        self._ticket: dict[int, int] = {}

    def choose(self, i: int, at_ps: int) -> int:
        """Returns the replica for request i at a moment, advanced to it."""
        for station in self.stations:
            station.advance(at_ps)
        ledger, output = self._ledger, self._tokens.output
        for heard_ps, is_end, j in self._heard.before(at_ps):
            if is_end:
                ledger.ended(self._ticket.pop(j), heard_ps / PS_PER_S, output[j])
            else:
                ledger.first_token(self._ticket[j], heard_ps / PS_PER_S)
        n, now_s = len(self.stations), at_ps / PS_PER_S
        return self._least.pick(
            [self._tokens.fresh[i]] * n,
            self._tokens.prompt[i],
            self._expected_tokens(i),
            [ledger.load(r, now_s) for r in range(n)],
            self.is_up,
        )

    def submit(self, i: int, r: int, at_ps: int) -> bool:
        """Sends request i to the replica chosen for it; returns whether it can ever be served."""
        is_taken = super().submit(i, r, at_ps)
        ticket = self._ledger.sent(
            r,
            self._tokens.prompt[i],
            self._expected_tokens(i),
            at_ps / PS_PER_S,
            self._tokens.fresh[i],
        )
        if is_taken:
            self._ticket[i] = ticket
            self._heard.sent(i, self._request_ps)
        else:
            self._ledger.ended(ticket, at_ps / PS_PER_S)
        return is_taken

    def take_down(self, r: int, at_ps: int) -> list[int]:
        """Returns what a replica loses by dying now, in order of submission."""
        lost = super().take_down(r, at_ps)
        for i in lost:
            self._heard.lost(i)
            self._ledger.ended(self._ticket.pop(i), at_ps / PS_PER_S)
        return lost


def mean_answers(demand: Demand, p: int) -> list[float]:
    """Returns by class the mean length of the answers that may be asked of a pool, tokens.

    A class that may not ask it has the mean of those that may.
    """
    asked = [demand.tokens[p]]
    for cascade in demand.cascades:
        asked += [cascade.first[p], cascade.second[p]]
    n_classes = int(demand.class_index.max(initial=0)) + 1
    total, count = np.zeros(n_classes), np.zeros(n_classes)
    for tokens in asked:
        if tokens is not None:
            total += np.bincount(demand.class_index, tokens.output, n_classes)
            count += np.bincount(demand.class_index, tokens.output > 0, n_classes)
    overall = total.sum() / max(count.sum(), 1.0)
    means = np.divide(total, count, out=np.full(n_classes, overall), where=count > 0)
    return [max(float(mean), 1.0) for mean in means]
