"""Requests that are held back until a data-parallel rank has a place for them.

By default a request goes to a rank the moment it comes, by an arrival policy such as least_kv (see
team.py). With a batch policy it waits here while no rank has a free place, and when places become
free the policy chooses who gets them: which of those that wait fits where evens out the ranks of a
step barrier far more than which rank a single request joins.

When it is worth it: where requests wait anyhow, and the ranks run in step. Groups that are full all
the time generate 8 % (16 ranks) to 13 % (144) more tokens per second with best_match than with any
policy that decides on arrival; below saturation least_kv on arrival leaves 3 % or less to be had
(benchmarks/dp_balance.py). It costs a round trip to this process for every place that becomes free,
during which the place is empty: where answers are short, or ranks are full for moments only, leave
it. And it chooses among the requests of this process: with several workers each holds its own.

Program, whenever a request comes or ends, and every DEAL_S while some wait
    free places of a rank   max_num_seqs less what the ledger has there, less what was just placed
    load of a rank          prompt and output tokens of what the ledger has there, likewise
    placed                  what the batch policy says; those overtaken too often go first

Policies that look ahead (brh, lookahead) need to know how far every answer is. It is counted in
steps of the group, which all ranks do together: between two events they last what the latency model
says of the fullest rank.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.scheduling.balance import POLICIES

if TYPE_CHECKING:
    from planner.scheduling.batch import BatchPolicy, DecodeWorkers, Running
    from planner.scheduling.delay import Load, StepCurve
    from planner.scheduling.survival import Predictor

BATCH_POLICIES = ("largest_first", "best_match", "br0", "brh", "lookahead")
RANK_POLICIES = (*POLICIES, *BATCH_POLICIES)
DEAL_S = 0.05


def make_batch_policy(name: str) -> BatchPolicy:
    """Returns a new batch policy of that name; one that looks ahead has seen no answer yet.

    Raises:
        KeyError: there is no such policy; `BATCH_POLICIES` has the names.
    """
    from planner.scheduling.balanceroute import BalanceRoute
    from planner.scheduling.batch import largest_first
    from planner.scheduling.lookahead import Lookahead
    from planner.scheduling.matching import BestMatch
    from planner.scheduling.survival import Survival

    made: dict[str, Callable[[], BatchPolicy]] = {
        "largest_first": lambda: largest_first,
        "best_match": BestMatch,
        "br0": BalanceRoute,
        "brh": lambda: BalanceRoute(Survival()),
        "lookahead": lambda: Lookahead(Survival()),
    }
    return made[name]()


@dataclass(slots=True)
class _Waiting:
    """A request that has no rank yet."""

    key: int
    tokens: int
    turn: int  # how many had been placed when it came


class RankQueue:
    """Who waits for a rank of one group, oldest first, and who was placed but is not sent yet."""

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._waiting: list[_Waiting] = []
        self._reserved: dict[int, tuple[int, int]] = {}  # (rank, tokens) by key
        self._n_placed = self._n_joined = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def tokens(self) -> int:
        """Returns the prompt tokens of all that wait."""
        return sum(each.tokens for each in self._waiting)

    def join(self, tokens: int) -> int:
        """Returns the key of a request of so many prompt tokens, which waits from now on."""
        self._n_joined += 1
        self._waiting.append(_Waiting(self._n_joined, tokens, self._n_placed))
        return self._n_joined

    def leave(self, key: int) -> None:
        """Forgets a request: it was cancelled, or it has been sent."""
        self._reserved.pop(key, None)
        self._waiting = [each for each in self._waiting if each.key != key]

    def place(self, workers: DecodeWorkers) -> list[tuple[int, int]]:
        """Returns (key, rank) of all that the policy places now; each keeps its place by `leave`.

        `workers` has what was sent to the ranks; what is placed and not sent is added here.
        """
        from planner.scheduling.batch import DecodeWorkers, n_overdue

        load, free = list(workers.load_tokens), list(workers.free_slots)
        for rank, tokens in self._reserved.values():
            load[rank] += tokens
            free[rank] = max(free[rank] - 1, 0)
        if not self._waiting or not any(free):
            return []
        overdue = n_overdue([each.turn for each in self._waiting], self._n_placed)
        tokens_of = [each.tokens for each in self._waiting]
        placed = self._policy(tokens_of, DecodeWorkers(load, free, workers.running), overdue)
        dealt = [(self._waiting[i].key, rank) for i, rank in placed]
        for (key, rank), (i, _) in zip(dealt, placed, strict=True):
            self._reserved[key] = rank, self._waiting[i].tokens
        gone = {key for key, _ in dealt}
        self._waiting = [each for each in self._waiting if each.key not in gone]
        self._n_placed += len(dealt)
        return dealt


class Decoding:
    """Which answers are being decoded on which rank, and how far they are, in steps."""

    def __init__(self, n_ranks: int, curve: StepCurve, predictor: Predictor) -> None:
        self._n_ranks, self._curve, self._predictor = n_ranks, curve, predictor
        self._begun: dict[int, tuple[int, int, float]] = {}  # (rank, tokens, at step) by ticket
        self._steps, self._at_s = 0.0, 0.0

    def began(self, ticket: int, rank: int, tokens: int, now_s: float) -> None:
        """Notes the first token of an answer to a prompt of so many tokens."""
        self._move_on(now_s)
        self._begun[ticket] = rank, tokens, self._steps

    def ended(self, ticket: int, now_s: float, output_tokens: float | None) -> None:
        """Notes the end of an answer; of a whole one the length is learned."""
        self._move_on(now_s)
        if self._begun.pop(ticket, None) is not None and output_tokens:
            self._predictor.observe(0, round(output_tokens))

    def running(self, now_s: float) -> Running:
        """Returns what decodes now, by rank and place."""
        import numpy as np

        from planner.scheduling.batch import Running

        self._move_on(now_s)
        by_rank: list[list[tuple[int, int]]] = [[] for _ in range(self._n_ranks)]
        for rank, tokens, since in self._begun.values():
            age = int(self._steps - since) + 1
            by_rank[rank].append((tokens + age, age))
        n_places = max(1, *map(len, by_rank))
        kv, ages = np.zeros((2, self._n_ranks, n_places), dtype=np.int64)
        ages -= 1
        for rank, rows in enumerate(by_rank):
            for place, (kv_tokens, age) in enumerate(rows):
                kv[rank, place], ages[rank, place] = kv_tokens, age
        return Running(kv, ages, np.where(ages < 0, -1, 0))

    def _move_on(self, now_s: float) -> None:
        """Counts the steps since the last event."""
        n, kv = [0] * self._n_ranks, [0.0] * self._n_ranks
        for rank, tokens, since in self._begun.values():
            n[rank] += 1
            kv[rank] += tokens + self._steps - since
        if any(n):
            step_ms = max(map(self._curve.step_ms, n, kv))
            self._steps += 1e3 * max(now_s - self._at_s, 0.0) / max(step_ms, 1e-3)
        self._at_s = max(now_s, self._at_s)


class Hold:
    """The queue of one group as coroutines wait in it."""

    def __init__(
        self,
        n_ranks: int,
        curve: StepCurve,
        policy: BatchPolicy,
        loads: Callable[[float], Sequence[Load]],
    ) -> None:
        """Builds an empty queue.

        Args:
            n_ranks: of the group.
            curve: how fast a rank is, and how many places it has.
            policy: deals them out.
            loads: tells what each rank has to do at a moment.
        """
        self._queue = RankQueue(policy)
        self._places = curve.max_num_seqs
        self._loads = loads
        predictor: Predictor | None = getattr(policy, "predictor", None)
        self.decoding = Decoding(n_ranks, curve, predictor) if predictor is not None else None
        self._futures: dict[int, asyncio.Future[int | None]] = {}
        self._timer: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def tokens(self) -> int:
        """Returns the prompt tokens of all that wait."""
        return self._queue.tokens

    async def place(self, tokens: int) -> int | None:
        """Returns the rank that takes a request of so many prompt tokens, once one has a place.

        None: the server is gone. Otherwise send it at once: its place is nobody else's until
        something is awaited. Whoever is cancelled leaves the queue.
        """
        loop = asyncio.get_running_loop()
        key = self._queue.join(tokens)
        future: asyncio.Future[int | None] = loop.create_future()
        self._futures[key] = future
        self._deal()
        try:
            return await future
        except asyncio.CancelledError:
            self.poke()  # it may have had a place already
            raise
        finally:
            del self._futures[key]
            self._queue.leave(key)

    def poke(self) -> None:
        """Deals soon: something has changed. All changes of one moment are one deal."""
        if self._futures:
            self._deal_in(0.0)

    def release(self) -> None:
        """Sends everybody away who waits: the server is gone."""
        for future in self._futures.values():
            if not future.done():
                future.set_result(None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def workers(self, now_s: float) -> DecodeWorkers:
        """Returns what a batch policy sees of the ranks: whole places and tokens."""
        from planner.scheduling.batch import DecodeWorkers

        loads = self._loads(now_s)
        return DecodeWorkers(
            load_tokens=[round(load.kv_tokens + load.prefill_tokens) for load in loads],
            free_slots=[
                max(self._places - round(load.n_running + load.n_waiting), 0) for load in loads
            ],
            running=None if self.decoding is None else self.decoding.running(now_s),
        )

    def _deal(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self._timer = None
        for key, rank in self._queue.place(self.workers(now_s)):
            future = self._futures[key]
            if not future.done():  # it may be cancelled, and about to leave
                future.set_result(rank)
        if len(self._queue):  # requests of other workers end without a word to us
            self._deal_in(DEAL_S)

    def _deal_in(self, later_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = (
            loop.call_later(later_s, self._deal) if later_s else loop.call_soon(self._deal)
        )
