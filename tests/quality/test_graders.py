"""Graders on what models really write: what is right is known, and nothing raises."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from planner.quality.graders import (
    KINDS,
    GradeOptions,
    final_answer,
    found_answer,
    grade,
    normal,
    reference_problem,
)

OPTIONS = GradeOptions(choices=("Paris", "London", "a cat", "None of these"))


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("Paris", "paris", 1),
        ("  **Paris.**\n", "Paris", 1),
        ("“Paris”", "Paris", 1),
        ("The answer is: Paris.", "Paris", 1),
        ("I looked at the map.\n#### Paris", "Paris", 1),
        (r"So \boxed{Paris}.", "Paris", 1),
        ("new   york", "New York", 1),
        ("ﬁsh", "fish", 1),  # a ligature is its letters
        ("It is Paris, I think", "Paris", 0),
        ("Pari", "Paris", 0),
        ("", "Paris", 0),
        ("", "", 0),
        ("...", "!", 0),
    ],
)
def test_exact(answer, reference, score):
    assert grade("exact", answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("The capital is Paris.", r"(?i)\bparis\b", 1),
        ("comparison", r"(?i)\bparis\b", 0),
        ("def f(x):\n    return 1", r"def \w+\(.*\):", 1),
        ("anything", "(", 0),  # no pattern at all
    ],
)
def test_regex(answer, reference, score):
    assert grade("regex", answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("The total is 1,234 dollars.", "1234", 1),
        ("3 + 4 = 7\n#### 7", "7", 1),
        ("5 + 3 = 8. The answer is 8. I used 3 steps.", "8", 1),
        ("The answer is 5 apples out of 12", "5", 1),
        ("The answer is $1,200 - $120 = $1,080.", "1080", 1),
        ("**Answer**: 42 because 6*7=42, or 43", "42", 1),
        ("The answer to the 2nd question would be 12.", "12", 1),
        (r"\boxed{\frac{3}{4}}", "0.75", 1),
        (r"\boxed{70{,}000}", "70000", 1),
        (r"x = 2, so \boxed{x = 12}", "12", 1),
        ("1 1/2 hours", "1.5", 1),
        ("It is 3/4.", "0.75", 1),
        ("-3", "-3", 1),
        ("−3", "-3", 1),  # a minus sign, not a hyphen
        ("-$18", "-18", 1),
        ("7-3", "3", 1),  # a difference, not minus three
        ("He has $1,000.50 left.", "1000.5", 1),
        ("1.5e3", "1500", 1),
        (r"1.5 \times 10^{3}", "1500", 1),
        ("50%", "50", 1),
        ("50%", "0.5", 1),
        ("0.5", "50%", 1),
        ("50%", "5%", 0),
        ("3.1416", "3.14159265", 1),
        ("3.15", "3.14159265", 0),
        ("12345600", "12345678", 0),  # whole numbers are equal or not
        ("100000.0000001", "100000", 1),
        ("The answer is 42 %", "42%", 1),
        ("no number", "3", 0),
        ("1/0", "1", 0),
        ("1e9999", "1", 0),
        ("9" * 500, "9", 0),
        ("", "0", 0),
    ],
)
def test_numeric(answer, reference, score):
    assert grade("numeric", answer, reference) == score


@pytest.mark.parametrize("text", ["So x is -3", "about -3", "I get\n-3", "x = -3", "minus: -$3"])
def test_a_minus_behind_a_word_is_a_minus(text):
    assert (grade("numeric", text, "-3"), grade("numeric", text, "3")) == (1, 0)


@pytest.mark.parametrize("text", ["10-3", "10 - 3", "x - 3", "x-3", "(a) -3", "pages 1-3"])
def test_a_minus_between_two_terms_is_none(text):
    assert (grade("numeric", text, "-3"), grade("numeric", text, "3")) == (0, 1)


def test_a_tolerance_is_relative():
    assert grade("numeric", "1.04", "1.0001", GradeOptions(tolerance=0.05)) == 1
    assert grade("numeric", "1.06", "1.0001", GradeOptions(tolerance=0.05)) == 0


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B) Paris", "B"),
        ("B. Because it rains.", "B"),
        ("**Answer: C**", "C"),
        ("Answer:\nB", "B"),
        ("**Answer**: B", "B"),
        ("The answer to the question is B", "B"),
        ("Therefore B is the answer.", "B"),
        ("The answer is (B).", "B"),
        ("Therefore, the answer is b)", "B"),
        ("The correct option is B: it rains", "B"),
        (r"Answer: $\boxed{D}$", "D"),
        (r"the final answer is: \boxed{\text{B}}", "B"),
        ("I think option A is wrong. The correct answer is **D**", "D"),
        ("The answer is B\n\nExplanation: option A fails", "B"),
        ("A is the correct answer", "A"),
        ("I'd choose C", "C"),
        ("Only (C) can hold here, as it rains.", "C"),
        ("First line.\n\nD", "D"),
        ("A man walks into a bar", None),
        ("the answer is a good one", None),
        ("Both (A) and (B) hold", None),
        ("I do not know", None),
        ("", None),
    ],
)
def test_a_choice_is_found(answer, letter):
    assert found_answer("choice", answer) == letter
    assert grade("choice", answer, "B") == float(letter == "B")


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("It is London", "London", 1),
        ("It is London", "B", 1),
        ("The answer is London.", "B", 1),
        ("Paris or London", "B", 0),  # both are named
        ("Londonderry", "B", 0),
        ("B", "London", 1),
        ("The answer is (2)", "2", 1),
    ],
)
def test_a_choice_may_be_named_by_its_text(answer, reference, score):
    assert grade("choice", answer, reference, OPTIONS) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [
        ("so $x^2+1$ is it", "x^2 + 1", 1),
        (r"The answer is $\frac{1}{2}$.", "0.5", 1),
        (r"$x=\boxed{\left(3, \frac{\pi}{2}\right)}$", "(3, pi/2)", 1),
        ("Thus\n\n2\\sqrt{3}", r"\sqrt{12}", 1),
        (r"\[ x = 5 \]", "5", 1),
        ("It is 5 cm", r"\boxed{5}", 0),  # a sentence is no expression
        ("The answer is 5 cm", r"\boxed{5}", 1),
        ("", "1", 0),
    ],
)
def test_expression(answer, reference, score):
    assert grade("expression", answer, reference) == score


@pytest.mark.parametrize(
    ("kind", "answers"),
    [
        ("numeric", ("The answer is 1,000.", "1000", r"\boxed{1e3}")),
        ("choice", ("(B)", "The answer is b.", "B) London")),
        ("exact", ("Paris", "**paris**.", "The answer is Paris")),
        ("expression", (r"\frac{1}{2}", "$\\dfrac12$", r"\boxed{\frac{1}{2}}")),
    ],
)
def test_equal_answers_are_found_equal(kind, answers):
    assert len({found_answer(kind, answer) for answer in answers}) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_answer_is_found_where_there_is_none(kind):
    assert found_answer(kind, " \n ") is None


@pytest.mark.parametrize(
    ("kind", "reference", "choices", "problem"),
    [
        ("numeric", "about 3", (), None),
        ("numeric", "three", (), "holds no number"),
        ("choice", "(B)", (), None),
        ("choice", "London", OPTIONS.choices, None),
        ("choice", "London", (), "neither a letter"),
        ("regex", "a+", (), None),
        ("regex", "(a", (), "no regular expression"),
        ("exact", " . ", (), "is empty"),
        ("exact", "x", (), None),
    ],
)
def test_useless_references_are_told_before_anything_is_asked(kind, reference, choices, problem):
    told = reference_problem(kind, reference, choices)
    assert told is None if problem is None else problem in told


def test_final_answers():
    assert final_answer("no mark") is None
    assert final_answer(r"\boxed{a} then \boxed{b_{1}}") == "b_{1}"
    assert final_answer(r"\boxed{never closed") is None
    assert final_answer("#### 3\n#### 4 ") == "4"
    assert final_answer("the answer is 3; no, the answer is 4\nbye") == "4"


TEXTS = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="0123456789.,/%$-+eE ^\\{}()[]|!ABC#*=\n", max_size=80),
    st.lists(
        st.sampled_from(
            ["\\boxed{", "\\frac{", "}", "answer is", "####", "(B)", "1,000", "$", "\n", "9" * 70]
        ),
        max_size=12,
    ).map(" ".join),
)


@settings(max_examples=300)
@given(st.sampled_from(KINDS), TEXTS, TEXTS, st.lists(TEXTS, max_size=3))
@example("regex", "a", "[[", [])
@example("numeric", "٣", "٣", [])  # a digit that is not of ours
@example("choice", "²", "²", ["", ""])
@example("expression", "\ud800", "\ud800", [])
def test_nothing_raises_and_scores_are_scores(kind, answer, reference, choices):
    options = GradeOptions(choices=tuple(choices))
    assert 0.0 <= grade(kind, answer, reference, options) <= 1.0
    found = found_answer(kind, answer, options)
    assert found is None or found
    reference_problem(kind, reference, choices)


@settings(max_examples=100)
@given(st.integers(-(10**12), 10**12), st.sampled_from(["{}", "The answer is {}.", "#### {}"]))
def test_every_whole_number_is_itself_and_no_other(number, form):
    said = form.format(f"{number:,}")
    assert grade("numeric", said, str(number)) == 1
    assert grade("numeric", said, str(number + 1)) == 0


@given(st.text(min_size=1, max_size=40))
def test_what_is_normal_stays_so(text):
    assert normal(normal(text)) == normal(text)


HOSTILE = (
    "(", "a", "$", "9", "9,", "1/", "-", "*", "1 ", " \n", "\\boxed{", "\\frac{1", "answer is ",
    "answer ", "option ", ".,", "#### ", "[:=]", "A is ", "\\text{", "{", "|", "^2", "sqrt ",
)  # fmt: skip


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "regex"])
def test_long_texts_take_no_more_than_their_length(kind):
    """Twice the text takes about twice the time, not four times: the whole table in seconds."""
    from time import process_time

    start_s = process_time()
    for piece in HOSTILE:
        text = piece * (40_000 // len(piece))
        grade(kind, text, "A" if kind == "choice" else "3")
        found_answer(kind, f"answer{' ' * 20_000}{piece}")
        grade(kind, "3", text)
    assert process_time() - start_s < 10.0
