"""The routing table at work: each class meets its shares, in short windows too (§1).

The next pool of a class depends on the shares and on what was sent so far, not on the prompt and
not on the state of any replica.

Notation
    w_p   share of pool p, in whole millionths; only pools with w_p > 0 count     (k,)
    W     sum of w_p: 1,000,000 in a plan (§6)
    n     requests of the class that have been sent, with the one to be sent now
    a_p   how many of them went to pool p, without the one to be sent now
    e     1 / (2k - 2); 1 where k = 1

Program
    released   pools that may come: w_p n / W - a_p >= e
    deadline   of pool p: request floor((a_p + 1 - e) W / w_p) + 1; after one more without it, it
               would be more than 1 - e behind
    pick       the released pool with the earliest deadline; in a tie the one listed first

Bound. After any number n of requests, for every pool,

    |a_p - w_p n / W| <= 1 - 1 / (2k - 2) < 1        (1/2 for two pools, 0 for one)

so over any window of requests the error is below 2, and a_p is exact whenever w_p n / W is a whole
number for every pool: at the latest after each million requests. Why: Tijdeman's rule, which is
this one with deadlines that are not rounded down, proves that a sequence within all releases and
deadlines exists; earliest deadline first finds one if there is any, as all jobs are of unit length
and all times whole; and some pool is always released, as the w_p n / W - a_p add up to 1.
The usual rule, the largest w_p n / W - a_p (alias smooth weighted round robin), has no such bound:
from five pools on it can be more than a whole request behind.

All numbers are whole, so the choice is exact after any number of requests.

Reference: R. Tijdeman, The chairman assignment problem, Discrete Mathematics 32 (1980) 323-330.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from planner.spec.plan import Routes, WeightedPool

MILLION = 1_000_000


class Turns:
    """The sequence of pools of one class: its shares and what was sent before say who is next."""

    __slots__ = ("_due", "_early", "_n", "_total", "_twice", "_weights", "sent")

    def __init__(self, shares: Sequence[float], sent: Sequence[int] = ()) -> None:
        """Takes the shares by pool, rounded to 6 decimals (§6), and the counts so far, or none.

        Raises:
            ValueError: a share is negative, or none is above zero.
        """
        self._weights = [round(share * MILLION) for share in shares]
        self._total = sum(self._weights)
        if min(self._weights, default=0) < 0 or self._total == 0:
            raise ValueError(f"shares must be at least 0 and one above it, got {list(shares)}")
        self._twice = max(1, 2 * sum(w > 0 for w in self._weights) - 2)  # 1 / e
        self.sent = list(sent) or [0] * len(self._weights)
        self._n = sum(self.sent) + 1
        self._due: list[tuple[int, int]] = []  # heap of (deadline, pool): the released pools
        self._early: list[tuple[int, int]] = []  # heap of (release, pool): the others
        for pool, weight in enumerate(self._weights):
            if weight > 0:
                self._enqueue(pool)

    def _enqueue(self, pool: int) -> None:
        """Notes from when on a pool may come next and by when it must, in requests."""
        a, twice = self.sent[pool], self._twice
        per_request = twice * self._weights[pool]
        release = -(-(twice * a + 1) * self._total // per_request)
        if release > self._n:
            heappush(self._early, (release, pool))
        else:
            deadline = (twice * (a + 1) - 1) * self._total // per_request + 1
            heappush(self._due, (deadline, pool))

    def next(self) -> int:
        """Returns the pool of the next request, and counts it as sent."""
        early = self._early
        while early and early[0][0] <= self._n:
            self._enqueue(heappop(early)[1])
        pool = heappop(self._due)[1]
        self.sent[pool] += 1
        self._n += 1
        self._enqueue(pool)
        return pool


def pick(shares: Sequence[float], sent: Sequence[int]) -> int:
    """Returns the pool of the next request, given how many requests each pool has had.

    Any counts will do, also such as this rule would not have made.

    Raises:
        ValueError: a share is negative, or none is above zero.
    """
    return Turns(shares, sent).next()


@dataclass(frozen=True)
class Way:
    """Where a request goes first, and whether its answer may be sent on from there."""

    pool: str
    cascade: int  # of its class in the order of the routes; ALONE: the pool's answer is final


ALONE = -1


class RoutingTable:
    """The shares of a plan, met request by request: it counts what it has chosen.

    Pools and cascades of a class take turns with one another; within a cascade the pools of its
    first stage do, and on their own those of its second stage. What happens to a request
    afterwards changes no count: a pool that comes back after a failure has nothing to catch up on.
    """

    def __init__(self, routes: Routes) -> None:
        self.fallback = {name: tuple(routes.fallback.get(name, ())) for name in routes.classes}
        """By class, the pools to try in order when the chosen one cannot take the request."""
        self._next: dict[str, tuple[Turns, tuple[Way | _Stage, ...]]] = {}
        self._second: dict[str, tuple[_Stage, ...]] = {}
        for name, pools in routes.classes.items():
            asked = routes.cascades.get(name, ())
            ways = [Way(p.pool, ALONE) for p in pools]
            stages = [_Stage(each.first, cascade) for cascade, each in enumerate(asked)]
            shares = [*(p.share for p in pools), *(each.share for each in asked)]
            self._next[name] = Turns(shares), (*ways, *stages)
            self._second[name] = tuple(_Stage(each.second, ALONE) for each in asked)

    def pick(self, class_name: str) -> str:
        """Returns the pool for the next request of a class, and counts it.

        Raises:
            KeyError: the table has no such class.
        """
        return self.pick_way(class_name).pool

    def pick_way(self, class_name: str) -> Way:
        """Returns pool and cascade for the next request of a class, and counts it.

        Raises:
            KeyError: the table has no such class.
        """
        turns, ways = self._next[class_name]
        way = ways[turns.next()]
        return way if isinstance(way, Way) else way.next()

    def pick_second(self, class_name: str, cascade: int) -> str:
        """Returns the pool for a request that a cascade of its class sends on, and counts it.

        Raises:
            KeyError: the table has no such class.
            IndexError: the class has no such cascade.
        """
        return self._second[class_name][cascade].next().pool

    def n_sent(self, class_name: str) -> dict[str, int]:
        """Returns how many requests of a class each pool was chosen for, beside cascades."""
        turns, ways = self._next[class_name]
        sent = zip(ways, turns.sent, strict=True)
        return {way.pool: n for way, n in sent if isinstance(way, Way)}


class _Stage:
    """The pools of one stage of a cascade, and whose turn it is."""

    __slots__ = ("_turns", "_ways")

    def __init__(self, pools: Sequence[WeightedPool], cascade: int) -> None:
        self._turns = Turns([p.share for p in pools])
        self._ways = tuple(Way(p.pool, cascade) for p in pools)

    def next(self) -> Way:
        """Returns the way of the next request, and counts it as sent."""
        return self._ways[self._turns.next()]
