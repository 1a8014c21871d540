"""Results and profiles of the simulator Vidur, made up to their shape."""

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from mutants import altered, damaged, readings

from planner.errors import InputError
from planner.profile.formats.vidur import parse, recognises
from planner.spec.pool import Point

FOLDER = Path(__file__).parent.parent / "fixtures" / "vidur"
TABLE, CONFIG = "request_metrics.csv", "config.json"
TEXTS = {name: (FOLDER / name).read_text(encoding="utf-8") for name in (TABLE, CONFIG)}
ROWS = list(csv.DictReader(io.StringIO(TEXTS[TABLE])))
OPERATORS = "time_stats.mlp_up_proj.median,time_stats.add.mean,n_head,num_tokens\n3.3,0.05,32,128\n"


def table(rows: list[dict]) -> str:
    """The text of a table with other rows."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(ROWS[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def test_requests_against_their_own_recomputation():
    found = parse(TEXTS)[0]
    point = found.points[0]
    arrivals, at = [], 0.0
    for row in ROWS:
        at += float(row["request_inter_arrival_delay"] or 0)
        arrivals.append(at)
    done = [(row, at) for row, at in zip(ROWS, arrivals, strict=True) if row["request_e2e_time"]]
    e2e = [float(row["request_e2e_time"]) for row, _ in done]
    ttft = [float(row["prefill_e2e_time"]) for row, _ in done]
    out = [int(row["request_num_decode_tokens"]) for row, _ in done]
    tpot = [(e - t) / (n - 1) for e, t, n in zip(e2e, ttft, out, strict=True)]
    for metric, values in (("e2e", e2e), ("ttft", ttft), ("tpot", tpot)):
        mean_ms = 1e3 * math.fsum(values) / len(values)
        assert getattr(point, f"{metric}_mean_ms") == pytest.approx(mean_ms, rel=1e-9)
        for percent in (50, 90, 95, 99):
            expected = pytest.approx(1e3 * float(np.percentile(values, percent)), rel=1e-9)
            assert getattr(point, f"{metric}_p{percent}_ms") == expected
    assert point.tpot_mean_ms == pytest.approx(11.0, abs=1e-3)  # as the rows were made
    end_s = max(at + float(row["request_e2e_time"]) for row, at in done)
    assert point.duration_s == pytest.approx(end_s)
    assert point.achieved_rps == pytest.approx(len(done) / end_s)
    assert point.output_tokens_per_s == pytest.approx(sum(out) / end_s)
    assert (point.mode, point.offered_rps) == ("open", pytest.approx(8 / arrivals[-1]))
    assert (point.n_requests, point.n_failed) == (9, 1)
    assert (point.origin, point.source) == ("simulated", f"{TABLE} Vidur")
    assert (found.model_id, found.gpu, found.tensor_parallel) == (
        "meta-llama/Llama-2-7b-hf",
        "a100",
        1,
    )
    assert "not from a GPU" in " ".join(found.notes)
    assert "1 of 9 requests were not finished" in " ".join(found.notes)


def test_requests_that_arrive_together_are_a_batch():
    rows = [{**row, "request_inter_arrival_delay": "0"} for row in ROWS]
    found = parse({TABLE: table(rows)})[0]
    assert (found.points[0].mode, found.points[0].concurrency) == ("batch", 9)
    assert (found.model_id, found.gpu) == (None, None)


@pytest.mark.parametrize("name", ["mlp.csv", "attention.csv"])
def test_profiles_of_operators_are_refused_with_what_they_lack(name):
    assert recognises(name, OPERATORS)
    with pytest.raises(InputError) as error:
        parse({name: OPERATORS})
    fault = error.value.faults[0]
    assert fault.file == name
    assert "number of layers" in fault.what
    assert "got time_stats.add.mean and 1 more" in fault.what
    assert "request_metrics.csv" in fault.fix


def test_every_file_is_recognised_and_no_other():
    for name, text in TEXTS.items():
        assert recognises(name, text)
    for text in ("", '"', "a,b\n1,2", "{}", '{"cluster_config": 1}', "input_tokens,output_tokens"):
        assert not recognises("a.csv", text)


def test_more_than_one_replica_is_refused():
    config = json.loads(TEXTS[CONFIG])
    config["cluster_config"]["num_replicas"] = 4
    with pytest.raises(InputError) as error:
        parse({**TEXTS, CONFIG: json.dumps(config)})
    assert (error.value.faults[0].field, error.value.faults[0].file) == (
        "cluster_config.num_replicas",
        CONFIG,
    )
    with pytest.raises(InputError, match="a configuration alone"):
        parse({CONFIG: TEXTS[CONFIG]})


FAULTS = [
    ({"request_e2e_time": "-1"}, "line 4.request_e2e_time", "-1"),
    ({"request_e2e_time": "soon"}, "line 4.request_e2e_time", "'soon'"),
    ({"prefill_e2e_time": "nan"}, "line 4.prefill_e2e_time", "nan"),
    ({"prefill_e2e_time": ""}, "line 4.prefill_e2e_time", "got"),
    ({"prefill_e2e_time": "9"}, "requests[2]", "got 9 s"),
    ({"request_num_prefill_tokens": "0"}, "line 4.request_num_prefill_tokens", "got 0"),
    ({"request_inter_arrival_delay": ""}, "line 4.request_inter_arrival_delay", "got"),
]


@pytest.mark.parametrize(("change", "field", "got"), FAULTS)
def test_faulty_rows_name_line_column_and_value(change, field, got):
    rows = [dict(row) for row in ROWS]
    rows[2] |= change
    with pytest.raises(InputError) as error:
        parse({TABLE: table(rows)})
    assert [(f.file, f.field) for f in error.value.faults] == [(TABLE, field)]
    assert got in error.value.faults[0].what


def test_table_of_unfinished_requests_is_refused():
    with pytest.raises(InputError, match="got 0 answers"):
        parse({TABLE: table([{**row, "request_e2e_time": ""} for row in ROWS])})


def test_damaged_files_are_refused_by_name_or_read():
    cases = [
        (TABLE, damaged(TEXTS[TABLE], 80)),
        (CONFIG, [*damaged(TEXTS[CONFIG], 40), *altered(json.loads(TEXTS[CONFIG]), 40)]),
    ]
    for name, texts in cases:
        for text, found in readings(parse, TEXTS, name, texts):
            recognises(name, text)
            assert all(isinstance(point, Point) for each in found for point in each.points)
