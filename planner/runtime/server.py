"""Faces the clients: uvicorn's HTTP protocol, with the limits that a server in the open needs.

uvicorn reads requests with llhttp and keeps connections; what it leaves open is closed here:

- heads are bounded (431), and must be here within `head_s`; bodies within that, and as long as a
  slow line takes for them (408). A connection that says nothing is closed.
- a client that leaves cancels the task of its request, whatever that is waiting for.
- a client that does not read what it asked for is cut after `unread_s`.
- CONNECT, transfer encodings but `chunked` are refused; trailers are ignored, so that they cannot
  pass for headers. An offer to upgrade is ignored, as HTTP allows: Java's client makes one.
- a second request before the answer to the first is not taken: reading on shows who leaves.
- an error in the middle of an answer cuts the connection, and never writes a second answer into it.
- no Server and no Date header.

The hooks that this overrides are those of uvicorn 0.46 and later.

One timer per server looks after all connections: none of them starts and stops its own.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from planner.runtime.errors_body import error_body
from planner.runtime.framing import Cut, Framing

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGISendCallable

    from planner.runtime.proxy import Proxy

_log = logging.getLogger("planner.runtime")


Listening = socket.socket
"""Where clients come to."""


@dataclass(frozen=True)
class Limits:
    """What a client may take: bytes, and time in seconds."""

    head_bytes: int = 64 * 1024
    head_s: float = 10.0
    body_bytes_per_s: float = 10_000.0  # the slowest line that is waited for
    kept_s: float = 75.0  # a connection between two requests
    unread_s: float = 60.0  # an answer that its client does not take


class _Bad(NamedTuple):
    """Why a request is not taken."""

    status: int
    code: str
    message: str


class _NotTaken(Exception):
    """Carries a _Bad through the parser."""

    def __init__(self, bad: _Bad) -> None:
        super().__init__(bad.code)
        self.bad = bad


_NOT_HTTP = _Bad(400, "invalid_http", "this is not an HTTP/1.1 request")
_BAD_ENCODING = _Bad(501, "transfer_encoding", "the only transfer encoding taken is chunked")
_HEAD_TOO_LARGE = _Bad(431, "headers_too_large", "the headers of the request are too large")
_NO_CONNECT = _Bad(400, "no_connect", "no CONNECT here")
_TOO_SLOW = _Bad(408, "too_slow", "the request did not arrive in time")
_OUR_FAULT = _Bad(500, "internal_error", "the request failed by a fault of this server")


class _Early(Exception):
    """A request that comes before the answer to the last one."""


LINGER_S = 1.0
MOST_DISCARDED_BYTES = 64 * 1024 * 1024  # of a body whose request is answered already


class ClientProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(self, server: Server, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self.access_log = False
        self._limits = server.limits
        self._task: asyncio.Task[None] | None = None
        self._is_deaf = False  # nothing that comes is read any more
        self._is_in_head = False
        self._is_whole = True  # no request is on its way in
        self._offers_upgrade = False
        self._n_raw_bytes = 0  # of a head that came in several pieces
        self._n_field_bytes = 0  # of a head, as parsed
        self._n_body_bytes = 0
        self._awaits_since_s: float | None = None  # the rest of a request
        self._kept_since_s: float | None = None
        self._unread_since_s: float | None = None
        self._is_refused = False
        self._ends_by_s: float | None = None  # the connection ends, sooner if its client does

    # ---- The connection ----

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins."""
        super().connection_made(transport)
        self._awaits_since_s = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """Reads what has come."""
        if self._is_deaf:
            self._n_body_bytes += len(data)
            if self._n_body_bytes > MOST_DISCARDED_BYTES:
                self.transport.abort()
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._judge(error.__context__)
            return
        except httptools.HttpParserUpgrade as offer:
            self.data_received(self._without_offer() + data[offer.args[0] :])
            return
        if self._is_in_head:
            self._n_raw_bytes += len(data)
            if self._n_raw_bytes > self._limits.head_bytes:
                self._refuse(_HEAD_TOO_LARGE)
                return
        if self._awaits_since_s is None and not self._is_whole:
            self._awaits_since_s = self.loop.time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends; the task of a request without its whole answer is cancelled."""
        super().connection_lost(exc)
        task = self._task
        if task is not None and self._is_answering:
            task.cancel()

    def pause_writing(self) -> None:
        """Notes since when the client has not taken what it asked for."""
        super().pause_writing()
        self._unread_since_s = self.loop.time()

    def resume_writing(self) -> None:
        """Goes on."""
        super().resume_writing()
        self._unread_since_s = None

    def look_after(self, now_s: float) -> None:
        """Ends the connection where its client has let too much time pass."""
        limits = self._limits
        if self._ends_by_s is None and self.transport.is_closing():
            self._ends_by_s = now_s + limits.unread_s  # its last bytes are not taken yet
        if self._ends_by_s is not None:
            if now_s > self._ends_by_s:
                self.transport.abort()
        elif self._unread_since_s is not None:
            if now_s - self._unread_since_s > limits.unread_s:
                self.transport.abort()
        elif self._awaits_since_s is not None:
            due_s = limits.head_s + self._n_body_bytes / limits.body_bytes_per_s
            if now_s - self._awaits_since_s > due_s and not self.flow.read_paused:
                self._refuse(_TOO_SLOW)
        elif self._kept_since_s is not None and now_s - self._kept_since_s > limits.kept_s:
            self.transport.close()

    # ---- The parser ----

    def on_message_begin(self) -> None:
        """Begins a request."""
        if self._is_answering:
            raise _Early
        super().on_message_begin()
        self._is_in_head, self._is_whole = True, False
        self._n_raw_bytes = self._n_field_bytes = self._n_body_bytes = 0
        self._kept_since_s = None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header."""
        if not self._is_in_head:
            return  # a trailer
        name = name.lower()
        self._n_field_bytes += len(name) + len(value)
        if name == b"expect":
            is_asked = value.lower() == b"100-continue"
            self.expect_100_continue = is_asked and self.parser.get_http_version() == "1.1"
        elif name == b"transfer-encoding" and (
            value.strip().lower() != b"chunked" or self.parser.get_http_version() != "1.1"
        ):
            raise _NotTaken(_BAD_ENCODING)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Starts the request."""
        if self._n_field_bytes + len(self.url) > self._limits.head_bytes:
            raise _NotTaken(_HEAD_TOO_LARGE)
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _NotTaken(_NO_CONNECT)
            self._offers_upgrade = True
            return
        super().on_headers_complete()
        self._is_in_head = False

    def on_body(self, body: bytes) -> None:
        """Keeps a piece of the body; of a request that is answered already it is thrown away."""
        self._n_body_bytes += len(body)
        super().on_body(body)
        if self.cycle.response_complete and self._n_body_bytes > MOST_DISCARDED_BYTES:
            self.transport.abort()

    def on_message_complete(self) -> None:
        """Ends a request."""
        if self._offers_upgrade:
            return  # its body is still to come
        self._awaits_since_s = None
        self._is_whole = True
        super().on_message_complete()

    def _without_offer(self) -> bytes:
        """Returns the head of a request without its offer to upgrade, to be parsed again.

        The parser takes what follows on such a head for another protocol, the body too.
        """
        self._offers_upgrade = False
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b\r\n" % pair for pair in self.headers if pair[0] != b"upgrade"]
        return b"".join(lines) + b"\r\n"

    # ---- The application ----

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_answered(self) -> bool:
        """Whether the request whose body is on its way in has had its answer."""
        is_in_body = not self._is_whole and not self._is_in_head
        return is_in_body and self.cycle is not None and self.cycle.response_complete

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._task = self.loop.create_task(self._run(cycle, app))
        self.tasks.add(self._task)
        self._task.add_done_callback(self.tasks.discard)

    async def _run(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        try:
            await app(
                cycle.scope, cycle.receive, cast("ASGISendCallable", Framing(self, cycle).send)
            )
        except Cut:
            self._cut(cycle)
        except asyncio.CancelledError:
            if not self._is_refused:
                self.transport.abort()
        except Exception:
            _log.exception("a request failed by a fault of this program")
            if not cycle.response_complete:
                self._refuse(_OUR_FAULT)
        finally:
            cycle.on_response = _nothing  # breaks the circle of an exchange and its connection

    def on_response_complete(self) -> None:
        """Waits for the next request."""
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            self._kept_since_s = self.loop.time()

    def _cut(self, cycle: RequestResponseCycle) -> None:
        """Ends the connection so that the client sees that its answer is not whole."""
        sock = self.transport.get_extra_info("socket")
        if cycle.scope["http_version"] == "1.0" and sock is not None:
            # Without chunks and length only a reset tells a cut from an end.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    # ---- Refusals ----

    def _judge(self, error: BaseException | None) -> None:
        """Deals with what the parser, or one of its callbacks, did not take."""
        if isinstance(error, _Early):
            # Its client is told by the end of the connection to ask again. Waiting to read it
            # would hide that the client has left.
            self._is_deaf = True
            self.cycle.keep_alive = False
        else:
            self._refuse(error.bad if isinstance(error, _NotTaken) else _NOT_HTTP)

    def _refuse(self, bad: _Bad) -> None:
        """Answers a request that is not taken, and ends the connection."""
        self._is_deaf = True
        if self.transport.is_closing():
            return
        if self._is_answering and self.cycle.response_started:
            self.transport.abort()  # a second answer within the first would be worse than none
            return
        if self._is_answered:
            self.transport.close()  # nor is one taken for the answer to a request that never came
            return
        body = error_body(*bad)
        self.transport.write(
            b"%bcontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (STATUS_LINE[bad.status], len(body), body)
        )
        # Not closed yet: what the client still sends would reset the connection, and so take away
        # the answer that says why.
        self.transport.write_eof()
        self._is_refused = True
        self._ends_by_s = self.loop.time() + LINGER_S
        if self._task is not None:
            self._task.cancel()


class Server:
    """Serves an application on sockets that are bound already; signals are somebody else's."""

    def __init__(
        self, app: Proxy, sockets: Sequence[socket.socket], limits: Limits | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._app = app
        self._sockets = sockets
        self._state = ServerState()
        self._listeners: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Takes requests from now on."""
        loop = asyncio.get_running_loop()
        config = Config(
            self._app, http=ClientProtocol, ws="none", lifespan="off", interface="asgi3",
            log_config=None, access_log=False, proxy_headers=False,
        )  # fmt: skip
        config.load()
        for each in self._sockets:
            listener = await loop.create_server(
                lambda: ClientProtocol(self, config, self._state), sock=each, backlog=2048
            )
            self._listeners.append(listener)
        self._look_after()

    def drain(self) -> None:
        """Takes no more connections; those there are end after the answer they are waiting for."""
        self._app.is_draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def closed(self, within_s: float) -> bool:
        """Drains, and returns whether all that was begun was answered within that time.

        What was not is aborted.
        """
        self.drain()
        try:
            async with asyncio.timeout(within_s):
                await self._emptied()
        except TimeoutError:
            self.abort()
            await self._emptied()
            return False
        finally:
            if self._timer is not None:
                self._timer.cancel()
        return True

    def abort(self) -> None:
        """Ends every connection at once."""
        for connection in list(self._state.connections):
            connection.transport.abort()

    async def _emptied(self) -> None:
        while self._state.connections or self._state.tasks:
            await asyncio.sleep(0.01)

    def _look_after(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for connection in list(self._state.connections):
            cast(ClientProtocol, connection).look_after(now_s)
        limits = self.limits
        shortest_s = min(limits.head_s, limits.kept_s, limits.unread_s)
        self._timer = loop.call_later(min(1.0, shortest_s / 8), self._look_after)


def listen(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """Returns a socket bound to an address; OSError where it is taken or no address of ours.

    Port 0 is any that is free. With reuse_port several processes may bind the same.
    """
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, proto)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Returns uvloop's loop where that is installed (the extra `fast`), else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _nothing() -> None:
    pass
