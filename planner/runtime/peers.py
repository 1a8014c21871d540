"""The workers of one `rb serve` ask each other: over Unix sockets in a folder that only they see.

A question is one line; the answer is everything until the other side closes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

ANSWER_S = 1.0  # a worker that does not answer by then is left out
MOST_BYTES = 1 << 16  # of a question

Answering = Callable[[bytes], Awaitable[bytes]]


def socket_path(folder: str, number: int) -> str:
    """Returns where a worker answers."""
    return f"{folder}/{number}.sock"


class Peers:
    """One worker among others.

    Args:
        folder: of the sockets; short, since the path of a socket may not be long.
        number: of this worker.
        n_workers: of all; they are numbered from 0.
        answering: gives the answer to a question.
    """

    def __init__(self, folder: str, number: int, n_workers: int, answering: Answering) -> None:
        self._own = socket_path(folder, number)
        self._others = [socket_path(folder, k) for k in range(n_workers) if k != number]
        self._answering = answering
        self._server: asyncio.Server | None = None
        self._replies: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begins to answer."""
        self._server = await asyncio.start_unix_server(self._met, self._own, limit=MOST_BYTES)

    async def close(self) -> None:
        """Answers nothing any more."""
        if self._server is not None:
            self._server.close()
            for reply in self._replies:
                reply.cancel()
            await asyncio.gather(*self._replies, return_exceptions=True)

    async def ask(self, question: bytes) -> list[bytes]:
        """Returns what the other workers answer, without those that do not."""
        answers = await asyncio.gather(*(_asked(path, question) for path in self._others))
        return [answer for answer in answers if answer is not None]

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = asyncio.get_running_loop().create_task(self._reply(reader, writer))
        self._replies.add(reply)
        reply.add_done_callback(self._replies.discard)

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(2 * ANSWER_S):  # it may have to ask the others first
                question = await reader.readline()
                writer.write(await self._answering(question.rstrip(b"\n")))
                await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # who asked has gone, or does not speak as workers do
        finally:
            writer.close()


async def _asked(path: str, question: bytes) -> bytes | None:
    """Returns the answer of the worker at a path; None where there is none in time."""
    try:
        async with asyncio.timeout(ANSWER_S):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(question + b"\n")
                return await reader.read() or None
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return None


def ask_now(path: str, question: bytes) -> bytes | None:
    """Returns the answer of the worker at a path, to a process without an event loop."""
    parts = []
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(2 * ANSWER_S)
            line.connect(path)
            line.sendall(question + b"\n")
            while part := line.recv(MOST_BYTES):
                parts.append(part)
    except OSError:
        return None
    return b"".join(parts) or None
