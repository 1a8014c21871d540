"""A server that misbehaves to order: each connection is played by a script, byte for byte."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass
class Request:
    """A request as it arrived."""

    head: bytes
    body: bytes

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    def header(self, name: str) -> str | None:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower().decode() == name:
                return value.strip().decode("latin-1")
        return None


class Line:
    """One connection, seen from the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self) -> Request:
        """The next request; IncompleteReadError when the client leaves."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        request = Request(head, b"")
        length = request.header("content-length")
        if length is not None:
            request.body = await self.reader.readexactly(int(length))
        return request

    async def send(self, *pieces: bytes) -> None:
        """Sends pieces, each in a segment of its own (the loop turns in between)."""
        for piece in pieces:
            if self.writer.is_closing():
                raise ConnectionResetError  # some loops would raise RuntimeError
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.001)

    async def answer(self, body: bytes, status: str = "200 OK", *headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
        if not any(h.lower().startswith("content-type") for h in headers):
            lines.append("content-type: application/json")
        await self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)

    async def begin_stream(self) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        await self.send(head + b"transfer-encoding: chunked\r\n\r\n")

    async def chunk(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.send(b"%x\r\n%b\r\n" % (len(piece), piece))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def left(self) -> None:
        """Waits until the client has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Ends the connection with a RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Line], Awaitable[None]]


@dataclass
class ScriptedServer:
    """Plays a script on every connection; counts what was opened and is open."""

    script: Script
    n_opened: int = 0
    n_open: int = 0
    n_most_open: int = 0
    n_cut: int = 0
    port: int = 0
    faults: list[BaseException] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> ScriptedServer:
        self._server = await asyncio.start_server(
            self._accept, "127.0.0.1", 0, limit=16 * 1024 * 1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        assert self.faults == []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._play(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_opened += 1
        self.n_open += 1
        self.n_most_open = max(self.n_most_open, self.n_open)
        try:
            await self.script(Line(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.n_cut += 1  # the client left
        except asyncio.CancelledError:
            pass
        except BaseException as fault:
            self.faults.append(fault)
        finally:
            self.n_open -= 1
            writer.transport.abort()


async def refused_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], bool], within_s: float = 2.0) -> float:
    """Waits for a condition; the seconds it took."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    while not condition():
        assert loop.time() - begun_s < within_s, "it never came true"
        await asyncio.sleep(0.001)
    return loop.time() - begun_s
