"""Fields of hand-made types in words: who says what a field means, and what may stand in it."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

import pytest
from pydantic import Field

from planner.spec import described as room
from planner.spec.base import Name, NonNegative, PositiveCount, Ratio, Spec, Text
from planner.spec.described import described, parts, schema_with_meanings


class Inner(Spec):
    """A part of another type."""

    pool: Name
    ms: NonNegative  # of the thing that is measured


class Base(Spec):
    """What others stand on."""

    seen: PositiveCount = 3
    """How often it was seen"""


class Whole(Base):
    """A type with a field of every kind."""

    version: Literal[1]
    class_name: Name = Field(alias="class")
    title: Text
    floor: Ratio | None  # None: there is none
    ceiling: Ratio | None = None  # noqa: RUF100
    below_one: Annotated[float, Field(ge=0, lt=1)] = 0.5
    way: Literal["a", "b"] = "a"
    flag: bool = False  # True: yes
    day: datetime.date = datetime.date(2026, 11, 1)
    hours: tuple[NonNegative, NonNegative] = (0.0, 24.0)
    counts: dict[Name, PositiveCount] = Field(default_factory=dict)
    words: dict[Text, tuple[Text, ...]] = Field(default_factory=dict)
    inner: tuple[Inner, ...] = ()
    either: Inner | Text | None = None
    """One of two.

    With more to say.
    """


FIELDS = {field.name: field for field in described(Whole)}


def test_the_kind_of_a_field_in_words() -> None:
    assert {name: field.kind for name, field in FIELDS.items()} == {
        "version": "1",
        "class": "name",
        "title": "text",
        "seen": "whole number >= 1",
        "floor": "number from 0 to 1 or null",
        "ceiling": "number from 0 to 1",
        "below_one": "number >= 0, < 1",
        "way": "one of a, b",
        "flag": "true or false",
        "day": "date",
        "hours": "[number >= 0, number >= 0]",
        "counts": "mapping of name to whole number >= 1",
        "words": "mapping of text to list of text",
        "inner": "list of Inner",
        "either": "Inner or text",
    }


def test_null_is_named_where_a_field_must_be_given() -> None:
    """A field that may be left out need not say that it may be null, too."""
    assert (FIELDS["floor"].required, FIELDS["ceiling"].required) == (True, False)
    assert "null" in FIELDS["floor"].kind
    assert "null" not in FIELDS["ceiling"].kind


def test_the_default_of_a_field_as_it_stands_in_a_file() -> None:
    expected = {
        "title": "",
        "ceiling": "",
        "seen": "3",
        "way": "a",
        "flag": "false",
        "day": "2026-11-01",
        "hours": "[0.0, 24.0]",
        "counts": "",
        "inner": "[]",
    }
    assert {name: FIELDS[name].default for name in expected} == expected


def test_fields_come_in_their_order_inherited_ones_first() -> None:
    assert [field.name for field in described(Whole)][:4] == ["seen", "version", "class", "title"]


def test_docstrings_and_comments_say_what_a_field_means() -> None:
    assert FIELDS["seen"].meaning == "How often it was seen."
    assert FIELDS["either"].meaning == "One of two. With more to say."
    assert described(Inner)[1].meaning == "Of the thing that is measured."


def test_values_are_named_as_files_name_them() -> None:
    assert FIELDS["floor"].meaning == "null: there is none."
    assert FIELDS["flag"].meaning == "true: yes."


def test_a_comment_to_the_linter_is_no_meaning() -> None:
    assert FIELDS["ceiling"].meaning == ""


def test_a_name_that_means_the_same_everywhere_need_not_be_said() -> None:
    assert FIELDS["title"].meaning == "Name for people."
    assert described(Inner)[0].meaning.startswith("Name of a pool")


def test_an_entry_of_its_own_wins_and_is_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(room.OWN, "Base.seen", "From the table.")
    assert next(f for f in described(Base) if f.name == "seen").meaning == "From the table."
    assert next(f for f in described(Whole) if f.name == "seen").meaning == "From the table."
    monkeypatch.setitem(room.OWN, "Whole.seen", "From its own.")
    assert next(f for f in described(Whole) if f.name == "seen").meaning == "From its own."


def test_parts_are_met_once_and_in_order() -> None:
    assert parts(Whole) == (Whole, Inner)


def test_the_schema_says_what_every_field_means() -> None:
    schema = schema_with_meanings(Whole)
    assert schema["properties"]["seen"]["description"] == "How often it was seen."
    assert schema["properties"]["class"]["description"] == "Name of a class of the question."
    assert schema["$defs"]["Inner"]["properties"]["ms"]["description"] == (
        "Of the thing that is measured."
    )
    assert "description" not in schema["properties"]["ceiling"]
