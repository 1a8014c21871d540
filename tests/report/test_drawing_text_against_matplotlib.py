"""Widths of words against those that matplotlib measures in the font itself."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.report.drawing.text import cut, label, left_of, right_of, text_width

pytest.importorskip("matplotlib")
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40)


@pytest.fixture(scope="module")
def measured():
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    def width(text, weight="normal"):
        font = FontProperties(family="DejaVu Sans", weight=weight, size=100)
        box = TextPath((0, 0), f"|{text}|", prop=font).get_extents()
        bars = TextPath((0, 0), "||", prop=font).get_extents()
        return (box.width - bars.width) / 100

    return width


@pytest.mark.parametrize(
    "text",
    ["llama-3.1-70b-b200-tp2", "p95 e2e of math-l5", "at most 10.0 s", "$48.55/h",
     "iiiiiiii", "36.3 req/s on 2 replicas", "a · b – c ≤ d × e…", string.printable[:95]],
)  # fmt: skip
def test_a_word_is_as_wide_as_its_letters(text, measured):
    assert text_width(text, 1.0) == pytest.approx(measured(text), rel=0.02)


@pytest.mark.parametrize("text", ["WAVE To AV.", "Ty LT Yo", "P. A."])
def test_letters_that_are_drawn_closer_together_make_it_wider_never_narrower(text, measured):
    assert measured(text) <= text_width(text, 1.0) <= 1.15 * measured(text)


@pytest.mark.parametrize("text", ["this plan", "88%", "361", "WAVE"])
def test_bold_words_are_wider(text, measured):
    assert text_width(text, 1.0, is_bold=True) == pytest.approx(measured(text, "bold"), rel=0.08)


@given(words, st.floats(0, 300))
def test_a_cut_text_fits_and_shows_both_ends(text, room):
    short = cut(text, 12.0, room)
    if text_width(text, 12.0) <= room:
        assert short == text
        return
    assert text_width(short, 12.0) <= room or short == "…"
    head, _, tail = short.partition("…")
    assert text.startswith(head) and text.endswith(tail)


def test_a_label_knows_what_it_left_out_and_where_it_lies():
    whole, short = label(100, 10, "a name"), label(100, 10, "a rather long name", 60)
    assert whole.full == "" and whole.text == "a name"
    assert short.full == "a rather long name" and "…" in short.text
    for anchor, part in (("start", 0.0), ("middle", 0.5), ("end", 1.0)):
        at = label(100, 10, "a name", anchor=anchor)
        assert left_of(at) == pytest.approx(100 - part * text_width("a name", 12))
        assert right_of(at) - left_of(at) == pytest.approx(text_width("a name", 12))
