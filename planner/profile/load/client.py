"""One streaming request to an OpenAI-compatible server, timed, with the server's own token counts.

Tokens are counted by the server's `usage`, never by chunks: engines put several tokens in one. The
first token is the first chunk with text in it (an empty one announces the role). The answer is done
with its last chunk of choices; the usage and [DONE] that follow are not the user's to wait for.
All times are those of the running event loop, in s.

Which optional fields the server takes is learned once, by `Client.probe`, before anything is
measured: a request that is sent twice would have no latency of its own.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import dataclass, field, replace
from enum import IntEnum
from types import TracebackType
from typing import Literal, NamedTuple

from planner.profile.load.connections import Connections, reason
from planner.profile.load.prompts import Ask
from planner.profile.load.stream import Stream, message

Api = Literal["completions", "chat"]
_PATHS: dict[Api, str] = {"completions": "/completions", "chat": "/chat/completions"}
_REFUSALS = (400, 422)  # what servers answer to fields that they do not know


class Outcome(IntEnum):
    """How a request ended; everything but OK counts as failed, and CANCELLED as neither."""

    OK = 0
    HTTP = 1  # a status other than 200
    TIMEOUT = 2
    CONNECTION = 3  # no answer at all: refused, reset, name not found
    STREAM = 4  # an answer that broke off, or reported an error inside
    NO_USAGE = 5  # answered, but without token counts
    EMPTY = 6  # answered without a single token of text
    CANCELLED = 7  # still running when the load ended; closed by us


class Answer(NamedTuple):
    """What came of one request; times in s of the event loop, NaN and 0 where there was none."""

    outcome: Outcome
    sent_s: float
    first_s: float
    done_s: float
    n_input: int = 0
    n_output: int = 0
    status: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Endpoint:
    """Where to send, to which model, over which of the two interfaces."""

    url: str  # of the server, with or without /v1
    model_name: str
    api: Api = "completions"
    api_key: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Returns the address that requests are posted to."""
        base = self.url.rstrip("/")
        path = _PATHS[self.api]
        if base.endswith(path):
            return base
        return base + path if base.endswith("/v1") else f"{base}/v1{path}"


@dataclass(frozen=True)
class Dialect:
    """Which fields beyond the model, the prompt and the length a server takes."""

    optional: tuple[str, ...] = ("ignore_eos", "stream_options", "temperature")
    limit: str = "max_tokens"

    def body(self, endpoint: Endpoint, ask: Ask) -> bytes:
        """Returns the JSON body of a request."""
        extras: dict[str, object] = {
            "ignore_eos": True,
            "stream_options": {"include_usage": True},
            "temperature": 0,
        }
        turn = {"role": "user", "content": ask.text}
        prompt = {"messages": [turn]} if endpoint.api == "chat" else {"prompt": ask.text}
        fixed = {"model": endpoint.model_name, **prompt, self.limit: ask.n_output, "stream": True}
        return json.dumps(fixed | {name: extras[name] for name in self.optional}).encode()

    def without(self, refusal: str) -> Dialect | None:
        """Returns what to try after a refusal (its text); None when there is nothing left.

        A field that the refusal names goes first, otherwise the first of those that are left.
        """
        if "max_completion_tokens" in refusal and self.limit == "max_tokens":
            return replace(self, limit="max_completion_tokens")
        if not self.optional:
            return None
        named = [name for name in self.optional if name in refusal]
        gone = (named or self.optional)[0]
        return replace(self, optional=tuple(name for name in self.optional if name != gone))


class Client:
    """Sends requests to one endpoint; an async context manager that holds the connections."""

    def __init__(
        self, endpoint: Endpoint, *, timeout_s: float = 600.0, dialect: Dialect | None = None
    ) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.dialect = dialect or Dialect()
        self._connections = Connections(endpoint.address, endpoint.api_key)

    async def __aenter__(self) -> Client:
        """Returns the client, ready to send."""
        await self._connections.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Returns nothing; closes all connections."""
        await self._connections.__aexit__(kind, error, trace)

    @property
    def reuses_connections(self) -> bool:
        """Returns whether requests share connections: until the server closes one unannounced."""
        return self._connections.are_reused

    async def probe(self, ask: Ask) -> Answer:
        """Returns the answer to one request; remembers the fields that the server refused.

        When even the plainest request is refused, the refusal had another reason: the answer is
        that of the full request, and all fields stay.
        """
        first = answer = await self.send(ask)
        tried = self.dialect
        while answer.outcome is Outcome.HTTP and answer.status in _REFUSALS:
            plainer = tried.without(answer.detail)
            if plainer is None:
                return first
            tried = plainer
            answer = await self._send(ask, tried)
        self.dialect = tried
        return answer

    async def send(self, ask: Ask) -> Answer:
        """Returns what came of one request; raises nothing but CancelledError."""
        return await self._send(ask, self.dialect)

    async def _send(self, ask: Ask, dialect: Dialect) -> Answer:
        """Returns what came of one request with given fields."""
        import aiohttp

        loop = asyncio.get_running_loop()
        body = dialect.body(self.endpoint, ask)
        stream, status = Stream(), 0
        sent_s = loop.time()
        try:
            async with (
                asyncio.timeout(self.timeout_s),
                await self._connections.post(body) as response,
            ):
                status = response.status
                if status == 200:
                    async for data in response.content.iter_any():
                        stream.feed(data, loop.time())
                    stream.close(loop.time())
                    return _answer(stream, sent_s, loop.time())
                refusal = (await response.read()).decode("utf-8", "replace")
                outcome, detail = Outcome.HTTP, message(refusal)
        except aiohttp.ClientError as error:
            broke_off = Outcome.STREAM, "the answer broke off"
            outcome, detail = broke_off if status else (Outcome.CONNECTION, reason(error))
        except TimeoutError:
            outcome, detail = Outcome.TIMEOUT, f"no complete answer within {self.timeout_s:g} s"
        except OSError as error:
            outcome, detail = Outcome.CONNECTION, reason(error)
        return Answer(outcome, sent_s, stream.first_s, loop.time(), 0, 0, status, detail)


def _answer(stream: Stream, sent_s: float, end_s: float) -> Answer:
    """Returns what came of a request whose stream has ended."""
    counts = stream.counts()
    n_input, n_output = counts or (0, 0)
    done_s = end_s if math.isnan(stream.last_s) else stream.last_s
    outcome, detail = Outcome.OK, ""
    if stream.error:
        outcome, detail = Outcome.STREAM, stream.error
    elif math.isnan(stream.first_s):
        outcome, detail = Outcome.EMPTY, "the answer has no text"
    elif not n_output:
        outcome, detail = Outcome.NO_USAGE, "the stream has no usage with token counts"
    return Answer(outcome, sent_s, stream.first_s, done_s, n_input, n_output, 200, detail)
