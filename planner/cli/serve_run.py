"""One serving process: puts the runtime together, answers until it is told to end, reads anew."""

from __future__ import annotations

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from planner.cli.serve_files import POLL_S, Job, Reloader, ending_words, plan_words, tell
from planner.errors import InputError

if TYPE_CHECKING:
    from planner.runtime.log import RequestLog
    from planner.runtime.metrics import Report
    from planner.runtime.peers import Peers
    from planner.runtime.server import Listening, Server
    from planner.runtime.setup import Setup
    from planner.runtime.traces import Spans


@dataclass(frozen=True)
class Place:
    """Which of the workers a process is.

    Args:
        number: from 0.
        start: tells the starts of workers apart, in the ids of requests.
        folder: of the sockets where workers and their parent meet; None: the process is alone.
        parent: a pipe that ends when the parent does; None: the process is alone.
    """

    number: int
    start: str
    folder: str | None = None
    parent: int | None = None


def run(
    job: Job, reloader: Reloader, listening: Listening, place: Place, began: Callable[[], None]
) -> int:
    """Returns the exit code after serving until a signal tells to end.

    Calls began once requests are taken.
    """
    from planner.runtime.server import new_event_loop

    async def serve() -> None:
        await _Worker(job, reloader, place).serve(listening, began)

    _allow_many_connections()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())
    return 0


def _allow_many_connections() -> None:
    """Raises the number of files that may be open to what the system grants.

    A request holds two connections; the usual 1,024 would end at some 500 streams, and look as if
    the engines refused.
    """
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Worker:
    """One process that serves; made inside its event loop."""

    def __init__(self, job: Job, reloader: Reloader, place: Place) -> None:
        from planner.runtime.dispatch import Dispatcher
        from planner.runtime.metrics import Meter
        from planner.runtime.page import Pages
        from planner.runtime.status import planned_of
        from planner.runtime.upstream import Timeouts, Upstream

        self._job, self._reloader, self._place = job, reloader, place
        self._loop = asyncio.get_running_loop()
        self._end, self._abort, self._hup = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._hear_signals()  # before anything that takes its time
        self._started_s = self._counted_from_s = time.time()
        setup, now_s = reloader.setup, self._loop.time()
        self._plan_hash = setup.routes.plan_hash
        self._meter = Meter(planned_of(setup).limits_ms, now_s)
        self._log, self._spans = _log(job, setup), _spans(job, setup)
        observers = [each for each in (self._meter, self._log, self._spans) if each is not None]
        self._dispatcher = Dispatcher(
            self._own(setup), now_s, observers, hours=_hours_of_week, spans=self._spans
        )
        self._pages = Pages(self._report, self._meter, setup, _hours_of_week)
        o = job.options
        self._upstream = Upstream(
            Timeouts(
                connect_s=o.connect_timeout_s,
                first_token_s=o.first_token_timeout_s,
                answer_s=o.answer_timeout_s,
                idle_s=o.idle_timeout_s,
            )
        )
        self._server: Server | None = None

    async def serve(self, listening: Listening, began: Callable[[], None]) -> None:
        """Answers until a signal tells to end, then ends what has begun."""
        from planner.runtime.poll import Poller
        from planner.runtime.proxy import Proxy
        from planner.runtime.server import Server

        clock, client_key = self._loop.time, self._job.client_key
        app = Proxy(self._dispatcher, self._upstream, self._pages, clock, client_key=client_key)
        self._server = Server(app, [listening])
        await self._server.start()
        peers = await self._meet_peers()  # who can be met answers clients, too
        works = [Poller(self._dispatcher.fleet, self._upstream.fetch).run(), self._keep_up()]
        if self._log is not None:
            works.append(self._log.run())
        tasks = [self._loop.create_task(_watched(work)) for work in works]
        # What is here now stays: a collector that walks through it holds every answer up.
        gc.freeze()
        began()
        try:
            await self._end.wait()
            await self._drain()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close(peers)

    async def _drain(self) -> None:
        """Takes no more, and waits for what is being answered, unless it is to end at once."""
        assert self._server is not None
        ending = self._loop.create_task(self._server.closed(self._job.drain_s))
        aborting = self._loop.create_task(self._abort.wait())
        await asyncio.wait({ending, aborting}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            self._server.abort()
        await ending
        aborting.cancel()

    async def _close(self, peers: Peers | None) -> None:
        await self._upstream.close()
        if peers is not None:
            await peers.close()
        if self._log is not None:
            await self._log.flush()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)

    async def _meet_peers(self) -> Peers | None:
        from planner.runtime.peers import Peers

        folder = self._place.folder
        if folder is None:
            return None
        n = self._job.n_workers
        peers = self._pages.peers = Peers(folder, self._place.number, n, self._pages.answer)
        await peers.start()
        return peers

    # ---- Signals ---------------------------------------------------------------------------------

    def _hear_signals(self) -> None:
        """Listens to whoever started the process: a parent tells apart what a person repeats."""
        hear = self._loop.add_signal_handler
        hear(signal.SIGHUP, self._hup.set)
        if self._place.parent is None:
            hear(signal.SIGTERM, self._told)
            hear(signal.SIGINT, self._told)
            return
        hear(signal.SIGTERM, self._end.set)
        hear(signal.SIGQUIT, self._ended_at_once)
        self._loop.add_reader(self._place.parent, self._orphaned)

    def _told(self) -> None:
        if self._end.is_set():
            self._abort.set()
            return
        if not self._job.quiet:
            tell(ending_words(self._job))
        self._end.set()

    def _ended_at_once(self) -> None:
        self._end.set()
        self._abort.set()

    def _orphaned(self) -> None:
        from planner.files.serving import remove_folder

        assert self._place.parent is not None and self._place.folder is not None
        self._loop.remove_reader(self._place.parent)
        remove_folder(self._place.folder)
        self._end.set()

    # ---- The plan --------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Reads the files again whenever they change, or SIGHUP asks for it."""
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    await self._hup.wait()
            except TimeoutError:
                is_due = await asyncio.to_thread(self._reloader.poll)
            else:
                is_due = True
                self._hup.clear()
            if is_due:
                await self._reload()

    async def _reload(self) -> None:
        """Takes what the files say now; keeps what there is where they are wrong."""
        try:
            setup = await asyncio.to_thread(self._reloader.take)
            now_s = self._loop.time()
            self._dispatcher.renew(self._own(setup), now_s)
        except InputError as error:
            self._meter.reloaded("refused")
            self._say(f"{error}\nthe plan of before is kept: {self._plan_hash[:12]}")
            return
        is_other = setup.routes.plan_hash != self._plan_hash
        self._plan_hash = setup.routes.plan_hash
        self._pages.renew(setup)
        if self._meter.renew(self._pages.planned.limits_ms, now_s, is_other):
            self._counted_from_s = time.time()
        self._meter.reloaded("ok")
        for each in (self._log, self._spans):
            if each is not None:
                each.plan_hash = self._plan_hash
        if not self._job.quiet:
            self._say(f"read anew: {plan_words(setup)}")

    def _say(self, text: str) -> None:
        if self._place.parent is None:  # else the parent reads the same files, and tells it once
            tell(text)

    def _own(self, setup: Setup) -> Setup:
        """Returns a setup as this worker takes it: no two workers give a request the same id."""
        prefix, n = f"rb-{self._place.start}-{self._place.number}-", self._job.n_workers
        return replace(setup, options=replace(setup.options, request_prefix=prefix, n_workers=n))

    def _report(self) -> Report:
        """Returns what this worker tells of itself."""
        from planner.runtime.metrics import Report, instance_states

        now_s = self._loop.time()
        recent, recent_s = self._meter.recent(now_s)
        return Report(
            worker=self._place.number,
            plan_hash=self._plan_hash,
            started_s=self._started_s,
            counted_from_s=self._counted_from_s,
            scraped_s=time.time(),
            bounds=self._meter.bounds,
            total=self._meter.total(),
            recent=recent,
            recent_s=recent_s,
            instances=instance_states(self._dispatcher.fleet.status(now_s)),
            prices=dict(self._dispatcher.prices()),
            is_draining=self._end.is_set(),
            n_log_lines_lost=0 if self._log is None else self._log.n_lost,
        )


async def _watched(work: Coroutine[object, object, None]) -> None:
    """Does what goes on beside the traffic, which goes on where that fails."""
    try:
        await work
    except Exception as error:
        import traceback

        traceback.print_exception(error)
        tell("this is a bug in rb: please report it; requests are still answered")


def _hours_of_week() -> float:
    """Returns the hours since Monday, 0:00, where this machine is."""
    now = time.localtime()
    return now.tm_wday * 24.0 + now.tm_hour + now.tm_min / 60.0 + now.tm_sec / 3600.0


def _log(job: Job, setup: Setup) -> RequestLog | None:
    if job.log is None:
        return None
    from planner.files.serving import append_bytes
    from planner.runtime.log import RequestLog

    path = job.log
    return RequestLog(
        lambda lines: append_bytes(path, lines), setup.routes.plan_hash, time.time, tell
    )


def _spans(job: Job, setup: Setup) -> Spans | None:
    if job.otlp is None:
        return None
    from planner.runtime.traces import Spans, otlp_exporter

    return Spans(otlp_exporter(job.otlp), setup.routes.plan_hash, time.time)
