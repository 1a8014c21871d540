"""What an import understood, as text and as data."""

from __future__ import annotations

import io
import json

import pytest

from planner.profile.fields import Reading
from planner.profile.importer import Imported, PoolImport
from planner.profile.runs import Run
from planner.profile.sidecar import Fact
from planner.report.console import make_console
from planner.report.imported import grouped, imported_data, left_out, render_imported
from planner.spec.pool import CapacityPoint, Point, Pool


def closed(concurrency: float) -> Point:
    return Point(
        input_tokens=100,
        output_tokens=50,
        mode="closed",
        concurrency=concurrency,
        ttft_mean_ms=12.5,
        source="a.json",
    )


def run(name: str, *loads: float, more: tuple[str, ...] = ()) -> Run:
    return Run((name, *more), "Some tool", Reading([closed(load) for load in loads], []))


FACTS = (
    Fact("name", "mine", "--pool"),
    Fact("tensor_parallel", 1, "assumed"),
    Fact("data_parallel", 1, "x/rb-pool.yaml"),
    Fact("gpu", "h100", "files (NVIDIA H100)"),
)


def imported(*runs: Run, capacity: tuple[CapacityPoint, ...] = (), notes=()) -> Imported:
    points = tuple(point for each in runs for point in each.reading.points)
    pool = Pool(name="mine", model_name="m", gpu="h100", source="s")
    made = PoolImport(pool, FACTS, runs, points, capacity, tuple(notes))
    return Imported((made,), ("x/other.json",), ("of all",))


def text_of(what: Imported, width: int = 80) -> str:
    stream = io.StringIO()
    render_imported(what, make_console(stream, width))
    return stream.getvalue()


def test_each_fact_with_who_says_it() -> None:
    rows = [row.split() for row in text_of(imported(run("a.json", 8))).splitlines()]
    assert rows[0] == ["mine"]
    assert ["GPU", "h100", "files", "(NVIDIA", "H100)"] in rows
    assert ["tensor", "parallel", "1", "assumed"] in rows
    assert not any(row[:2] == ["data", "parallel"] for row in rows)


def test_runs_with_their_loads_and_the_tool_named_once() -> None:
    runs = [run("x/y/a.json", 1, 2), run("b.json", *range(1, 10), more=("c.csv",))]
    text = text_of(imported(*runs))
    assert "Understood (2 runs)" in text
    assert text.count("Some tool") == 1
    rows = [" ".join(row.split()) for row in text.splitlines()]
    assert "y/a.json 1, 2 in flight" in rows
    assert "b.json + 1 1 to 9 in flight (9 points)" in rows


def test_open_batch_and_doubled_runs() -> None:
    both = [
        closed(4).model_copy(update={"mode": "batch"}),
        closed(4).model_copy(update={"mode": "open", "concurrency": None, "offered_rps": 2.5}),
    ]
    text = text_of(imported(Run(("a",), "T", Reading(both, [])), run("b.json")))
    assert "4 at once; 2.5 requests/s" in text
    assert "all met in another file" in text


def test_capacity_has_a_table_of_its_own() -> None:
    entry = CapacityPoint(input_tokens=100, output_tokens=200, max_rps=3.5, source="bench")
    only = Run(("c.csv",), "T", Reading([], [], capacity=(entry,)))
    text = text_of(imported(only, capacity=(entry,)))
    assert "capacity only" in text and "1 request shape" in text
    assert ["100", "200", "3.5", "bench"] in [row.split() for row in text.splitlines()]


def test_points_have_a_table_per_way_of_loading_with_what_was_measured() -> None:
    batch = closed(4).model_copy(update={"mode": "batch", "ttft_mean_ms": None, "ttft_p50_ms": 9.0})
    late = closed(4).model_copy(
        update={"mode": "open", "concurrency": None, "offered_rps": 12, "achieved_rps": 6.25}
    )
    text = text_of(imported(run("a.json", 1, 2), Run(("b",), "T", Reading([batch, late], []))))
    rows = [row.split() for row in text.splitlines()]
    assert "Closed loop, 2 load levels of one replica (latencies in ms)" in text
    assert ["1", "100", "50", "12.5"] in rows and ["2", "100", "50", "12.5"] in rows
    assert "Batch, 1 load level" in text and ["4", "100", "50", "9.0"] in rows
    assert "Open loop, 1 load level" in text and ["12", "100", "50", "6.25", "12.5"] in rows
    assert rows.count(["flight", "in", "out", "mean"]) == 1 and text.count("p50") == 1


def test_many_points_are_not_all_shown() -> None:
    text = text_of(imported(run("a.json", *range(1, 41))))
    assert "10 more are in points.csv" in text and len(text.splitlines()) < 50
    few = text_of(imported(run("a.json", *range(1, 31))))
    assert "more are in points.csv" not in few


@pytest.mark.parametrize("width", [60, 80, 140])
def test_it_fits_and_nothing_is_cut(width: int) -> None:
    long = run("results/of/a/very-long-folder-name-of-july/a-very-long-file-name-of-a-run.json", 8)
    text = text_of(imported(long, notes=["a.json: " + "word " * 40]), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_remarks_that_say_the_same_are_one() -> None:
    notes = ["a: slow: by 2", "b: slow: by 2", "c: fast", "plain", "plain"]
    assert grouped(notes) == ["a and 1 more: slow: by 2", "c: fast", "plain"]
    assert grouped([]) == []
    notes = [
        "a: 3 of 9 failed",
        "b: 4 of 9 failed",
        "c: on a100",
        "d: on a40",
        "plain 1",
        "plain 2",
    ]
    assert grouped(notes) == [
        "a and 1 more with other figures: 3 of 9 failed",
        "c: on a100",
        "d: on a40",
        "plain 1",
        "plain 2",
    ]


def test_files_that_are_no_results_are_listed_in_short() -> None:
    assert left_out([]) is None
    assert left_out(["a", "b"]) == "left out, not a result file: a, b"
    assert (left_out([*"abcdefgh"]) or "").endswith("a, b, c, d, e and 3 more")


def test_data_has_it_all() -> None:
    data = imported_data(imported(run("x/a.json", 1, 2), notes=["n"]), [["p/points.csv"]])
    assert data == json.loads(json.dumps(data))
    (pool,) = data["pools"]
    assert (pool["pool"]["name"], pool["written"]) == ("mine", ["p/points.csv"])
    assert (data["left_out"], data["notes"], pool["notes"]) == (["x/other.json"], ["of all"], ["n"])
    assert pool["runs"][0]["files"] == ["x/a.json"] and pool["runs"][0]["n_points"] == 2
    assert [point["concurrency"] for point in pool["points"]] == [1, 2]
    assert pool["facts"][1] == {"key": "tensor_parallel", "value": 1, "said_by": "assumed"}
