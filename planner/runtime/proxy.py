"""The ASGI application of `rb serve`: which path leads where, and who may come in.

Only the paths of a table go anywhere, and upstream only under the names of that table: what a
client writes in its request line never becomes part of ours.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import msgspec

from planner.runtime.ask import Headers, Refusal
from planner.runtime.body import OPERATIONS, read_call
from planner.runtime.errors_body import Reply, error_reply
from planner.runtime.framing import Message
from planner.runtime.relay import Line, Relay, Send, send_reply

if TYPE_CHECKING:
    from planner.runtime.dispatch import Dispatcher
    from planner.runtime.upstream import Upstream

MAX_BODY_BYTES = 64 * 1024 * 1024  # pictures travel inside of requests

Receive = Callable[[], Awaitable[Message]]
Scope = Message


class Pages(Protocol):
    """What the runtime tells of itself."""

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Returns the page of metrics and its content type."""

    async def status(self) -> bytes:
        """Returns the JSON of /rb/status."""

    async def drift(self) -> bytes:
        """Returns the JSON of /rb/drift."""

    async def feedback(self, body: bytes) -> str | None:
        """Takes a quality sample; returns what is wrong with it."""


class Proxy:
    """The application: call it with scope, receive and send.

    `client_key`: clients must send it as a bearer token to everything but /health, /ready and
    /metrics; None: anybody may ask.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        upstream: Upstream,
        pages: Pages,
        clock: Callable[[], float],
        *,
        client_key: str | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self.is_draining = False
        self._line = Line(dispatcher, upstream, clock)
        self._dispatcher = dispatcher
        self._pages = pages
        self._clock = clock
        self._bearer = None if client_key is None else b"Bearer " + client_key.encode()
        self._max_body_bytes = max_body_bytes
        self._own: dict[str, tuple[str, Callable[[Headers, bytes], Awaitable[Reply]]]] = {
            "/health": ("GET", self._health),
            "/ready": ("GET", self._ready),
            "/metrics": ("GET", self._metrics),
            "/v1/models": ("GET", self._models),
            "/rb/status": ("GET", self._status),
            "/rb/drift": ("GET", self._drift),
            "/rb/feedback": ("POST", self._feedback),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        path: str = scope["raw_path"].decode("latin-1")
        if path not in OPERATIONS:
            await send_reply(send, await self._own_page(path, scope, receive))
        elif scope["method"] != "POST":
            await send_reply(send, _not_allowed("POST"))
        elif not self._may_enter(scope["headers"]):
            await send_reply(send, _KEY_WANTED)
        else:
            await self._relay(path, scope["headers"], receive, send)

    async def _relay(self, path: str, headers: Headers, receive: Receive, send: Send) -> None:
        body = await self._read_body(headers, receive)
        if body is None:
            return
        if isinstance(body, Reply):
            await send_reply(send, body)
            return
        call = read_call(path, body)
        if isinstance(call, Refusal):
            await send_reply(send, _refused(call))
            return
        ticket = self._dispatcher.begin(call, headers, self._clock())
        if isinstance(ticket, Refusal):
            await send_reply(send, _refused(ticket))
            return
        await Relay(self._line, ticket, call, path, headers, send).run()

    async def _read_body(self, headers: Headers, receive: Receive) -> bytes | Reply | None:
        """Returns the body of a request, why it is not read, or None when its client has left."""
        for name, value in headers:
            if name == b"content-length" and int(value) > self._max_body_bytes:
                return self._too_large()  # before it is sent, where the client waits for 100
        message = await receive()
        if message["type"] == "http.request" and not message["more_body"]:
            body: bytes = message["body"]
            return body if len(body) <= self._max_body_bytes else self._too_large()
        pieces = bytearray()
        while message["type"] == "http.request":
            pieces += message["body"]
            if len(pieces) > self._max_body_bytes:
                return self._too_large()
            if not message["more_body"]:
                return bytes(pieces)
            message = await receive()
        return None

    def _too_large(self) -> Reply:
        what = f"the body is larger than {self._max_body_bytes} bytes"
        return error_reply(413, "body_too_large", what)

    def _may_enter(self, headers: Headers) -> bool:
        if self._bearer is None:
            return True
        sent = [value for name, value in headers if name == b"authorization"]
        return len(sent) == 1 and hmac.compare_digest(sent[0], self._bearer)

    # ---- Pages of our own ----

    async def _own_page(self, path: str, scope: Scope, receive: Receive) -> Reply:
        method, headers = scope["method"], scope["headers"]
        wanted, page = self._own.get(path, ("", None))
        if page is None:
            return error_reply(404, "not_found", "there is no such path here")
        if method != wanted and not (method == "HEAD" and wanted == "GET"):
            return _not_allowed(wanted)
        if path not in _OPEN and not self._may_enter(headers):
            return _KEY_WANTED
        body = await self._read_body(headers, receive) if wanted == "POST" else b""
        if not isinstance(body, bytes):
            return body or error_reply(400, "invalid_body", "the body did not arrive")
        return await page(headers, body)

    async def _health(self, _headers: Headers, _body: bytes) -> Reply:
        return Reply(200, b'{"status":"ok"}')

    async def _ready(self, _headers: Headers, _body: bytes) -> Reply:
        if self.is_draining:
            return error_reply(503, "draining", "this server is about to stop")
        if not self._dispatcher.is_ready(self._clock()):
            return error_reply(503, "not_ready", "a class has no instance that is up", 1.0)
        return Reply(200, b'{"status":"ready"}')

    async def _metrics(self, headers: Headers, _body: bytes) -> Reply:
        accept = b", ".join(value for name, value in headers if name == b"accept")
        page, content_type = await self._pages.metrics(accept.decode("latin-1"))
        return Reply(200, page, content_type.encode("latin-1"))

    async def _models(self, _headers: Headers, _body: bytes) -> Reply:
        names = self._dispatcher.model_names()
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "rb"} for name in names]
        return Reply(200, msgspec.json.encode({"object": "list", "data": data}))

    async def _status(self, _headers: Headers, _body: bytes) -> Reply:
        return Reply(200, await self._pages.status())

    async def _drift(self, _headers: Headers, _body: bytes) -> Reply:
        return Reply(200, await self._pages.drift())

    async def _feedback(self, _headers: Headers, body: bytes) -> Reply:
        wrong = await self._pages.feedback(body)
        if wrong is not None:
            return error_reply(400, "invalid_feedback", wrong)
        return Reply(200, b'{"status":"taken"}')


_OPEN = frozenset(("/health", "/ready", "/metrics"))
_KEY_WANTED = error_reply(
    401, "invalid_api_key", "send the key as 'Authorization: Bearer KEY'"
)._replace(headers=((b"www-authenticate", b"Bearer"),))


def _refused(refusal: Refusal) -> Reply:
    return error_reply(refusal.status, refusal.code, refusal.message, refusal.retry_after_s)


def _not_allowed(wanted: str) -> Reply:
    reply = error_reply(405, "method_not_allowed", f"this path takes {wanted} only")
    return reply._replace(headers=((b"allow", wanted.encode()),))
