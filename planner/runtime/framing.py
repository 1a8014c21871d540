"""Answers as they are written to a client: one write for all that is known at once.

Not uvicorn's own framing, for three reasons: status, headers and the first piece go out in one
write (that is a third of the time of a small answer), an answer that is whole gets its length
instead of chunks, and clients of HTTP/1.0, which know no chunks, are sent none.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

Message = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Status"


_STATUS_LINES = {
    status: b"HTTP/1.1 %d %b\r\n" % (status, _phrase(status)) for status in range(200, 1000)
}


class Cut(Exception):
    """The connection to the client is to be ended at once: it must see that a part is missing."""


class Framing:
    """Writes one answer: status, headers and the first piece at once, then piece by piece.

    An answer that is whole at once gets its length; one of unknown length is chunked, or, to a
    client of HTTP/1.0, ends with the connection.
    """

    __slots__ = ("_cycle", "_head", "_is_chunked", "_n_due_bytes", "_protocol", "_status")

    def __init__(self, protocol: HttpToolsProtocol, cycle: RequestResponseCycle) -> None:
        self._protocol = protocol
        self._cycle = cycle
        self._status = 0
        self._head: Headers | None = None
        self._is_chunked = False
        self._n_due_bytes: int | None = None  # of the length that was announced

    async def send(self, message: Message) -> None:
        """Takes an ASGI message; waits while the client does not read."""
        cycle, protocol = self._cycle, self._protocol
        if message["type"] == "http.response.start":
            self._status, self._head = message["status"], message["headers"]
            return
        if protocol.flow.write_paused:
            await protocol.flow.drain()
        if cycle.disconnected or protocol.transport.is_closing():
            return  # nobody is there; the task is about to be cancelled
        body: bytes = message["body"]
        is_last: bool = not message["more_body"]
        head, self._head = self._head, None
        if head is None:
            protocol.transport.write(self._framed(body, is_last))
        else:
            begun = self._begun(head, len(body) if is_last else None)
            protocol.transport.write(begun + self._framed(body, is_last))
        if is_last:
            cycle.response_complete = True
            cycle.message_event.set()
            if not cycle.keep_alive:
                protocol.transport.close()
            protocol.on_response_complete()

    def _begun(self, headers: Headers, n_bytes: int | None) -> bytes:
        """Returns the head of the answer; n_bytes is its length where that is known."""
        cycle, status = self._cycle, self._status
        if cycle.waiting_for_100_continue:
            cycle.keep_alive = False  # nobody knows whether the body will still come
        cycle.response_started, cycle.waiting_for_100_continue = True, False
        lines, has_length = [_STATUS_LINES[status]], False
        for name, value in headers:
            if name == b"content-length":
                n_bytes, has_length = int(value), True
            elif name == b"connection":
                cycle.keep_alive = cycle.keep_alive and value != b"close"
                continue
            lines += (name, b": ", value, b"\r\n")
        if not (status in (204, 304) or cycle.scope["method"] == "HEAD"):
            if n_bytes is not None:
                self._n_due_bytes = n_bytes
                if not has_length:
                    lines.append(b"content-length: %d\r\n" % n_bytes)
            elif cycle.scope["http_version"] == "1.1":
                self._is_chunked = True
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                cycle.keep_alive = False
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def _framed(self, body: bytes, is_last: bool) -> bytes:
        """Returns a piece of the body as it is written; Cut where it is not what was announced."""
        if self._is_chunked:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return framed + b"0\r\n\r\n" if is_last else framed
        if self._cycle.scope["method"] == "HEAD":
            return b""
        if self._n_due_bytes is not None:
            self._n_due_bytes -= len(body)
            if self._n_due_bytes < 0 or (is_last and self._n_due_bytes):
                raise Cut("the answer is not as long as it said")
        return body
