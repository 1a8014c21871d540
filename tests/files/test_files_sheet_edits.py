"""A question changed where it stands: the rest of its text is as it was, byte by byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hand_plan import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.files.changed_question import write_changed
from planner.files.yaml_edits import Edit, edited_yaml

TEXT = """\
# A question with comments.
version: 1
classes:
  - name: chat          # the first
    rate_rps: 4.0       # requests per second
    output_tokens:
      mean: 200
      cv: 1.0           # as wide as it is long

    limits:
      - {metric: e2e, statistic: p95, at_most_ms: 5000}
  - {name: code, rate_rps: 1}   # on one line
arrivals: {process: schedule, file: a.csv}
class_scores: class_scores.csv
stock: {gpu: 8}
"""


def test_a_number_is_changed_where_it_stands() -> None:
    new = edited_yaml(TEXT, [Edit(("classes", 0, "rate_rps"), 6.25)])
    assert new == TEXT.replace("rate_rps: 4.0 ", "rate_rps: 6.25 ")


def test_lines_and_one_line_are_both_understood() -> None:
    lengths: dict[str, object] = {"mean": 300.0, "cv": 0.5}
    edits = [
        Edit(("classes", 0, "output_tokens"), lengths),
        Edit(("classes", 1, "rate_rps"), 2.0),
        Edit(("classes", 0, "input_tokens"), lengths),
        Edit(("classes", 1, "output_tokens"), lengths),
        Edit(("arrivals", "rate_factor"), 3.0),
    ]
    new = edited_yaml(TEXT, edits)
    wanted = yaml.safe_load(TEXT)
    for key in ("input_tokens", "output_tokens"):
        wanted["classes"][0][key] = lengths
    wanted["classes"][1] = {"name": "code", "rate_rps": 2.0, "output_tokens": lengths}
    wanted["arrivals"]["rate_factor"] = 3.0
    assert yaml.safe_load(new) == wanted
    for comment in (
        "# A question with comments.",
        "# the first",
        "# requests per",
        "# on one line",
    ):
        assert comment in new


@pytest.mark.parametrize(
    "text",
    [
        "classes:\n- name: chat\n  output_tokens:\n  rate_rps: 1\n",
        "classes:\n- name: chat\n  output_tokens: # as they come\n",
        "classes: [{name: chat, output_tokens: , rate_rps: 1}]\n",
        "classes:\n- title: |\n    of two\n    lines\n  name: chat\n",
        "classes:\n- {name: chat # the first\n  , rate_rps: 1}\n",
        '{"classes":[{"name":"chat","rate_rps":1}]}',
        "classes:\r\n- name: chat\r\n  rate_rps: 1",
        "classes:\n- limits:\n  - {a: 1} # last\n  name: chat\n...\n",
    ],
)
def test_left_empty_or_written_in_another_way(text: str) -> None:
    wanted = yaml.safe_load(text)
    wanted["classes"][0]["output_tokens"] = {"mean": 3.0, "cv": 0.5}
    new = edited_yaml(text, [Edit(("classes", 0, "output_tokens"), {"mean": 3.0, "cv": 0.5})])
    assert yaml.safe_load(new) == wanted
    assert [c for c in text.split() if c.startswith("#") and c not in new] == []


@settings(max_examples=30)
@given(
    st.floats(1e-6, 1e6),
    st.floats(1e-3, 1e6),
    st.sampled_from(["input_tokens", "output_tokens", "rate_rps"]),
    st.sampled_from([0, 1]),
)
def test_the_data_is_changed_there_and_nowhere_else(
    value: float, mean: float, key: str, c: int
) -> None:
    new = value if key == "rate_rps" else {"mean": mean, "cv": 0.5}
    data = yaml.safe_load(TEXT)
    data["classes"][c][key] = new
    assert yaml.safe_load(edited_yaml(TEXT, [Edit(("classes", c, key), new)])) == data


@pytest.mark.parametrize("path", [("classes", 5, "rate_rps"), ("nothing", "there"), ("stock", 0)])
def test_a_place_that_is_not_there_is_our_mistake(path: tuple[str | int, ...]) -> None:
    text = TEXT if path[0] != "stock" else "stock: []\n"
    with pytest.raises(KeyError):
        edited_yaml(text, [Edit(path, 1.0)])


def test_the_demos_question_keeps_its_comments(tmp_path: Path) -> None:
    folder, path = ROOT / "plans" / "demo", tmp_path / "next" / "question.yaml"
    missing = write_changed(folder, path, [(("classes", 0, "rate_rps"), 3.0)])
    old, new = (folder / "question.yaml").read_text(), path.read_text()
    changed = [(a, b) for a, b in zip(old.splitlines(), new.splitlines(), strict=True) if a != b]
    assert changed == [("    rate_rps: 2.541", "    rate_rps: 3.0")]
    assert missing == ["class_scores.csv", "arrivals.csv"]


def test_the_same_content_is_not_written_twice(tmp_path: Path) -> None:
    folder, path = ROOT / "plans" / "demo", tmp_path / "question.yaml"
    write_changed(folder, path, [(("classes", 0, "rate_rps"), 3.0)])
    path.chmod(0o444)
    before = path.stat()
    write_changed(folder, path, [(("classes", 0, "rate_rps"), 3.0)])
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_change_that_makes_no_question_is_refused_and_nothing_written(tmp_path: Path) -> None:
    path = tmp_path / "question.yaml"
    with pytest.raises(InputError, match="rate_rps"):
        write_changed(ROOT / "plans" / "demo", path, [(("classes", 0, "rate_rps"), -1.0)])
    assert not path.exists()
