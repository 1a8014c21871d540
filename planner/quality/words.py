"""Prompts read as bytes and words, many texts in a few numpy calls.

A text is capped, encoded as UTF-8 and split into words: runs of letters and digits, and runs of
signs. Bytes of 128 and more count as letters, so every script has words. Texts are read together,
each behind a mark that is a word of its own: even an empty text has one word, and neighbours in a
batch never see each other.

Notation
    b_i   byte i, 0 between words
    P     odd 64-bit multiplier, Q its inverse; all sums and products modulo 2^64
    h     hash of the word from s up to e: mixed(Q^s sum_{i=s}^{e-1} b_i P^i), the same wherever it
          stands; mixed() makes the upper half of the hash depend on every bit of the sum
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from planner.spec.arrays import IntArray

HEAD_CHARACTERS = 1024
TAIL_CHARACTERS = 512

# Kinds of bytes: those of letters, of signs, and of what is between words.
(LOWER, MARK, UPPER, DIGIT, NON_ASCII) = range(5)
(ARITHMETIC, LATEX, CODE, BRACKET, QUESTION, QUOTE, APOSTROPHE, STOP, COMMA, COLON) = range(5, 15)
(LINE, OTHER, BLANK) = range(15, 18)
N_KINDS = 18

ByteArray = npt.NDArray[np.uint8]
HashArray = npt.NDArray[np.uint64]

_BLOCK_BYTES = 1 << 16  # texts are read in blocks of at most so many bytes: it bounds the powers
_MARK = b" \x02 "  # before every text
_MULTIPLIER = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_HALF = np.uint64(32)  # bits


def _kind_table() -> bytes:
    """Returns the kind of every byte value, (256,)."""
    kinds = bytearray([OTHER]) * 128 + bytearray([NON_ASCII]) * 128
    members = {
        BLANK: bytes(range(33)),  # with all control characters; those that mean more follow
        LOWER: b"abcdefghijklmnopqrstuvwxyz",
        UPPER: b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        DIGIT: b"0123456789",
        MARK: b"\x02",
        LINE: b"\n",
        ARITHMETIC: b"+*/=<>^%",
        LATEX: b"\\$",
        CODE: b"`{};_#@&|~",
        BRACKET: b"()[]",
        QUESTION: b"?",
        QUOTE: b'"',
        APOSTROPHE: b"'",
        STOP: b".!",
        COMMA: b",",
        COLON: b":",
    }
    for kind, characters in members.items():
        for character in characters:
            kinds[character] = kind
    return bytes(kinds)


def _powers(base: int) -> HashArray:
    """Returns base^0, base^1, ... modulo 2^64, (_BLOCK_BYTES,)."""
    factors = np.full(_BLOCK_BYTES, base, dtype=np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


_KIND = _kind_table()
_BETWEEN, _LETTERS, _SIGNS = range(3)
_SORT = bytes(
    _LETTERS if kind <= NON_ASCII else _BETWEEN if kind in (LINE, BLANK) else _SIGNS
    for kind in _KIND
)
_BYTE = bytes(0 if sort == _BETWEEN else byte for byte, sort in enumerate(_SORT))
_POWER = _powers(_MULTIPLIER)
_INVERSE = _powers(pow(_MULTIPLIER, -1, 1 << 64))


class Words(NamedTuple):
    """A block of n texts as L bytes and W words; the first word of every text is its mark."""

    data: ByteArray  # (L,) bytes as written
    kind: ByteArray  # (L,) kind of each byte
    text_start: IntArray  # (n + 1,) first byte of each text's mark, and the last byte
    start: IntArray  # (W,) first byte of each word
    end: IntArray  # (W,) byte after each word
    value: HashArray  # (W,) hash of each word
    first: IntArray  # (n + 1,) index of each text's mark among the words, and W


def cap(text: str) -> str:
    """Returns the first 1,024 and the last 512 characters of a text; shorter ones as they are."""
    if len(text) <= HEAD_CHARACTERS + TAIL_CHARACTERS:
        return text
    return text[:HEAD_CHARACTERS] + text[-TAIL_CHARACTERS:]


def read_words(texts: Sequence[str]) -> Iterator[Words]:
    """Yields the texts, capped, in blocks of at most 65,536 bytes, in their order."""
    pieces: list[bytes] = []
    n_bytes = 1
    for text in texts:
        piece = _MARK + cap(text).encode("utf-8", "surrogatepass")
        if n_bytes + len(piece) > _BLOCK_BYTES:
            yield _read_block(pieces)
            pieces, n_bytes = [], 1
        pieces.append(piece)
        n_bytes += len(piece)
    if pieces:
        yield _read_block(pieces)


def word_value(word: str) -> int:
    """Returns the hash that a word has in any text."""
    (words,) = read_words([word])
    return int(words.value[1])


def mixed(sums: HashArray) -> HashArray:
    """Returns hashes whose upper half depends on all bits of the sums, of the same shape."""
    return (sums ^ (sums >> _HALF)) * _MIX


def _read_block(pieces: list[bytes]) -> Words:
    """Returns marked texts as one block; it begins and ends between words."""
    joined = b"".join([*pieces, b" "])
    sort = np.frombuffer(joined.translate(_SORT), dtype=np.uint8)
    code = np.frombuffer(joined.translate(_BYTE), dtype=np.uint8)
    edge = np.flatnonzero(sort[1:] != sort[:-1]) + 1
    word = np.flatnonzero(sort.take(edge))  # the other runs are those between words
    start, end = edge.take(word), edge.take(word + 1)
    sums = np.add.reduceat(code * _POWER[: code.size], edge).take(word)
    text_start = np.array([0, *accumulate(map(len, pieces))])
    return Words(
        np.frombuffer(joined, dtype=np.uint8),
        np.frombuffer(joined.translate(_KIND), dtype=np.uint8),
        text_start,
        start,
        end,
        mixed(sums * _INVERSE.take(start)),
        start.searchsorted(text_start),
    )
