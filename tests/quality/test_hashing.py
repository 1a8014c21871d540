"""Buckets of words and pairs: sets that depend on the text alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.quality.hashing import buckets_of, word_buckets
from planner.quality.words import read_words

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
B = 1 << 14


@EXAMPLES
@given(st.lists(st.text(alphabet="ab 1.\né", max_size=30), min_size=1, max_size=6))
def test_a_text_has_the_same_buckets_alone_and_among_others(texts: list[str]) -> None:
    (words,) = read_words(texts)
    bucket, first = buckets_of(words, B)
    assert first[-1] == bucket.size
    for i, text in enumerate(texts):
        np.testing.assert_array_equal(bucket[first[i] : first[i + 1]], word_buckets(text, B))


@EXAMPLES
@given(st.text(max_size=60), st.sampled_from([2, 64, B]))
def test_buckets_are_different_increasing_and_in_range(text: str, n_buckets: int) -> None:
    bucket = word_buckets(text, n_buckets)
    assert bucket.size >= 1 and (np.diff(bucket) > 0).all()
    assert bucket[0] >= 0 and bucket[-1] < n_buckets


def test_a_bucket_for_every_word_every_pair_and_the_length():
    # the, cat; (mark, the), (the, cat), (cat, the); one for 3 words
    assert word_buckets("the cat the", 1 << 30).size == 2 + 3 + 1


def test_order_makes_pairs():
    forth, back = (set(word_buckets(text, 1 << 30).tolist()) for text in ("red fox", "fox red"))
    assert len(forth & back) == 3  # both words, and the length


def test_an_empty_text_has_the_bucket_of_its_length_only():
    assert word_buckets("", B).size == 1
    assert word_buckets(" \n ", B).tolist() == word_buckets("", B).tolist()


def test_fewer_buckets_are_the_upper_bits_of_more():
    text = "some words to be found again"
    assert set((word_buckets(text, B) >> 4).tolist()) == set(word_buckets(text, B >> 4).tolist())


@pytest.mark.parametrize("n_buckets", [256, B])
def test_words_spread_evenly_over_buckets(n_buckets: int) -> None:
    """Chi-square of 20,000 short words, of which neighbours differ in one digit."""
    (words, *more) = read_words([f"w{i}" for i in range(20_000)])
    values = np.concatenate([w.value[w.first[:-1] + 1] for w in (words, *more)])
    count = np.bincount(
        (values >> np.uint64(65 - n_buckets.bit_length())).astype(int), minlength=n_buckets
    )
    expected = 20_000 / n_buckets
    chi2 = ((count - expected) ** 2 / expected).sum()
    assert abs(chi2 - (n_buckets - 1)) < 5 * np.sqrt(2 * (n_buckets - 1))
