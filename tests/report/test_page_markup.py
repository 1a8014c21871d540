"""Text cannot become markup, whatever it holds: read back, it is the text that went in."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from paged import read

from planner.report.page.markup import Html, clean, element, embedded_json, joined, text

NASTY = st.text(
    st.one_of(st.characters(), st.sampled_from("<>&\"'`=/$ {}\u2028\u2029\u202e\x00\x1b\n")),
    max_size=60,
)


@given(NASTY)
def test_text_in_an_element_is_read_back_as_it_was(value: str) -> None:
    (child,) = read(element("p", value)).children
    assert child.tag == "p" and child.text == clean(value)


@given(NASTY)
def test_text_in_an_attribute_is_read_back_as_it_was(value: str) -> None:
    (child,) = read(element("p", "x", title=value)).children
    assert child.attributes == {"title": clean(value)}
    assert child.text == "x"


@given(
    st.recursive(NASTY | st.floats(allow_nan=False, allow_infinity=False), st.lists, max_leaves=5)
)
def test_json_in_a_script_neither_ends_it_nor_changes(value: object) -> None:
    embedded = embedded_json({"a": value})
    assert json.loads(embedded) == {"a": value}
    assert embedded.isascii() and not set("<>&") & set(embedded)
    (script,) = read(element("script", embedded)).children
    assert json.loads(script.text) == {"a": value}


def test_nothing_steers_the_reader() -> None:
    assert clean("a\u2028b\u202ec\x1bd\ne\ud800f") == "a b c d e f"
    assert clean("naïve 模型 – “x”") == "naïve 模型 – “x”"


def test_markup_stays_markup_and_is_joined_in_order() -> None:
    bold = element("b", "<")
    assert joined("a", None, [bold, "&"], bold) == "a<b>&lt;</b>&amp;<b>&lt;</b>"
    assert isinstance(text(bold), Html) and text(bold) == bold


def test_attributes_by_their_names() -> None:
    made = element(
        "th", "x", class_="n", aria_label="y", data_pair=1, hidden=True, id=None, open=False
    )
    assert made == '<th class="n" aria-label="y" data-pair="1" hidden>x</th>'
    assert element("meta", name="a") == '<meta name="a">'
