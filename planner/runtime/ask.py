"""What one request wants, as those see it who choose an instance for it.

Headers of a request (all optional; none of them goes upstream)
    x-rb-class              the class it is of
    x-rb-deadline-ms        within which the whole answer should be there
    x-rb-priority           a whole number; who is shed last has the largest
    x-rb-quality-at-least   expected quality below which no model may answer it, 0 to 1
    x-rb-budget-usd         that its answer may cost
    x-rb-session            requests with the same value are best sent to the same instance
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isfinite
from typing import NamedTuple, Protocol

_MOST_SESSION_BYTES = 1024

Headers = Sequence[tuple[bytes, bytes]]  # names in lower case, as ASGI hands them over


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not taken, as the client is told."""

    status: int
    code: str  # one of few: it becomes a label
    message: str
    retry_after_s: float | None = None


class Refused(Exception):
    """A request that is not taken."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.refusal = Refusal(status, code, message)
        super().__init__(message)


class Size(NamedTuple):
    """How large a request is expected to be on a pool, in tokens."""

    input_tokens: float
    fresh_tokens: float  # of the input, without what a prefix cache is expected to have
    output_tokens: float


class Sizes(Protocol):
    """Who knows how large requests become."""

    def size(self, ask: Ask, pool: str) -> Size:
        """Returns what is expected of a request on a pool."""
        ...


class Wants(NamedTuple):
    """What the headers of a request ask for; None and empty: nothing."""

    class_name: str | None = None
    deadline_ms: float | None = None
    priority: int | None = None
    quality_at_least: float | None = None
    budget_usd: float | None = None
    session: str | None = None


@dataclass(slots=True)
class Ask:
    """One request as those see it who choose an instance for it."""

    class_name: str | None  # of the plan
    priority: int
    session: int | None  # requests of one session have the same number, in every worker
    deadline_ms: float | None
    quality_at_least: float | None
    budget_usd: float | None
    prompt_tokens: float  # by its characters, before any model's own factor
    max_tokens: int | None
    sizes: Sizes
    answer_tokens: Mapping[str, float] | None = None  # by model, where a router read the prompt
    n_answers: int = 1
    _size: dict[str, Size] = field(default_factory=dict, init=False, repr=False, compare=False)

    def size_at(self, pool: str) -> Size:
        """Returns how large the request is expected to be on a pool, as it was at first."""
        size = self._size.get(pool)
        if size is None:
            size = self._size[pool] = self.sizes.size(self, pool)
        return size


def read_wants(headers: Headers) -> Wants:
    """Returns what the headers of a request ask for.

    Raises:
        Refused: a header of ours holds something else than it should.
    """
    found: dict[str, object] = {}
    for name, value in headers:
        known = _READERS.get(name)
        if known is not None:
            field, read = known
            found[field] = read(name.decode(), value.decode("latin-1").strip())
    return Wants(**found) if found else NOTHING_WANTED  # type: ignore[arg-type]


def session_number(key: str) -> int:
    """Returns the number of a session or a user: the same in every worker, and not its name."""
    digest = blake2b(key.encode("utf-8", "surrogatepass")[:_MOST_SESSION_BYTES], digest_size=8)
    return int.from_bytes(digest.digest(), "big")


# ---- Headers -------------------------------------------------------------------------------------


def _number(least: float, most: float, is_open: bool, must: str, example: str) -> _Reader:
    """Returns a reader of numbers from least (not itself where that is open) to most."""

    def read(name: str, text: str) -> float:
        try:
            value = float("nan" if "_" in text else text)
        except ValueError:
            value = float("nan")
        fits = isfinite(value) and least <= value <= most and not (is_open and value == least)
        if not fits:
            raise _bad_header(name, text, must, example)
        return value

    return read


def _whole(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 9):
        raise _bad_header(name, text, "must be a whole number from 0", "1")
    return int(text)


def _text(name: str, text: str) -> str:
    if not text:
        raise _bad_header(name, text, "must not be empty", "one word")
    return text


def _bad_header(name: str, text: str, must: str, example: str) -> Refused:
    shown = text if len(text) <= 40 else text[:40] + "..."
    fix = f"send e.g. {example}, or leave the header out"
    return Refused(400, "invalid_header", f"{name}: {must}, got {shown!r}; fix: {fix}")


class _Reader(Protocol):
    def __call__(self, name: str, text: str, /) -> object: ...


_READERS: Mapping[bytes, tuple[str, _Reader]] = {
    b"x-rb-class": ("class_name", _text),
    b"x-rb-deadline-ms": (
        "deadline_ms",
        _number(0.0, 1e12, True, "must be milliseconds above 0", "2000"),
    ),
    b"x-rb-priority": ("priority", _whole),
    b"x-rb-quality-at-least": (
        "quality_at_least",
        _number(0.0, 1.0, False, "must be a quality from 0 to 1", "0.7"),
    ),
    b"x-rb-budget-usd": (
        "budget_usd",
        _number(0.0, 1e9, False, "must be US dollars from 0", "0.002"),
    ),
    b"x-rb-session": ("session", _text),
}
NOTHING_WANTED = Wants()
