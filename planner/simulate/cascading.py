"""A cluster with cascades: first answers that are not trusted are asked for once more elsewhere.

Notation
    N      requests; index i is the request, or its first answer; N + i its second answer
    t0_p   what a request takes at pool p beside any step                          ps
    q_r    moment before which nobody is done at replica r                         ps

Program, beside that of cluster.py
    request i     pool or cascade = RoutingTable.pick_way(class of i)    §1: blind to both
                  through a cascade it goes to a pool of the first stage
    first answer  done at d on pool p, and escalated: at d + t0_p a pool of the second stage is
                  picked and asked, after all boundaries of replicas at that moment; else it is
                  delivered whole, as it was held back until then
    pool is gone  a pool of the class's fallback answers alone, as if there were no cascade
    replica dies  a first answer that was not delivered is asked for again, however far it was

Who is escalated comes at a moment that only the replica knows. So before anything happens at t the
replicas that hold such requests are brought there in order of q_r, from boundary to boundary; q_r
jumps over all steps that only add tokens, so that this takes about twice the time per answer.
Other replicas are advanced when somebody looks at them, as ever. At one moment failures come
first, then arrivals, then boundaries by pool and replica, then what they escalate.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from planner.scheduling.table import ALONE, RoutingTable
from planner.simulate.demand import Demand
from planner.simulate.failures import Change
from planner.simulate.hosted import Hosted
from planner.simulate.records import Cascaded, Outcome, Records, Usage
from planner.simulate.replica import NEVER
from planner.simulate.serving import Asked, Serving
from planner.simulate.settings import NOT_YET, Tokens

if TYPE_CHECKING:
    from planner.simulate.cluster import Cluster

NO_STAGE = -1


class Cascading(Serving):
    """A cluster while it runs, with second answers."""

    def __init__(self, cluster: Cluster, demand: Demand, table: RoutingTable, seed: int) -> None:
        n = demand.arrived_ps.size
        self._places = cluster.cascades  # class and place in it, by cascade
        self._cascade_at = {place: o for o, place in enumerate(self._places)}
        self._cascade_of = [ALONE] * n  # who answers in the end
        self._stage_of = [NO_STAGE] * 2 * n  # 2 o + stage of cascade o
        self._is_escalated = [False] * n
        asked = Asked(
            pool_of=[-1] * 2 * n,
            tokens=Tokens([0] * 2 * n, [0] * 2 * n, [0] * 2 * n),
            priority=demand.priority.tolist() * 2,
            class_of=demand.class_index.tolist() * 2,
        )
        super().__init__(cluster, demand, table, asked, seed)
        self._n_pending = [[0] * len(pool.stations) for pool in self._pools]
        self._version = [[0] * len(pool.stations) for pool in self._pools]
        self._watched: list[tuple[int, int, int, int]] = []  # heap of (q, pool, replica, version)
        self._due: list[tuple[int, int, int]] = []  # heap of (moment, order, request)
        self._n_due = 0
        self._second_ps = [NOT_YET] * n  # when the second answer was asked for
        for i in range(n):
            self._choose_way(i)

    def _choose_way(self, i: int) -> None:
        """Lets request i ask a pool, or the first stage of a cascade."""
        class_name = self._cluster.class_names[self._class_of[i]]
        way = self._table.pick_way(class_name)
        p = self._index[way.pool]
        tokens = self._demand.tokens[p]
        if way.cascade != ALONE:
            o = self._cascade_at[class_name, way.cascade]
            cascade = self._demand.cascades[o]
            tokens = cascade.first[p]
            self._cascade_of[i], self._stage_of[i] = o, 2 * o
            self._is_escalated[i] = bool(cascade.escalated[i])
        assert tokens is not None  # routes lead where their classes may go
        self._ask(i, p, tokens)

    # ---- What happens ----------------------------------------------------------------------------

    def arrive(self, i: int, at_ps: int) -> None:
        """Takes request i at a moment."""
        self._until(at_ps)
        self.send(i, at_ps)

    def send(self, i: int, at_ps: int, is_last: bool = False) -> None:
        """Sends an answer's request to its pool at a moment."""
        super().send(i, at_ps, is_last)
        if self._outcome[i] != Outcome.OK:
            return
        p, r = self._pool_of[i], self._replica_of[i]
        if self._will_escalate(i):
            if isinstance(self._pools[p].stations[r], Hosted):
                self._note_done(i)
            else:
                self._n_pending[p][r] += 1
        self._watch(p, r)

    def change(self, change: Change) -> None:
        """Lets a replica die, slow down or return."""
        self._until(change.at_ps)
        p, r = change.pool_index, change.replica_index
        if change.kind == "die":
            self._n_pending[p][r] = 0
        super().change(change)
        self._watch(p, r)

    def drained(self) -> tuple[Records, Usage]:
        """Returns what the run leaves behind after every replica has emptied itself."""
        self._until(NEVER)
        return super().drained()

    def _fall_back(self, i: int) -> int:
        """Returns the pool that answers alone in place of a stage, -1 if there is none."""
        self._stage_of[i] = NO_STAGE
        self._cascade_of[i % self._n_requests] = ALONE
        return super()._fall_back(i)

    def _lose(self, i: int, at_ps: int) -> None:
        """Decides what becomes of an answer whose replica died: nobody has seen a first one."""
        if i < self._n_requests and self._stage_of[i] != NO_STAGE:
            self._times.first_ps[i] = NOT_YET
        super()._lose(i, at_ps)

    # ---- Who is escalated, and when --------------------------------------------------------------

    def _will_escalate(self, i: int) -> bool:
        """Returns whether an answer is a first one that will not be trusted."""
        return i < self._n_requests and self._stage_of[i] != NO_STAGE and self._is_escalated[i]

    def _until(self, at_ps: int) -> None:
        """Lets everything happen before a moment that may be followed by an escalation."""
        watched, due = self._watched, self._due
        while True:
            while watched and self._version[watched[0][1]][watched[0][2]] != watched[0][3]:
                heappop(watched)
            next_ps = watched[0][0] if watched else NEVER
            due_ps = due[0][0] if due else NEVER
            if min(next_ps, due_ps) >= at_ps:
                return
            if next_ps <= due_ps:
                _, p, r, _ = heappop(watched)
                self._look(p, r, next_ps)
            else:
                self._escalate(heappop(due)[-1], due_ps)

    def _watch(self, p: int, r: int) -> None:
        """Notes until when a replica that holds requests to be escalated can be left alone."""
        station = self._pools[p].stations[r]
        if self._n_pending[p][r] and not isinstance(station, Hosted):
            self._version[p][r] += 1
            heappush(self._watched, (station.quiet_until_ps, p, r, self._version[p][r]))

    def _look(self, p: int, r: int, at_ps: int) -> None:
        """Brings a replica over a boundary at which requests may be done."""
        station = self._pools[p].stations[r]
        assert not isinstance(station, Hosted)  # such are not watched
        if station.advance(at_ps + 1, to_completion=True):
            for i in sorted(station.ended):
                if self._will_escalate(i):
                    self._n_pending[p][r] -= 1
                    self._note_done(i)
        self._watch(p, r)

    def _note_done(self, i: int) -> None:
        """Notes when the first answer of request i is there, and a second one is asked for."""
        done_ps = self._times.done_ps[i] + self._cluster.pools[self._pool_of[i]].request_ps
        heappush(self._due, (done_ps, self._n_due, i))
        self._n_due += 1

    def _escalate(self, i: int, at_ps: int) -> None:
        """Asks for the second answer of request i at a moment."""
        o = self._cascade_of[i]
        p = self._index[self._table.pick_second(*self._places[o])]
        tokens = self._demand.cascades[o].second[p]
        assert tokens is not None  # routes lead where their classes may go
        second = self._n_requests + i
        self._second_ps[i], self._stage_of[second] = at_ps, 2 * o + 1
        self._ask(second, p, tokens)
        self.send(second, at_ps, is_last=True)

    # ---- What is left behind ---------------------------------------------------------------------

    def _records(self) -> Records:
        """Returns the requests as their users saw them, with the visits behind them."""
        demand, n = self._demand, self._n_requests
        second_ps = np.array(self._second_ps, dtype=np.int64)
        stage = np.array(self._stage_of, dtype=np.int64)
        answers = self._answers(np.concatenate([demand.arrived_ps, second_ps]))
        has_second = second_ps != NOT_YET
        visited = np.flatnonzero(np.concatenate([np.full(n, True), has_second]))
        order = visited[np.argsort(answers.arrived_ps[visited], kind="stable")]
        first, last = answers.take(np.arange(n)), answers.take(np.arange(n) + n * has_second)
        held_back = (stage[:n] != NO_STAGE) & ~has_second
        untimed = has_second & (first.outcome == Outcome.UNTIMED) & (last.outcome == Outcome.OK)
        n_preempted = first.n_preempted + np.where(has_second, last.n_preempted, 0)
        return replace(
            last,
            arrived_ps=demand.arrived_ps,
            first_ps=np.where(held_back, last.done_ps, last.first_ps),
            n_preempted=n_preempted,
            outcome=np.where(untimed, Outcome.UNTIMED, last.outcome),
            cascaded=Cascaded(
                np.array(self._cascade_of, dtype=np.int64), answers.take(order), stage[order]
            ),
        )
