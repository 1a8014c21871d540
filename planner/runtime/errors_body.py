"""What clients are told when there is no answer for them, as OpenAI's own clients read it.

{"error": {"message": ..., "type": ..., "param": null, "code": ...}}
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
}
JSON = b"application/json"


class Reply(NamedTuple):
    """A whole answer of the runtime itself."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


def error_body(status: int, code: str, message: str) -> bytes:
    """Returns the JSON of an error."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": None, "code": code}
    return msgspec.json.encode({"error": error})


def error_reply(status: int, code: str, message: str, retry_after_s: float | None = None) -> Reply:
    """Returns the answer that tells of an error; Retry-After in whole seconds, at least 1."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if retry_after_s is not None:
        headers = ((b"retry-after", b"%d" % max(1, -int(-retry_after_s // 1))),)
    return Reply(status, error_body(status, code, message), headers=headers)
