"""An input is stale when its parsed content differs (§7): the hash sees values, not dress."""

import math
import random

import pytest
import yaml

from planner.files.csvs import raw_rows
from planner.files.inputs import read_inputs
from planner.files.text import content_hash
from planner.files.yamls import parse_yaml

TABLE = "start_s,rate_rps,source\n0,1.5,here\n60,2,there\n"


def read(text: str) -> object:
    data = parse_yaml(text, "a.yaml", [])
    assert data is not None
    return data


YAML = "a: 1\nb: {c: [x, 2.5], d: 2026-06-01}\n"


@pytest.mark.parametrize(
    "same",
    [
        "# a remark\n" + YAML,
        "b: {d: 2026-06-01, c: [x, 2.5]}\na: 1\n",
        "b:\n  c:\n    - x   # a remark\n    - 2.50\n  d: 2026-06-01\na:   1\n\n",
        "'a': 1\nb: {c: ['x', 25e-1], d: 2026-06-01}\n",
    ],
)
def test_the_hash_ignores_remarks_order_of_keys_and_spelling(same):
    assert content_hash(read(same)) == content_hash(read(YAML))


@pytest.mark.parametrize(
    "other",
    [
        YAML.replace("1", "2", 1),
        YAML.replace("a:", "aa:"),
        YAML.replace("[x, 2.5]", "[2.5, x]"),
        YAML.replace("2.5", "'2.5'"),
        YAML.replace("2026-06-01", "2026-06-02"),
        YAML + "e: ~\n",
    ],
)
def test_the_hash_sees_values(other):
    assert content_hash(read(other)) != content_hash(read(YAML))


def test_the_hash_of_a_table_ignores_its_dress():
    rng = random.Random(3)
    plain_hash = content_hash(raw_rows(TABLE))
    for _ in range(20):
        end = rng.choice(["\n", "\r\n"])
        lines = [end.join([line, *[""] * rng.randrange(3)]) for line in TABLE.splitlines()]
        assert content_hash(raw_rows(end.join(lines).replace(",", rng.choice([",", " ,"])))) == (
            plain_hash
        )
    assert content_hash(raw_rows(TABLE.replace("60", "61"))) != plain_hash
    assert content_hash(raw_rows(TABLE.replace("there", "here"))) != plain_hash


def test_a_hash_is_always_to_be_had():
    """Whatever a text holds: the file may be refused later, but not by a crash."""
    assert len(content_hash({"a": "\ud800", "b": math.nan, "c": 10**400})) == 64


def test_the_hashes_of_the_inputs_name_no_place(workspace, pristine):
    ours = read_inputs(workspace / "plans/demo").hashes
    assert ours == read_inputs(pristine / "plans/demo", pristine / "profiles").hashes
    assert all(not name.startswith(("/", ".")) for name in ours)
    assert {"question.yaml", "class_scores.csv", "arrivals.csv", "profiles/gpus.yaml"} <= set(ours)


@pytest.mark.parametrize(
    "file",
    [
        "plans/demo/question.yaml",
        "plans/demo/class_scores.csv",
        "plans/demo/arrivals.csv",
        "profiles/gpus.yaml",
        "profiles/models.yaml",
        "profiles/llama-3.1-8b-h100/pool.yaml",
        "profiles/llama-3.1-8b-h100/points.csv",
    ],
)
def test_a_change_of_one_input_changes_its_hash_alone(workspace, file):
    before = read_inputs(workspace / "plans/demo").hashes
    path = workspace / file
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "\n\n", encoding="utf-8")
    assert read_inputs(workspace / "plans/demo").hashes == before
    if path.suffix == ".csv":
        header, first, *rest = text.splitlines()
        changed = [header, first + "1", *rest]
        path.write_text("\n".join(changed), encoding="utf-8")
    else:
        data = yaml.safe_load(text)
        entry = data[0] if isinstance(data, list) else data
        key = "title" if "title" in entry else "source"
        entry[key] += " changed"
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
    after = read_inputs(workspace / "plans/demo").hashes
    assert [name for name in after if after[name] != before[name]] == [
        file.removeprefix("plans/demo/")
    ]
