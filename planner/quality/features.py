"""Surface features of prompts: what can be seen of a text without understanding it.

All are finite for every text, counts enter as ln(1 + count), shares lie in [0, 1]. What is counted
is seen in the capped text; see words.py for what a word is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from planner.quality.words import (
    DIGIT,
    LINE,
    N_KINDS,
    NON_ASCII,
    UPPER,
    ByteArray,
    HashArray,
    Words,
    read_words,
    word_value,
)
from planner.spec.arrays import FloatArray, IntArray

_COUNTED_KINDS = (  # UPPER up to LINE, in their order
    "capitals",
    "digits",
    "non_ascii",
    "arithmetic_signs",
    "latex_signs",
    "code_signs",
    "brackets",
    "question_marks",
    "quotes",
    "apostrophes",
    "stops",
    "commas",
    "colons",
    "lines",
)
_VOCABULARIES = {  # English; prompts in other languages have none of these words
    "question_words": "what which who whom whose when where why how",
    "task_words": "write find solve compute calculate determine evaluate prove explain describe "
    "summarize translate list give choose select complete implement return answer",
    "quantity_words": "each every all total more less fewer most least twice half many much times "
    "per percent average sum",
    "code_words": "def function class print import string array int input output code",
}
_COUNTED_WORDS = ("words", "long_words", "numbers", "options", *_VOCABULARIES)
FEATURE_NAMES = (
    *_COUNTED_KINDS,
    *_COUNTED_WORDS,
    "bytes",
    "longest_number",
    "letters_per_word",
    "distinct_word_share",
)
_LONG_WORD = 8  # bytes
_FARTHEST = 3.0  # standard deviations
_MAY_BE_OPTION = np.isin(np.arange(256), list(b"ABCDEFGHIJ"))
_ENDS_OPTION = np.isin(np.arange(256), list(b").:"))


def _vocabulary_table() -> tuple[HashArray, IntArray]:
    """Returns the hashes of known words, sorted, (K,), and which vocabulary has them, (V, K).

    The last hash is the largest there is, in no vocabulary: every word has a place at or before it.
    """
    vocabulary_of = {
        word_value(spelling): index
        for index, words in enumerate(_VOCABULARIES.values())
        for word in words.split()
        for spelling in (word, word.capitalize())
    }
    vocabulary_of[(1 << 64) - 1] = -1
    known = np.array(sorted(vocabulary_of), dtype=np.uint64)
    index = np.array([vocabulary_of[value] for value in known.tolist()])
    return known, (np.arange(len(_VOCABULARIES))[:, None] == index).astype(np.int64)


_KNOWN, _IN_VOCABULARY = _vocabulary_table()


def surface(texts: Sequence[str]) -> FloatArray:
    """Returns the features of texts, (n, F), columns as in FEATURE_NAMES."""
    blocks = [surface_of(words) for words in read_words(texts)]
    return np.concatenate(blocks) if blocks else np.zeros((0, len(FEATURE_NAMES)))


def scaling(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns centre (F,) and scale (F,) of features (n, F), n >= 1; constant ones have scale 1."""
    scale = features.std(axis=0)
    return features.mean(axis=0), np.where(scale > 1e-9, scale, 1.0)


def scaled(features: FloatArray, centre: FloatArray, scale: FloatArray) -> FloatArray:
    """Returns features (n, F) in standard deviations, none beyond 3.

    A prompt unlike all that were learned from must not be carried off along a line that was
    fitted elsewhere; on prompts like those the bound changes nothing (measured).
    """
    x = (features - centre) / scale
    return np.minimum(np.maximum(x, -_FARTHEST, out=x), _FARTHEST, out=x)


def surface_of(words: Words) -> FloatArray:
    """Returns the features of a block of texts, (n, F), columns as in FEATURE_NAMES."""
    n_kinds, n_words = len(_COUNTED_KINDS), len(_COUNTED_WORDS)
    mark, beyond = words.first[:-1], words.first[1:]
    length = words.end - words.start
    kind = words.kind.take(words.start)
    kinds = _kind_counts(words)
    result = np.empty((mark.size, len(FEATURE_NAMES)))
    result[:, :n_kinds] = kinds[:, UPPER : LINE + 1]
    counts = result[:, n_kinds : n_kinds + n_words]
    counts[:] = np.add.reduceat(_word_flags(words, length, kind), mark, axis=1).T
    counts[:, 0] -= 1.0  # the mark
    result[:, -4] = words.text_start[1:] - words.text_start[:-1] - 3  # the mark
    result[:, -3] = np.maximum.reduceat(length * (kind == DIGIT), mark)
    result[:, -2] = (kinds[:, : NON_ASCII + 1].sum(axis=1) - 1) / np.maximum(counts[:, 0], 1.0)
    np.log1p(result[:, :-1], out=result[:, :-1])
    result[:, -1] = _distinct_words(words) / (beyond - mark)
    return result


def _kind_counts(words: Words) -> IntArray:
    """Returns how many bytes of each kind every text has, (n, N_KINDS)."""
    n = words.first.size - 1
    if n == 1:
        return np.bincount(words.kind, minlength=N_KINDS)[None, :]
    size = np.diff(words.text_start)
    kind = words.kind[:-1] + np.repeat(np.arange(n) * N_KINDS, size)
    return np.bincount(kind, minlength=n * N_KINDS).reshape(n, N_KINDS)


def _word_flags(words: Words, length: IntArray, kind: ByteArray) -> IntArray:
    """Returns what each word counts as, 0 or 1, rows as in _COUNTED_WORDS, (., W)."""
    flags = np.empty((len(_COUNTED_WORDS), length.size), dtype=np.int64)
    flags[0] = kind <= NON_ASCII
    flags[1] = flags[0] & (length >= _LONG_WORD)
    flags[2] = kind == DIGIT
    flags[3] = (
        (length == 1)
        & _MAY_BE_OPTION.take(words.data.take(words.start))
        & _ENDS_OPTION.take(words.data.take(words.end))
    )
    place = _KNOWN.searchsorted(words.value)
    flags[4:] = _IN_VOCABULARY.take(place, axis=1) * (_KNOWN.take(place) == words.value)
    return flags


def _distinct_words(words: Words) -> IntArray:
    """Returns how many different words each text has, its mark included, (n,)."""
    n = words.first.size - 1
    key = words.value >> _TEXT_BITS
    if n > 1:
        key += np.repeat(np.arange(n, dtype=np.uint64) << np.uint64(48), np.diff(words.first))
    key.sort()
    is_new = np.empty(key.size, dtype=np.bool_)
    is_new[0] = True
    np.not_equal(key[1:], key[:-1], out=is_new[1:])
    return np.add.reduceat(is_new, words.first[:-1], dtype=np.int64)


_TEXT_BITS = np.uint64(16)  # enough for the texts of a block
