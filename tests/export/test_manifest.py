from __future__ import annotations

import json
import re

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from made_fleets import demo_fleet, odd_names_fleet

from planner.export.manifest import comment, engine_comments, header, one_line, yaml_text
from planner.files.manifest_yaml import manifest_yaml

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(PLAIN)
@example({"\x85": "\u2028", "\ufeff": "\x00"})
@example({"a": "line\nline\n", "b": " x\ny", "c": "x \ny", "d": "\n", "e": "\t"})
@example(["#", "- a", "a: b", "{}", "'", '"', "%", "@", "`", "&a", "*a", "!t", "|", ">", "?"])
def test_what_is_written_is_read_back(data):
    assert yaml.safe_load(manifest_yaml(data)) == data


class Newer(yaml.SafeLoader):
    """Reads plain words as YAML 1.2's core schema does, and Go's reader."""


NUMBER = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
Newer.yaml_implicit_resolvers = {}
for kind, form, first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", NUMBER, "-+.0123456789"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    whole = re.compile(f"(?:{form})\\Z")
    Newer.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", whole, list(first))

TRAPS = [
    "3324e394", "1e5", "1E5", "+1e5", "12e03", ".5e1", "0o17", "0x1f", "010", "1_000", "1:30",
    "no", "No", "NO", "on", "off", "yes", "y", "n", "true", "null", "~", "", ".inf", "-.INF",
    ".nan", "2026-01-31", "1.0", "-1", "=", "<<", "0b1", "0.11.1", "v1", "8000",
    "8000:8000", "1e", "e5",
]  # fmt: skip


@pytest.mark.parametrize("text", TRAPS)
def test_a_text_is_a_text_to_readers_of_old_and_new_yaml(text):
    for data in ({"key": text}, {text: "value"}, [text]):
        written = manifest_yaml(data)
        assert yaml.safe_load(written) == data, written
        assert yaml.load(written, Loader=Newer) == data, written


def test_the_readers_of_this_test_fall_into_the_traps():
    """Else the test above would hold for texts that nobody quotes."""
    assert [type(each) for each in yaml.load("[3324e394, 1e5]", Loader=Newer)] == [float, float]
    assert yaml.safe_load("[3324e394, no, 1:30]") == ["3324e394", False, 90]


def test_a_file_inside_a_file_can_be_read_by_a_person():
    text = json.dumps({"a": [1, 2]}, indent=2) + "\n"
    assert manifest_yaml({"routes.json": text}) == (
        'routes.json: |\n  {\n    "a": [\n      1,\n      2\n    ]\n  }\n'
    )


def test_equal_parts_are_written_twice():
    part = {"a": ["b"]}
    assert "&" not in manifest_yaml([part, part])


def test_a_head_says_of_what_and_how_again():
    fleet = demo_fleet()
    text = header(fleet, "compose", ["one more thing"])
    assert all(line.startswith("# ") for line in text.splitlines())
    for word in (
        fleet.title,
        fleet.plan_hash,
        "--to compose",
        f"rb {fleet.rb_version}",
        "one more",
    ):
        assert word in text


def test_nothing_in_a_title_leaves_its_comment():
    text = yaml_text([{"a": 1}], header(odd_names_fleet(), "compose"))
    assert yaml.safe_load(text) == {"a": 1}
    head = text[: text.index("a: 1")]
    assert all(line.startswith("# ") for line in head.splitlines())
    assert all(c == "\n" or c.isprintable() for c in text)


@given(st.text(max_size=300))
def test_a_comment_is_always_one(text):
    assert all(line.startswith("#") for line in comment([text]).splitlines())
    assert all(c.isprintable() for c in one_line(text))


def test_documents_are_told_apart():
    assert list(yaml.safe_load_all(yaml_text([{"a": 1}, {"b": 2}], "# head\n"))) == [
        {"a": 1},
        {"b": 2},
    ]


def test_an_operator_reads_on_what_cache_the_plan_counts():
    engine = demo_fleet().engines[0]
    assert any(f"{engine.kv_capacity_tokens:,} tokens" in said for said in engine_comments(engine))


@pytest.mark.parametrize("word", ["y", "N", "no", "On", "~", "3324e394", "0o17", "1_000", ".inf"])
def test_a_text_that_some_reader_takes_for_something_else_stands_in_quotes(word):
    assert yaml_text([{"key": word}]) == f"key: '{word}'\n"
