"""One level of a run: the load is driven as long as its figures need, and the engine is watched.

Notation
    n      answers so far                              t      seconds since the load began
    N      requests in flight                          R      answer time, N t / n (Little's law)

A load has lasted long enough when t >= 6 R and n >= wanted + 2 N: warm-up takes about one R and
N answers, and what is left is a steady part with answers for the percentiles. If the throughput is
still uncertain by more than 3 %, or too few answers fell into the steady part, and time allows, the
level is driven again for longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from planner.arrivals import gamma, poisson, repeated, trace
from planner.metrics_page import EngineState
from planner.profile.load.client import Client
from planner.profile.load.driver import Ending, Progress, Records, closed_loop, open_loop
from planner.profile.load.level import Level, measure
from planner.profile.load.probe import Watch
from planner.profile.load.prompts import Calibration, Lengths, PromptSource
from planner.spec.arrays import FloatArray
from planner.spec.run import LevelRecord, Step

LONG_ENOUGH = 6.0  # times the answer time
WANTED_ANSWERS = 200  # for a p99
WANTED_ALONE = 60  # for a p95, where requests come one by one
NOISE_RATIO = 0.03  # half width of the interval of the throughput
LONGER = 3.0  # times the first duration, when a level is driven again
LOOK_S = 0.25  # between two looks at /metrics
IDLE_S = 10.0  # at most, for the engine to finish what was broken off
BREATHE_S = 0.2  # instead, where the engine cannot be watched
SILENT_S = 10.0  # and three answer times without one, but with failures: the engine has gone

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Load:
    """One load to drive: its step, the lengths of its requests, and how they arrive.

    A trace gives lengths and times in the same order.
    """

    step: Step
    lengths: Lengths
    arrivals: str = "poisson"  # poisson | gamma:CV | trace
    trace_s: FloatArray | None = None  # recorded times, for a trace

    def times_s(self, duration_s: float, seed: int) -> FloatArray:
        """Returns the send times in s, (n,), of an open loop."""
        rate_rps = self.step.load
        if self.arrivals.startswith("gamma:"):
            cv = float(self.arrivals.removeprefix("gamma:"))
            return gamma(rate_rps, cv, seed=seed, duration_s=duration_s)
        if self.trace_s is None:
            return poisson(rate_rps, seed=seed, duration_s=duration_s)
        # The trace over and over, at the wanted mean rate.
        times_s = trace(self.trace_s)
        times_s *= (times_s.size - 1) / (times_s[-1] * rate_rps)
        return repeated(times_s, duration_s)


@dataclass(frozen=True)
class Driven:
    """What came of a level: its record and its figures."""

    record: LevelRecord
    level: Level
    too_short: bool  # no figures, for want of time


@dataclass
class _Seen:
    """The looks at /metrics during a load."""

    states: list[EngineState] = field(default_factory=list)

    def typical_waiting(self) -> float | None:
        """Returns the median queue over the second half of the load, None where it was unseen."""
        late = self.states[len(self.states) // 2 :]
        waiting = [s.n_waiting for s in late if s.n_waiting is not None]
        return float(np.median(waiting)) if waiting else None

    def most_kv_used_ratio(self) -> float | None:
        """Returns the fullest that the KV cache was seen."""
        used = [s.kv_used_ratio for s in self.states if s.kv_used_ratio is not None]
        return min(max(used), 1.0) if used else None

    def n_preempted(self) -> float | None:
        """Returns how many requests were preempted between the first and the last look."""
        counts = [s.n_preempted for s in self.states if s.n_preempted is not None]
        return max(counts[-1] - counts[0], 0.0) if counts else None


@dataclass
class Silence:
    """How long a load has had failures and no answer."""

    at_most_s: float
    last: Progress | None = None  # when there was an answer, or no failure yet

    def is_over(self, now: Progress) -> bool:
        """Returns whether it has lasted so long that no answer will come."""
        last = self.last
        if last is None or now.n_ok > last.n_ok or now.n_failed == last.n_failed:
            self.last = now
            return False
        return now.elapsed_s - last.elapsed_s > self.at_most_s


class Runner:
    """Drives single loads against one endpoint."""

    def __init__(
        self, client: Client, watch: Watch, calibration: Calibration, salt: int, watched: bool
    ) -> None:
        self._client = client
        self._watch = watch
        self._calibration = calibration
        self._salt = salt
        self._watched = watched
        self._n_driven = 0

    async def drive(
        self, load: Load, answer_s: float, at_most_s: float, seed: int, on_progress: OnProgress
    ) -> Driven:
        """Returns what came of one load.

        Args:
            load: what to send.
            answer_s: about how long an answer takes, in s.
            at_most_s: the time that the level may take, in s.
            seed: of the arrival times.
            on_progress: called while the load runs.
        """
        started_s = _now_s()
        driven = await self._once(load, answer_s, at_most_s, 1.0, seed, on_progress)
        first_s = _now_s() - started_s
        is_poor = driven.too_short or _is_noisy(driven)
        if is_poor and LONGER * first_s <= at_most_s - first_s:
            driven = await self._once(
                load, answer_s, at_most_s - first_s, LONGER, seed + 1, on_progress
            )
        return driven

    async def _once(
        self,
        load: Load,
        answer_s: float,
        at_most_s: float,
        longer: float,
        seed: int,
        on_progress: OnProgress,
    ) -> Driven:
        self._n_driven += 1
        # Words of its own for every load of every call: an engine remembers the prompts it has had.
        words = [self._salt, self._n_driven]
        source = PromptSource(
            load.lengths,
            seed=int(np.random.SeedSequence(words).generate_state(1)[0]),
            calibration=self._calibration,
            in_order=load.trace_s is not None,
        )
        stop, silence = asyncio.Event(), Silence(max(SILENT_S, 3.0 * answer_s))

        def moved(progress: Progress) -> None:
            on_progress(progress)
            if has_lasted(progress, load.step, longer) or silence.is_over(progress):
                stop.set()

        await self._idle()
        ending = Ending(duration_s=at_most_s, stop=stop)
        seen, end_s = _Seen(), _now_s() + at_most_s
        looking = asyncio.create_task(self._look(seen, lambda: stop.is_set() or _now_s() >= end_s))
        try:
            records = await self._load(load, source, answer_s, ending, seed, moved)
        finally:
            looking.cancel()
        return _driven(load.step, records, seen)

    async def _load(
        self,
        load: Load,
        source: PromptSource,
        answer_s: float,
        ending: Ending,
        seed: int,
        moved: OnProgress,
    ) -> Records:
        send, ask = self._client.send, source.ask
        if load.step.mode == "closed":
            n = round(load.step.load)
            ramp_s = min(answer_s, (ending.duration_s or answer_s) / LONG_ENOUGH)
            return await closed_loop(send, ask, n, ending, ramp_s=ramp_s, on_progress=moved)
        times_s = load.times_s(ending.duration_s or 0.0, seed)
        return await open_loop(send, ask, times_s, ending, on_progress=moved)

    async def _look(self, seen: _Seen, is_over: Callable[[], bool]) -> None:
        """Looks at /metrics while the load is on; an engine without the page is left alone."""
        while self._watched:
            state = await self._watch.state()
            if is_over():
                return
            if state is not None:
                seen.states.append(state)
            await asyncio.sleep(LOOK_S)

    async def _idle(self) -> None:
        """Waits until the engine has finished what an earlier load broke off."""
        if not self._watched:
            await asyncio.sleep(BREATHE_S)
            return
        end_s = _now_s() + IDLE_S
        while _now_s() < end_s:
            state = await self._watch.state()
            if state is None or not ((state.n_running or 0.0) + (state.n_waiting or 0.0)):
                return
            await asyncio.sleep(LOOK_S)


def has_lasted(progress: Progress, step: Step, longer: float = 1.0) -> bool:
    """Returns whether a load has lasted long enough for its figures; `longer` times as long."""
    if not progress.n_ok:
        return False
    wanted = WANTED_ALONE if step.mode == "closed" and step.load <= 2 else WANTED_ANSWERS
    answer_s = progress.n_in_flight * progress.elapsed_s / progress.n_ok
    enough = progress.n_ok >= longer * wanted + 2 * progress.n_in_flight
    return enough and progress.elapsed_s >= longer * LONG_ENOUGH * answer_s


def _driven(step: Step, records: Records, seen: _Seen) -> Driven:
    """Returns the level of records, as what was asked for."""
    level = measure(records, source=step.source)
    tokens = level.output_tokens_per_s
    noise = tokens.ratio if tokens is not None and np.isfinite(tokens.ratio) else None
    record = LevelRecord(
        step=step,
        answered=level.point is not None,
        n_waiting=seen.typical_waiting(),
        kv_used_ratio=seen.most_kv_used_ratio(),
        n_preempted=seen.n_preempted(),
        noise_ratio=noise,
    )
    failed = sum(level.failures.values())
    return Driven(record, level, level.point is None and failed <= level.n_cancelled + level.n_ok)


def _is_noisy(driven: Driven) -> bool:
    noise = driven.record.noise_ratio
    return driven.level.point is not None and (noise is None or noise > NOISE_RATIO)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
