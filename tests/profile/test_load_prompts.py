"""Prompts of a wanted length: exact in words, learned in tokens, never the same beginning."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.profile.load.prompts import (
    WORDS,
    Calibration,
    Lengths,
    PromptSource,
    calibrate,
)

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)


def pieces(text: str) -> int:
    """The tokens of a made-up tokenizer: words of more than four letters break."""
    return sum(1 + (len(word) > 4) for word in text.split())


@EXAMPLES
@given(tokens=st.integers(1, 5000), seed=st.integers(0, 2**31), index=st.integers(0, 10**6))
def test_a_prompt_has_the_number_of_words_that_it_says(tokens, seed, index):
    ask = PromptSource(Lengths.fixed(tokens, 20), seed=seed).ask(index)
    assert len(ask.text.split(" ")) == ask.n_words == tokens
    assert set(ask.text.split(" ")) <= set(WORDS)
    assert ask.n_output == 20


def test_a_prompt_depends_on_seed_and_number_alone():
    forwards, backwards = (PromptSource(Lengths.fixed(64, 8), seed=5) for _ in range(2))
    asks = [forwards.ask(i) for i in range(20)]
    assert [backwards.ask(i) for i in reversed(range(20))] == asks[::-1]
    assert PromptSource(Lengths.fixed(64, 8), seed=6).ask(0).text != asks[0].text


def test_no_two_prompts_share_a_beginning():
    """Sixteen tokens, the usual block of a prefix cache, must differ; here even four words do."""
    sources = [PromptSource(Lengths.fixed(200, 8), seed=seed) for seed in range(5)]
    texts = [source.ask(i).text for source in sources for i in range(400)]
    texts += [source.probe(n).text for source in sources for n in (10, 100, 200)]
    heads = [tuple(text.split()[:4]) for text in texts]
    assert len(set(heads)) == len(heads) == 2015


@EXAMPLES
@given(
    slope=st.floats(0.5, 4.0),
    overhead=st.floats(0.0, 200.0),
    words=st.lists(st.integers(1, 10_000), min_size=2, max_size=6, unique=True),
)
def test_calibration_finds_the_line_behind_the_probes(slope, overhead, words):
    found = calibrate(words, [overhead + slope * w for w in words])
    assert found.tokens_per_word == pytest.approx(slope, rel=1e-6)
    assert found.overhead_tokens == pytest.approx(overhead, abs=1e-5 * slope * max(words) + 1e-6)
    for n in (1, 17, 5000):
        assert found.words(found.tokens(n)) == n


def test_one_probe_tells_the_words_only():
    assert calibrate([100], [130]) == Calibration(1.3, 0.0)
    assert calibrate([100, 100], [120, 140]) == Calibration(1.3, 0.0)


def test_an_overhead_below_zero_is_taken_as_none():
    found = calibrate([10, 100], [5, 200])
    assert found.overhead_tokens == 0.0
    assert found.tokens_per_word == pytest.approx((10 * 5 + 100 * 200) / (10**2 + 100**2))


@pytest.mark.parametrize(
    ("words", "tokens"), [([], []), ([1, 2], [3]), ([10, 20], [50, 20]), ([10, 20], [0, 0])]
)
def test_probes_that_make_no_sense_are_refused(words, tokens):
    with pytest.raises(ValueError, match=r"token count of every probe|must have more tokens"):
        calibrate(words, tokens)


@pytest.mark.parametrize(("wanted", "off_ratio"), [(40, 0.12), (300, 0.04), (3000, 0.02)])
def test_three_probes_give_prompts_of_the_wanted_length(wanted, off_ratio):
    """With a tokenizer that breaks words, and a template of 11 tokens."""
    lengths = Lengths.fixed(wanted, 1)
    first = PromptSource(lengths, seed=1)
    probes = [first.probe(n) for n in (16, 128, wanted)]
    counted = [pieces(probe.text) + 11 for probe in probes]
    learned = calibrate([probe.n_words for probe in probes], counted)
    source = PromptSource(lengths, seed=2, calibration=learned)
    tokens = np.array([pieces(source.ask(i).text) + 11 for i in range(200)])
    assert tokens.mean() == pytest.approx(wanted, rel=off_ratio)
    assert tokens.std() < 0.5 * np.sqrt(wanted) + 1.0


def test_a_probe_is_at_most_as_long_as_the_longest_prompt():
    """So that no probe is refused for its length where the prompts would not be."""
    source = PromptSource(Lengths.fixed(50, 1), seed=0)
    assert source.probe(1000).n_words == 50
    assert len(source.probe(1000).text.split()) == 50


def test_a_prompt_shorter_than_the_template_has_one_word():
    source = PromptSource(Lengths.fixed(5, 3), seed=0, calibration=Calibration(1.0, 12.0))
    assert source.ask(0).n_words == 1


def test_lengths_are_drawn_in_pairs():
    pairs = Lengths(np.array([10.0, 100.0, 30.0]), np.array([1.0, 7.0, 3.0]))
    asks = [PromptSource(pairs, seed=3).ask(i) for i in range(600)]
    drawn = [(ask.n_words, ask.n_output) for ask in asks]
    assert set(drawn) == {(10, 1), (100, 7), (30, 3)}
    assert all(150 < drawn.count(pair) < 250 for pair in set(drawn))


def test_lengths_of_a_trace_are_taken_in_order():
    pairs = Lengths(np.array([10.0, 100.0, 30.0]), np.array([1.0, 7.0, 3.0]))
    source = PromptSource(pairs, seed=3, in_order=True)
    assert [source.ask(i).n_words for i in range(5)] == [10, 100, 30, 10, 100]
    assert pairs.longest_tokens == 107.0


@pytest.mark.parametrize(
    ("n_in", "n_out"), [([], []), ([1.0, 2.0], [1.0]), ([0.0], [1.0]), ([1.0], [np.nan])]
)
def test_lengths_that_make_no_sense_are_refused(n_in, n_out):
    with pytest.raises(ValueError, match=r"one entry per request|at least one token"):
        Lengths(np.array(n_in), np.array(n_out))


def test_the_words_are_short_and_many():
    assert len(set(WORDS)) == len(WORDS) > 400
    assert all(word.isascii() and word.islower() and 1 < len(word) < 9 for word in WORDS)
    assert all(a < b for a, b in itertools.pairwise(WORDS))
