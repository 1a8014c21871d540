"""Which headers pass, in which direction.

A proxy answers for its own connections: whatever speaks of one connection (RFC 9110, 7.6.1) stays
there, lengths are told anew, and secrets of one side are not shown to the other: not the client's
key to the instance, nor the account that the instance is paid with to the client. All else passes.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from planner.runtime.instance import Instance
from planner.runtime.wire import request_head

Headers = list[tuple[bytes, bytes]]

_OF_A_CONNECTION = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer"
    b" transfer-encoding upgrade http2-settings content-length".split()
)
# Told anew: host, length, type and the id. Secrets: keys under all their names, cookies, whose
# account it is. Where it came from: of no use to an engine. An instance's rank is ours to choose.
# Encodings: usage is read out of the answer, so it has to be plain.
_NOT_UPSTREAM = _OF_A_CONNECTION | frozenset(
    b"host content-type content-encoding accept-encoding expect authorization api-key x-api-key"
    b" x-goog-api-key cookie openai-organization openai-project forwarded x-forwarded-for"
    b" x-forwarded-host x-forwarded-port x-forwarded-proto x-real-ip x-request-id traceparent"
    b" x-data-parallel-rank".split()
)
_NOT_BACK = _OF_A_CONNECTION | frozenset(
    b"server date via alt-svc set-cookie strict-transport-security www-authenticate"
    b" openai-organization openai-project x-request-id".split()
)


def upstream_head(instance: Instance, path: str) -> bytes:
    """Returns the part of a request's head that is the same for every request to an instance."""
    base = urlsplit(instance.url).path.rstrip("/").removesuffix("/v1")
    own = [("content-type", "application/json"), ("accept-encoding", "identity")]
    if instance.api_key is not None:
        own.append(("authorization", f"Bearer {instance.api_key}"))
    if instance.rank is not None:
        own.append(("x-data-parallel-rank", str(instance.rank)))
    return request_head("POST", instance.address, base + path, own)


def passed_upstream(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns the lines of those headers of a client that an instance gets."""
    lines: list[bytes] = []
    connection = b""
    for name, value in headers:
        if name in _NOT_UPSTREAM:
            if name == b"connection" and value.lower() not in _USUAL_CONNECTIONS:
                connection += b"," + value
        elif not name.startswith(b"x-rb-"):
            lines += (name, b": ", value, b"\r\n")
    if connection:
        return _without(lines, _tokens(connection))
    return b"".join(lines)


def passed_back(headers: Headers, *, keeps_length: bool) -> Headers:
    """Returns those headers of an instance's answer that the client gets."""
    passed: Headers = []
    named: frozenset[bytes] = frozenset()
    for header in headers:
        name = header[0]
        if name not in _NOT_BACK:
            if not name.startswith(b"x-rb-"):
                passed.append(header)
        elif name == b"content-length":
            if keeps_length:
                passed.append(header)
        elif name == b"connection" and header[1].lower() not in _USUAL_CONNECTIONS:
            named |= _tokens(header[1])
    if named:
        return [header for header in passed if header[0] not in named - _NEVER_NAMED]
    return passed


_USUAL_CONNECTIONS = (b"keep-alive", b"close")
# A Connection header that names these would leave an answer without a border or a meaning.
_NEVER_NAMED = frozenset((b"content-length", b"content-type"))


def _tokens(value: bytes) -> frozenset[bytes]:
    return frozenset(token.strip().lower() for token in value.split(b","))


def _without(lines: list[bytes], names: frozenset[bytes]) -> bytes:
    """Returns the lines (four pieces each) but those whose names a Connection header names."""
    kept = [lines[k : k + 4] for k in range(0, len(lines), 4) if lines[k] not in names]
    return b"".join(piece for line in kept for piece in line)
