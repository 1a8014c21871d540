"""One chat request to an OpenAI-compatible server, until it is answered or hope is lost.

Answers are streamed: what came before a connection broke shows why it broke. Tokens are those of
the server's usage; where it gives none, chunks with text are counted and the count is marked. Which
optional fields a server takes is learnt from its refusals, and remembered.

Sent again are: 429, 5xx, time-outs, broken connections and streams. The pauses double, and are not
shorter than the server asks for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

from planner.profile.load.client import Dialect, Endpoint, Outcome
from planner.profile.load.connections import Connections, reason
from planner.profile.load.stream import (
    BROKEN,
    EventParser,
    event_fault,
    first_choice,
    json_object,
    message,
)

OPTIONAL = ("logprobs", "stream_options", "temperature")
N_TRIES = 5
PAUSE_S = 1.0  # before the second try; doubled before each further one
LONGEST_PAUSE_S = 60.0
CHARS_PER_TOKEN = 4.0  # of a prompt, where the server does not count
_REFUSALS = (400, 422)
_TRY_AGAIN = (408, 409, 425, 429)
_REASONING = ("reasoning_content", "reasoning")

Message = Mapping[str, str]


@dataclass(frozen=True)
class Request:
    """What is asked, and how long and varied the answer may be."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float


@dataclass(frozen=True)
class Reply:
    """What came of a request; OK with an empty text is an answer, too."""

    outcome: Outcome
    text: str = ""
    finish_reason: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    tokens_estimated: bool = False
    mean_logprob: float | None = None
    duration_s: float = 0.0  # of the last try
    status: int = 0
    detail: str = ""
    retry_after_s: float = 0.0

    @property
    def is_final(self) -> bool:
        """Returns whether sending the request again is of no use."""
        if self.outcome is Outcome.HTTP:
            return self.status < 500 and self.status not in _TRY_AGAIN
        return self.outcome is Outcome.OK


class ChatClient:
    """Sends chat requests to one endpoint; an async context manager that holds connections."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float = 600.0) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.n_in_flight = 0
        self._dialect = Dialect(OPTIONAL)
        self._is_proven = False  # a request with the fields of the dialect has been answered
        self._connections = Connections(endpoint.address, endpoint.api_key)

    async def __aenter__(self) -> ChatClient:
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
    def left_out(self) -> tuple[str, ...]:
        """Returns the optional fields that the server does not take."""
        return tuple(name for name in OPTIONAL if name not in self._dialect.optional)

    async def ask(self, request: Request) -> Reply:
        """Returns the answer to a request, or why there is none after N_TRIES."""
        self.n_in_flight += 1
        try:
            pause_s = PAUSE_S
            for _ in range(N_TRIES - 1):
                reply = await self._ask_plainly(request)
                is_not_there = reply.outcome is Outcome.CONNECTION and not self._is_proven
                if reply.is_final or is_not_there:
                    return reply
                await asyncio.sleep(min(max(pause_s, reply.retry_after_s), LONGEST_PAUSE_S))
                pause_s *= 2
            return await self._ask_plainly(request)
        finally:
            self.n_in_flight -= 1

    async def _ask_plainly(self, request: Request) -> Reply:
        """Returns what came of one try, sent without the fields that the server refuses.

        When even the plainest form is refused the refusal had another reason: all fields stay. A
        server that has taken the fields before means another reason, unless it names a field.
        """
        dialect = self._dialect
        reply = first = await self._send(request, dialect)
        while reply.outcome is Outcome.HTTP and reply.status in _REFUSALS:
            named = any(name in reply.detail for name in (*OPTIONAL, "max_completion_tokens"))
            plainer = dialect.without(reply.detail)
            if plainer is None or (self._is_proven and not named):
                return first
            dialect = plainer
            reply = await self._send(request, dialect)
        if reply.outcome is Outcome.OK:
            self._dialect, self._is_proven = dialect, True
        return reply

    async def _send(self, request: Request, dialect: Dialect) -> Reply:
        """Returns what came of one HTTP request; raises nothing but CancelledError."""
        import aiohttp

        clock, chat, status = asyncio.get_running_loop().time, _Chat(), 0
        start_s = clock()
        try:
            post = self._connections.post(_body(self.endpoint.model_name, request, dialect))
            async with asyncio.timeout(self.timeout_s), await post as response:
                status = response.status
                if status == 200:
                    async for data in response.content.iter_any():
                        chat.feed(data)
                    return replace(chat.reply(request), duration_s=clock() - start_s)
                refusal = (await response.read()).decode("utf-8", "replace")
                outcome, detail = Outcome.HTTP, message(refusal)
                wait_s = _seconds(response.headers.get("Retry-After"))
                return Reply(outcome, status=status, detail=detail, retry_after_s=wait_s)
        except aiohttp.ClientError as error:
            broke_off = Outcome.STREAM, "the answer broke off"
            outcome, detail = broke_off if status else (Outcome.CONNECTION, reason(error))
        except TimeoutError:
            outcome, detail = Outcome.TIMEOUT, f"no complete answer within {self.timeout_s:g} s"
        except OSError as error:
            outcome, detail = Outcome.CONNECTION, reason(error)
        return Reply(outcome, duration_s=clock() - start_s, status=status, detail=detail)


def _body(model_name: str, request: Request, dialect: Dialect) -> bytes:
    """Returns the JSON body of a request."""
    extras: dict[str, object] = {
        "logprobs": True,
        "stream_options": {"include_usage": True},
        "temperature": request.temperature,
    }
    fixed = {
        "model": model_name,
        "messages": list(request.messages),
        dialect.limit: request.max_tokens,
        "stream": True,
    }
    return json.dumps(fixed | {name: extras[name] for name in dialect.optional}).encode()


def _seconds(header: str | None) -> float:
    """Returns a pause that a server asks for in seconds; dates are not read."""
    return float(header) if header and header.strip().isdecimal() else 0.0


class _Chat:
    """An answer as it comes in: its text, log-probabilities, counts and end."""

    def __init__(self) -> None:
        self._parser = EventParser()
        self._text: list[str] = []
        self._logprobs: list[float] = []
        self._usage: Mapping[str, object] = {}
        self._n_chunks = 0  # with text, reasoning included
        self._finish_reason: str | None = None
        self._is_done = False
        self._error = ""

    def feed(self, data: bytes) -> None:
        """Returns nothing; takes bytes of the stream."""
        for payload in self._parser.feed(data):
            self._take(payload)

    def reply(self, request: Request) -> Reply:
        """Returns what the whole stream was."""
        for payload in self._parser.close():
            self._take(payload)
        if not self._error and self._finish_reason in BROKEN:
            self._error = f"the engine gave up: finish_reason {self._finish_reason}"
        if not self._error and not (self._is_done or self._finish_reason):
            self._error = "the stream ended without [DONE] and without a finish_reason"
        if self._error:
            return Reply(Outcome.STREAM, status=200, detail=self._error)
        counts = self._counts()
        n_chars = sum(len(turn["content"]) for turn in request.messages)
        n_input, n_output = counts or (round(n_chars / CHARS_PER_TOKEN), self._n_chunks)
        return Reply(
            Outcome.OK,
            text="".join(self._text).encode("utf-8", "replace").decode("utf-8"),
            finish_reason=self._finish_reason,
            input_tokens=max(n_input, 1),
            output_tokens=max(n_output, 0),
            tokens_estimated=counts is None,
            mean_logprob=mean_logprob(self._logprobs),
            status=200,
        )

    def _counts(self) -> tuple[int, int] | None:
        """Returns the server's counts of prompt and answer tokens, None where it gave none."""
        n_input, n_output = (self._usage.get(f"{k}_tokens") for k in ("prompt", "completion"))
        if isinstance(n_input, int) and isinstance(n_output, int):
            return n_input, n_output
        return None

    def _take(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self._is_done = True
            return
        chunk = json_object(payload)
        if not chunk or chunk.get("error") or chunk.get("object") == "error":
            self._error = self._error or event_fault(payload)
            return
        usage = chunk.get("usage")
        self._usage = usage if isinstance(usage, dict) else self._usage
        choice = first_choice(chunk)
        delta = choice.get("delta")
        parts = delta if isinstance(delta, dict) else {}
        content = parts.get("content")
        if isinstance(content, str):
            self._text.append(content)
        self._n_chunks += bool(content or any(parts.get(key) for key in _REASONING))
        end = choice.get("finish_reason")
        self._finish_reason = end if isinstance(end, str) else self._finish_reason
        self._logprobs += _logprobs(choice.get("logprobs"))


def mean_logprob(values: Sequence[float]) -> float | None:
    """Returns the mean log-probability of the tokens of an answer, at most 0; None without any."""
    return min(sum(values) / len(values), 0.0) if values else None


def _logprobs(said: object) -> list[float]:
    """Returns the log-probabilities in a chunk's `logprobs`, as chat and completions write them."""
    if not isinstance(said, dict):
        return []
    content = said.get("content")
    entries = content if isinstance(content, list) else []
    values = [entry.get("logprob") for entry in entries if isinstance(entry, dict)]
    plain = said.get("token_logprobs")
    values += plain if isinstance(plain, list) else []
    # Where a token cannot be had at all, servers write -9999 or the least float.
    return [float(v) for v in values if isinstance(v, int | float) and -1000.0 < v <= 0.001]
