"""Both ends of the proxy measurement: an upstream that answers on command, and a load that streams.

    python benchmarks/proxy_load.py upstream READY_FILE N         serves on N free loopback ports
    python benchmarks/proxy_load.py closed PORT MODEL STREAMS CHUNKS SECONDS
    python benchmarks/proxy_load.py open   PORT MODEL RATE CHUNKS SECONDS

Bare asyncio protocols (uvloop where installed), so that one core does for both ends. One ticker
writes to all streams of the upstream; every chunk holds the moment at which it was written, on the
clock that all processes of a machine share, so a reader knows how long it was under way.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from pathlib import Path
from time import perf_counter_ns

STAMP = b'"content":"'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BEFORE = (
    b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1700000000,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"'
)
AFTER = b' some words of text, as they come"},"finish_reason":null}]}\n\n'
USAGE = b'"usage":{"prompt_tokens":200,"completion_tokens":50,"total_tokens":250}'
LAST = (
    b'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":1700000000,"model":"m",'
    b'"choices":[],' + USAGE + b"}\n\ndata: [DONE]\n\n"
)
WHOLE = (
    b'{"id":"chatcmpl-0","object":"chat.completion","created":1700000000,"model":"m","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"'
    + b"words " * 130
    + b'"},"finish_reason":"stop"}],'
    + USAGE
    + b"}"
)


class Tempo:
    """How the upstream answers now, and what it saw."""

    def __init__(self) -> None:
        self.ttft_s, self.itl_s = 0.02, 0.005
        self.streams: dict[Served, int] = {}  # chunks left
        self.n_connections = self.n_open = self.n_most_open = self.n_requests = 0
        self.cancelled_ns: list[int] = []

    async def tick(self) -> None:
        """Writes a chunk to every stream, each ITL."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            due_s = max(due_s + self.itl_s, loop.time())
            await asyncio.sleep(due_s - loop.time())
            for served in list(self.streams):
                self.write(served)

    def write(self, served: Served) -> None:
        left = self.streams.get(served, 0)
        if not left or served.is_paused:
            return
        event = BEFORE + b"%d" % perf_counter_ns() + AFTER
        served.chunk(event)
        if left == 1:
            del self.streams[served]
            served.chunk(LAST)
            served.transport.write(b"0\r\n\r\n")
        else:
            self.streams[served] = left - 1

    def join(self, served: Served, n_chunks: int) -> None:
        if not served.transport.is_closing():
            self.streams[served] = n_chunks
            self.write(served)


class Served(asyncio.Protocol):
    """One connection of the upstream."""

    def __init__(self, tempo: Tempo) -> None:
        self._tempo, self._seen = tempo, b""
        self.is_paused = False
        self._is_asked = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        tempo = self._tempo
        tempo.n_connections += 1
        tempo.n_open += 1
        tempo.n_most_open = max(tempo.n_most_open, tempo.n_open)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tempo.n_open -= 1
        if self._tempo.streams.pop(self, 0) or self._is_asked:
            self._tempo.cancelled_ns.append(perf_counter_ns())

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False

    def chunk(self, data: bytes) -> None:
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        if not found:
            return
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
        if len(body) < length:
            return
        self._seen = b""
        if head.startswith(b"POST /control"):
            self._control(json.loads(body))
        elif head.startswith(b"GET"):
            self._answer(b'{"object":"list","data":[{"id":"m","object":"model"}]}')
        else:
            self._serve(json.loads(body))

    def _serve(self, body: dict) -> None:
        tempo = self._tempo
        tempo.n_requests += 1
        if not body.get("stream"):
            self._answer(WHOLE)
            return
        self._is_asked = True
        loop = asyncio.get_running_loop()
        loop.call_later(tempo.ttft_s, self._begin, body.get("max_tokens", 50))

    def _begin(self, n_chunks: int) -> None:
        if self.transport.is_closing():
            return
        self._is_asked = False
        self.transport.write(HEAD)
        self._tempo.join(self, n_chunks)

    def _answer(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)

    def _control(self, asked: dict) -> None:
        tempo = self._tempo
        said = {
            name: getattr(tempo, name)
            for name in ("n_connections", "n_most_open", "n_requests", "cancelled_ns")
        }
        tempo.ttft_s = asked.get("ttft_s", tempo.ttft_s)
        tempo.itl_s = asked.get("itl_s", tempo.itl_s)
        if asked.get("forget"):
            tempo.n_connections = tempo.n_requests = 0
            tempo.n_most_open, tempo.cancelled_ns = tempo.n_open, []
        self._answer(json.dumps(said).encode())


async def serve(ready: Path, n_ports: int) -> None:
    loop = asyncio.get_running_loop()
    tempos = [Tempo() for _ in range(n_ports)]
    servers = [
        await loop.create_server(lambda t=tempo: Served(t), "127.0.0.1", 0, backlog=2048)
        for tempo in tempos
    ]
    ready.write_text(json.dumps([s.sockets[0].getsockname()[1] for s in servers]))
    await asyncio.gather(*(tempo.tick() for tempo in tempos))


def request_of(port: int, model: str, n_chunks: int) -> bytes:
    body = json.dumps(
        {
            "model": model,
            "messages": [{"role": "user", "content": "word " * 180}],
            "max_tokens": n_chunks,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n"
        b"content-type: application/json\r\nauthorization: Bearer sk-none\r\n"
        b"content-length: %d\r\n\r\n%b" % (port, len(body), body)
    )


class Stream(asyncio.Protocol):
    """One connection of the load: asks, counts chunks, and says when it is free again."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._tail = b""
        self._sent_ns = 0
        self._has_first = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> None:
        self._has_first, self._tail = False, b""
        self._sent_ns = perf_counter_ns()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        tally = self._tally
        n = data.count(STAMP)
        if n:
            now_ns = perf_counter_ns()
            tally.n_chunks += n
            if not self._has_first:
                self._has_first = True
                tally.ttft_ns.append(now_ns - self._sent_ns)
            at = data.find(STAMP) + len(STAMP)
            stamp = data[at : data.find(b" ", at)]
            if stamp.isdigit():
                tally.delay_ns.append(now_ns - int(stamp))
        self._tail = (self._tail + data)[-5:]
        if self._tail == b"0\r\n\r\n":
            if not self._has_first:
                tally.n_errors += 1
            tally.is_done(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.is_lost(self)


class Tally:
    """What the streams saw."""

    def __init__(self, port: int, request: bytes) -> None:
        self.port, self.request = port, request
        self.n_chunks = self.n_streams = self.n_errors = 0
        self.ttft_ns: list[int] = []
        self.delay_ns: list[int] = []
        self.is_closed_loop = self.is_over = False
        self._free: deque[Stream] = deque()

    async def connect(self) -> Stream:
        loop = asyncio.get_running_loop()
        made = await loop.create_connection(lambda: Stream(self), "127.0.0.1", self.port)
        return made[1]

    async def one_more(self) -> None:
        stream = self._free.pop() if self._free else await self.connect()
        stream.ask(self.request)

    def is_done(self, stream: Stream) -> None:
        self.n_streams += 1
        if self.is_closed_loop and not self.is_over:
            stream.ask(self.request)
        else:
            self._free.append(stream)

    def is_lost(self, stream: Stream) -> None:
        if stream in self._free:
            self._free.remove(stream)
        elif not self.is_over:
            self.n_errors += 1

    def report(self, seconds: float) -> dict:
        return {
            "chunks_per_s": self.n_chunks / seconds,
            "n_streams": self.n_streams,
            "n_chunks": self.n_chunks,
            "n_errors": self.n_errors,
            **percentiles("ttft_ms", self.ttft_ns),
            **percentiles("delay_ms", self.delay_ns),
        }


def percentiles(name: str, values_ns: list[int]) -> dict[str, float]:
    ordered = sorted(values_ns) or [0]
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
    return {f"{name}_{p}": ordered[int(q * (len(ordered) - 1))] / 1e6 for p, q in at.items()}


async def closed_loop(tally: Tally, n_streams: int, seconds: float) -> dict:
    tally.is_closed_loop = True
    streams = [await tally.connect() for _ in range(n_streams)]
    for k, stream in enumerate(streams):
        stream.ask(tally.request)
        if k % 16 == 0:
            await asyncio.sleep(0.002)
    await asyncio.sleep(0.5)  # until all of them stream
    tally.n_chunks, tally.n_streams = 0, 0
    start_ns = perf_counter_ns()
    await asyncio.sleep(seconds)
    spent_s = (perf_counter_ns() - start_ns) / 1e9
    found = tally.report(spent_s)
    tally.is_over = True
    return found


async def open_loop(tally: Tally, rate: float, seconds: float) -> dict:
    loop = asyncio.get_running_loop()
    start_s, tasks = loop.time(), []
    for k in range(int(rate * seconds)):
        await asyncio.sleep(start_s + k / rate - loop.time())
        tasks.append(asyncio.ensure_future(tally.one_more()))
    await asyncio.gather(*tasks)
    end_s = loop.time() + 15.0
    while tally.n_streams + tally.n_errors < len(tasks) and loop.time() < end_s:
        await asyncio.sleep(0.05)
    found = tally.report(loop.time() - start_s) | {"n_asked": len(tasks)}
    tally.is_over = True
    return found


async def main(arguments: list[str]) -> None:
    if arguments[0] == "upstream":
        await serve(Path(arguments[1]), int(arguments[2]))
        return
    kind, port, model, amount, n_chunks, seconds = arguments
    tally = Tally(int(port), request_of(int(port), model, int(n_chunks)))
    if kind == "closed":
        found = await closed_loop(tally, int(amount), float(seconds))
    else:
        found = await open_loop(tally, float(amount), float(seconds))
    print(json.dumps(found))


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    run(main(sys.argv[1:]))
