"""Who is turned away when more comes than the plan can serve: 429, the least important first.

A request is admitted where it does not make anybody miss what the plan promised: neither itself nor
those who are at least as important and use the same pool. What it would wait is predicted from what
the instances that answer have to do now, so the capacity is that of the present, not of the plan.

Notation
    c         a class that uses the pool; L its limit on a metric, P the plan's prediction of it  ms
    I         the metric of a mean request of c on an idle instance                               ms
    x, x'     by how much the metric is longer now than on an idle one; its mean over MEMORY_S,   ms
              where whoever is turned away counts as x = REFUSED room
    p, s      x at the planned rate with everybody at his mean; at a peak of it (promises.py)     ms
    d         how many different priorities lie above the request's own, up to that of c          1
    theta     KEPT^d
    q, z      share of requests that the limit is about (p95: .95); its normal quantile; mean: 0  1
    t         time between two ends on a full instance, o TPOT / places                           ms
    V         work that was let in and cannot be done yet, of a pool without a latency model      s

Program
    admitted      when, for its own class and for every class c of no lower priority, and each limit
                      x <= room       = L - I         as a rule; of TTFT, for lower classes, x <= y
                      x <= kept       where c is pressed: x' > mean
                  and x of TTFT <= theta PATIENCE_MS, d up to the highest priority
    TTFT          kept = theta y, y + z sqrt(t y) = room
                  mean = min(y, room / ln 1/(1 - q)); room / 2 for limits on mean and p50
    TPOT, E2E     kept = p + theta more;  mean = s + more / 2
                  more = max(L - P, SLACK room)
    x of TTFT     the predicted first token here, less that on an idle instance; x of TPOT alike
    x of E2E      x of TTFT + (o - 1) x of TPOT, o of class c
    left out      limits with L <= I: such requests are late on an idle instance too
    V             falls by 1 a second; a request adds 1 / capacity; it counts as x of TTFT.
                  capacity is max_rps of a provider, else (servers up) max_load_ratio / work,
                  over the workers that share the traffic
    Retry-After   how far x is beyond what is allowed, times 1 to 2 by turns, in whole seconds

Why so. A plan whose p95 is just within its limit lets one in twenty wait longer, at peaks that pass
by themselves: at such moments nobody is turned away who may still make it. Only where the mean of
the waits says that the limit is being missed (waits have a tail about as long as an exponential
one) does the queue belong to the important. It is common to all and first come, first served, so
what keeps the promise to the high class is how full the others may leave it. In overload it stays
near the bound of the lowest class that is still let in; of those who then wait y for places that
become free every t, a share q waits at most y + z sqrt(t y). Lower classes leave it at KEPT of
that, the next ones at KEPT of the rest. That whoever is turned away counts as very late keeps a
class pressed for as long as too much comes, however short the queue. TPOT and E2E grow with every
request that runs: there the planned level is where room begins, and a peak of the planned rate is
no reason to turn anybody away.

Each process decides alone. Of what others send it hears through the engines' pages, so x is that of
all; V is only of what came in here. The workers of one `rb serve` take even parts of the capacity;
of other hosts nobody here knows, and a provider's own 429 holds them all.

In a queue of one server with Poisson arrivals this is a chain of which the tests know the solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp
from typing import TYPE_CHECKING
from zlib import crc32

from planner.runtime.promises import IDLE, Bound, Excess, Promises
from planner.scheduling.delay import StepCurve, predict_delay
from planner.scheduling.draws import Draws

if TYPE_CHECKING:
    from planner.runtime.ask import Ask
    from planner.runtime.fleet import Fleet
    from planner.runtime.setup import Setup

MEMORY_S = 5.0
MOST_RETRY_S = 60.0
MOST_KEPT = 1_000  # bounds; a header may hold any priority

_STEPS = 1 << 20


@dataclass(slots=True)
class _Backlog:
    """Work that was let in, of a pool whose capacity is all that is known."""

    left_s: float = 0.0
    at_s: float = 0.0

    def wait_s(self, now_s: float) -> float:
        """Returns V, s."""
        return max(self.left_s - max(now_s - self.at_s, 0.0), 0.0)

    def add(self, work_s: float, now_s: float) -> None:
        """Takes the work of one more request."""
        self.left_s, self.at_s = self.wait_s(now_s) + work_s, now_s


class _Gate:
    """Who comes in to one pool."""

    __slots__ = ("_at_s", "_bounds", "_mean", "backlog", "curve")

    def __init__(self, curve: StepCurve | None, now_s: float) -> None:
        self.curve = curve
        self.backlog = _Backlog(0.0, now_s)
        self._mean: Excess | None = None  # x'; None: nobody has come yet
        self._at_s = now_s
        self._bounds: dict[tuple[str | None, int], tuple[Bound, ...]] = {}

    def bounds(self, promises: Promises, pool: str, ask: Ask) -> tuple[Bound, ...]:
        """Returns what a request may add."""
        key = ask.class_name, ask.priority
        found = self._bounds.get(key)
        if found is None:
            if len(self._bounds) > MOST_KEPT:
                self._bounds.clear()
            found = self._bounds[key] = tuple(promises.bounds(pool, *key))
        return found

    def overflow_ms(self, now: Excess, bounds: Sequence[Bound], now_s: float) -> float:
        """Returns how far x is beyond what is allowed, 0: it is not; x' takes it in."""
        mean = self._mean_with(now, now_s)
        worst, most_ms = None, 0.0
        for bound in bounds:
            over_ms = bound.overflow_ms(now, mean)
            if over_ms > most_ms:
                worst, most_ms = bound, over_ms
        self._mean = mean if worst is None else self._mean_with(worst.late(now), now_s)
        self._at_s = max(now_s, self._at_s)
        return most_ms

    def _mean_with(self, now: Excess, now_s: float) -> Excess:
        """Returns x' with one more; the older ones count less the longer ago they are."""
        if self._mean is None:
            return now
        part = 1.0 - exp(min(self._at_s - now_s, 0.0) / MEMORY_S)
        ttft_ms, tpot_ms = self._mean
        return Excess(
            ttft_ms + part * (now.ttft_ms - ttft_ms), tpot_ms + part * (now.tpot_ms - tpot_ms)
        )


class Admission:
    """Decides who comes in, by the plan's promises and the load of the moment."""

    def __init__(self, setup: Setup) -> None:
        """Reads what was promised; without a sheet everybody is admitted."""
        sheet = setup.sheet
        self._promises = None if sheet is None else Promises(setup, sheet)
        self._gates: dict[str, _Gate] = {}
        # Workers must not send their clients back at the same moments.
        self._draws = Draws(crc32(setup.options.request_prefix.encode()))

    def admit(self, ask: Ask, fleet: Fleet, pools: Sequence[str], now_s: float) -> float | None:
        """Returns None where the request may come in, else when to come again, in whole seconds.

        Args:
            ask: the request.
            fleet: what the instances have to do.
            pools: where it may go, in this order: the first that has a server up is judged. Where
                none has one it is let in: whoever tries says that there is nobody.
            now_s: the time.
        """
        promises = self._promises
        if promises is None:
            return None
        for pool in pools:
            if fleet.is_up(pool, now_s):
                return self._at(promises, pool, ask, fleet, now_s) if pool in promises else None
        return None

    def _at(
        self, promises: Promises, pool: str, ask: Ask, fleet: Fleet, now_s: float
    ) -> float | None:
        gate = self._gates.get(pool)
        if gate is None:
            gate = self._gates[pool] = _Gate(promises.curves[pool], now_s)
        now, work_s = _excess(gate.curve, pool, ask, fleet, now_s), None
        if promises.has_capacity_only(pool):
            work_s = promises.work_s(pool, ask, fleet.n_up(pool, now_s))
            now = Excess(now.ttft_ms + 1e3 * gate.backlog.wait_s(now_s), now.tpot_ms)
        overflow_ms = gate.overflow_ms(now, gate.bounds(promises, pool, ask), now_s)
        if overflow_ms > 0.0:
            return self._retry_s(overflow_ms)
        if work_s is not None:
            gate.backlog.add(work_s, now_s)
        return None

    def _retry_s(self, overflow_ms: float) -> float:
        spread = 1.0 + self._draws.below(_STEPS) / _STEPS  # else all would come back together
        return min(float(ceil(max(overflow_ms / 1e3, 0.5) * spread)), MOST_RETRY_S)


def _excess(curve: StepCurve | None, pool: str, ask: Ask, fleet: Fleet, now_s: float) -> Excess:
    """Returns how much longer things take now than on an idle instance, where a model knows."""
    delay = None if curve is None or curve.is_fixed else fleet.delay(pool, ask, now_s)
    if curve is None or delay is None:
        return Excess(0.0, 0.0)
    size = ask.size_at(pool)
    idle = predict_delay(curve, IDLE, size.fresh_tokens, size.input_tokens, size.output_tokens)
    return Excess(delay.ttft_ms - idle.ttft_ms, delay.tpot_ms - idle.tpot_ms)
