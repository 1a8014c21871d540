"""A chat server that answers what a table says: for the tests of collecting.

python answering_server.py PORT_FILE '{"replies": {"2+2": "The answer is 4."}}'
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


@dataclass
class Manners:
    """How the server behaves; times in s."""

    replies: dict[str, str] = field(default_factory=dict)  # part of the last turn -> answer
    otherwise: str = "I do not know."
    logprob: float | None = -0.25  # of every token; None: none are given
    refused: tuple[str, ...] = ()  # fields that it does not know
    names_field: bool = True
    usage: bool = True
    delay_s: float = 0.0
    fails_first: int = 0  # so many requests get `status` before any is answered
    status: int = 503
    retry_after: str | None = None
    fails_on: str = "no such text"  # a part of the last turn that always gets `status`
    cut_on: str = "no such text"  # a part of the last turn whose answer breaks off
    key: str | None = None


@dataclass
class AnsweringServer:
    """The server's manners, and what it saw."""

    manners: Manners
    port: int = 0
    bodies: list[dict] = field(default_factory=list)
    n_in_flight: int = 0
    n_most_in_flight: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.n_in_flight += 1
        self.n_most_in_flight = max(self.n_most_in_flight, self.n_in_flight)
        try:
            await asyncio.sleep(self.manners.delay_s)
            return self._refusal(request, body) or await self._stream(request, body)
        finally:
            self.n_in_flight -= 1

    def _refusal(self, request: web.Request, body: dict) -> web.Response | None:
        how, asked = self.manners, body["messages"][-1]["content"]
        if how.key is not None and request.headers.get("Authorization") != f"Bearer {how.key}":
            return web.json_response({"error": {"message": "bad key"}}, status=401)
        unknown = [name for name in how.refused if name in body]
        if unknown:
            what = f"Unexpected fields: {', '.join(unknown)}" if how.names_field else "bad request"
            return web.json_response({"error": {"message": what}}, status=400)
        if len(self.bodies) <= how.fails_first or how.fails_on in asked:
            headers = {"Retry-After": how.retry_after} if how.retry_after else {}
            failure = {"error": {"message": "overloaded"}}
            return web.json_response(failure, status=how.status, headers=headers)
        return None

    async def _stream(self, request: web.Request, body: dict) -> web.StreamResponse:
        how, asked = self.manners, body["messages"][-1]["content"]
        text = next((reply for part, reply in how.replies.items() if part in asked), how.otherwise)
        words = [f"{word} " for word in text.split(" ")]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for place, word in enumerate(words):
            choice: dict = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            if how.logprob is not None and body.get("logprobs"):
                choice["logprobs"] = {"content": [{"token": word, "logprob": how.logprob}]}
            await self._event(response, {"choices": [choice]})
            if how.cut_on in asked and place == 0:
                request.transport.close()
                return response
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await self._event(response, {"choices": [end]})
        if how.usage and "stream_options" in body:
            n_input = sum(len(turn["content"].split()) for turn in body["messages"])
            usage = {"prompt_tokens": n_input, "completion_tokens": 2 * len(words)}
            await self._event(response, {"choices": [], "usage": usage})
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _event(self, response: web.StreamResponse, value: dict) -> None:
        await response.write(f"data: {json.dumps(value)}\n\n".encode())


@contextlib.asynccontextmanager
async def answering(**manners: object) -> AsyncIterator[AnsweringServer]:
    """Runs a server on a free port of the loopback while the block runs."""
    server = AnsweringServer(Manners(**manners))
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


async def _run(port_file: Path, manners: dict) -> None:
    """Serves until the standard input ends."""
    async with answering(**manners) as server:
        port_file.write_text(str(server.port))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), json.loads(sys.argv[2])))
