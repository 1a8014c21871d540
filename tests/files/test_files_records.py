"""Records out: CSV and parquet hold what was simulated, whole or not at all."""

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from made_runs import records

from planner.errors import InputError, MissingExtra
from planner.files import records as records_file
from planner.files.records import check_out, write_records
from planner.simulate.records import Outcome, columns


def tables(n: int = 3):
    run = records(
        np.arange(n) / 4,
        0.2,
        class_index=np.arange(n) % 2,
        output_tokens=1 + np.arange(n),
        outcome=np.where(np.arange(n) == 1, Outcome.FAILED, Outcome.OK),
    )
    return [columns(run, 0), columns(run, 1)]


def test_csv_holds_every_row_with_blanks_for_what_never_came(tmp_path):
    write_records(tmp_path / "r.csv", tables())
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0"] * 3 + ["1"] * 3
    assert rows[0] == {
        "seed": "0",
        "class": "chat",
        "pool": "small",
        "replica": "0",
        "arrived_ms": "0.000",
        "first_token_ms": "200.000",
        "done_ms": "200.000",
        "ttft_ms": "200.000",
        "tpot_ms": "",
        "e2e_ms": "200.000",
        "input_tokens": "100",
        "output_tokens": "1",
        "n_preempted": "0",
        "outcome": "ok",
    }
    assert (rows[1]["outcome"], rows[1]["done_ms"], rows[1]["e2e_ms"]) == ("failed", "", "")
    assert (rows[2]["tpot_ms"], rows[2]["e2e_ms"]) == ("10.000", "220.000")


def test_csv_in_many_parts_is_the_csv_in_one(tmp_path, monkeypatch):
    write_records(tmp_path / "one.csv", tables(17))
    monkeypatch.setattr(records_file, "_ROWS_PER_PART", 5)
    write_records(tmp_path / "many.csv", tables(17))
    assert (tmp_path / "many.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert (tmp_path / "one.csv").read_text().count("\n") == 35


def test_runs_without_requests_are_a_header(tmp_path):
    write_records(tmp_path / "r.csv", tables(0))
    assert (tmp_path / "r.csv").read_text().splitlines() == [",".join(tables(0)[0])]


def test_an_interrupt_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("old\n")

    def broken():
        yield tables()[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(path, broken())
    assert path.read_text() == "old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["r.csv"]


@pytest.mark.parametrize("name", ["r", "r.txt", "r.csv.gz", "r.CSV"])
def test_a_name_of_no_known_kind_is_refused(tmp_path, name):
    with pytest.raises(InputError, match=r"must end in \.csv or \.parquet, got r"):
        check_out(tmp_path / name)


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "r.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_out(tmp_path / "r.csv")


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_run(tmp_path, monkeypatch):
    (tmp_path / "notes").write_text("no folder", encoding="utf-8")
    with pytest.raises(InputError, match="notes is no folder that you may write to"):
        check_out(tmp_path / "notes" / "deep" / "r.csv")
    check_out(tmp_path / "new" / "deep" / "r.csv")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(InputError, match="is no folder that you may write to"):
        check_out(tmp_path / "r.csv")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(records_file, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"rb-planner\[parquet\]"):
        write_records(tmp_path / "r.parquet", tables())
    assert list(tmp_path.iterdir()) == []


def test_parquet_holds_what_the_csv_holds(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_records(tmp_path / "r.parquet", tables(50))
    found = parquet.read_table(tmp_path / "r.parquet").to_pydict()
    assert list(found) == list(tables()[0])
    for name, column in found.items():
        expected = [v for table in tables(50) for v in table[name].tolist()]
        blank = [isinstance(v, float) and np.isnan(v) for v in expected]
        assert [v is None for v in column] == blank
        assert [v for v in column if v is not None] == [
            v for v, is_blank in zip(expected, blank, strict=True) if not is_blank
        ]


def test_nothing_of_parquet_is_loaded_for_a_csv(tmp_path):
    before = "pyarrow" in sys.modules
    write_records(tmp_path / "r.csv", tables())
    assert ("pyarrow" in sys.modules) == before
