"""points.csv: what is written is read back, and every faulty cell is named."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.errors import InputError
from planner.profile.fields import Reading
from planner.profile.formats import own_csv
from planner.profile.formats.own_csv import COLUMNS, render, render_capacity
from planner.spec.pool import CapacityPoint, Point

HEADER = "input_tokens,output_tokens,mode,concurrency,offered_rps,ttft_p50_ms,n_requests,source"
GOOD = "100,200,closed,4,,12.5,30,by hand"
POSITIVE = st.floats(min_value=1e-12, max_value=1e15, exclude_min=True)
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\x00\ufeff")
TEXT = st.text(CHARACTERS, max_size=20).map(str.strip).filter(bool)  # cells are stripped
LATENCIES = [name for name in COLUMNS if name.endswith("_ms")]


def parse(name: str, text: str) -> Reading:
    return own_csv.parse({name: text})[0]


@st.composite
def points(draw) -> Point:
    mode = draw(st.sampled_from(["open", "closed", "batch"]))
    load = {"offered_rps" if mode == "open" else "concurrency": draw(POSITIVE)}
    optional = {
        name: draw(st.none() | POSITIVE)
        for name in ["achieved_rps", "output_tokens_per_s", "duration_s", *LATENCIES]
    }
    return Point(
        input_tokens=draw(POSITIVE),
        output_tokens=draw(POSITIVE),
        mode=mode,
        n_requests=draw(st.none() | st.integers(1, 10**15)),
        n_failed=draw(st.none() | st.integers(0, 10**9)),
        estimated=draw(st.sampled_from(["", "input_tokens"])),
        origin=draw(st.sampled_from(["measured", "simulated", "estimated", "assumed"])),
        source=draw(TEXT),
        **load,
        **optional,
    )


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(points(), min_size=1, max_size=4))
def test_what_is_rendered_is_read_back(written):
    assert parse("points.csv", render(written)).points == written


@pytest.mark.parametrize("source", ["a,b", 'say "a"', "a\rb", "a\nb", "a\r\nb", '"'])
def test_sources_that_look_like_csv_are_read_back(source):
    point = Point(input_tokens=3, output_tokens=4, mode="closed", concurrency=8, source=source)
    assert parse("points.csv", render([point, point])).points == [point, point]


def test_whole_numbers_are_written_without_a_fraction():
    point = Point(input_tokens=300, output_tokens=388.68, mode="closed", concurrency=8, source="s")
    assert render([point]).splitlines()[1].startswith("300,388.68,closed,8,,,")


def test_columns_in_any_order_blank_lines_and_byte_order_mark():
    text = '\ufeffsource,mode,offered_rps,output_tokens,input_tokens\r\n\r\n"a, b",open,2,20,10\r\n'
    point = parse("points.csv", text).points[0]
    assert (point.source, point.offered_rps, point.input_tokens) == ("a, b", 2, 10)
    assert point.ttft_mean_ms is None


def test_order_of_rows_is_kept_and_notes_are_empty():
    rows = [GOOD.replace(",4,", f",{n},") for n in (9, 2, 9)]
    reading = parse("points.csv", "\n".join([HEADER, *rows]))
    assert [point.concurrency for point in reading.points] == [9, 2, 9]
    assert reading.notes == []


def test_a_capacity_file_is_read_back():
    rows = (
        CapacityPoint(input_tokens=100, output_tokens=40.5, max_rps=3.25, source="a, b"),
        CapacityPoint(
            input_tokens=7, output_tokens=9, max_rps=1e-3, origin="estimated", source="s"
        ),
    )
    reading = parse("capacity.csv", render_capacity(rows))
    assert (reading.points, reading.capacity) == ([], rows)


@pytest.mark.parametrize(
    ("header", "ours"),
    [
        (HEADER, True),
        ("\ufeff" + HEADER, True),
        ("max_rps, output_tokens,input_tokens,source", True),
        ("input_tokens,output_tokens,ttft_p50_ms", True),  # the mode is lost, and will be asked for
        ("timestamp_s,class,input_tokens,output_tokens", False),  # a trace
        ("input_tokens,output_tokens,source", False),
        ("mode,concurrency", False),
        ("", False),
    ],
)
def test_a_header_tells_whose_file_it_is(header, ours):
    assert own_csv.recognises("a.csv", header + "\n1,2\n") is ours


def test_a_load_that_is_missing_is_named_by_its_line():
    rows = [GOOD, "", "100,200,closed,,,12.5,30,s", GOOD, "100,200,open,4,,12.5,30,s"]
    with pytest.raises(InputError) as error:
        parse("points.csv", "\n".join([HEADER, *rows]))
    assert [fault.field for fault in error.value.faults] == [
        "line 4.concurrency",
        "line 6.offered_rps",
    ]


def test_faults_of_all_files_come_together():
    files = {"a.csv": HEADER, "b.csv": f"{HEADER}\n{GOOD}", "c.csv": HEADER + "\n1,x,closed"}
    with pytest.raises(InputError) as error:
        own_csv.parse(files)
    assert [fault.file for fault in error.value.faults] == ["a.csv", "c.csv"]


CELLS = [
    ("negative", "-100,200,closed,4,,12.5,30,s", "line 2.input_tokens", "-100"),
    ("zero", "100,0,closed,4,,12.5,30,s", "line 2.output_tokens", "got 0"),
    ("word", "100,many,closed,4,,12.5,30,s", "line 2.output_tokens", "'many'"),
    ("NaN", "100,200,closed,4,,nan,30,s", "line 2.ttft_p50_ms", "got nan"),
    ("infinite", "100,200,closed,4,,inf,30,s", "line 2.ttft_p50_ms", "got inf"),
    ("overflow", "100,200,closed,4,,1e999,30,s", "line 2.ttft_p50_ms", "inf"),
    ("huge", "100,200,closed,4,,1e300,30,s", "line 2.ttft_p50_ms", "1e+300"),
    ("half a request", "100,200,closed,4,,12.5,3.5,s", "line 2.n_requests", "got 3.5"),
    ("unknown mode", "100,200,shut,4,,12.5,30,s", "line 2.mode", "'shut'"),
    ("no source", "100,200,closed,4,,12.5,30,", "line 2.source", "is missing"),
    ("no concurrency", "100,200,closed,,,12.5,30,s", "line 2.concurrency", "nothing"),
    ("no offered rate", "100,200,open,4,,12.5,30,s", "line 2.offered_rps", "nothing"),
    ("short row", "100,200,closed", "line 2", "got 3"),
    ("long row", GOOD + ",7", "line 2", "got 9"),
]


@pytest.mark.parametrize(("row", "field", "got"), [c[1:] for c in CELLS], ids=[c[0] for c in CELLS])
def test_faulty_cell_names_row_column_and_value(row, field, got):
    with pytest.raises(InputError) as error:
        parse("points.csv", f"{HEADER}\n{row}\n")
    assert [(fault.file, fault.field) for fault in error.value.faults] == [("points.csv", field)]
    assert got in error.value.faults[0].what
    assert error.value.faults[0].fix


TEXTS = [
    ("empty", "", "content"),
    ("binary", HEADER + "\n\x00", "content"),
    ("header only", HEADER + "\n", ""),
    ("unknown column", HEADER + ",speed\n", "speed"),
    ("doubled column", HEADER + ",source\n", "source"),
    ("missing column", HEADER.replace("mode,", "") + "\n", "mode"),
    ("open quote", HEADER + '\n100,200,closed,4,,12.5,30,"s', ""),
    ("endless cell", HEADER + "\n" + "9" * 200_000 + GOOD, ""),
]


@pytest.mark.parametrize(("text", "field"), [t[1:] for t in TEXTS], ids=[t[0] for t in TEXTS])
def test_faulty_file_names_the_place(text, field):
    with pytest.raises(InputError) as error:
        parse("points.csv", text)
    assert [(fault.file, fault.field) for fault in error.value.faults] == [("points.csv", field)]


def test_faults_of_all_rows_come_together():
    bad = "100,x,closed,4,,y,30,s"
    with pytest.raises(InputError) as error:
        parse("points.csv", "\n".join([HEADER, bad, GOOD, bad]))
    assert [fault.field for fault in error.value.faults] == [
        "line 2.output_tokens",
        "line 2.ttft_p50_ms",
        "line 4.output_tokens",
        "line 4.ttft_p50_ms",
    ]
