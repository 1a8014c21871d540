"""One connection to an upstream server: a request out, the answer in as it arrives.

The parser is llhttp (httptools) without any leniency: an answer with two lengths, a length beside
`chunked`, a folded header or a bare line feed is refused, never guessed at. What is added here:

- An answer whose length nothing tells ends with the connection; one that is cut short is an error,
  never an end (llhttp cannot tell, it is not asked what the end of the stream means).
- Interim answers (1xx) are skipped; 101 is refused, nothing here upgrades.
- Bytes that bring no body (headers, trailers, chunk extensions) are counted and bounded, and do not
  pass for an answer that goes on: only body is what its reader waits for.
- A connection that speaks out of turn, or after its answer, is not used again: what came too much
  would be taken for the answer to the next request.
- Reading stops while more than `HELD_BYTES` of an answer wait for their reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import httptools

Kind = Literal["connect", "timeout", "reset", "protocol"]
Headers = list[tuple[bytes, bytes]]

HELD_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
FOREVER_S = float("inf")


class UpstreamError(ConnectionError):
    """A request that got no whole answer: kind "connect", "timeout", "reset" or "protocol"."""

    def __init__(self, kind: Kind, what: str, *, is_unanswered: bool = False) -> None:
        super().__init__(what)
        self.kind: Kind = kind
        self.is_unanswered = is_unanswered  # the connection ended before any byte of an answer


class Address(NamedTuple):
    """Where a server listens; requests to equal addresses share their connections."""

    host: str
    port: int
    is_tls: bool

    @classmethod
    def of(cls, url: str) -> Address:
        """Returns the address in a URL; the port is that of its scheme where it names none."""
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        if parts.hostname is None or parts.scheme not in ("http", "https"):
            raise ValueError(f"not an http address: {url!r}")
        return cls(parts.hostname, parts.port or (443 if is_tls else 80), is_tls)

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


def request_head(
    method: str, address: Address, path: str, headers: Iterable[tuple[str, str]]
) -> bytes:
    """Returns the head of a request without its last, empty line: headers may still be added.

    Raises ValueError when a part holds a line end or another control character.
    """
    lines = [f"{method} {path} HTTP/1.1", f"host: {address.authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if not all(line.isprintable() for line in lines) or " " in path:
        raise ValueError("a request line or header holds a control character")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")


class Answer:
    """The answer to one request, read piece by piece as it arrives."""

    __slots__ = ("_chunks", "_connection", "_error", "_loop", "_n_held_bytes", "_waiter",
                 "headers", "is_delimited", "is_ended", "status")  # fmt: skip

    def __init__(self, connection: Connection, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0  # until the head is here
        self.headers: Headers = []  # names in lower case
        self.is_delimited = True  # it tells where it ends; else it ends with the connection
        self.is_ended = False  # all of the body has arrived (it may still wait to be read)
        self._connection: Connection | None = connection
        self._loop = loop
        self._chunks: list[bytes] = []
        self._n_held_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: UpstreamError | None = None

    async def read(self) -> bytes:
        """Returns all that has arrived since the last call, b"" at the end of the answer.

        Raises UpstreamError once what arrived before the failure has been read.
        """
        chunks = self._chunks
        while not chunks:
            if self.is_ended:
                return b""
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._n_held_bytes = 0
        if self._connection is not None:
            self._connection.read_on()
        return data

    async def peek(self, limit_bytes: int) -> bytes:
        """Returns what there is of the answer once it is whole or of that length; stays to be read.

        Raises UpstreamError when it is cut before.
        """
        while not self.is_ended and self._n_held_bytes < min(limit_bytes, HELD_BYTES):
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter
        return b"".join(self._chunks)

    @property
    def is_over(self) -> bool:
        """Whether all of the answer has arrived and been read."""
        return self.is_ended and not self._chunks

    @property
    def is_events(self) -> bool:
        """Whether the answer is a stream of events."""
        for name, value in self.headers:
            if name == b"content-type":
                return value.lstrip().lower().startswith(b"text/event-stream")
        return False

    def abort(self) -> None:
        """Ends the connection where the answer is not complete; twice is no error."""
        if self._connection is not None:
            self._connection.abort()

    async def head(self) -> None:
        """Waits until status and headers are here; raises UpstreamError."""
        while not self.status:
            if self._error is not None:
                raise self._error
            self._waiter = self._loop.create_future()
            await self._waiter

    def take(self, body: bytes) -> int:
        """Returns the bytes now held, with those of a new piece."""
        self._chunks.append(body)
        self._n_held_bytes += len(body)
        return self._n_held_bytes

    def finish(self, error: UpstreamError | None) -> None:
        """The answer is complete, or will never be."""
        self._connection = None
        self.is_ended = error is None
        self._error = error
        self.wake()

    def wake(self) -> None:
        """Lets the reader look again."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Connection(asyncio.Protocol):
    """One connection; at most one request at a time.

    `on_free(connection, is_reusable)` is called when it has no request any more: when its answer
    is complete, or when it is lost.
    """

    def __init__(
        self,
        address: Address,
        loop: asyncio.AbstractEventLoop,
        on_free: Callable[[Connection, bool], None],
    ) -> None:
        self.address = address
        self.free_since_s = 0.0
        self._loop = loop
        self._on_free = on_free
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._is_heard = False  # any byte of the answer
        self._is_interim = False
        self._is_kept = False  # the server will take another request
        self._has_surplus = False
        self._is_paused = False
        self._n_barren_bytes = 0  # bytes since the last that brought body
        self._waits_since_s = 0.0
        self._waits_for_s = FOREVER_S
        self._idle_s = FOREVER_S

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes, first_byte_s: float, idle_s: float) -> Answer:
        """Returns the answer-to-be of a request, which is sent whole.

        The first byte of the body must come within first_byte_s, each next within idle_s. Raises
        UpstreamError where the connection has ended already.
        """
        if self._transport is None or self._transport.is_closing():
            what = "the server ended the connection before it was asked"
            raise UpstreamError("reset", what, is_unanswered=True)
        self._answer = answer = Answer(self, self._loop)
        self._is_heard = self._has_surplus = self._is_kept = False
        self._n_barren_bytes = 0
        self._waits_since_s = self._loop.time()
        self._waits_for_s = first_byte_s
        self._idle_s = idle_s
        # The transport keeps what the server does not take yet: one request, bounded by the limit
        # on bodies. Waiting for it here would hide an early refusal (413) of the server.
        self._transport.write(request)
        return answer

    def is_overdue(self, now_s: float) -> bool:
        """Whether the server has kept its request waiting for too long."""
        return (
            self._answer is not None
            and not self._is_paused
            and now_s - self._waits_since_s > self._waits_for_s
        )

    def time_out(self) -> None:
        """Gives the request up."""
        self._fail(UpstreamError("timeout", f"nothing came for {self._waits_for_s:g} s"))

    def abort(self) -> None:
        """Ends the connection at once; a request in flight fails as reset."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Ends a connection that has no request."""
        if self._transport is not None:
            self._transport.close()

    def read_on(self) -> None:
        """Resumes reading where it was stopped because nobody took what had come."""
        if self._is_paused and self.is_open:
            self._is_paused = False
            self._waits_since_s = self._loop.time()
            self._transport.resume_reading()  # type: ignore[union-attr]

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins: the transport is here."""
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Reads what has come."""
        answer = self._answer
        if answer is None:
            self.abort()  # it speaks out of turn
            return
        self._is_heard = True
        self._n_barren_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._is_kept = False
            if not answer.is_ended:
                self._fail(_refused(error))
                return
        if answer.is_ended:
            self._end(answer)
        elif self._n_barren_bytes > MAX_HEAD_BYTES:
            self._fail(UpstreamError("protocol", "the headers of the answer are too long"))
        else:
            answer.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends, whatever the reason."""
        self._transport = None
        answer, self._answer = self._answer, None
        if answer is not None:
            if answer.status and not answer.is_delimited and exc is None:
                answer.finish(None)
            else:
                what = "the server ended the connection before its answer was complete"
                answer.finish(UpstreamError("reset", what, is_unanswered=not self._is_heard))
        self._parser = None  # it holds this object: break the circle
        self._on_free(self, False)

    # httptools

    def on_message_begin(self) -> None:
        """Notes a message that nobody asked for."""
        if self._answer is None or self._answer.is_ended:
            self._has_surplus = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a header of the answer."""
        answer = self._answer
        if answer is None or answer.status:
            return  # a trailer: nobody asked for it (TE is never sent)
        answer.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Judges the head; UpstreamError goes through the parser."""
        answer, status = self._answer, self._parser.get_status_code()
        if answer is None or answer.is_ended:
            return
        if status == 101 or status < 100:
            raise UpstreamError("protocol", f"the server answered with status {status}")
        self._is_interim = status < 200
        if self._is_interim:
            answer.headers.clear()
            return
        if self._n_barren_bytes > MAX_HEAD_BYTES and _n_bytes(answer.headers) > MAX_HEAD_BYTES:
            raise UpstreamError("protocol", "the headers of the answer are too long")
        self._is_kept = self._parser.should_keep_alive()  # after the message it says no, always
        answer.is_delimited = status in (204, 304) or _is_delimited(answer.headers)
        answer.status = status

    def on_body(self, body: bytes) -> None:
        """Keeps a piece of the body."""
        answer = self._answer
        if answer is None or answer.is_ended:
            return
        self._n_barren_bytes = 0
        self._waits_since_s = self._loop.time()
        self._waits_for_s = self._idle_s
        if answer.take(body) > HELD_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """Notes the end of the answer."""
        if self._is_interim:
            self._is_interim = False
        elif self._answer is not None:
            self._answer.is_ended = True

    # the end of a request

    def _end(self, answer: Answer) -> None:
        """The answer is complete: the connection is free for another request, or of no more use."""
        transport = self._transport
        self._answer = None
        self.read_on()
        is_reusable = (
            transport is not None
            and self._is_kept
            and not self._has_surplus
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0  # it answered before it read all
        )
        self.free_since_s = self._loop.time()
        if not is_reusable:
            self.close()
        self._on_free(self, is_reusable)
        answer.finish(None)

    def _fail(self, error: UpstreamError) -> None:
        answer, self._answer = self._answer, None
        self.abort()
        if answer is not None:
            answer.finish(error)


def _is_delimited(headers: Headers) -> bool:
    """Whether a header tells where the body ends; else it ends with the connection."""
    for name, value in headers:
        if name == b"content-length":
            return True
        if name == b"transfer-encoding":
            if value.strip().lower() != b"chunked":
                raise UpstreamError("protocol", "the answer has a transfer encoding but chunked")
            return True
    return False


def _n_bytes(headers: Headers) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _refused(error: Exception) -> UpstreamError:
    """The typed error of what the parser raised; one of ours may have gone through it."""
    cause = error.__context__
    if isinstance(cause, UpstreamError):
        return cause
    return UpstreamError("protocol", f"the answer is not HTTP: {error}")
