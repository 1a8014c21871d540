"""The body of a request, of which nothing is lost.

A body is read as names with the bytes of their values. What is not needed is never looked at, and
goes on byte for byte; what the runtime has to change (the model's name, whether usage is told) is
written anew, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import msgspec

from planner.runtime.ask import Refusal, Refused
from planner.runtime.served import Operation

OPERATIONS: Mapping[str, Operation] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""What a path asks for."""

CHARACTERS_PER_TOKEN = 4.0
"""Of prompts, until a model's own factor is learned: 1.12 of the true count in the median."""
TOKENS_PER_MESSAGE = 4.0

LIMIT_FIELDS = ("max_completion_tokens", "max_tokens")  # the first that is there counts
_NUMBER_FIELDS = ("n", "best_of")  # of answers to one prompt
_MOST_TOKENS = 1 << 40  # beyond any model; what is larger cannot be reckoned with
_MOST_ANSWERS = 128  # that any interface allows; what is larger no engine takes

T = TypeVar("T")


class Call:
    """The body of one request: its fields by name, and what of them the runtime reads."""

    __slots__ = ("_prompt", "fields", "max_tokens", "model", "operation", "streams", "usage_asked")

    def __init__(self, operation: Operation, fields: dict[str, msgspec.Raw]) -> None:
        """Takes the fields of a body, as they came.

        Raises:
            Refused: the model's name or `stream` is missing or of another type.
        """
        self.operation = operation
        self.fields = fields
        self.model = _model(fields.get("model"))
        self.streams = fields.get("stream") is not None and _streams(fields["stream"])
        self.usage_asked = self.streams and _usage_asked(fields.get("stream_options"))
        self.max_tokens = _max_tokens(fields)
        self._prompt: Prompt | None = None

    @property
    def prompt(self) -> Prompt:
        """Returns the text of the prompt; read once."""
        if self._prompt is None:
            self._prompt = _read_prompt(self.operation, self.fields)
        return self._prompt

    @property
    def logprobs_asked(self) -> bool:
        """Returns whether the client wants the log-probabilities of the tokens."""
        raw = self.fields.get("logprobs")
        return raw is not None and bytes(raw) not in (b"null", b"false")

    @property
    def user(self) -> str | None:
        """Returns who the client says its own user is."""
        raw = self.fields.get("user")
        return None if raw is None else _decoded(_STRING, raw)

    @property
    def n_answers(self) -> int:
        """Returns how many answers are asked for, to all prompts together."""
        fields, prompt = self.fields, self.prompt
        if self.operation == "embeddings":
            return 1
        most = 1
        for name in _NUMBER_FIELDS:
            if name in fields:
                most = max(most, _decoded(_WHOLE, fields[name]) or 1)
        return min(most * prompt.n_prompts, _MOST_ANSWERS)

    def encoded(self, model: str, *, usage: bool = False, logprobs: bool = False) -> bytes:
        """Returns the body with another model's name.

        Args:
            model: as the instance calls it.
            usage: also asks for the tokens at the end of a stream.
            logprobs: also asks for the log-probabilities of the tokens.
        """
        changed = dict(self.fields)
        changed["model"] = msgspec.Raw(_ENCODER.encode(model))
        if usage:
            changed["stream_options"] = _with_usage(changed.get("stream_options"))
        if logprobs:
            changed["logprobs"] = _ONE if self.operation == "text_completion" else _TRUE
        return _ENCODER.encode(changed)


class Prompt(NamedTuple):
    """The text of a prompt, as a router sees it."""

    asked: str  # the turns, without instructions to all
    system: str
    tokens: float  # of everything the engine reads, by the number of characters
    n_prompts: int = 1  # /v1/completions takes several at once


def read_call(path: str, body: bytes) -> Call | Refusal:
    """Returns the body of a request to one of OPERATIONS, or why it cannot be read."""
    try:
        fields = _FIELDS.decode(body)
        return Call(OPERATIONS[path], fields)
    except Refused as refused:
        return refused.refusal
    except _UNREADABLE as error:
        return Refusal(400, "invalid_body", f"the body is not a JSON object: {error}")


# ---- Bodies --------------------------------------------------------------------------------------


class _Part(msgspec.Struct):
    text: str | None = None  # of parts that have one: pictures do not


class _Message(msgspec.Struct):
    role: str | None = None
    content: str | list[_Part | str] | None = None
    tool_calls: msgspec.Raw = msgspec.Raw(b"")


class _Usage(msgspec.Struct):
    include_usage: bool | None = None


_Texts = str | list[str | int | list[int]]  # of a prompt: texts, or tokens by number

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: too deep
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_STRING = msgspec.json.Decoder(str)
_TRUTH = msgspec.json.Decoder(bool | None)
_WHOLE = msgspec.json.Decoder(int | None)
_MESSAGES = msgspec.json.Decoder(list[_Message])
_TEXTS = msgspec.json.Decoder(_Texts)
_ASKED_USAGE = msgspec.json.Decoder(_Usage | None)
_ENCODER = msgspec.json.Encoder()
_TRUE, _ONE = msgspec.Raw(b"true"), msgspec.Raw(b"1")
_NO_PROMPT = Prompt("", "", 0.0)
_INSTRUCTIONS = ("system", "developer")


def _decoded(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw) -> T | None:
    """Returns a value; None where it is of another type, which is for the engine to judge."""
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _model(raw: msgspec.Raw | None) -> str:
    name = None if raw is None else _decoded(_STRING, raw)
    if not name:
        what = "is missing" if raw is None else "must be a name in quotes"
        raise Refused(400, "invalid_body", f"model {what}; fix: 'rb/auto', or a model of the plan")
    return name


def _streams(raw: msgspec.Raw) -> bool:
    try:
        return bool(_TRUTH.decode(raw))
    except _UNREADABLE:
        raise Refused(400, "invalid_body", "stream must be true or false") from None


def _usage_asked(raw: msgspec.Raw | None) -> bool:
    options = None if raw is None else _decoded(_ASKED_USAGE, raw)
    return options is not None and bool(options.include_usage)


def _with_usage(raw: msgspec.Raw | None) -> msgspec.Raw:
    """Returns the options of a stream with usage asked for, and what else stands in them."""
    options = (None if raw is None else _decoded(_FIELDS, raw)) or {}
    return msgspec.Raw(_ENCODER.encode({**options, "include_usage": _TRUE}))


def _max_tokens(fields: Mapping[str, msgspec.Raw]) -> int | None:
    for name in LIMIT_FIELDS:
        if name in fields:
            limit: int | None = _decoded(_WHOLE, fields[name])
            if limit is not None and limit > 0:
                return min(limit, _MOST_TOKENS)
    return None


def _read_prompt(operation: Operation, fields: Mapping[str, msgspec.Raw]) -> Prompt:
    if operation != "chat":
        raw = fields.get("input" if operation == "embeddings" else "prompt")
        return _NO_PROMPT if raw is None else _read_texts(raw)
    raw = fields.get("messages")
    messages = None if raw is None else _decoded(_MESSAGES, raw)
    if messages is not None:
        return _read_messages(messages, fields.get("tools"))
    return _NO_PROMPT if raw is None else _unread(raw)


def _read_messages(messages: Iterable[_Message], tools: msgspec.Raw | None) -> Prompt:
    asked: list[str] = []
    system: list[str] = []
    n_characters = n_messages = 0
    for message in messages:
        content = message.content
        text = content if isinstance(content, str) else _joined(content or ())
        (system if message.role in _INSTRUCTIONS else asked).append(text)
        n_characters += len(text) + len(memoryview(message.tool_calls))
        n_messages += 1
    n_characters += 0 if tools is None else len(memoryview(tools))
    tokens = n_characters / CHARACTERS_PER_TOKEN + n_messages * TOKENS_PER_MESSAGE
    return Prompt("\n".join(asked), "\n".join(system), tokens)


def _joined(parts: Iterable[_Part | str]) -> str:
    return "\n".join(part if isinstance(part, str) else part.text or "" for part in parts)


def _read_texts(raw: msgspec.Raw) -> Prompt:
    """Returns a prompt of `/v1/completions`: texts, or numbers of tokens, one prompt or several."""
    given = _decoded(_TEXTS, raw)
    if given is None:
        return _unread(raw)
    entries = [given] if isinstance(given, str) else given
    texts = [entry for entry in entries if isinstance(entry, str)]
    n_lists = sum(isinstance(entry, list) for entry in entries)
    n_numbers = sum(len(e) if isinstance(e, list) else 1 for e in entries if not isinstance(e, str))
    tokens = sum(map(len, texts)) / CHARACTERS_PER_TOKEN + n_numbers
    return Prompt("\n".join(texts), "", tokens, max(len(texts) + n_lists, 1))


def _unread(raw: msgspec.Raw) -> Prompt:
    """Returns a prompt that is of no type known here: all that can be seen of it is its size."""
    return Prompt("", "", len(memoryview(raw)) / CHARACTERS_PER_TOKEN)
