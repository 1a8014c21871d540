"""Whether the first answer of a cascade is good enough, and what of it the client is to see.

A first answer is held back whole. Its signal is what the plan's measurements meant by that name:
    length        minus its output tokens, as the engine counts them, else by its characters
    mean_logprob  mean log-probability of its tokens
    answered      1 where the grader of the plan's scores finds an answer in its text, else 0
and the answer is good where the signal is not below the plan's threshold; of several answers to one
prompt, where that of none is. Where a signal cannot be had nobody knows whether the answer is good,
and the next model is asked; so it is where the engine gave up, or the end of a stream is missing.

What was only asked for because the signal needs it is taken out before the client sees the answer:
log-probabilities, and the chunk with the usage at the end of a stream. All else stays as it came.

An answer is JSON, or a stream of events: lines "data: JSON" with an empty line after each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from planner.runtime.body import CHARACTERS_PER_TOKEN
from planner.runtime.served import Usage

if TYPE_CHECKING:
    from planner.quality.graders import Kind

LENGTH, MEAN_LOGPROB, ANSWERED = "length", "mean_logprob", "answered"
SIGNALS = (LENGTH, MEAN_LOGPROB, ANSWERED)
"""Those that one answer alone has; how far several agree would cost them all."""

_END_OF_EVENT = re.compile(rb"(\r\n\r\n|\n\n|\r\r)")
_GAVE_UP = frozenset(("abort", "error"))  # finish reasons; the measurements leave them out, too
_DONE_BYTES = 32
_POSSIBLE_LOGPROB = (-1000.0, 0.001)  # servers write -9999 or the least float for what they lack


@dataclass(frozen=True, slots=True)
class Test:
    """What a first answer must show to be delivered."""

    __test__ = False  # no test case, whatever its name begins with

    signal: str
    below: float
    grader: Kind | None = None  # of the signal "answered"


class Judged(NamedTuple):
    """What became of a first answer."""

    is_good: bool
    answer: bytes  # as the client is to see it
    usage: Usage | None


def judge(
    answer: bytes, is_stream: bool, test: Test, *, hide_logprobs: bool, hide_usage: bool
) -> Judged:
    """Returns whether a whole answer is good, and that answer without what is to be hidden."""
    chunks = list(_payloads(answer)) if is_stream else [answer]
    try:
        read = [_CHUNK.decode(chunk) for chunk in chunks]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Judged(False, answer, None)
    usage = next((u for chunk in reversed(read) if (u := _usage(chunk)) is not None), None)
    is_good = _is_whole(read, answer if is_stream else None) and _is_trusted(read, usage, test)
    if hide_logprobs or hide_usage:
        hidden = partial(_hidden, hide_logprobs=hide_logprobs, hide_usage=hide_usage)
        answer = _rewritten(answer, hidden) if is_stream else hidden(answer) or answer
    return Judged(is_good, answer, usage)


# ---- Signals -------------------------------------------------------------------------------------


class _Token(msgspec.Struct):
    logprob: float | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None  # of chat
    token_logprobs: list[float | None] | None = None  # of completions


class _Said(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    index: int | None = None
    finish_reason: str | None = None
    message: _Said | None = None
    delta: _Said | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Counts(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Counts | None = None
    error: msgspec.Raw = msgspec.Raw(b"")


_CHUNK = msgspec.json.Decoder(_Chunk)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CHOICES = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_ENCODER = msgspec.json.Encoder()
_NULL = msgspec.Raw(b"null")


def _usage(chunk: _Chunk) -> Usage | None:
    counts = chunk.usage
    if counts is None:
        return None
    details = counts.prompt_tokens_details
    n_cached = 0 if details is None or details.cached_tokens is None else details.cached_tokens
    return Usage(counts.prompt_tokens, counts.completion_tokens, n_cached)


def _is_whole(chunks: Iterable[_Chunk], stream: bytes | None) -> bool:
    """Returns whether nothing is missing of an answer, as far as it says itself."""
    ends = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
    is_over = stream is None or bool(ends) or b"[DONE]" in stream[-_DONE_BYTES:]
    return is_over and not any(c.error for c in chunks) and not _GAVE_UP.intersection(ends)


def _is_trusted(chunks: Iterable[_Chunk], usage: Usage | None, test: Test) -> bool:
    """Returns whether the signal of no answer is below the threshold."""
    answers = _by_place(chunks)
    lengths = [_length_of(each, usage, len(answers)) for each in answers]
    signals = map(_SIGNAL_OF[test.signal], answers, lengths, repeat(test))
    return all(signal is not None and signal >= test.below for signal in signals)


def _by_place(chunks: Iterable[_Chunk]) -> list[list[_Choice]]:
    """Returns the pieces of each answer to the prompt; where there is none, one without pieces."""
    found: dict[int, list[_Choice]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            found.setdefault(choice.index or 0, []).append(choice)
    return list(found.values()) or [[]]


def _length_of(pieces: Iterable[_Choice], usage: Usage | None, n_answers: int) -> float:
    """Returns the output tokens of one of several answers, which the engine counts together."""
    if usage is not None:
        return usage.n_output / n_answers
    return len(_text(pieces)) / CHARACTERS_PER_TOKEN


def _text(pieces: Iterable[_Choice]) -> str:
    said = ((piece.message or piece.delta, piece.text) for piece in pieces)
    return "".join((text if turn is None else turn.content) or "" for turn, text in said)


def _length(pieces: list[_Choice], n_output: float, test: Test) -> float:
    return -n_output


def _mean_logprob(pieces: list[_Choice], n_output: float, test: Test) -> float | None:
    least, most = _POSSIBLE_LOGPROB
    told: list[float | None] = []
    for piece in pieces:
        if piece.logprobs is not None:
            told += [token.logprob for token in piece.logprobs.content or ()]
            told += piece.logprobs.token_logprobs or ()
    values = [value for value in told if value is not None and least < value <= most]
    return min(sum(values) / len(values), 0.0) if values else None


def _answered(pieces: list[_Choice], n_output: float, test: Test) -> float:
    from planner.quality.graders import found_answer

    assert test.grader is not None  # setup.py lets no such cascade in without one
    return float(found_answer(test.grader, _text(pieces)) is not None)


_SIGNAL_OF: Mapping[str, Callable[[list[_Choice], float, Test], float | None]] = {
    LENGTH: _length,
    MEAN_LOGPROB: _mean_logprob,
    ANSWERED: _answered,
}


# ---- Streams, and what is taken out --------------------------------------------------------------


def _payloads(answer: bytes) -> Iterable[bytes]:
    """Returns the JSON of each event of a stream."""
    for line in answer.splitlines():
        if line.startswith(b"data:"):
            payload = line[5:].strip()
            if payload and payload != b"[DONE]":
                yield payload


def _rewritten(answer: bytes, hidden: Callable[[bytes], bytes | None]) -> bytes:
    """Returns a stream with each payload replaced; an event whose payload becomes None is gone."""
    parts = _END_OF_EVENT.split(answer)
    kept = []
    for event, end in zip(parts[::2], [*parts[1::2], b""], strict=True):
        payload = next(iter(_payloads(event)), None)
        if payload is None:
            kept += [event, end]
        elif (seen := hidden(payload)) is not None:
            kept += [event.replace(payload, seen), end]
    return b"".join(kept)


def _hidden(payload: bytes, *, hide_logprobs: bool, hide_usage: bool) -> bytes | None:
    """Returns a chunk as the client is to see it; None where all of it is to be hidden."""
    fields = _FIELDS.decode(payload)
    choices = _CHOICES.decode(fields["choices"]) if "choices" in fields else []
    if hide_usage and not choices and bytes(fields.get("usage", _NULL)) != b"null":
        return None
    if not hide_logprobs or not any("logprobs" in choice for choice in choices):
        return payload
    shown = [{**c, "logprobs": _NULL} if "logprobs" in c else c for c in choices]
    return _ENCODER.encode({**fields, "choices": msgspec.Raw(_ENCODER.encode(shown))})
