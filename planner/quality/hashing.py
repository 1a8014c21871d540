"""Hashed words and pairs of words: the features of class inference.

A text is the set of the buckets of its words (but its mark), of its pairs of neighbouring words,
the mark before the first, and of its length. How often a word recurs tells little of the class and
misleads a classifier that takes recurrences for independent: a set does better than counts.
"""

from __future__ import annotations

import numpy as np

from planner.quality.words import Words, mixed, read_words
from planner.spec.arrays import IntArray

_PAIR = np.uint64(0xD1B54A32D192ED03)  # odd: makes (a, b) and (b, a) different pairs


def word_buckets(text: str, n_buckets: int) -> IntArray:
    """Returns a text's buckets, (k,), increasing; n_buckets: a power of two."""
    (words,) = read_words([text])
    return buckets_of(words, n_buckets)[0]


def buckets_of(words: Words, n_buckets: int) -> tuple[IntArray, IntArray]:
    """Returns the buckets of a block of texts, (k,), and where each text's begin, (n + 1,).

    Every text has at least one bucket, that of its length.
    """
    first, mark = words.first, words.first[:-1]
    n_words = first[1:] - mark
    hashes = np.empty((2, words.value.size), dtype=np.uint64)
    single, pair = hashes
    single[:] = words.value
    pair[1:] = words.value[:-1]
    pair *= _PAIR
    pair += words.value
    # What comes before a mark is another text: its place is taken by the length, in half octaves.
    pair[mark] = np.frexp(n_words * n_words)[1]
    pair[:] = mixed(pair)
    single[mark] = pair[mark]
    bits = n_buckets.bit_length() - 1
    bucket = (hashes >> np.uint64(64 - bits)).astype(np.int64)
    if mark.size == 1:
        found = _distinct(bucket.ravel())
        return found, np.array([0, found.size])
    text = np.arange(mark.size + 1) << bits
    key = _distinct((bucket + np.repeat(text[:-1], n_words)).ravel())
    return key & (n_buckets - 1), key.searchsorted(text)


def _distinct(key: IntArray) -> IntArray:
    """Returns the different keys, increasing; the array is sorted in place."""
    key.sort()
    is_new = np.empty(key.size, dtype=np.bool_)
    is_new[0] = True
    np.not_equal(key[1:], key[:-1], out=is_new[1:])
    return key[is_new]
