"""Files of AIBrix's GPU optimizer: some published rows and cells, and a made streamed run."""

import json
import math
from pathlib import Path

import pytest
from mutants import altered, damaged, readings

from planner.errors import InputError
from planner.profile.formats.aibrix import parse, recognises
from planner.spec.pool import CapacityPoint

FOLDER = Path(__file__).parent.parent / "fixtures" / "aibrix"
ROWS, TABLE = "simulator-llama2-7b-a100.jsonl", "simulator-llama2-7b-a100.json"
STREAMED = "tiny-streamed.jsonl"
TEXTS = {name: (FOLDER / name).read_text(encoding="utf-8") for name in (ROWS, TABLE, STREAMED)}
CELLS = json.loads(TEXTS[TABLE])


def rows_of(name: str) -> list[dict]:
    return [json.loads(line) for line in TEXTS[name].splitlines()]


def reading(name: str, text: str | None = None):
    return parse({name: TEXTS[name] if text is None else text})[0]


def lines(rows: list[dict]) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def test_published_rows_against_their_raw_numbers():
    found = reading(ROWS)
    rows = rows_of(ROWS)
    assert len(found.points) == len(rows) / 5 == 3
    for place, point in enumerate(found.points):
        run = {row["metric"]: row for row in rows[5 * place : 5 * place + 5]}
        asked = run["TPUT"]
        assert (point.input_tokens, point.output_tokens, point.offered_rps) == (
            asked["input_tokens"],
            asked["output_tokens"],
            asked["request_rate"],
        )
        assert point.achieved_rps == asked["mean"]
        assert point.output_tokens_per_s == run["TT"]["mean"]
        for statistic, key in {"mean": "mean", "p50": "P50", "p90": "P90", "p99": "P99"}.items():
            got = getattr(point, f"e2e_{statistic}_ms")
            assert got == pytest.approx(1e3 * run["E2E"][key], rel=1e-12)
        assert point.e2e_p95_ms is None
        assert (point.mode, point.n_requests, point.n_failed) == ("open", 100, None)
        assert (point.origin, point.source) == ("simulated", ROWS)
    assert found.model_id == "llama2-7b"
    said = " ".join(found.notes)
    assert "not from a GPU" in said
    assert "1 of 3 runs answered less than 0.9" in said


def test_rows_without_streaming_have_no_time_of_a_first_token():
    found = reading(ROWS)
    assert all(row["mean"] == 0 for row in rows_of(ROWS) if row["metric"] == "TPOT")
    names = [f"{m}_{s}_ms" for m in ("ttft", "tpot", "itl") for s in ("mean", "p50", "p90", "p99")]
    assert [n for p in found.points for n in names if getattr(p, n) is not None] == []
    assert "3 of 3 runs were not streamed" in " ".join(found.notes)


def test_their_tpot_pools_gaps_so_it_is_our_itl():
    found = reading(STREAMED)
    point = found.points[0]
    run = {row["metric"]: row for row in rows_of(STREAMED)}
    for metric, key in {"itl": "TPOT", "ttft": "TTFT", "e2e": "E2E"}.items():
        for statistic, their in {"mean": "mean", "p50": "P50", "p99": "P99"}.items():
            got = getattr(point, f"{metric}_{statistic}_ms")
            assert got == pytest.approx(1e3 * run[key][their])
    assert (point.tpot_mean_ms, point.tpot_p99_ms) == (None, None)
    assert point.origin == "measured"
    assert "kept as itl, not as tpot" in " ".join(found.notes)


def test_table_is_capacity_only_with_zeros_left_out():
    found = reading(TABLE)
    assert found.points == []
    outputs, inputs = CELLS["indexes"]
    expected = {
        (inputs[column], outputs[row]): rate
        for row, rates in enumerate(CELLS["tputs"])
        for column, rate in enumerate(rates)
        if rate > 0
    }
    assert 0 < len(expected) < len(outputs) * len(inputs)
    assert {(c.input_tokens, c.output_tokens): c.max_rps for c in found.capacity} == expected
    assert {c.origin for c in found.capacity} == {"simulated"}
    said = " ".join(found.notes)
    assert found.gpu is None and f"the deployment {CELLS['gpu']}" in said
    assert f"{6 - len(expected)} lengths met the SLOs at no rate" in said
    assert "e2e 5.0, percentile 99" in said


def test_infinite_rate_is_a_batch():
    rows = [{**row, "request_rate": math.inf} for row in rows_of(STREAMED)]
    point = reading(STREAMED, lines(rows)).points[0]
    assert (point.mode, point.concurrency, point.offered_rps) == ("batch", 5, None)


def test_load_measured_twice_is_two_points():
    found = reading(STREAMED, TEXTS[STREAMED] + TEXTS[STREAMED])
    assert len(found.points) == 2


def test_all_files_are_recognised_and_no_other():
    for name, text in TEXTS.items():
        assert recognises(name, text)
    for text in ("", "[]", "{}", '{"metric": "TPUT"}', '{"tputs": []}', TEXTS[ROWS][:40], "x"):
        assert not recognises("a.json", text)


ROW_FAULTS = [
    ({"mean": math.nan}, "row 3.mean", "nan"),
    ({"mean": -1}, "row 3.mean", "-1"),
    ({"P99": 1e-9}, "row 3.P99", "1e-06 ms"),
    ({"metric": "RPS"}, "row 3.metric", "'RPS'"),
]


@pytest.mark.parametrize(("change", "field", "got"), ROW_FAULTS)
def test_faulty_rows_name_row_field_and_value(change, field, got):
    rows = rows_of(STREAMED)
    rows[2] |= change
    with pytest.raises(InputError) as error:
        reading(STREAMED, lines(rows))
    assert [(f.file, f.field) for f in error.value.faults] == [(STREAMED, field)]
    assert got in error.value.faults[0].what


def test_rows_of_two_models_are_refused():
    other = [{**row, "model": "other"} for row in rows_of(STREAMED)]
    with pytest.raises(InputError, match="one model, got other, tiny"):
        reading(STREAMED, TEXTS[STREAMED] + lines(other))


TABLE_FAULTS = [
    ({"indexes": [[1, 2, 3]]}, "indexes", "got 1"),
    ({"indexes": [[1, 2, 3], 4]}, "indexes[1]", "got 4"),
    ({"indexes": [[1, 3, 2], [1, 2]]}, "indexes[0]", "do not"),
    ({"tputs": [[1, 2]]}, "tputs", "got 1 rows"),
    ({"tputs": [[1], [1, 2], [1, 2]]}, "tputs[0]", "1 entries"),
    ({"tputs": [[1, "x"], [1, 2], [1, 2]]}, "tputs[0][1]", "'x'"),
    ({"tputs": [[0, 0]] * 3}, "tputs", "only zeros"),
]


@pytest.mark.parametrize(("change", "field", "got"), TABLE_FAULTS)
def test_faulty_tables_name_field_and_value(change, field, got):
    with pytest.raises(InputError) as error:
        reading(TABLE, json.dumps({**CELLS, **change}))
    named = [fault for fault in error.value.faults if fault.field == field]
    assert named
    assert got in named[0].what


def test_damaged_files_are_refused_by_name_or_read():
    cases = [
        (ROWS, damaged(TEXTS[ROWS], 60)),
        (TABLE, [*damaged(TEXTS[TABLE], 60), *altered(CELLS, 60)]),
    ]
    for name, texts in cases:
        for text, found in readings(parse, {}, name, texts):
            recognises(name, text)
            assert not found[0].points  # these files hold what a pool carries, no latency
            assert all(isinstance(point, CapacityPoint) for point in found[0].capacity)


def test_altered_rows_that_are_read_are_read_rightly():
    n_read = 0
    row = rows_of(ROWS)[2]
    for text, found in readings(parse, {}, "a.jsonl", altered(row, 80)):
        raw, point = json.loads(text), found[0].points[0]
        assert point.input_tokens == raw["input_tokens"]
        if raw.get("metric") == "E2E":
            expected = pytest.approx(1e3 * raw["P90"]) if raw.get("P90") else None
            assert point.e2e_p90_ms == expected
        n_read += 1
    assert 0 < n_read < 80
