"""Asks the servers how they are, off the hot path: /metrics pages, and probes of ejected ones.

    a server that is up        its /metrics page every `every_s`; what it says goes into the ledger
    without such a page        GET /health every HEALTH_S; without that one either nothing; and
                               after AGAIN_S the page is tried again: some engines have none before
                               their first request, or while they load
    `metrics: off`             nothing
    an ejected one             nothing until its time out is over, then one probe: GET /health, or
                               /v1/models where that is unknown; an answer below 500 brings it back,
                               and it is asked for its page again

Without a page the ledger alone tells what an instance has to do. A page that comes is no proof that
requests are answered, so it clears no suspicion; one that does not come is a failure like that of a
request: a refused connection ejects, before any request has met it. Only where a request has been
answered in the meantime is a slow or broken page ignored: the server is busy, not away.

One visit per server at a time, the next one `every_s` after its end, so a slow server is asked less
and nothing piles up. Visits begin spread over `every_s`, at most MOST_AT_ONCE run together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from planner.runtime.wire import UpstreamError

if TYPE_CHECKING:
    from planner.runtime.fleet import Fleet
    from planner.runtime.health import FailureKind
    from planner.runtime.instance import Backend

EVERY_S = 1.0
HEALTH_S = 5.0
AGAIN_S = 60.0
TIMEOUT_S = 2.0
MOST_AT_ONCE = 16
LONGEST_NAP_S = 0.25  # so that ejections and reloads are noticed
SHORTEST_NAP_S = 0.01

Fetch = Callable[[str, Mapping[str, str], float], Awaitable[tuple[int, str]]]
"""GET: (url, headers, time-out in s) -> (status, text); OSError or TimeoutError where none is."""


class _Asks(Enum):
    METRICS = "metrics"
    HEALTH = "health"
    NOTHING = "nothing"


@dataclass(slots=True)
class _Watch:
    """What is asked of one server, and when next."""

    asks: _Asks
    due_s: float
    again_s: float = 0.0  # when a server without a page is asked for one again


class Poller:
    """Visits the servers of a fleet for as long as `run` runs."""

    def __init__(self, fleet: Fleet, fetch: Fetch, every_s: float = EVERY_S) -> None:
        self._fleet, self._fetch, self._every_s = fleet, fetch, every_s
        self._watches: dict[str, _Watch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._version = -1

    async def run(self) -> None:
        """Never returns; when cancelled it ends every visit first."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._sync(loop.time())
                self._start_visits(loop)
                await asyncio.sleep(self._nap_s(loop.time()))
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _sync(self, now_s: float) -> None:
        """Takes on new servers and forgets those that are gone."""
        if self._version == self._fleet.version:
            return
        self._version = self._fleet.version
        backends = self._fleet.backends
        fresh = [url for url in backends if url not in self._watches]
        for place, url in enumerate(fresh):
            due_s = now_s + self._every_s * place / len(fresh)
            self._watches[url] = _Watch(_Asks.METRICS, due_s)
        for url in self._watches.keys() - backends.keys():
            del self._watches[url]

    def _start_visits(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = loop.time()
        due = [(w.due_s, url) for url, w in self._watches.items() if url not in self._tasks]
        for due_s, url in sorted(due):
            if due_s > now_s or len(self._tasks) >= MOST_AT_ONCE:
                break
            task = loop.create_task(self._visit(self._fleet.backends[url], self._watches[url]))
            self._tasks[url] = task
            task.add_done_callback(partial(self._visited, url))

    def _visited(self, url: str, _: asyncio.Task[None]) -> None:
        del self._tasks[url]

    def _nap_s(self, now_s: float) -> float:
        due = [w.due_s for url, w in self._watches.items() if url not in self._tasks]
        until_s = min(due, default=now_s + LONGEST_NAP_S) - now_s
        return min(max(until_s, SHORTEST_NAP_S), LONGEST_NAP_S)

    async def _visit(self, backend: Backend, watch: _Watch) -> None:
        loop = asyncio.get_running_loop()
        pause_s, retry_at_s = self._every_s, backend.health.retry_at_s
        try:
            if retry_at_s is None:
                pause_s = await self._ask(backend, watch, loop)
            elif backend.health.probe(loop.time()):
                await self._probe(backend, loop)
                watch.asks = _Asks.METRICS
            elif retry_at_s > loop.time():
                pause_s = min(retry_at_s - loop.time(), self._every_s)
        finally:
            watch.due_s = loop.time() + pause_s

    async def _ask(self, backend: Backend, watch: _Watch, loop: asyncio.AbstractEventLoop) -> float:
        """Returns after how many seconds the server is asked next; asks it now."""
        now_s = loop.time()
        if backend.metrics_url is None:
            return self._every_s
        if now_s >= watch.again_s:
            watch.asks = _Asks.METRICS
        if watch.asks is _Asks.METRICS:
            page = await self._get(backend, backend.metrics_url, loop)
            at_s = (now_s + loop.time()) / 2.0  # the page was made in between
            if page is None:
                return self._every_s
            if page[0] == 200 and self._fleet.observed(backend, page[1], at_s, loop.time()):
                return self._every_s
            watch.asks, watch.again_s = _Asks.HEALTH, loop.time() + AGAIN_S
        if watch.asks is _Asks.HEALTH:
            page = await self._get(backend, f"{backend.url}/health", loop)
            if page is not None and page[0] >= 500:
                backend.health.failed(loop.time(), "status")
            elif page is not None and page[0] != 200:
                watch.asks = _Asks.NOTHING
            return HEALTH_S
        return self._every_s

    async def _get(
        self, backend: Backend, url: str, loop: asyncio.AbstractEventLoop
    ) -> tuple[int, str] | None:
        """Returns (status, text) of a page; None where none came, which its health has heard."""
        started_s, epoch = loop.time(), backend.health.epoch
        try:
            return await self._fetched(backend, url)
        except OSError as error:
            kind = _kind(error)
            if kind == "connect" or backend.health.answered_s < started_s:
                backend.health.failed(loop.time(), kind, epoch)
            return None

    async def _probe(self, backend: Backend, loop: asyncio.AbstractEventLoop) -> None:
        """Tries an ejected server; it has the only place for that."""
        health = backend.health
        epoch = health.epoch
        try:
            status, _ = await self._fetched(backend, f"{backend.url}/health")
            if 300 <= status < 500:
                status, _ = await self._fetched(backend, f"{backend.url}/v1/models")
        except OSError as error:
            health.failed(loop.time(), _kind(error), epoch)
        except BaseException:
            health.give_up_probe()
            raise
        else:
            if status >= 500:
                health.failed(loop.time(), "status", epoch)
            else:
                health.succeeded(loop.time(), epoch)

    async def _fetched(self, backend: Backend, url: str) -> tuple[int, str]:
        # The key is for the server itself, not for whoever else may keep its metrics.
        key = backend.api_key if url.startswith(f"{backend.url}/") else None
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with asyncio.timeout(TIMEOUT_S):
            return await self._fetch(url, headers, TIMEOUT_S)


def _kind(error: OSError) -> FailureKind:
    """Returns what sort of failure an error is; TimeoutError is an OSError too."""
    if isinstance(error, UpstreamError):
        return "reset" if error.kind == "protocol" else error.kind
    return "timeout" if isinstance(error, TimeoutError) else "connect"
