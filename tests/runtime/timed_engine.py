"""An OpenAI-compatible engine that keeps time by a step law and computes nothing.

    python timed_engine.py READY_FILE '[{"model_name": "small", "step_ms": 20}, ...]'

It batches as a serving engine does: at each step boundary waiting requests are admitted first come,
first served, while places last; prompts are prefilled in chunks beside the decodes; every decoding
request gets one token a step. A step lasts

    step_ms + sequence_ms n + context_token_ms K + prompt_token_ms P

for n decodes that read K tokens and P prompt tokens. Steps end at moments of a schedule, not after
a sleep each: what the machine is late with at one step is not late at the next. So the engine is an
independent witness of what the planner predicts, with no accelerator and next to no CPU.

A word of a prompt is a token; an answer has as many tokens as the request allows.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

_QUIET = logging.getLogger("timed engine")  # that clients leave is no news
_QUIET.setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Law:
    """One engine: its model and what its steps take."""

    model_name: str
    step_ms: float
    sequence_ms: float = 0.0
    context_token_ms: float = 0.0
    prompt_token_ms: float = 0.0
    max_num_seqs: int = 16
    max_num_batched_tokens: int = 2048
    cut_every: int = 0  # of every so many answers one is cut in its middle


@dataclass(eq=False)
class _Request:
    n_input: int
    n_output: int
    n_prefilled: int = 0
    n_generated: int = 0
    tokens: asyncio.Queue = field(default_factory=asyncio.Queue)  # a count per step; 0 ends


class Engine:
    """One replica: who waits, who runs, and the loop that steps."""

    def __init__(self, law: Law) -> None:
        self.law = law
        self.port = 0
        self.n_served = 0
        self.n_cancelled = 0
        self.headers: list[dict[str, str]] = []
        self._waiting: deque[_Request] = deque()
        self._running: list[_Request] = []
        self._wake = asyncio.Event()

    @property
    def n_there(self) -> int:
        return len(self._running) + len(self._waiting)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**24)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def step_forever(self) -> None:
        """Runs steps while there is somebody to serve; each ends when it is due."""
        loop = asyncio.get_running_loop()
        while True:
            if not (self._running or self._waiting):
                self._wake.clear()
                await self._wake.wait()
                due_s = loop.time()
            due_s += self._compose() / 1000.0
            await asyncio.sleep(max(due_s - loop.time(), 0.0))
            self._deliver()

    def _compose(self) -> float:
        """Admits and prefills; returns what the step takes, ms."""
        law = self.law
        while self._waiting and len(self._running) < law.max_num_seqs:
            self._running.append(self._waiting.popleft())
        decoding = [r for r in self._running if r.n_prefilled == r.n_input]
        budget = law.max_num_batched_tokens - len(decoding)
        n_prompt = 0
        for request in self._running:
            chunk = min(request.n_input - request.n_prefilled, budget - n_prompt)
            request.n_prefilled += chunk
            n_prompt += chunk
        context = sum(r.n_input + r.n_generated for r in decoding)
        return (
            law.step_ms
            + law.sequence_ms * len(decoding)
            + law.context_token_ms * context
            + law.prompt_token_ms * n_prompt
        )

    def _deliver(self) -> None:
        """Gives each request whose prompt is read one token."""
        for request in [r for r in self._running if r.n_prefilled == r.n_input]:
            request.n_generated += 1
            request.tokens.put_nowait(1)
            if request.n_generated >= request.n_output:
                request.tokens.put_nowait(0)
                self._running.remove(request)

    def _cancel(self, request: _Request) -> None:
        if request.n_generated < request.n_output:
            self.n_cancelled += 1
        for place in (self._running, self._waiting):
            with contextlib.suppress(ValueError):
                place.remove(request)

    # ---- HTTP ------------------------------------------------------------------------------------

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        texts = [turn["content"] for turn in body["messages"]]
        return await self._serve(request, body, " ".join(texts), is_chat=True)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await self._serve(request, body, body["prompt"], is_chat=False)

    async def _serve(
        self, request: web.Request, body: dict, text: str, is_chat: bool
    ) -> web.StreamResponse:
        n_output = body.get("max_completion_tokens") or body.get("max_tokens") or 16
        asked = _Request(max(len(text.split()), 1), n_output)
        self.headers.append(dict(request.headers))
        every = self.law.cut_every
        cut_at = n_output // 2 if every and len(self.headers) % every == 0 else n_output + 1
        self._waiting.append(asked)
        self._wake.set()
        try:
            if body.get("stream"):
                return await self._stream(request, body, asked, is_chat, cut_at)
            while await asked.tokens.get():
                if asked.n_generated > cut_at:
                    _cut(request)
            return web.json_response(self._whole(asked, is_chat))
        finally:
            self._cancel(asked)
            self.n_served += 1

    async def _stream(
        self, request: web.Request, body: dict, asked: _Request, is_chat: bool, cut_at: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        content = {"delta": {"content": "a "}} if is_chat else {"text": "a "}
        chunk = _event(self._object([{"index": 0, **content, "finish_reason": None}]))
        while await asked.tokens.get():
            await response.write(chunk)
            if asked.n_generated > cut_at:
                _cut(request)
        end = {"delta": {}} if is_chat else {"text": ""}
        await response.write(_event(self._object([{"index": 0, **end, "finish_reason": "length"}])))
        if (body.get("stream_options") or {}).get("include_usage"):
            await response.write(_event(self._object([]) | {"usage": _usage(asked)}))
        await response.write(b"data: [DONE]\n\n")
        return response

    def _whole(self, asked: _Request, is_chat: bool) -> dict:
        text = "a " * asked.n_generated
        said = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
        choice = {"index": 0, **said, "finish_reason": "length"}
        return self._object([choice]) | {"usage": _usage(asked)}

    def _object(self, choices: list[dict]) -> dict:
        return {"id": "timed", "model": self.law.model_name, "choices": choices}

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": self.law.model_name}]})

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        held = sum(r.n_prefilled + r.n_generated for r in self._running)
        lines = [
            f"vllm:num_requests_running {len(self._running)}",
            f"vllm:num_requests_waiting {len(self._waiting)}",
            f"vllm:kv_cache_usage_perc {held / 1_000_000}",
        ]
        return web.Response(text="\n".join(lines) + "\n")


def _cut(request: web.Request) -> None:
    """Ends a connection as an engine that dies does."""
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


def _usage(asked: _Request) -> dict:
    return {
        "prompt_tokens": asked.n_input,
        "completion_tokens": asked.n_generated,
        "total_tokens": asked.n_input + asked.n_generated,
    }


def _event(value: dict) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


@contextlib.asynccontextmanager
async def engines(laws: list[Law]) -> AsyncIterator[list[Engine]]:
    """Runs an engine per law on free loopback ports while the block runs."""
    started, runners, steps = [], [], []
    try:
        for law in laws:
            engine = Engine(law)
            runner = web.AppRunner(
                engine.app(),
                handler_cancellation=True,
                access_log=None,
                logger=_QUIET,
                shutdown_timeout=0.1,
            )
            await runner.setup()
            runners.append(runner)
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
            engine.port = runner.addresses[0][1]
            steps.append(asyncio.create_task(engine.step_forever()))
            started.append(engine)
        yield started
    finally:
        for step in steps:
            step.cancel()
        await asyncio.gather(*steps, return_exceptions=True)
        for runner in runners:
            await runner.cleanup()


async def _run(ready_file: Path, laws: list[Law]) -> None:
    """Serves until the standard input ends; writes the URLs when all engines are up."""
    async with engines(laws) as started:
        ready_file.write_text(json.dumps([engine.url for engine in started]))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), [Law(**law) for law in json.loads(sys.argv[2])]))
