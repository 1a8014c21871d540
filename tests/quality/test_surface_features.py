"""Surface features against counting in plain Python."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.quality.features import FEATURE_NAMES, scaled, scaling, surface

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)


def feature(text: str, name: str) -> float:
    return float(surface([text])[0, FEATURE_NAMES.index(name)])


def count(text: str, name: str) -> int:
    return round(math.expm1(feature(text, name)))


TEXT = """Q: What is 12 + 3456?  A shop sells "apples" (each $2).
A) 3468  B) 12*3456
def add(a, b): return a + b; don't write `code`!
Größe \\frac{1}{2}
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lines", 4),
        ("digits", len(re.findall(r"\d", TEXT))),
        ("capitals", len(re.findall(r"[A-Z]", TEXT))),
        ("non_ascii", 4),  # bytes
        ("arithmetic_signs", 3),
        ("latex_signs", 2),
        ("code_signs", 7),
        ("brackets", 6),
        ("question_marks", 1),
        ("quotes", 2),
        ("apostrophes", 1),
        ("stops", 2),
        ("commas", 1),
        ("colons", 2),
        ("bytes", len(TEXT.encode())),
        ("words", len(re.findall(r"[^\W_]+", TEXT))),
        ("long_words", 0),
        ("numbers", 8),
        ("options", 2),
        ("question_words", 1),
        ("task_words", 2),  # return, write
        ("quantity_words", 1),
        ("code_words", 2),
        ("longest_number", 4),
    ],
)
def test_what_is_counted(name: str, expected: int) -> None:
    assert count(TEXT, name) == expected


def test_there_are_26_features_and_each_can_differ():
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES)) == 26
    spread = surface(["", TEXT, "extraordinary", "a a a a"]).std(axis=0)
    assert (spread > 0).all()


def test_letters_per_word_and_share_of_different_words():
    assert math.expm1(feature("abc abcde", "letters_per_word")) == pytest.approx(4.0)
    assert feature("to be or not to be", "distinct_word_share") == pytest.approx(5 / 7)


@EXAMPLES
@given(st.lists(st.text(max_size=50), min_size=1, max_size=5))
def test_every_text_has_finite_features_the_same_alone_and_among_others(texts: list[str]) -> None:
    together = surface(texts)
    assert np.isfinite(together).all()
    np.testing.assert_array_equal(together, np.concatenate([surface([t]) for t in texts]))


def test_a_long_text_is_seen_at_both_ends_only():
    text = "begin " * 200 + "middle? " * 500 + "end. " * 120
    assert count(text, "question_marks") == 0
    assert count(text, "stops") == 103  # of 512 characters, the first a stop


def test_an_empty_text_counts_nothing():
    assert not surface([""])[0, :-1].any()


def test_no_texts_are_no_rows():
    assert surface([]).shape == (0, 26)


def test_scaled_features_are_standard_and_bounded():
    features = np.random.default_rng(0).normal([5.0, 1.0, 7.0], [2.0, 0.1, 0.0], (500, 3))
    centre, scale = scaling(features)
    x = scaled(features, centre, scale)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=0.02)
    np.testing.assert_allclose(x.std(axis=0), [1.0, 1.0, 0.0], atol=0.02)
    assert scaled(np.array([[1e9, -1e9, 7.0]]), centre, scale).tolist() == [[3.0, -3.0, 0.0]]
