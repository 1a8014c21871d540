"""An OpenAI-compatible server that pretends: settable speed, slots, strictness and failures.

    python fake_server.py PORT_FILE '{"ttft_s": 0.02, "tpot_s": 0.005}'

Tests start it in their own event loop (`serving`), the benchmark in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

CHAT_OVERHEAD_TOKENS = 7


@dataclass
class Behaviour:
    """How the server behaves; times in s."""

    ttft_s: float = 0.0
    tpot_s: float = 0.0
    slots: int = 10_000
    tokens_per_word: float = 1.0
    refused: tuple[str, ...] = ()  # fields that it does not know
    refusal_status: int = 400
    names_field: bool = True  # whether a refusal says which field
    wants_completion_limit: bool = False  # max_completion_tokens instead of max_tokens
    tokens_per_chunk: int = 1
    cut_bytes: int = 0  # writes of at most so many bytes, so that lines arrive in pieces
    line_end: str = "\n"
    gives_usage: bool = True
    null_usage: bool = False  # "usage": null in every chunk
    reasons_first: bool = False
    says_done: bool = True
    drops_connections: bool = False  # closes them after an answer, without a word
    status: int = 200
    fail_every: int = 0  # every k-th request fails with 503
    error_after: int | None = None  # chunks before an error inside the stream
    cut_after: int | None = None  # chunks before the connection is closed
    texts: tuple[str, ...] = ("word ",)
    model_name: str = "fake"


@dataclass
class Server:
    """The server's behaviour, and what it saw."""

    behaviour: Behaviour
    port: int = 0
    bodies: list[dict] = field(default_factory=list)
    headers: list[dict] = field(default_factory=list)
    n_connections: int = 0
    n_in_flight: int = 0
    n_most_in_flight: int = 0
    n_aborted: int = 0
    _slots: asyncio.Semaphore | None = None
    _peers: set = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def app(self) -> web.Application:
        self._slots = asyncio.Semaphore(self.behaviour.slots)
        app = web.Application()
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        return app

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": self.behaviour.model_name}]})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, is_chat=False)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, is_chat=True)

    async def _serve(self, request: web.Request, is_chat: bool) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self._peers.add(request.transport.get_extra_info("peername"))
        self.n_connections = len(self._peers)
        refusal = self._refusal(body)
        if refusal is not None:
            return refusal
        self.n_in_flight += 1
        self.n_most_in_flight = max(self.n_most_in_flight, self.n_in_flight)
        try:
            async with self._slots:
                return await self._stream(request, body, is_chat)
        except asyncio.CancelledError:
            self.n_aborted += 1
            raise
        except ConnectionResetError:
            self.n_aborted += 1
            return web.Response()  # to nobody
        finally:
            self.n_in_flight -= 1

    def _refusal(self, body: dict) -> web.Response | None:
        how = self.behaviour
        if how.status != 200:
            text = f"no to {len(body)} fields"
            return web.json_response({"error": {"message": text}}, status=how.status)
        if how.fail_every and len(self.bodies) % how.fail_every == 0:
            return web.json_response({"error": {"message": "overloaded"}}, status=503)
        if how.wants_completion_limit and "max_tokens" in body:
            text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return web.json_response({"error": {"message": text}}, status=400)
        wrong = [name for name in how.refused if name in body]
        if not wrong:
            return None
        what = f"Unexpected fields: {', '.join(wrong)}" if how.names_field else "bad request"
        return web.json_response({"detail": what}, status=how.refusal_status)

    async def _stream(self, request: web.Request, body: dict, is_chat: bool) -> web.StreamResponse:
        how = self.behaviour
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if is_chat:
            await self._event(response, self._chunk({"role": "assistant", "content": ""}, None))
        await asyncio.sleep(how.ttft_s)
        n_output = body.get("max_tokens") or body["max_completion_tokens"]
        n_sent = n_chunks = 0
        while n_sent < n_output:
            if n_chunks == how.cut_after:
                request.transport.close()
                return response
            if n_chunks == how.error_after:
                await self._event(response, {"error": {"message": "out of memory", "code": 500}})
                return response
            n_new = min(how.tokens_per_chunk, n_output - n_sent)
            if n_sent:
                await asyncio.sleep(how.tpot_s * n_new)
            n_sent += n_new
            text = "".join(how.texts[k % len(how.texts)] for k in range(n_sent - n_new, n_sent))
            reason = "length" if n_sent >= n_output else None
            kind = "reasoning_content" if how.reasons_first and n_chunks == 0 else "content"
            await self._event(response, self._chunk({kind: text} if is_chat else text, reason))
            n_chunks += 1
        if how.gives_usage and ("stream_options" in body or how.refused):
            usage = {"prompt_tokens": self._n_input(body), "completion_tokens": n_output}
            await self._event(response, {"choices": [], "usage": usage})
        if how.says_done:
            await self._write(response, f"data: [DONE]{how.line_end * 2}".encode())
        if how.drops_connections:
            await response.write_eof()
            asyncio.get_running_loop().call_soon(request.transport.close)
        return response

    def _chunk(self, content: str | dict, reason: str | None) -> dict:
        part = {"delta": content} if isinstance(content, dict) else {"text": content}
        chunk = {"id": "x", "choices": [{"index": 0, **part, "finish_reason": reason}]}
        return chunk | ({"usage": None} if self.behaviour.null_usage else {})

    def _n_input(self, body: dict) -> int:
        text = body.get("prompt") or body["messages"][-1]["content"]
        extra = CHAT_OVERHEAD_TOKENS if "messages" in body else 0
        return round(len(text.split()) * self.behaviour.tokens_per_word) + extra

    async def _event(self, response: web.StreamResponse, value: dict) -> None:
        end = self.behaviour.line_end
        await self._write(response, f"data: {json.dumps(value)}{end}{end}".encode())

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        step = self.behaviour.cut_bytes or len(data)
        for start in range(0, len(data), step):
            await response.write(data[start : start + step])
            if self.behaviour.cut_bytes:
                await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def serving(**behaviour: object) -> AsyncIterator[Server]:
    """Runs a server on a free port of the loopback while the block runs."""
    server = Server(Behaviour(**behaviour))
    runner = web.AppRunner(
        server.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


async def _run(port_file: Path, behaviour: dict) -> None:
    """Serves until the standard input ends."""
    async with serving(**behaviour) as server:
        port_file.write_text(str(server.port))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), json.loads(sys.argv[2])))
