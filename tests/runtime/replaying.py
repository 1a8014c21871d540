"""A client that replays a trace: its own sockets, its own clock, nothing of the planner's."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """One request of a trace."""

    at_s: float
    class_name: str
    n_input: int
    n_output: int


@dataclass(frozen=True)
class Got:
    """What came of it; NaN where there was no answer."""

    asked: Asked
    status: int
    headers: dict[str, str]
    late_s: float  # by how much it was sent after its time
    ttft_s: float = math.nan
    e2e_s: float = math.nan
    n_output: int = 0

    @property
    def pool(self) -> str:
        return self.headers.get("x-rb-pool", "")


async def replay(host: str, port: int, trace: Sequence[Asked], timeout_s: float) -> list[Got]:
    """Returns what came of every request, each sent at its time and streamed."""
    start_s = asyncio.get_running_loop().time() + 0.1

    async def at_its_time(asked: Asked) -> Got:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(start_s + asked.at_s - loop.time())
        late_s = loop.time() - start_s - asked.at_s
        async with asyncio.timeout(timeout_s):
            return await _ask(host, port, asked, late_s)

    return list(await asyncio.gather(*(at_its_time(asked) for asked in trace)))


async def _ask(host: str, port: int, asked: Asked, late_s: float) -> Got:
    loop = asyncio.get_running_loop()
    body = json.dumps(
        {
            "model": "rb/auto",
            "messages": [{"role": "user", "content": "word " * asked.n_input}],
            "max_tokens": asked.n_output,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nX-RB-Class: {asked.class_name}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    sent_s = loop.time()
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(head.encode() + body)
        status, headers = await _head(reader)
        first_s, last_s, n_output = math.nan, math.nan, 0
        if status == 200:
            async for event in _events(reader, headers):
                if (event.get("usage") or {}).get("completion_tokens"):
                    n_output = event["usage"]["completion_tokens"]
                if any(choice["delta"].get("content") for choice in event["choices"]):
                    last_s = loop.time()
                    first_s = last_s if math.isnan(first_s) else first_s
        return Got(asked, status, headers, late_s, first_s - sent_s, last_s - sent_s, n_output)
    finally:
        writer.close()
        await writer.wait_closed()


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = text.rstrip().split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, value in pairs}


async def _events(reader: asyncio.StreamReader, headers: dict[str, str]):
    """Yields the events of a stream, as they come."""
    rest = b""
    async for data in _parts(reader, headers):
        *events, rest = (rest + data).split(b"\n\n")
        for event in events:
            value = event.removeprefix(b"data: ")
            if value and value != b"[DONE]":
                yield json.loads(value)


async def _parts(reader: asyncio.StreamReader, headers: dict[str, str]):
    if "chunked" not in headers.get("transfer-encoding", ""):
        while data := await reader.read(65536):
            yield data
        return
    while size := int((await reader.readline()).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
