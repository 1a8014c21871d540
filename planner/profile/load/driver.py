"""Sending load: an open loop that waits for nothing, and a closed loop of a fixed concurrency.

The open loop sends every request at its scheduled time whatever comes back, and its latencies count
from that time: a slow server does not slow the load down, and a request that we send late is not
excused (no coordinated omission). The closed loop keeps a number of requests in flight.

The load ends at `duration_s`, when the requests are used up, at the cap of requests in flight, or
when `stop` is set. Then nothing more is sent; requests still running get `drain_s` to finish, and
are closed and counted apart (CANCELLED). When the task itself is cancelled, they are closed, too.
"""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from planner.profile.load.client import Answer, Outcome
from planner.profile.load.prompts import Ask
from planner.spec.arrays import FloatArray, IntArray

Send = Callable[[Ask], Awaitable[Answer]]
Source = Callable[[int], Ask]
End = Literal["duration", "requests", "cap", "stopped"]

_TICK_S = 0.02  # how often the generator looks at its own clock
PROGRESS_S = 0.5  # between two reports
_PAUSE_S = 0.5  # of a closed loop's slot after a failure: failing fast must not become a flood


@dataclass(frozen=True)
class Progress:
    """How far a load has come."""

    elapsed_s: float
    n_sent: int
    n_in_flight: int
    n_ok: int
    n_failed: int


@dataclass(frozen=True)
class Ending:
    """When a load ends, whichever comes first; how its last requests are treated."""

    duration_s: float | None = None
    n_requests: int | None = None
    max_in_flight: int = 4096
    drain_s: float = 0.0
    stop: asyncio.Event | None = None


@dataclass(frozen=True)
class Records:
    """The requests of one load in the order of sending, (n,) each; times in s since its start."""

    mode: Literal["open", "closed"]
    concurrency: int | None  # of a closed loop
    scheduled_s: FloatArray
    sent_s: FloatArray
    first_s: FloatArray  # NaN where no text came
    done_s: FloatArray  # the last chunk of an answer; of others, when they were given up
    n_input: IntArray  # 0 where not known
    n_output: IntArray
    outcome: IntArray  # values of Outcome
    status: IntArray  # HTTP status, 0 where none came
    lag_s: FloatArray  # (k,) how late the generator woke up, sampled all through the load
    load_end_s: float  # when the last request could have been sent
    n_unsent: int  # due before that, but not sent: the generator was too late
    end: End
    examples: dict[Outcome, str]  # the first message of each kind of failure


async def open_loop(
    send: Send,
    ask: Source,
    times_s: FloatArray,
    ending: Ending,
    on_progress: Callable[[Progress], None] | None = None,
) -> Records:
    """Returns the requests sent at scheduled times (n,) in s since the start, ascending."""
    run = _Run(send, ask, ending, on_progress)

    async def keep_time() -> None:
        for time_s in times_s.tolist():
            await run.sleep_until(time_s)
            if len(run.requests) >= ending.max_in_flight:
                run.finish("cap")
                return
            run.spawn(run.request(time_s))
        run.finish("requests")

    records = await run.measure("open", None, keep_time())
    n_due = int((times_s <= records.load_end_s).sum())
    return replace(records, n_unsent=max(n_due - records.sent_s.size, 0))


async def closed_loop(
    send: Send,
    ask: Source,
    concurrency: int,
    ending: Ending,
    *,
    ramp_s: float = 0.0,
    on_progress: Callable[[Progress], None] | None = None,
) -> Records:
    """Returns the requests of a load that keeps `concurrency` in flight.

    The first ones start spread over `ramp_s` (about one answer's time), so that requests of equal
    length do not march in step.
    """
    run = _Run(send, ask, ending, on_progress)

    async def work() -> None:
        while not run.is_over:
            if await run.request(run.now_s()) is not Outcome.OK:
                await asyncio.sleep(_PAUSE_S)

    async def start_workers() -> None:
        for slot in range(concurrency):
            await run.sleep_until(ramp_s * slot / concurrency)
            run.spawn(work())

    return await run.measure("closed", concurrency, start_workers())


class _Run:
    """One load while it runs: its clock, its requests in flight, what came of those before."""

    def __init__(
        self,
        send: Send,
        ask: Source,
        ending: Ending,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self.requests: set[asyncio.Task[object]] = set()
        self._send = send
        self._ask = ask
        self._ending = ending
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[End] = self._loop.create_future()
        self._start_s = 0.0
        self._scheduled_s: list[float] = []
        self._answers: list[Answer] = []
        self._lag_s: list[float] = []
        self._n_ok = 0
        self._n_failed = 0
        self._examples: dict[Outcome, str] = {}

    @property
    def is_over(self) -> bool:
        """Returns whether nothing more is to be sent."""
        return self._end.done()

    def now_s(self) -> float:
        """Returns the time since the start in s."""
        return self._loop.time() - self._start_s

    def finish(self, end: End) -> None:
        """Returns nothing; ends the load, unless it is over already."""
        if not self._end.done():
            self._end.set_result(end)

    async def sleep_until(self, time_s: float) -> None:
        """Returns at a time in s since the start; when it is past, after others had their turn."""
        await asyncio.sleep(max(0.0, time_s - self.now_s()))

    def spawn(self, work: Coroutine[None, None, object]) -> None:
        """Returns nothing; lets work run that ends with, or soon after, the load."""
        task = self._loop.create_task(work)
        self.requests.add(task)
        task.add_done_callback(self._reap)

    async def request(self, scheduled_s: float) -> Outcome:
        """Returns how one request ended, when it has, and keeps what came of it."""
        place = len(self._scheduled_s)
        sent_s = self._loop.time()
        self._scheduled_s.append(scheduled_s)
        self._answers.append(Answer(Outcome.CANCELLED, sent_s, math.nan, math.nan))
        if place + 1 == self._ending.n_requests:
            self.finish("requests")
        try:
            answer = await self._send(self._ask(place))
        except asyncio.CancelledError:
            given_up_s = self._loop.time()
            self._answers[place] = self._answers[place]._replace(done_s=given_up_s)
            raise
        self._answers[place] = answer
        if answer.outcome is Outcome.OK:
            self._n_ok += 1
        else:
            self._n_failed += 1
            self._examples.setdefault(answer.outcome, answer.detail)
        return answer.outcome

    async def measure(
        self,
        mode: Literal["open", "closed"],
        concurrency: int | None,
        load: Coroutine[None, None, object],
    ) -> Records:
        """Returns the records of a load, run from its start to its end."""
        with _quiet_collector():
            self._start_s = self._loop.time()
            helpers = [
                self._guarded(load),
                self._guarded(self._tick()),
                self._guarded(self._time_out()),
                self._guarded(self._stop()),
            ]
            try:
                end = await self._end
                load_end_s = self.now_s()
                helpers[0].cancel()
                await self._drain(stop=helpers[-1])
            finally:
                await _close([*helpers, *self.requests])
        return self._records(mode, concurrency, load_end_s, end)

    def _guarded(self, work: Coroutine[None, None, object]) -> asyncio.Task[object]:
        """Returns a task; what it raises ends the load."""
        task = self._loop.create_task(work)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[object]) -> None:
        """Returns nothing; forgets a task that is done, and passes on what it raised."""
        self.requests.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._end.done():
            self._end.set_exception(error)

    async def _time_out(self) -> None:
        """Returns when the load has lasted as long as it may."""
        if self._ending.duration_s is not None:
            await self.sleep_until(self._ending.duration_s)
            self.finish("duration")

    async def _stop(self) -> None:
        """Returns when the caller wants the load to end."""
        if self._ending.stop is None:
            await self._loop.create_future()
        else:
            await self._ending.stop.wait()
            self.finish("stopped")

    async def _tick(self) -> None:
        """Returns never; notes how late the loop wakes up, and tells how far the load is."""
        time_s = next_progress_s = 0.0
        while True:
            time_s += _TICK_S
            await self.sleep_until(time_s)
            self._lag_s.append(max(0.0, self.now_s() - time_s))
            if self._on_progress is not None and time_s >= next_progress_s:
                next_progress_s = time_s + PROGRESS_S
                n_in_flight = len(self._answers) - self._n_ok - self._n_failed
                self._on_progress(
                    Progress(time_s, len(self._answers), n_in_flight, self._n_ok, self._n_failed)
                )

    async def _drain(self, stop: asyncio.Task[object]) -> None:
        """Returns when nothing is in flight, the time for that is over, or `stop` is done."""
        over_s = self._loop.time() + self._ending.drain_s
        while self.requests and not stop.done() and (left_s := over_s - self._loop.time()) > 0:
            waiting = {*self.requests, stop}
            await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)

    def _records(
        self, mode: Literal["open", "closed"], concurrency: int | None, load_end_s: float, end: End
    ) -> Records:
        """Returns the records as arrays."""
        answers = self._answers

        def times_s(name: str) -> FloatArray:
            return np.array([getattr(a, name) for a in answers], dtype=np.float64) - self._start_s

        def whole(name: str) -> IntArray:
            return np.array([getattr(a, name) for a in answers], dtype=np.int64)

        return Records(
            mode=mode,
            concurrency=concurrency,
            scheduled_s=np.array(self._scheduled_s, dtype=np.float64),
            sent_s=times_s("sent_s"),
            first_s=times_s("first_s"),
            done_s=times_s("done_s"),
            n_input=whole("n_input"),
            n_output=whole("n_output"),
            outcome=whole("outcome"),
            status=whole("status"),
            lag_s=np.array(self._lag_s, dtype=np.float64),
            load_end_s=load_end_s,
            n_unsent=0,
            end=end,
            examples=dict(self._examples),
        )


async def _close(tasks: list[asyncio.Task[object]]) -> None:
    """Returns when all tasks have ended, cancelled where they still ran."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def _quiet_collector() -> Iterator[None]:
    """Keeps what is in memory away from the garbage collector: its pauses would be measured."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
