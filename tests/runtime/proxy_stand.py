"""The proxy between raw clients and servers to order, with a dispatcher that only keeps books."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from scripted_server import Line, Script, ScriptedServer

from planner.runtime.ask import Refusal
from planner.runtime.body import Call
from planner.runtime.instance import Instance
from planner.runtime.proxy import Proxy
from planner.runtime.server import Limits, Server, listen
from planner.runtime.upstream import Timeouts, Upstream
from planner.runtime.wire import Address

CHAT = "/v1/chat/completions"
KEY = "sk-of-the-instance"


@dataclass
class BookTicket:
    """A request, and all that the dispatcher was told of it."""

    request_id: str
    call: Call
    is_buffered: bool = False
    started_s: float = 0.0
    decision_s: float = 0.0
    drop_usage: bool = False
    traceparent: str | None = None
    first_answer: bytes | None = None
    tried: list[int] = field(default_factory=list)
    told: list[tuple[object, ...]] = field(default_factory=list)

    def response_headers(self, instance: Instance) -> list[tuple[bytes, bytes]]:
        named = [("x-rb-pool", instance.pool), ("x-request-id", self.request_id)]
        return [(name.encode(), value.encode()) for name, value in named]


class BookDispatcher:
    """Sends each request to the instances in their order, and writes down what it is told."""

    def __init__(self, ports: Sequence[int], base: str = "") -> None:
        self.instances = [
            Instance(
                index=k, pool=f"pool-{k}", name=f"pool-{k}/0", url=f"http://127.0.0.1:{port}{base}",
                address=Address("127.0.0.1", port, False), served_model_name=f"model-{k}",
                api_key=KEY, rank=None, backend=f"http://127.0.0.1:{port}",
            )
            for k, port in enumerate(ports)
        ]  # fmt: skip
        self.tickets: list[BookTicket] = []
        self.plain: set[int] = set()  # instances that refuse stream_options
        self.is_buffered = False
        self.verdicts: list[bytes | None] = []
        self.judged: list[tuple[bytes, bool]] = []
        self.refusal: Refusal | None = None
        self.ready = True
        self.held_s: float | None = None  # how long a request waits for its instance

    def begin(
        self, call: Call, headers: Sequence[tuple[bytes, bytes]], now_s: float
    ) -> BookTicket | Refusal:
        if self.refusal is not None:
            return self.refusal
        ids = [value.decode() for name, value in headers if name == b"x-request-id"]
        ticket = BookTicket(
            ids[0] if ids else f"rb-{len(self.tickets)}", call, self.is_buffered, now_s
        )
        self.tickets.append(ticket)
        return ticket

    def holds(self, ticket: BookTicket) -> bool:
        return self.held_s is not None

    async def held_instance(
        self, ticket: BookTicket, clock: Callable[[], float]
    ) -> Instance | None:
        await asyncio.sleep(self.held_s or 0.0)
        return self.next_instance(ticket, clock())

    def next_instance(self, ticket: BookTicket, now_s: float) -> Instance | None:
        for instance in self.instances:
            if instance.index not in ticket.tried:
                ticket.tried.append(instance.index)
                return instance
        return None

    def body_for(self, ticket: BookTicket, instance: Instance) -> bytes:
        call = ticket.call
        ticket.drop_usage = (
            call.streams and not call.usage_asked and instance.index not in self.plain
        )
        return call.encoded(instance.served_model_name, usage=ticket.drop_usage)

    def first_token(self, ticket: BookTicket, now_s: float) -> None:
        ticket.told.append(("first_token",))

    def failed_try(self, ticket: BookTicket, instance: Instance, now_s: float, kind: str) -> None:
        ticket.told.append(("failed", instance.index, kind))

    def refuses_usage(self, instance: Instance) -> None:
        self.plain.add(instance.index)

    def judge(
        self, ticket: BookTicket, answer: bytes, is_stream: bool, now_s: float
    ) -> bytes | None:
        self.judged.append((answer, is_stream))
        verdict = self.verdicts.pop(0)
        if verdict is None:
            ticket.is_buffered, ticket.first_answer = False, answer
        return verdict

    def ended(
        self, ticket: BookTicket, now_s: float, outcome: str, why: str, usage: object, status: int
    ) -> None:
        ticket.told.append(("ended", outcome, why, usage, status))

    def model_names(self) -> list[str]:
        return ["rb/auto", "small"]

    def is_ready(self, now_s: float) -> bool:
        return self.ready

    @property
    def end(self) -> tuple[object, ...]:
        """What the last request was told to have become; it was told once."""
        ends = [each for each in self.tickets[-1].told if each[0] == "ended"]
        assert len(ends) == 1
        return ends[0][1:]


class FewPages:
    async def metrics(self, accept: str) -> tuple[bytes, str]:
        return f"accept {accept}".encode(), "text/plain; version=0.0.4"

    async def status(self) -> bytes:
        return b'{"pools":[]}'

    async def drift(self) -> bytes:
        return b'{"fits":true}'

    async def feedback(self, body: bytes) -> str | None:
        return None if body == b'{"score":1}' else "no score in it"


@dataclass
class Reply:
    """An answer as a client gets it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1, values
        return values[0] if values else None

    @property
    def code(self) -> str:
        error = json.loads(self.body)["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        return str(error["code"])


class Client:
    """A raw client: sends bytes, reads answers, sees how a connection ends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def post(self, body: object, path: str = CHAT, *headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {len(data)}", *headers]
        await self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data)

    async def head(self) -> Reply:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text[:-4].split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        assert first.startswith("HTTP/1.1 ")
        return Reply(int(first.split(" ")[1]), [(a.lower(), b) for a, b in pairs], b"")

    async def chunk(self) -> bytes:
        """The next chunk of an answer; b"" at its end; IncompleteReadError when it is cut."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size + 2)
        assert data[-2:] == b"\r\n"
        return data[:-2]

    async def reply(self) -> Reply:
        """A whole answer; IncompleteReadError or ConnectionError when it is cut."""
        reply = await self.head()
        length = reply.header("content-length")
        if reply.header("transfer-encoding") == "chunked":
            assert length is None
            pieces = []
            while piece := await self.chunk():
                pieces.append(piece)
            reply.body = b"".join(pieces)
        else:
            assert length is not None
            reply.body = await self.reader.readexactly(int(length))
        return reply

    async def rest(self) -> bytes:
        """What still comes until the connection ends; b"" too where it is reset."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    def leave(self) -> None:
        self.writer.transport.abort()


@dataclass
class Stand:
    """A proxy that runs."""

    proxy: Proxy
    server: Server
    upstream: Upstream
    dispatcher: BookDispatcher
    behind: list[ScriptedServer]
    port: int
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        client = Client(
            *await asyncio.open_connection("127.0.0.1", self.port, limit=64 * 1024 * 1024)
        )
        self.clients.append(client)
        return client

    async def ask(self, body: object = None, path: str = CHAT, *headers: str) -> Reply:
        """The answer to one request on a connection of its own."""
        client = await self.client()
        await client.post(ASKED if body is None else body, path, *headers)
        reply = await client.reply()
        client.leave()
        return reply


ASKED = {"model": "rb/auto", "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {**ASKED, "stream": True}

# The same by hand, for who breaks it.
SMALL = Limits(head_bytes=2000, head_s=0.2, body_bytes_per_s=1e6, kept_s=0.2, unread_s=0.2)
BODY = json.dumps(ASKED).encode()
HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n".encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
IN_CHUNKS = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


@asynccontextmanager
async def stand(
    *scripts: Script,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    dead_ports: Sequence[int] = (),
    base: str = "",
    **options: object,
) -> AsyncIterator[Stand]:
    """A proxy before servers to order; instances on dead ports come first."""
    behind = [ScriptedServer(script) for script in scripts]
    upstream = Upstream(timeouts)
    for each in behind:
        await each.__aenter__()
    dispatcher = BookDispatcher([*dead_ports, *(each.port for each in behind)], base)
    clock = asyncio.get_running_loop().time
    proxy = Proxy(dispatcher, upstream, FewPages(), clock, **options)
    socket = listen("127.0.0.1", 0)
    server = Server(proxy, [socket], limits)
    await server.start()
    made = Stand(proxy, server, upstream, dispatcher, behind, socket.getsockname()[1])
    try:
        yield made
    finally:
        for client in made.clients:
            client.leave()
        await server.closed(0.5)
        await upstream.close()
        for each in behind:
            await each.__aexit__()


def run(
    test: Callable[[], Awaitable[None]],
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Runs a test; none of its tasks outlives it."""

    async def main() -> None:
        await asyncio.wait_for(test(), 20)
        await asyncio.sleep(0.01)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        assert rest == set()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


async def good(line: Line) -> None:
    """Answers every request with one and the same answer."""
    while True:
        await line.request()
        await line.answer(ANSWER)


ANSWER = (
    b'{"id":"c","choices":[{"message":{"content":"hello"}}],'
    b'"usage":{"prompt_tokens":7,"completion_tokens":3}}'
)


def event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def delta(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


USAGE = event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
DONE = b"data: [DONE]\n\n"
