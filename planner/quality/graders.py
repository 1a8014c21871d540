"""Graders: how right an answer is, as pure functions of two texts. They never raise.

    exact       the final answer, or the whole text, is the reference
    regex       the pattern that the reference is (Python's `re`) occurs in the answer
    numeric     the final number is the reference's
    choice      the letter that is chosen is the reference's
    expression  the final expression equals the reference's, as text or in value

Finding the final answer: the last \\boxed{...}; else what follows the last ####; else what follows
the last "answer is" or "answer:" on its line. Without any of these: exact takes the whole text,
numeric the last number, choice a letter that stands alone, expression the last formula or line.

Normalising: Unicode NFKC; markdown emphasis, quotes and code marks around the answer, blanks at the
ends and full stops are dropped; blanks inside become one; case does not count. Numbers: thousands
separators and currency signs are dropped, fractions are divided; whole numbers must be equal,
others within a relative tolerance; where only one side has a percent sign, 50% is both 50 and 0.5.

Time is bounded by the length of an answer, except for `regex`: a pattern that repeats a repeat, as
(a+)+ does, can take for ever in `re`. Patterns come from the team, answers do not.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, get_args

from planner.quality import expressions

Kind = Literal["exact", "regex", "numeric", "choice", "expression"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MOST_CHARS = 20_000  # of an answer, its end: that is where the final answer stands
_MOST_NUMBER_CHARS = 2_000
_MOST_LINE_CHARS = 200  # of a line that holds nothing but a choice
_MOST_DIGITS = 60
_MOST_EXPONENT = 300

_TO_WHAT = r"\**(?: to [^.:\n]{1,60})?"  # the answer to the question
_IS = r"(?:is|are|equals|(?:would|should|must) be|[:=])"
_SAYS = re.compile(
    rf"\b(?:answer|result|solution)\b{_TO_WHAT}[^\S\n]*{_IS}[^\S\n]*[:=]?", re.IGNORECASE
)
_EDGES = " \t\r\n*_`\"'“”‘’.,;:!"
_NUMBER = re.compile(
    r"(?P<sign>[-+−])?[^\S\n]?(?P<currency>[$€£¥])?(?P<number>\d{1,3}(?:[,\u00a0\u202f]\d{3})+(?!\d)"
    r"(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?:[eE](?P<e>[-+]?\d{1,4})|[^\S\n]?(?:[x×*]|\\times)[^\S\n]?10\^\{?(?P<ten>[-+]?\d{1,4})\}?)?"
    r"(?:[^\S\n]?/[^\S\n]?(?P<under>\d+))?(?:[^\S\n]?(?P<percent>\\?%|percent\b))?"
)
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{([^{}]{1,60})\}\{([^{}]{1,60})\}")
_MIXED = re.compile(r"(?<![\d.,/])(\d{1,9}) (\d{1,9})/(\d{1,9})")
# In texts whose runs of blanks, and of line ends, are one: repeats beside each other are slow.
_CHOICE = r"((?-i:LETTER)|LETTER(?=[).:,*\]]| ?$))(?![\w'])"  # a small one stands at an end
_LEAD = rf"s?\b{_TO_WHAT} ?{_IS}? ?[:=]?\s?(?:option |choice )?[*_`\"'(\[$]*\b"
_CHOSEN = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        r"\b(?:answer|solution)" + _LEAD + _CHOICE,
        r"\b(?:choice|option)" + _LEAD + _CHOICE,
        r"\b(?:choose|select|pick) ?[*_`\"'(\[]*\b" + _CHOICE,
        r"\b((?-i:LETTER))\b[*_`)\]]* is (?:the )?(?:correct|right|best|answer)",
    )
)
_ALONE = re.compile(r"^[*_`\"'(\[\s]*(LETTER)[*_`\"')\]\s]*(?:[.:)](?:\s.*)?)?$")
_IN_BRACKETS = re.compile(r"[(\[](LETTER)[)\]]")


@dataclass(frozen=True)
class GradeOptions:
    """What a grader may be told beyond the reference."""

    tolerance: float = 1e-4  # of numbers that are not whole, relative
    choices: tuple[str, ...] = ()  # texts of the options A, B, ...


NO_OPTIONS = GradeOptions()


def grade(kind: Kind, answer: str, reference: str, options: GradeOptions = NO_OPTIONS) -> float:
    """Returns how right an answer is, from 0 to 1; 0 where the reference is of no use.

    Args:
        kind: which grader.
        answer: what a model said; of a long one the end counts.
        reference: what is right; of `regex` the pattern.
        options: tolerance, and the texts of choices.
    """
    answer = answer[-MOST_CHARS:]
    if kind == "exact":
        right = normal(reference)
        return float(right != "" and right in (normal(answer), normal(final_answer(answer) or "")))
    if kind == "regex":
        pattern = _pattern(reference)
        return float(not isinstance(pattern, str) and pattern.search(answer) is not None)
    if kind == "numeric":
        return float(_same_number(_final_number(answer), _final_number(reference), options))
    if kind == "choice":
        wanted = _letter_of(reference, options.choices)
        return float(wanted is not None and _chosen(answer, wanted, options.choices) == wanted)
    formula = _final_formula(answer)
    return float(
        formula is not None
        and expressions.same(formula, _boxed(reference) or reference, options.tolerance)
    )


def found_answer(kind: Kind, answer: str, options: GradeOptions = NO_OPTIONS) -> str | None:
    """Returns the answer that a grader finds, in one spelling; None where there is none at all.

    Two answers of equal spelling agree; for `regex` that is the whole text.
    """
    answer = answer[-MOST_CHARS:]
    if kind == "numeric":
        number = _final_number(answer)
        return None if number is None else str(number)
    if kind == "choice":
        return _chosen(answer, "A", options.choices)
    if kind == "expression":
        formula = _final_formula(answer)
        return None if formula is None else expressions.squeezed(formula) or None
    final = final_answer(answer) if kind == "exact" else None
    return normal(final or answer) or None


def reference_problem(kind: Kind, reference: str, choices: Sequence[str] = ()) -> str | None:
    """Returns why a grader cannot use a reference, as a clause; None where it can."""
    if kind == "regex":
        pattern = _pattern(reference)
        return f"is no regular expression: {pattern}" if isinstance(pattern, str) else None
    if kind == "numeric" and _final_number(reference) is None:
        return "holds no number"
    if kind == "choice" and _letter_of(reference, tuple(choices)) is None:
        return "is neither a letter nor one of the choices"
    return None if normal(reference) else "is empty"


def normal(text: str) -> str:
    """Returns a text without emphasis, quotes, edge punctuation, case and double blanks."""
    plain = unicodedata.normalize("NFKC", text).strip(_EDGES)
    return " ".join(plain.split()).casefold()


def final_answer(text: str) -> str | None:
    """Returns what a text marks as its final answer; None where it marks nothing."""
    boxed = _boxed(text)
    if boxed is not None:
        return boxed
    if "####" in text:
        return _first_line(text.rpartition("####")[2])
    ends = [said.end() for said in _SAYS.finditer(text)]
    return _first_line(text[ends[-1] :]) or None if ends else None


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip(" *_`")), "")


def _boxed(text: str) -> str | None:
    """Returns the content of the last \\boxed{...}, braces inside it included."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    first = text.index("{", start) + 1
    depth = 1
    for at in range(first, len(text)):
        depth += (text[at] == "{") - (text[at] == "}")
        if not depth:
            return text[first:at].strip()
    return None


# ---- Numbers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Number:
    """A number and whether a percent sign stood behind it."""

    value: Fraction
    is_percent: bool

    def __str__(self) -> str:
        return f"{float(self.value):.10g}{'%' if self.is_percent else ''}"


def _final_number(text: str) -> _Number | None:
    """Returns the number that a text marks as its answer, else its last one."""
    marked = final_answer(text)
    if marked is not None:
        # In "the answer is 3 + 4 = 7 of 9. I used ..." it stands behind the sentence's last =.
        sentence = re.split(r"\.\s", marked[:_MOST_NUMBER_CHARS], maxsplit=1)[0]
        numbers = _numbers(sentence.rpartition("=")[2]) or _numbers(sentence)
        if numbers:
            return numbers[-1] if _boxed(text) is not None else numbers[0]
    numbers = _numbers(text[-_MOST_NUMBER_CHARS:])
    return numbers[-1] if numbers else None


def _numbers(text: str) -> list[_Number]:
    plain = _FRACTION.sub(r" \1\2/\3 ", text.replace("{,}", ",").replace("\\!", ""))
    plain = _MIXED.sub(_improper, plain.replace("\\$", "$"))
    read = (_read_number(found, plain) for found in _NUMBER.finditer(plain))
    return [number for number in read if number is not None]


def _improper(found: re.Match[str]) -> str:
    whole, over, under = (int(part) for part in found.groups())
    return f"{whole * under + over}/{under}"


def _read_number(found: re.Match[str], text: str) -> _Number | None:
    digits = re.sub(r"[,\u00a0\u202f]", "", found["number"])
    exponent = int(found["e"] or found["ten"] or 0)
    under = found["under"] or "1"
    too_long = max(len(digits), len(under)) > _MOST_DIGITS or abs(exponent) > _MOST_EXPONENT
    if too_long or not int(under):
        return None
    value = Fraction(digits) * Fraction(10) ** exponent / int(under)
    is_minus = found["sign"] in ("-", "−") and not _is_between(text[: found.start()], found[0])
    return _Number(-value if is_minus else value, found["percent"] is not None)


def _is_between(before: str, signed: str) -> bool:
    """Returns whether a sign stands between two terms: in 7-3, x - 3, pages 1-3, not in "is -3"."""
    left = before.rstrip()[-1:]
    if left.isalpha() and left != before[-1:]:
        return signed[1:2].isspace()
    return left.isalnum() or left == ")"


def _same_number(a: _Number | None, b: _Number | None, options: GradeOptions) -> bool:
    if a is None or b is None:
        return False
    if a.is_percent == b.is_percent:
        return _close(a.value, b.value, options.tolerance)
    part, plain = (a.value, b.value) if a.is_percent else (b.value, a.value)
    return any(_close(value, plain, options.tolerance) for value in (part, part / 100))


def _close(a: Fraction, b: Fraction, tolerance: float) -> bool:
    if a.denominator == b.denominator == 1:
        return a == b
    return abs(a - b) <= Fraction(tolerance) * max(abs(a), abs(b))


# ---- Choices -------------------------------------------------------------------------------------


def _letter_of(reference: str, choices: tuple[str, ...]) -> str | None:
    """Returns the letter (or digit) that a reference names, be it by the text of a choice."""
    plain = normal(reference).strip("()[]").strip(_EDGES)
    if len(plain) == 1 and plain.isascii() and plain.isalnum():
        return plain.upper()
    same = [k for k, choice in enumerate(choices) if normal(choice) == normal(reference)]
    return chr(ord("A") + same[0]) if len(same) == 1 else None


def _chosen(answer: str, wanted: str, choices: tuple[str, ...]) -> str | None:
    """Returns the letter that an answer chooses; `wanted` tells letters from digits."""
    letters = "1-9" if wanted.isdigit() else f"A-{chr(ord('A') + max(len(choices), 10) - 1)}"
    answer = re.sub(r" ?\n[ \n]*", "\n", re.sub(r"[^\S\n]+", " ", answer))
    boxed = _boxed(answer)
    if boxed is not None:
        inner = re.sub(r"\\(?:text|mathrm|textbf|mathbf)\s*\{([^{}]*)\}", r"\1", boxed)
        found = _search(_ALONE, letters, inner[:_MOST_LINE_CHARS])
        if found is not None:
            return found
    for pattern in _CHOSEN:
        found = _search(pattern, letters, answer)
        if found is not None:
            return found
    lines = [line for line in answer.splitlines() if line.strip()]
    for line in (*lines[-1:], *lines[:1]):
        found = _search(_ALONE, letters, line[:_MOST_LINE_CHARS])
        if found is not None:
            return found
    in_brackets = set(_compiled(_IN_BRACKETS, letters).findall(answer))
    if len(in_brackets) == 1:
        return str(in_brackets.pop())
    return _by_text(answer, choices)


def _search(pattern: re.Pattern[str], letters: str, text: str) -> str | None:
    """Returns the letter of the last match of a pattern, in upper case."""
    found = _compiled(pattern, letters).findall(text)
    return str(found[-1]).upper() if found else None


@lru_cache(maxsize=64)
def _compiled(pattern: re.Pattern[str], letters: str) -> re.Pattern[str]:
    return re.compile(pattern.pattern.replace("LETTER", f"[{letters}]"), pattern.flags)


def _by_text(answer: str, choices: tuple[str, ...]) -> str | None:
    """Returns the letter of the only choice whose text the answer says."""
    said = f" {normal(final_answer(answer) or answer)} "
    found = [
        k for k, choice in enumerate(choices) if normal(choice) and f" {normal(choice)} " in said
    ]
    return chr(ord("A") + found[0]) if len(found) == 1 else None


# ---- Expressions and patterns --------------------------------------------------------------------


def _final_formula(answer: str) -> str | None:
    """Returns the marked answer, else the last formula between $ or \\( \\), else the last line."""
    marked = final_answer(answer)
    formulas = re.findall(r"\$([^$]+)\$|\\\(([^$]+?)\\\)|\\\[([^$]+?)\\\]", marked or answer)
    if marked is not None and (_boxed(answer) is not None or not formulas):
        return marked.strip(" *_`.$") or None
    if formulas:
        return next(part for part in formulas[-1] if part).strip() or None
    lines = [line.strip(" *_`.") for line in answer.splitlines() if line.strip(" *_`.")]
    return lines[-1] if lines else None


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str] | str:
    """Returns a compiled pattern, or what is wrong with it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of spellings that a later Python may read otherwise
            return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        return str(error) or type(error).__name__
