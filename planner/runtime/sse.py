"""Answers looked at while they pass: where they begin, what they used, what was not asked for.

Bytes are relayed as they come; events are told apart only where their borders matter. An engine
that is asked for `include_usage` sends one more event at the end, without choices; where the client
did not ask for it, that event is taken out, and then only an event that has not ended yet is held
back. It is held back no longer than it may still be that event, which is short.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec

from planner.runtime.served import Usage

# The events of usage that engines send are of 0.2 to 1 kB.
MOST_USAGE_BYTES = 16 * 1024
_DONE_BYTES = 32

_KEY = b'"usage"'
_OPENING = re.compile(rb'"usage"\s*:\s*\{')
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_EVENT_END = re.compile(rb"\r?\n\r?\n")


_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None


class _Counts(msgspec.Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None


_COUNTS = msgspec.json.Decoder(_Counts)


def find_usage(data: bytes) -> Usage | None:
    """Returns the tokens told last in JSON text or events; None where none are told.

    Inside of a JSON string the quotes of the key would be escaped, so no answer can feign them.
    """
    at = data.rfind(_KEY)
    while at >= 0:
        match = _OPENING.match(data, at)
        if match is not None:
            return _read_counts(_object(data, match.end() - 1))
        at = data.rfind(_KEY, 0, at)  # null, or a text that is this word
    return None


def _object(data: bytes, begin: int) -> bytes:
    """Returns the JSON object that begins there, by its braces: the counts hold no strings.

    It is looked for no further than it may be long: braces without end would take squared time.
    """
    data = data[begin : begin + MOST_USAGE_BYTES]
    end = data.find(b"}") + 1
    while end and data.count(b"{", 0, end) != data.count(b"}", 0, end):
        end = data.find(b"}", end) + 1
    return data[:end]


def _read_counts(text: bytes) -> Usage | None:
    try:
        counts = _COUNTS.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    n_input, n_output, details = (
        counts.prompt_tokens,
        counts.completion_tokens,
        counts.prompt_tokens_details,
    )
    if n_input is None and n_output is None:
        return None
    n_cached = 0 if details is None else details.cached_tokens or 0
    return Usage(n_input or 0, n_output or 0, n_cached)


class Events:
    """The events of one streamed answer, on their way."""

    __slots__ = ("_drops", "_is_long", "_tail", "has_begun", "is_done", "usage")

    def __init__(self, *, drops_usage: bool) -> None:
        self.has_begun = False  # an event has passed, not only comments
        self.is_done = False  # [DONE] was the last
        self.usage: Usage | None = None
        self._drops = drops_usage
        self._tail = b""  # of an event that has not ended; held back where usage is dropped
        self._is_long = False  # that event is too long to be of usage, its beginning is sent

    def feed(self, data: bytes) -> bytes:
        """Returns what of the stream is to be sent on, now that data has come."""
        if not data:
            return data  # the end: nothing is learned from it
        if not self.has_begun and b"data:" in data:
            self.has_begun = True
        if not self._tail and not self._is_long and data.endswith(b"\n\n") and _KEY not in data:
            self.is_done = data.endswith(b"[DONE]\n\n")
            return data
        if self._drops:
            return self._without_usage(data)
        self._look_at(self._tail + data)
        return data

    def flush(self) -> bytes:
        """Returns what is still held back at the end of the stream."""
        tail, self._tail = self._tail, b""
        return self._kept(tail) if self._drops else b""

    def _look_at(self, text: bytes) -> None:
        """Notes the usage in events that go on as they are."""
        if _KEY in text:
            self.usage = find_usage(text) or self.usage
        self.is_done = b"[DONE]" in text[-_DONE_BYTES:]
        self._tail = text[_last_end(text) :][-MOST_USAGE_BYTES:]

    def _without_usage(self, data: bytes) -> bytes:
        """Returns the whole events, less those of usage; their tail waits for its end."""
        begun = b""
        if self._is_long:
            end = _EVENT_END.search(data)
            if end is None:
                return data
            begun, data = data[: end.end()], data[end.end() :]
            self._is_long = False
        text = self._tail + data
        n_whole = _last_end(text)
        whole, self._tail = text[:n_whole], text[n_whole:]
        self.is_done = b"[DONE]" in text[-_DONE_BYTES:]
        sent = begun + self._kept(whole)
        if len(self._tail) > MOST_USAGE_BYTES:
            sent, self._tail, self._is_long = sent + self._tail, b"", True
        return sent

    def _kept(self, whole: bytes) -> bytes:
        if _KEY not in whole:
            return whole
        self.usage = find_usage(whole) or self.usage
        kept, begin = bytearray(), 0
        while begin < len(whole):
            end = _EVENT_END.search(whole, begin)
            stop = len(whole) if end is None else end.end()
            event = whole[begin:stop]
            if not (_OPENING.search(event) and _NO_CHOICES.search(event)):
                kept += event
            begin = stop
        return bytes(kept)


def _last_end(text: bytes) -> int:
    """Returns where the last whole event ends."""
    unix, dos = text.rfind(b"\n\n"), text.rfind(b"\n\r\n")
    return max(unix + 2 if unix >= 0 else 0, dos + 3 if dos >= 0 else 0)
