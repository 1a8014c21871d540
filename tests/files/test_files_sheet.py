"""serving.json: what is written is read back, and what cannot be is refused with every fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.errors import Fault
from planner.files.sheets import SHEET_FILE, read_sheet, sheet_text, write_sheet
from planner.spec.sheet import ServingSheet

POOL: dict[str, Any] = {
    "model_name": "small",
    "n_replicas": 2,
    "usd_per_h": 2.5,
    "max_num_seqs": 4,
    "max_num_batched_tokens": 8192,
    "steps": {"n": [0, 1, 4], "decode_ms": [5.0, 6.0, 9.0], "context_token_ms": [0.0, 0.0, 0.0]},
    "low_ratio": 0.9,
    "high_ratio": 1.1,
    "utilisation_ratio": 0.5,
    "max_load_ratio": 0.97,
    "rate_rps": 3.0,
}
ANSWER = {
    "input_tokens": 100.0,
    "output_tokens": 50.0,
    "quality": 0.8,
    "work_s": 0.3,
    "work_s_per_input_token": 0.001,
    "work_s_per_output_token": 0.004,
}
SHEET: dict[str, Any] = {
    "plan_hash": "0" * 64,
    "title": "made for a test",
    "headroom_ratio": 0.1,
    "arrivals": "poisson",
    "arrival_cv": 1.0,
    "quality": 0.8,
    "limits": [],
    "latency": [],
    "delay_price_per_s": 0.0,
    "pools": {"one": POOL},
    "classes": {
        "chat": {
            "rate_rps": 3.0,
            "mean_rate_rps": 3.0,
            "priority": 1,
            "input_tokens": 100.0,
            "cached_input_ratio": 0.0,
            "limits": [{"metric": "e2e", "statistic": "p95", "at_most_ms": 9000.0}],
            "quality": 0.8,
            "latency": [],
            "answers": {"one": ANSWER},
        }
    },
}


def read(folder: Path, data: object) -> tuple[ServingSheet | None, list[Fault]]:
    (folder / SHEET_FILE).write_text(json.dumps(data))
    faults: list[Fault] = []
    return read_sheet(folder, faults), faults


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    sheet = ServingSheet.model_validate(SHEET)
    assert write_sheet(tmp_path, sheet) == tmp_path / "serving.json"
    faults: list[Fault] = []
    assert read_sheet(tmp_path, faults) == sheet
    assert faults == []
    assert (tmp_path / SHEET_FILE).read_text() == sheet_text(sheet)
    assert "null" not in sheet_text(sheet)
    assert not sheet.rate_varies


def test_that_of_the_demo_is_read_back(tmp_path: Path, demo_sheet: ServingSheet) -> None:
    write_sheet(tmp_path, demo_sheet)
    faults: list[Fault] = []
    assert (read_sheet(tmp_path, faults), faults) == (demo_sheet, [])


def test_a_missing_one_says_how_to_make_it(tmp_path: Path) -> None:
    faults: list[Fault] = []
    assert read_sheet(tmp_path, faults) is None
    assert [(f.what, f.fix) for f in faults] == [("file not found", "make one with: rb plan DIR")]


def with_pool(**changes: Any) -> dict[str, Any]:
    pool = {key: value for key, value in {**POOL, **changes}.items() if value is not None}
    return {**SHEET, "pools": {"one": pool}}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (with_pool(steps={**POOL["steps"], "n": [1, 2, 4]}), "ascends from 0"),
        (with_pool(steps={**POOL["steps"], "n": [0, 4, 4]}), "ascends from 0"),
        (with_pool(steps={**POOL["steps"], "decode_ms": [5.0, 6.0]}), "one entry per knot"),
        (with_pool(max_num_seqs=8), "steps end at max_num_seqs 8"),
        (with_pool(steps=None), "come together"),
        ({**SHEET, "pools": {"other": POOL}}, "answers of pools that are not in pools: one"),
        ({**SHEET, "pools": {}}, "at least 1"),
        ({**SHEET, "plan_hash": "x"}, "has the wrong form"),
        ({**SHEET, "more": 1}, "unknown"),
    ],
)
def test_what_contradicts_itself_is_refused(
    tmp_path: Path, data: dict[str, Any], what: str
) -> None:
    sheet, faults = read(tmp_path, data)
    assert sheet is None
    assert any(what in fault.what for fault in faults), faults
    assert all(fault.file.endswith(SHEET_FILE) for fault in faults)


def test_a_rate_varies_by_schedule_or_period(tmp_path: Path) -> None:
    for changes in ({"arrivals": "schedule"}, {"arrivals": "trace"}, {"period": "day"}):
        sheet, _ = read(tmp_path, {**SHEET, **changes})
        assert sheet is not None and sheet.rate_varies
