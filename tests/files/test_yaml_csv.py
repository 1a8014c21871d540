"""YAML and CSV in: what a reader of the file sees is what is read, else there is a fault."""

import datetime
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import Fault
from planner.files.csvs import MAX_FAULTS_PER_FILE, parse_csv, raw_rows, read_csv
from planner.files.text import read_text
from planner.files.yamls import parse_yaml, read_yaml, yaml_text
from planner.spec.pool import CapacityPoint, Point
from planner.spec.question import ClassScore, RatePoint, TraceRow


def read(text: str) -> object:
    faults: list[Fault] = []
    data = parse_yaml(text, "a.yaml", faults)
    assert faults == []
    return data


def refused(text: str) -> Fault:
    faults: list[Fault] = []
    assert parse_yaml(text, "a.yaml", faults) is None
    assert len(faults) == 1
    assert faults[0].file == "a.yaml" and faults[0].fix
    return faults[0]


# ---- YAML: what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a: 1\na: 2\n", 2, "key given twice, got 'a'"),
        ("b:\n  a: 1\n  'a': 2\n", 3, "key given twice, got 'a'"),
        ("a: {x: 1, x: 1}\n", 1, "key given twice, got 'x'"),
        ("a: &x 1\n", 1, "anchors and aliases are not read, got x"),
        ("a: 1\nb: *x\n", 2, "anchors and aliases are not read, got x"),
        ("a: &x {b: 1}\nc: {<<: *x}\n", 1, "anchors and aliases are not read, got x"),
        ("a: !!set {b, c}\n", 1, "tags are not read, got tag:yaml.org,2002:set"),
        ("a: !!python/name:os.getcwd\n", 1, "tags are not read"),
        ("a: !mine 3\n", 1, "tags are not read, got !mine"),
        ("1: a\n", 1, "a key must be text, got 1"),
        ("2026-01-01: a\n", 1, "a key must be text, got 2026-01-01"),
        ("~: a\n", 1, "a key must be text, got ~"),
        ("? [a]\n: b\n", 1, "a key must be text, got a collection"),
        ("a: [1\n", 2, "expected ',' or ']'"),
        ("a:\n\tb: 1\n", 2, "cannot start any token"),
        ("a: 1\n---\nb: 1\n", 2, "found another document"),
        ("a: 1\n# \x07\n", 2, "special characters are not allowed"),
    ],
)
def test_yaml_that_is_not_plain_is_refused_with_its_line(text, line, what):
    fault = refused(text)
    assert fault.field == f"line {line}"
    assert what in fault.what


def test_depth_is_bounded():
    assert read("[" * 40 + "]" * 40) is not None
    for deep in ("[" * 41 + "]" * 41, "{a: " * 41 + "}" * 41, "- " * 41 + "a", "[" * 9_999):
        assert refused(deep).what.startswith("nested deeper than 40 levels")


def test_width_is_not_depth():
    assert read("a: [" + "[1], " * 500 + "]\n") == {"a": [[1]] * 500}


@pytest.mark.parametrize("text", ["", "\n\n", "# a remark\n", "---\n", "~\n"])
def test_nothing_is_refused(text):
    assert refused(text).what == "file is empty"


@pytest.mark.parametrize("text", ["a: 2026-13-45\n", f"a: {'9' * 5000}\n"])
def test_impossible_values_are_refused(text):
    assert refused(text).what.startswith("is not valid YAML: ")


# ---- YAML: plain words mean what they show -------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8.03e9", 8.03e9),  # YAML 1.1 reads text here, for lack of a sign
        ("1e3", 1000.0),
        ("25E-1", 2.5),
        (".5", 0.5),
        ("-3", -3),
        ("+4", 4),
        ("0", 0),
        ("5.", 5.0),
        ("010", 10.0),  # not 8
        ("1:30", "1:30"),  # not 90
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("2026-06-01", datetime.date(2026, 6, 1)),
        ("2026-6-1", "2026-6-1"),
        ("1.2.3", "1.2.3"),
        ("1e3x", "1e3x"),
        ("'7'", "7"),
        ("<<", "<<"),
    ],
)
def test_plain_words(text, value):
    data = read(f"a: {text}\n")
    assert data == {"a": value}
    assert type(data["a"]) is type(value)


def test_infinity_and_nan_reach_the_types_that_refuse_them():
    data = read("a: [.inf, -.inf, .nan]\n")
    assert data["a"][:2] == [math.inf, -math.inf] and math.isnan(data["a"][2])


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=8)
    | st.sampled_from(["1e3", "010", "1:30", "no", "yes", "~", "", "<<", "0x1F", "1_0", "2026-1-1"])
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.sampled_from("abc1no~ "), max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(data=st.lists(plain, min_size=1, max_size=3))
def test_what_is_written_as_yaml_is_read_back(data):
    assert read(yaml_text(data)) == data


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    number=st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False),
    form=st.sampled_from(["{}", "{:e}", "{:g}", "{:.3f}", "{:E}"]),
)
def test_numbers_are_read_as_python_reads_them(number, form):
    text = form.format(number)
    value = read(f"a: {text}\n")["a"]
    assert isinstance(value, int | float)
    assert value == float(text)


# ---- CSV -----------------------------------------------------------------------------------------

GOOD = "start_s,rate_rps,source\n0,1.5,here\n60,2,there\n"
POINTS = [
    RatePoint(start_s=0, rate_rps=1.5, source="here"),
    RatePoint(start_s=60, rate_rps=2, source="there"),
]


def rates(text: str) -> tuple[list[RatePoint], list[str]]:
    faults: list[Fault] = []
    rows = parse_csv(text, "a.csv", RatePoint, faults)
    assert all(fault.file == "a.csv" and fault.fix for fault in faults)
    return list(rows), [f"{fault.field}: {fault.what}" for fault in faults]


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\r"),
        GOOD.rstrip("\n"),
        GOOD.replace("\n", "\n\n") + "\n\n",
        GOOD.replace("\n", "\n,,\n"),
        GOOD.replace(",", " , "),
        "rate_rps,source,start_s\n1.5,here,0\n2,there,60\n",
        GOOD.replace("1.5", '"1.5"').replace("here", '"here"', 1),
        GOOD.replace("1.5", "+1.5").replace("2,", "2.0e0,").replace("60", "6e1"),
    ],
    ids=["plain", "crlf", "cr", "no end", "blank", "commas", "spaces", "order", "quotes", "forms"],
)
def test_csv_in_any_dress_is_the_same(text):
    assert rates(text) == (POINTS, [])


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    faults: list[Fault] = []
    rows, raw = read_csv(tmp_path / "a.csv", RatePoint, faults)
    assert (list(rows), faults) == (POINTS, [])
    assert raw == raw_rows(GOOD)


def test_a_quoted_cell_may_hold_commas_quotes_and_lines():
    rows, said = rates('start_s,rate_rps,source\n0,1,"a, ""b""\nc"\n')
    assert said == []
    assert rows[0].source == 'a, "b"\nc'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": file is empty"),
        (",,\n", ": file is empty"),
        ("start_s,rate_rps\n", ": has a header but no rows"),
        ("start_s\n1\n", "rate_rps: column is missing"),
        ("start_s,rate_rps,x\n0,1,2\n", "x: unknown column, got 'x'"),
        ("start_s,start_s,rate_rps\n0,1,2\n", "start_s: column given twice"),
        ("start_s,rate_rps\n0,1\n2\n", "line 3: must have 2 cells, got 1"),
        ("start_s,rate_rps\n\n\n0,1,2\n", "line 4: must have 2 cells, got 3"),
        ("start_s,rate_rps\n0,\n", "line 2.rate_rps: is missing"),
        ("start_s,rate_rps\n0,nan\n", "line 2.rate_rps: must be a finite number, got nan"),
        ("start_s,rate_rps\n0,inf\n", "line 2.rate_rps: must be a finite number, got inf"),
        ("start_s,rate_rps\n0,true\n", "line 2.rate_rps: must be a number, got 'true'"),
        ("start_s,rate_rps\n0,1e999\n", "line 2.rate_rps: must be a finite number, got inf"),
        ("start_s,rate_rps\n0,1_0\n", "line 2.rate_rps: must be a number, got '1_0'"),
        ("start_s,rate_rps\n0,٣\n", "line 2.rate_rps: must be a number, got '٣'"),
        ('start_s,rate_rps\n0,"1\n', ": is not valid CSV: unexpected end of data"),
        (f"start_s,rate_rps\n0,{'1' * 200_000}\n", ": is not valid CSV: field larger than"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_a_faulty_csv_names_its_line(text, said):
    assert any(line.startswith(said) for line in rates(text)[1]), rates(text)[1]


def test_rows_that_are_right_are_read_beside_those_that_are_not():
    rows, said = rates(GOOD + "x,1,\n120,3,\n")
    assert [row.start_s for row in rows] == [0, 60, 120]
    assert said == ["line 4.start_s: must be a number, got 'x'"]


def test_a_million_bad_rows_are_one_problem():
    _, said = rates("start_s,rate_rps\n" + "x,1\n" * 3_000)
    assert len(said) == MAX_FAULTS_PER_FILE + 1
    assert said[-1] == f": and {3_000 - MAX_FAULTS_PER_FILE} more faults of this kind"


TABLES = {
    RatePoint: ({"start_s": "0", "rate_rps": "1"}, set()),
    TraceRow: ({"timestamp_s": "0"}, {"class"}),
    CapacityPoint: (
        {"input_tokens": "1", "output_tokens": "1", "max_rps": "1", "source": "7"},
        {"source", "origin"},
    ),
    Point: (
        {"input_tokens": "1", "output_tokens": "1", "mode": "batch", "source": "7"},
        {"mode", "estimated", "source", "origin"},
    ),
    ClassScore: (
        {
            "class": "7",
            "model_name": "8",
            "n_prompts": "3",
            "score": "1",
            "input_tokens_mean": "1",
            "output_tokens_mean": "1",
            "source": "9",
        },
        {"class", "model_name", "source", "origin"},
    ),
}


@pytest.mark.parametrize("spec", TABLES, ids=lambda spec: spec.__name__)
def test_numbers_are_read_in_every_column_of_numbers_and_nowhere_else(spec):
    """Also in optional ones; a name that looks like a number stays a name."""
    needed, words = TABLES[spec]
    for column in [field.alias or name for name, field in spec.model_fields.items()]:
        if column in words - {"source", "class"} or (column == "source" and spec is RatePoint):
            continue
        row = {**needed, column: "1"}
        faults: list[Fault] = []
        text = ",".join(row) + "\n" + ",".join(row.values()) + "\n"
        (entry,) = parse_csv(text, "a.csv", spec, faults)
        attribute = {"class": "class_name"}.get(column, column)
        assert faults == []
        assert getattr(entry, attribute) == ("1" if column in words else 1), column


def test_a_blank_cell_is_not_measured():
    text = "input_tokens,output_tokens,mode,concurrency,itl_mean_ms,source\n1,1,closed,2,,x\n"
    (point,) = parse_csv(text, "a.csv", Point, [])
    assert point.itl_mean_ms is None
    assert point.concurrency == 2


def test_a_further_check_names_the_line_of_the_file_not_the_row_of_the_table():
    faults: list[Fault] = []
    text = "start_s,rate_rps\n\nx,1\n5,7\n"
    parse_csv(text, "a.csv", RatePoint, faults, lambda row: [("rate_rps", "is 7", "change it")])
    assert [fault.field for fault in faults] == ["line 3.start_s", "line 4.rate_rps"]


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"a\xff", "is not UTF-8 text, got byte 0xff at 1"),
        (b"a\x00", "is not text, got a NUL byte at 1"),
        (b"x" * 11, "file is too large, got 11 bytes, at most 10 are read"),
    ],
)
def test_a_file_that_is_no_text_is_a_fault(tmp_path, data, what):
    (tmp_path / "a").write_bytes(data)
    faults: list[Fault] = []
    assert read_text(tmp_path / "a", 10, faults) is None
    assert [fault.what for fault in faults] == [what]


@pytest.mark.parametrize("name", ["nothing", "x" * 5_000, "folder", "loop"])
def test_a_path_that_leads_nowhere_is_a_fault(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    faults: list[Fault] = []
    assert read_text(tmp_path / name, 10, faults) is None
    assert read_yaml(tmp_path / name, faults) is None
    assert len(faults) == 2 and all(fault.fix for fault in faults)
