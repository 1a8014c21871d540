"""One request on its way: tries instances until one answers, and passes its answer on as it comes.

Until the first byte of an answer has gone out, another instance may be asked; the head of an answer
is held until its first byte is here, so that a server that dies in between is no loss. After that
byte there is no way back: an answer that is cut is cut for the client too, never ended cleanly.

    for each instance that the dispatcher names
        send                    no connection, reset, not HTTP        -> next
        status 429 502 503 504, or our key is refused (401 403)       -> next
        status 400 422 about stream_options that we added             -> the same, without
        first byte              reset before it                       -> next
        judge, where the answer is one of a cascade's first stage     -> deliver, or next stage
        pass on, piece by piece, each sent before the next is read
    nobody answered: what the last one said, or 502, 504, 503
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from planner.runtime.errors_body import Reply, error_reply
from planner.runtime.framing import Cut, Message
from planner.runtime.headers import passed_back, passed_upstream, upstream_head
from planner.runtime.sse import Events, find_usage
from planner.runtime.upstream import read_whole
from planner.runtime.wire import Answer, UpstreamError

if TYPE_CHECKING:
    from planner.runtime.ask import Headers
    from planner.runtime.body import Call
    from planner.runtime.dispatch import Dispatcher, FailedTry
    from planner.runtime.instance import Instance
    from planner.runtime.served import Outcome, Usage
    from planner.runtime.ticket import Ticket
    from planner.runtime.upstream import Upstream

Send = Callable[[Message], Awaitable[None]]

CLIENT_LEFT = 499  # as nginx counts it; nobody is left to be told
REFUSAL_BYTES = 64 * 1024  # of an error answer that is read before it is known what to do with it
_BUSY = frozenset((429, 502, 503, 504))
_KEY_REFUSED = frozenset((401, 403))
_MAY_BE_USAGE = frozenset((400, 422))
MOST_KEPT_BYTES = 16 * 1024  # of the end of a plain answer, to find its usage in
MOST_BUFFERED_BYTES = 16 * 1024 * 1024  # of an answer that is judged before it is delivered


class Line:
    """What all requests share: who decides, who sends, and the heads made once per instance."""

    def __init__(
        self, dispatcher: Dispatcher, upstream: Upstream, clock: Callable[[], float]
    ) -> None:
        self.dispatcher = dispatcher
        self.upstream = upstream
        self.clock = clock
        self._heads: dict[tuple[int, str], tuple[Instance, bytes]] = {}

    def head(self, instance: Instance, path: str) -> bytes:
        """Returns the fixed part of the head of a request to an instance."""
        key = (instance.index, path)
        known = self._heads.get(key)
        if known is None or known[0] is not instance:  # a reload may have changed its key
            known = self._heads[key] = (instance, upstream_head(instance, path))
        return known[1]


class Relay:
    """One request, from its ticket to its end."""

    __slots__ = ("_answer", "_call", "_first", "_headers", "_line", "_path", "_refusal", "_send",
                 "_status", "_ticket", "_usage", "_why")  # fmt: skip

    def __init__(
        self, line: Line, ticket: Ticket, call: Call, path: str, headers: Headers, send: Send
    ) -> None:
        self._line = line
        self._ticket = ticket
        self._call = call
        self._path = path
        self._headers = passed_upstream(headers)
        self._send = send
        self._answer: Answer | None = None
        self._first: tuple[Instance, Answer] | None = None  # of a cascade, not trusted
        self._refusal: Reply | None = None  # what the last failed try is told as
        self._why = ""
        self._status = 0  # that the client has been sent
        self._usage: Usage | None = None

    async def run(self) -> None:
        """Answers the client. Raises Cut when the rest of an answer is missing."""
        try:
            await self._answered()
        except asyncio.CancelledError:
            self._ended("cancelled", "client left", CLIENT_LEFT)
            raise
        except UpstreamError as error:
            self._ended("error", "cut", self._status)
            raise Cut(str(error)) from error
        except Exception:
            self._ended("error", "bug", self._status or 500)
            raise
        is_good = self._status < 400
        self._ended("ok" if is_good else "error", "" if is_good else self._why, self._status)

    async def _answered(self) -> None:
        ticket = self._ticket
        while (instance := await self._next()) is not None:
            try:
                answer = await self._asked(instance)
                piece = b"" if answer is None else await answer.read()
            except UpstreamError as error:
                self._failed(instance, error)
                if error.kind == "timeout":
                    break  # its user has waited long enough
                continue
            if answer is None:
                continue
            if not (ticket.is_buffered and answer.status == 200):
                return await self._pass_on(instance, answer, piece)
            if await self._judged(instance, answer, piece):
                return None
        if self._first is not None and ticket.first_answer is not None:
            return await self._deliver(*self._first, ticket.first_answer)
        return await self._nobody()

    # ---- Asking ----

    async def _next(self) -> Instance | None:
        """Returns whom to ask now; waits only for pools whose policy holds requests back."""
        line, ticket = self._line, self._ticket
        if line.dispatcher.holds(ticket):
            return await line.dispatcher.held_instance(ticket, line.clock)
        instance = line.dispatcher.next_instance(ticket, line.clock())
        if not ticket.decision_s:
            ticket.decision_s = line.clock() - ticket.started_s
        return instance

    async def _asked(self, instance: Instance, *, is_second: bool = False) -> Answer | None:
        """Returns the answer of an instance with its head; None where another is to be asked."""
        line, ticket, timeouts = self._line, self._ticket, self._line.upstream.timeouts
        body = line.dispatcher.body_for(ticket, instance)
        parent = ticket.traceparent
        request = b"".join((
            line.head(instance, self._path),
            self._headers,
            b"" if parent is None else b"traceparent: %b\r\n" % parent.encode("latin-1"),
            b"x-request-id: %b\r\n" % ticket.request_id.encode("latin-1"),
            b"content-length: %d\r\n\r\n" % len(body),
            body,
        ))  # fmt: skip
        first_byte_s = timeouts.first_token_s if self._call.streams else timeouts.answer_s
        answer = self._answer = await line.upstream.send(instance.address, request, first_byte_s)
        status = answer.status
        if status < 400:
            return answer
        if status in _BUSY or status in _KEY_REFUSED:
            await self._keep_refusal(instance, answer)
            return None
        if status in _MAY_BE_USAGE and ticket.drop_usage and not is_second:
            text = await answer.peek(REFUSAL_BYTES)
            if b"stream_options" in text or b"include_usage" in text:
                answer.abort()
                line.dispatcher.refuses_usage(instance)
                return await self._asked(instance, is_second=True)
        return answer

    async def _keep_refusal(self, instance: Instance, answer: Answer) -> None:
        """Remembers how an instance refused, in case that nobody else takes the request."""
        status, line = answer.status, self._line
        text = await answer.peek(REFUSAL_BYTES)
        answer.abort()
        if status in _KEY_REFUSED:
            # Its own words may show a part of our key.
            what = "the instance does not accept the key that it was sent"
            self._refusal = error_reply(502, "upstream_key_refused", what)
        else:
            passed = passed_back(answer.headers, keeps_length=False)
            types = [value for name, value in passed if name == b"content-type"]
            rest = tuple(header for header in passed if header[0] == b"retry-after")
            self._refusal = Reply(status, text, types[0] if types else b"text/plain", rest)
        self._why = "busy" if status == 429 else "status"
        kind: FailedTry = "busy" if status == 429 else "status"
        line.dispatcher.failed_try(self._ticket, instance, line.clock(), kind)

    def _failed(self, instance: Instance, error: UpstreamError) -> None:
        line = self._line
        kind: FailedTry = "reset" if error.kind == "protocol" else error.kind
        self._why = kind
        if kind == "timeout":
            self._refusal = error_reply(504, "upstream_timeout", f"the instance: {error}")
        else:
            self._refusal = error_reply(502, "upstream_failed", f"the instance: {error}")
        line.dispatcher.failed_try(self._ticket, instance, line.clock(), kind)

    async def _nobody(self) -> None:
        reply = self._refusal
        if reply is None:
            self._why = "no instance"
            what = "no instance can take the request now"
            reply = error_reply(503, "no_instance", what, 1.0)
        self._status = reply.status
        await send_reply(
            self._send, reply, (b"x-request-id", self._ticket.request_id.encode("latin-1"))
        )

    # ---- Delivering ----

    async def _pass_on(self, instance: Instance, answer: Answer, piece: bytes) -> None:
        """Sends an answer on as it comes."""
        line, ticket = self._line, self._ticket
        is_stream = answer.is_events and answer.status == 200
        await self._start(instance, answer, keeps_length=not (is_stream and ticket.drop_usage))
        if is_stream:
            await self._pass_events(answer, piece)
            return
        if answer.status < 400:
            line.dispatcher.first_token(ticket, line.clock())
        else:
            self._why = "upstream status"
        seen = piece
        while not answer.is_over:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            piece = await answer.read()
            seen = (seen + piece)[-MOST_KEPT_BYTES:]
        await self._send({"type": "http.response.body", "body": piece, "more_body": False})
        self._usage = find_usage(seen)

    async def _pass_events(self, answer: Answer, piece: bytes) -> None:
        line, send = self._line, self._send
        events = Events(drops_usage=self._ticket.drop_usage)
        has_begun = False
        while True:
            sent = events.feed(piece)
            if events.has_begun and not has_begun:
                has_begun = True
                line.dispatcher.first_token(self._ticket, line.clock())
            if answer.is_over:
                break
            if sent:
                await send({"type": "http.response.body", "body": sent, "more_body": True})
            piece = await answer.read()
        self._usage = events.usage
        sent += events.flush()
        if not answer.is_delimited and not events.is_done:
            raise UpstreamError("reset", "the stream ended without [DONE]")
        await send({"type": "http.response.body", "body": sent, "more_body": False})

    async def _judged(self, instance: Instance, answer: Answer, piece: bytes) -> bool:
        """Returns whether the first answer of a cascade was delivered."""
        line, ticket = self._line, self._ticket
        line.dispatcher.first_token(ticket, line.clock())
        try:
            whole = piece + await read_whole(answer, MOST_BUFFERED_BYTES)
        except UpstreamError as error:
            answer.abort()
            self._failed(instance, error)
            return False
        self._first = (instance, answer)
        good = line.dispatcher.judge(ticket, whole, answer.is_events, line.clock())
        if good is None:
            return False
        self._usage = find_usage(whole)
        await self._deliver(instance, answer, good)
        return True

    async def _deliver(self, instance: Instance, answer: Answer, body: bytes) -> None:
        """Sends an answer that is here as a whole."""
        await self._start(instance, answer, keeps_length=False)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _start(self, instance: Instance, answer: Answer, *, keeps_length: bool) -> None:
        headers = passed_back(answer.headers, keeps_length=keeps_length)
        headers += self._ticket.response_headers(instance)
        self._status = answer.status
        await self._send(
            {"type": "http.response.start", "status": answer.status, "headers": headers}
        )

    def _ended(self, outcome: Outcome, why: str, status: int) -> None:
        if self._answer is not None:
            self._answer.abort()  # of no effect where it is complete
        line = self._line
        line.dispatcher.ended(self._ticket, line.clock(), outcome, why, self._usage, status)


async def send_reply(send: Send, reply: Reply, *headers: tuple[bytes, bytes]) -> None:
    """Sends an answer of our own."""
    own = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *reply.headers,
        *headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": own})
    await send({"type": "http.response.body", "body": reply.body, "more_body": False})
