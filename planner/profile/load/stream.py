"""The answer of a streaming request: server-sent events, and what of them is measured.

    stream   = event*                  an event ends with a blank line, the last one with the stream
    event    = line*                   a line ends with LF, CR LF or CR
    line     = "data:" payload | other fields and comments, which are ignored
    payload  = JSON chunk | [DONE]

Reading must cost little, for it happens between the clock and the time that is written down. So
only the chunks up to the first text, and at the end the last one and the one with the token counts,
are decoded; what else matters is seen in the bytes (inside a JSON string a quote has a backslash,
so that the patterns below cannot match in generated text).

Reference: HTML Living Standard, section 9.2.6, "Interpreting an event stream".
"""

from __future__ import annotations

import json
import math
import re

_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_TEXT = ("text", "content", "reasoning_content", "reasoning")
BROKEN = ("abort", "error")  # finish reasons of answers that the engine gave up
_LONGEST = 200  # characters of a server's message that are kept


class EventParser:
    """Cuts the bytes of an event stream into payloads, however they were cut on their way."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the payloads of the events that these bytes complete."""
        text, held = self._rest + data, b""
        if b"\r" in text:
            if text.endswith(b"\r"):  # whether a LF belongs to it is not known yet
                text, held = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = text.split(b"\n")
        self._rest = rest + held
        return [payload for line in lines if (payload := self._line(line))]

    def close(self) -> list[bytes]:
        """Returns the payload of an event that the end of the stream completes, if there is one."""
        return self.feed(b"\n\n")

    def _line(self, line: bytes) -> bytes:
        """Returns the payload that a line completes, empty while there is none."""
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            return b""
        if line or not self._data:
            return b""
        payload = b"\n".join(self._data)
        self._data = []
        return payload


class Stream:
    """What is measured of one answer; times are those that `feed` is given, NaN before they are."""

    def __init__(self) -> None:
        self.first_s = math.nan  # the first text
        self.last_s = math.nan  # the last chunk with choices
        self.error = ""  # what is wrong with the stream so far
        self._parser = EventParser()
        self._is_done = False
        self._usage = b""
        self._tail = b""

    def feed(self, data: bytes, now_s: float) -> None:
        """Returns nothing; takes bytes that came at a time in s."""
        for payload in self._parser.feed(data):
            self._take(payload, now_s)

    def close(self, now_s: float) -> None:
        """Returns nothing; takes the end of the stream, and says in `error` if it is too early."""
        for payload in self._parser.close():
            self._take(payload, now_s)
        reason = first_choice(json_object(self._tail)).get("finish_reason")
        if self.error:
            return
        if reason in BROKEN:
            self.error = f"the engine gave up: finish_reason {reason}"
        elif not (self._is_done or reason):
            self.error = "the stream ended without [DONE] and without a finish_reason"

    def counts(self) -> tuple[int, int] | None:
        """Returns the prompt and answer tokens that the server counted, None where it did not."""
        usage = json_object(self._usage).get("usage")
        if not isinstance(usage, dict):
            return None
        n_input, n_output = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not (isinstance(n_input, int) and isinstance(n_output, int)):
            return None
        return (n_input, n_output) if n_input > 0 and n_output >= 0 else None

    def _take(self, payload: bytes, now_s: float) -> None:
        """Returns nothing; takes the payload of one event."""
        if payload == b"[DONE]":
            self._is_done = True
            return
        if math.isnan(self.first_s) and _has_text(json_object(payload)):
            self.first_s = now_s
        if _USAGE.search(payload):
            self._usage = payload
        if b'"choices"' in payload and not _NO_CHOICES.search(payload):
            self.last_s = now_s
            self._tail = payload
        elif not self.error:
            self.error = event_fault(payload)
        if b'"error"' in payload and not self.error:
            self.error = event_fault(payload)


def message(text: str) -> str:
    """Returns the message in a server's refusal, on one line and short."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    while isinstance(value, dict):
        inner = next((value[key] for key in ("error", "message", "detail") if value.get(key)), None)
        value = inner if inner is not None else text
    line = " ".join(str(value).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


def event_fault(payload: bytes) -> str:
    """Returns what an event says went wrong, empty when it says nothing of that kind."""
    value = json_object(payload)
    if not value:
        return f"not a JSON object: {message(payload.decode('utf-8', 'replace'))}"
    if value.get("error") or value.get("object") == "error":
        return message(payload.decode("utf-8", "replace"))
    return ""


def json_object(payload: bytes) -> dict[str, object]:
    """Returns the JSON object of a payload, an empty one when it is none."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def first_choice(chunk: dict[str, object]) -> dict[str, object]:
    """Returns the first choice of a chunk, empty when it has none."""
    choices = chunk.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _has_text(chunk: dict[str, object]) -> bool:
    """Returns whether a chunk brings text, as an answer or as reasoning before it."""
    choice = first_choice(chunk)
    delta = choice.get("delta")
    parts = delta if isinstance(delta, dict) else choice
    return any(parts.get(key) for key in _TEXT)
