"""Requests to the upstream servers over connections that are kept and used again.

One stack of free connections per address: the one used last is taken first, so that as many stay
open as are needed at once and the others grow old and are closed. A connection is opened only when
none is free: never more of them than requests were in flight at the same time.

A server may close a kept connection while a request is on its way. Only then, that is on a reused
connection that ended before any byte of an answer, a request is sent once more, on a new one.
(The server may have begun it; it cannot have told anyone.)

One timer looks after all requests in flight, so that none of them has to start and stop its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from planner.runtime.wire import FOREVER_S, Address, Answer, Connection, UpstreamError, request_head

if TYPE_CHECKING:
    import ssl

# uvicorn, under most engines, closes what was idle for 5 s: be the first to close.
FREE_S = 4.0
MAX_TEXT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Timeouts:
    """How long is waited for an upstream, in seconds."""

    connect_s: float = 2.0
    first_token_s: float = 120.0  # the first byte of a streamed answer
    answer_s: float = 600.0  # the first byte of one that is not streamed: it comes when all is done
    idle_s: float = 60.0  # the next byte

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} must be above 0 s")


class Upstream:
    """The client of all upstream servers: `send` a request, `read` its answer as it arrives."""

    def __init__(self, timeouts: Timeouts | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.timeouts = timeouts or Timeouts()
        self.n_opened = 0  # connections, since the start
        self._tls = tls
        self._free: dict[Address, list[Connection]] = {}
        self._busy: set[Connection] = set()
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        shortest_s = min(self.timeouts.first_token_s, self.timeouts.answer_s, self.timeouts.idle_s)
        self._tick_s = min(0.5, shortest_s / 8)

    @property
    def n_in_flight(self) -> int:
        """Requests whose answer is not complete."""
        return len(self._busy)

    @property
    def n_free(self) -> int:
        """Connections that wait for a request."""
        return sum(len(free) for free in self._free.values())

    async def send(self, address: Address, request: bytes, first_byte_s: float) -> Answer:
        """Returns the answer to a request once its status and headers are here.

        `request` is head, empty line and body. The body must begin within first_byte_s. Whoever
        gives the answer up before its end calls `abort` on it. Raises UpstreamError; when
        cancelled, the connection is aborted.
        """
        connection = self._take(address, asyncio.get_running_loop().time())
        if connection is not None:
            try:
                return await self._ask(connection, request, first_byte_s)
            except UpstreamError as error:
                if not error.is_unanswered:
                    raise
        return await self._ask(await self._connect(address), request, first_byte_s)

    async def fetch(
        self, url: str, headers: Mapping[str, str], timeout_s: float
    ) -> tuple[int, str]:
        """Returns the status and the text of a GET, whole within timeout_s and 4 MiB.

        Raises UpstreamError, which is a ConnectionError, and TimeoutError.
        """
        address, parts = Address.of(url), urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        head = request_head("GET", address, path, headers.items())
        async with asyncio.timeout(timeout_s):
            answer = await self.send(address, head + b"\r\n", FOREVER_S)
            try:
                text = await read_whole(answer, MAX_TEXT_BYTES)
            finally:
                answer.abort()
        return answer.status, text.decode("utf-8", "replace")

    async def close(self) -> None:
        """Ends every connection; requests in flight fail as reset."""
        self._is_closed = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for connection in [*self._busy, *(c for free in self._free.values() for c in free)]:
            connection.abort()
        while self._busy or self.n_free:
            await asyncio.sleep(0)

    def _take(self, address: Address, now_s: float) -> Connection | None:
        """The connection that became free last, if one is still open and not too old."""
        free = self._free.get(address)
        while free:
            connection = free.pop()
            if connection.is_open and now_s - connection.free_since_s < FREE_S:
                return connection
            connection.close()
        return None

    async def _ask(self, connection: Connection, request: bytes, first_byte_s: float) -> Answer:
        answer = connection.ask(request, first_byte_s, self.timeouts.idle_s)
        self._busy.add(connection)
        if self._sweep_timer is None:
            self._sweep()
        try:
            await answer.head()
        except asyncio.CancelledError:
            connection.abort()
            raise
        return answer

    async def _connect(self, address: Address) -> Connection:
        if self._is_closed:
            raise UpstreamError("connect", "the client is closed")
        loop = asyncio.get_running_loop()
        limit_s = self.timeouts.connect_s
        try:
            async with asyncio.timeout(limit_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(address, loop, self._freed),
                    address.host,
                    address.port,
                    ssl=self._tls_context() if address.is_tls else None,
                )
        except TimeoutError:
            raise UpstreamError("connect", f"no connection within {limit_s:g} s") from None
        except (OSError, UnicodeError) as error:  # a name that cannot be one is the latter
            raise UpstreamError("connect", f"no connection: {error}") from error
        self.n_opened += 1
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            import ssl

            self._tls = ssl.create_default_context()
        return self._tls

    def _freed(self, connection: Connection, is_reusable: bool) -> None:
        self._busy.discard(connection)
        free = self._free.setdefault(connection.address, [])
        if is_reusable:
            free.append(connection)
        elif connection in free:
            free.remove(connection)

    def _sweep(self) -> None:
        """Gives up what waited for too long, closes what was free for too long."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for connection in [c for c in self._busy if c.is_overdue(now_s)]:
            connection.time_out()
        for free in self._free.values():
            while free and now_s - free[0].free_since_s >= FREE_S:
                free.pop(0).close()
        is_needed = self._busy or self.n_free
        self._sweep_timer = loop.call_later(self._tick_s, self._sweep) if is_needed else None


async def read_whole(answer: Answer, limit_bytes: int) -> bytes:
    """Returns the whole body of an answer; UpstreamError ("protocol") when it is above a limit."""
    body = bytearray()
    while piece := await answer.read():
        body += piece
        if len(body) > limit_bytes:
            raise UpstreamError("protocol", f"the answer is longer than {limit_bytes} bytes")
    return bytes(body)
