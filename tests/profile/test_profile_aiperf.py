"""Result files of AIPerf and GenAI-Perf; what is expected comes from their raw requests."""

import json
import math

import numpy as np
import pytest
from aiperf_case import (
    FIXTURES,
    FOLDER,
    GENAI,
    PERCENTS,
    REQUESTS,
    RUNS,
    SUMMARY,
    TABLE,
    column,
    expected_of,
    files_of,
    from_rows,
    from_summary,
    reading_of,
    rows_of,
    text_of,
    unequal,
)

from planner.errors import InputError
from planner.profile.formats.aiperf import parse, recognises
from planner.spec.base import STATISTICS


@pytest.mark.parametrize("run", RUNS)
def test_real_runs_against_their_raw_requests(run):
    duration = json.loads(text_of(run, SUMMARY))["benchmark_duration"]
    assert duration["unit"] == "sec"
    expected = expected_of(rows_of(run), duration["avg"])
    for names in [(), (SUMMARY, REQUESTS)]:
        point = reading_of(files_of(run, *names)).points[0]
        assert unequal(point, expected) == []
        assert point.source.startswith("profile_export.jsonl 20261120-19")


@pytest.mark.parametrize("run", RUNS)
def test_tpot_against_the_raw_times_of_every_request(run):
    """AIPerf's inter_token_latency leaves the first token out and divides by the client's count."""
    for row in rows_of(run):
        metrics = {key: metric["value"] for key, metric in row["metrics"].items()}
        decode_ms = metrics["request_latency"] - metrics["time_to_first_token"]
        theirs = decode_ms / (metrics["output_sequence_length"] - 1)
        assert metrics["inter_token_latency"] == pytest.approx(theirs, rel=1e-9)
        ours = decode_ms / (metrics["usage_completion_tokens"] - 1)
        assert from_rows([row]).points[0].tpot_mean_ms == pytest.approx(ours, rel=1e-9)
        assert (ours == pytest.approx(theirs, rel=1e-6)) or run == "c2"


def test_loads_modes_and_models_of_real_runs():
    readings = [reading_of(files_of(run)) for run in RUNS]
    points = [reading.points[0] for reading in readings]
    loads = [(p.mode, p.concurrency, p.offered_rps) for p in points]
    assert loads == [("closed", 2, None), ("closed", 8, None), ("open", None, 12)]
    assert [(r.model_id, r.engine, r.gpu) for r in readings] == [("tiny", None, None)] * 3
    assert readings[2].notes == []


def test_runs_of_several_folders_or_names_stay_apart():
    files = {name: text for run in RUNS for name, text in files_of(run).items()}
    assert [reading.points[0].mode for reading in parse(files)] == ["closed", "closed", "open"]


def test_tokens_are_the_servers_where_the_client_counted_others():
    joined = reading_of(files_of("c2"))
    assert (joined.points[0].input_tokens, joined.points[0].output_tokens) == (103, 64)
    notes = "\n".join(joined.notes)
    assert "output tokens are the server's 64 per request; the client counted 69.35" in notes
    assert "input tokens are the server's 103 per request; the client counted 100" in notes
    alone = reading_of(files_of("c2", SUMMARY))
    assert alone.points[0].output_tokens == 64
    assert [getattr(alone.points[0], f"tpot_{s}_ms") for s in STATISTICS] == [None] * 5
    assert "tpot is left out: it was divided by the client's count" in "\n".join(alone.notes)


def test_tokens_are_the_clients_where_the_server_did_not_count_all():
    rows = rows_of("c2")
    del rows[7]["metrics"]["usage_completion_tokens"]
    reading = from_rows(rows)
    assert reading.points[0].output_tokens == column(rows, "output_sequence_length").mean()
    assert reading.points[0].input_tokens == 103
    assert "output tokens are the client's count" in "\n".join(reading.notes)
    tpot_ms = column(rows, "inter_token_latency")
    assert reading.points[0].tpot_p95_ms == pytest.approx(np.percentile(tpot_ms, 95), rel=1e-9)


@pytest.mark.parametrize("run", RUNS)
def test_summary_alone_gives_what_it_holds(run):
    data = json.loads(text_of(run, SUMMARY))
    point = reading_of(files_of(run, SUMMARY)).points[0]
    ours = {"ttft": "time_to_first_token", "e2e": "request_latency", "tpot": "inter_token_latency"}
    for metric, theirs in ours.items():
        if metric == "tpot" and run == "c2":
            continue
        assert getattr(point, f"{metric}_mean_ms") == data[theirs]["avg"]
        for percent in PERCENTS:
            assert getattr(point, f"{metric}_p{percent}_ms") == data[theirs][f"p{percent}"]
    assert (point.n_requests, point.n_failed) == (len(rows_of(run)), 0)
    assert point.itl_mean_ms is None
    joined = reading_of(files_of(run)).points[0]
    assert (point.mode, point.concurrency, point.offered_rps) == (
        joined.mode,
        joined.concurrency,
        joined.offered_rps,
    )
    assert point.achieved_rps == joined.achieved_rps
    assert point.output_tokens_per_s == pytest.approx(joined.output_tokens_per_s)


@pytest.mark.parametrize("run", RUNS)
def test_table_alone_gives_rounded_figures_and_says_so(run):
    summary = reading_of(files_of(run, SUMMARY)).points[0]
    reading = reading_of({f"{FOLDER}{TABLE}": text_of(run, TABLE)})
    (point,) = reading.points
    for metric in ("ttft", "tpot", "e2e"):
        for statistic in STATISTICS:
            exact = getattr(summary, f"{metric}_{statistic}_ms")
            got = getattr(point, f"{metric}_{statistic}_ms")
            assert got == (exact and pytest.approx(exact, abs=0.0051))
    assert (point.input_tokens, point.output_tokens) == (summary.input_tokens, 64)
    assert "figures are rounded" in reading.notes[0]


@pytest.mark.parametrize("name", [TABLE, REQUESTS])
def test_a_load_that_nothing_tells_is_not_guessed(name):
    with pytest.raises(InputError, match=r"load that was set is not told.* in flight") as error:
        parse(files_of("rate12", name))
    (fault,) = error.value.faults
    assert fault.file == f"rate12/{name}" and "request_rate12" in fault.fix


def test_folder_names_tell_the_load_that_a_table_does_not():
    text = text_of("c8", TABLE)
    for folder, load in [
        ("m-openai-chat-concurrency8", ("closed", 8, None)),
        ("m-openai-chat-request_rate12.5", ("open", None, 12.5)),
    ]:
        point = reading_of({f"{folder}/profile_export_genai_perf.csv": text}).points[0]
        assert (point.mode, point.concurrency, point.offered_rps) == load


def test_units_are_read_and_not_assumed():
    rows = rows_of("rate12")
    in_ms = from_rows(rows).points[0]
    for row in rows:
        for metric in row["metrics"].values():
            if metric["unit"] == "ms":
                value = metric["value"]
                many = [v / 1e3 for v in value] if isinstance(value, list) else value / 1e3
                metric |= {"value": many, "unit": "sec"}
    in_s = from_rows(rows).points[0]
    for metric in ("ttft", "tpot", "itl", "e2e"):
        figure = f"{metric}_p90_ms"
        assert getattr(in_s, figure) == pytest.approx(getattr(in_ms, figure), rel=1e-9)
    data = json.loads(text_of("c8", SUMMARY))
    data["time_to_first_token"] |= {"unit": "us"}
    ttft_ms = data["time_to_first_token"]["avg"] / 1e3
    assert from_summary(data).points[0].ttft_mean_ms == pytest.approx(ttft_ms)


def test_warm_up_cancelled_and_failed_requests():
    rows = rows_of("c8")
    kept = [row for place, row in enumerate(rows) if place not in (0, 5, 9)]
    rows[0]["metadata"] |= {"benchmark_phase": "warmup", "phase_kind": "warmup"}
    rows[5]["metadata"]["was_cancelled"] = True
    rows[5]["error"] = {"code": 499, "type": "RequestCancellationError", "message": ""}
    rows[9] |= {"error": {"code": 500, "type": "InternalServerError"}, "metrics": {}}
    reading = from_rows(rows)
    point = reading.points[0]
    stamps = [row["metadata"] for row in rows if row is not rows[0] and row is not rows[5]]
    begin = min(stamp["request_start_ns"] for stamp in stamps)
    span_s = (max(stamp["request_end_ns"] for stamp in stamps) - begin) / 1e9
    expected = {**expected_of(kept, span_s), "n_requests": 18, "n_failed": 1}
    assert unequal(point, expected) == []
    notes = "\n".join(reading.notes)
    assert "1 warm-up requests are left out" in notes
    assert "1 cancelled requests are left out" in notes
    assert "1 of 18 requests failed" in notes


def test_requests_without_a_first_token_have_only_end_to_end_figures():
    rows = rows_of("c8")
    for row in rows:
        del row["metrics"]["time_to_first_token"]
    reading = from_rows(rows)
    point = reading.points[0]
    assert (point.ttft_mean_ms, point.tpot_mean_ms) == (None, None)
    assert point.e2e_mean_ms == pytest.approx(column(rows, "request_latency").mean())
    assert "not streamed" in "\n".join(reading.notes)


def test_failures_in_the_summary_alone():
    data = json.loads(text_of("c8", SUMMARY))
    data["error_summary"] = [{"error_details": {"code": 500}, "count": 3}, {"count": 2}]
    point = from_summary(data).points[0]
    assert (point.n_requests, point.n_failed) == (25, 5)
    data["error_request_count"] = {"unit": "requests", "avg": 4.0}
    assert from_summary(data).points[0].n_failed == 4
    del data["error_request_count"], data["error_summary"]
    assert from_summary(data).points[0].n_failed is None


def test_tokens_from_their_totals_where_no_mean_is_told():
    data = json.loads(text_of("c8", SUMMARY))
    for key in ("usage_prompt_tokens", "usage_completion_tokens", "input_sequence_length"):
        del data[key]
    del data["output_sequence_length"]
    point = from_summary(data).points[0]
    assert (point.input_tokens, point.output_tokens) == (103, 64)
    del data["total_osl"]
    with pytest.raises(InputError, match="mean number of tokens is needed"):
        from_summary(data)


def test_gpu_of_the_telemetry_and_cancelled_runs():
    data = json.loads(text_of("c8", SUMMARY))
    gpus = {f"gpu_{i}": {"gpu_index": i, "gpu_name": "NVIDIA L4"} for i in range(2)}
    data["telemetry_data"]["endpoints"] = {"host:9401": {"gpus": gpus}}
    data["was_cancelled"] = True
    reading = from_summary(data)
    assert (reading.gpu, reading.tensor_parallel) == ("NVIDIA L4", None)
    assert "the run was cancelled" in "\n".join(reading.notes)
    gpus["gpu_1"]["gpu_name"] = "NVIDIA T4"
    reading = from_summary(data)
    assert reading.gpu is None
    assert "several kinds of GPU (NVIDIA L4, NVIDIA T4)" in "\n".join(reading.notes)


PHASES = [
    ({"type": "concurrency", "concurrency": 8}, ("closed", 8, None), ""),
    ({"type": "concurrency", "concurrency": 20}, ("closed", 7.1435410, None), "was not reached"),
    ({"type": "poisson", "rate": 10.0}, ("open", None, 10), ""),
    ({"type": "poisson", "rate": 30.0}, ("open", None, 30), "overloaded"),
    ({"type": "constant", "rate": 10.0}, ("open", None, 10), "not Poisson (constant)"),
    ({"type": "gamma", "rate": 10.0}, ("open", None, 10), "not Poisson (gamma)"),
    ({"type": "poisson", "rate": 10.0, "concurrency": 9}, ("open", None, 10), "held requests back"),
    ({"type": "fixed_schedule"}, ("open", None, None), "as a schedule says"),
]


@pytest.mark.parametrize(("phase", "load", "note"), PHASES)
def test_every_way_to_send_requests_gets_its_load(phase, load, note):
    data = json.loads(text_of("c8", SUMMARY))
    data["input_config"]["phases"] = [{"kind": "warmup", "type": "concurrency"}, phase]
    reading = from_summary(data)
    point = reading.points[0]
    assert (point.mode, point.concurrency, point.offered_rps) == (
        load[0],
        load[1] and pytest.approx(load[1]),
        load[2],
    )
    assert note in "\n".join(reading.notes)


OLDER = [
    (
        {"loadgen": {"concurrency": 8, "request_rate_mode": "concurrency_burst"}},
        ("closed", 8, None),
    ),
    ({"loadgen": {"request_rate": 9.5, "request_rate_mode": "poisson"}}, ("open", None, 9.5)),
    ({"perf_analyzer": {"stimulus": {"concurrency": 8}}}, ("closed", 8, None)),
    ({"concurrency": None, "request_rate": 9}, ("open", None, 9)),
    ({"input": {"fixed_schedule": True}}, ("open", None, None)),
]


@pytest.mark.parametrize(("config", "load"), OLDER)
def test_older_settings_tell_the_load_too(config, load):
    data = json.loads(text_of("c8", SUMMARY))
    data["input_config"] = {"endpoint": {"model_names": ["org/model"]}, **config}
    reading = from_summary(data)
    point = reading.points[0]
    assert (point.mode, point.concurrency, point.offered_rps) == load
    assert reading.model_id == "org/model"


def test_genai_perf_summary():
    reading = reading_of({"run/profile_export_genai_perf.json": json.dumps(GENAI)})
    point = reading.points[0]
    assert (point.mode, point.concurrency, point.achieved_rps) == ("closed", 2, 2)
    assert (point.input_tokens, point.output_tokens, point.output_tokens_per_s) == (200, 101, 202)
    assert (point.ttft_mean_ms, point.ttft_p99_ms, point.ttft_p95_ms) == (100, 150, None)
    assert (point.e2e_p50_ms, point.e2e_p90_ms, point.tpot_mean_ms) == (850, 1200, 8)
    assert (point.n_requests, point.n_failed, point.duration_s) == (40, None, None)
    assert reading.model_id == "org/model"
    assert "input tokens are the client's count" in "\n".join(reading.notes)


def test_thousands_in_a_table_of_genai_perf():
    table = (
        "Metric,avg,min,max,p99,p95,p90,p75,p50,p25\r\n"
        'Time To First Token (ms),40.00,1,2,90.00,,,,,\r\nRequest Latency (ms),"1,240.00",'
        '1,2,"2,500.00","2,400.00","2,300.00",2,1200.00,3\r\n'
        "Output Sequence Length (tokens),121.00,1,1,1,1,1,1,1,1\r\n"
        "Input Sequence Length (tokens),550.00,1,1,1,1,1,1,1,1\r\n\r\n"
        "Metric,Value\r\nRequest Throughput (per sec),3.00\r\nRequest Count (count),30.00\r\n"
    )
    point = reading_of({"m-concurrency4/profile_export_genai_perf.csv": table}).points[0]
    assert (point.e2e_mean_ms, point.e2e_p99_ms, point.e2e_p50_ms) == (1240, 2500, 1200)
    assert (point.ttft_p99_ms, point.ttft_p95_ms, point.achieved_rps) == (90, None, 3)
    assert point.concurrency == 4


def test_aggregates_give_no_point_and_say_what_to_import():
    name = "aggregate/profile_export_aiperf_aggregate.json"
    text = json.dumps({"metadata": {"aggregation_type": "confidence"}, "metrics": {}})
    assert recognises(name, text)
    reading = reading_of({name: text})
    assert reading.points == []
    assert "import the files of the single runs" in reading.notes[0]
    beside = parse({"c8/profile_export_aiperf_aggregate.json": text, **files_of("c8")})
    assert [len(reading.points) for reading in beside] == [1, 0]


def test_recognises_its_own_files_and_no_others():
    assert all(recognises("x", text) for run in RUNS for text in files_of(run).values())
    assert recognises("x.json", json.dumps(GENAI))
    others = ["vllm_bench/conc1.json", "guidellm/concurrent.json", "guidellm/constant.csv"]
    texts = [(FIXTURES.parent / name).read_text(encoding="utf-8") for name in others]
    assert not any(recognises("a.json", text) for text in [*texts, "", "{", "\x00", "[]"])


SUMMARY_FAULTS = [
    (("request_latency", "unit"), "parsecs", "request_latency.unit", "'parsecs'"),
    (("request_latency", "unit"), None, "request_latency.unit", "null"),
    (("request_latency", "unit"), "sec", "tpot_mean_ms", ""),
    (("time_to_first_token", "unit"), "sec", "ttft_mean_ms", ""),
    (("inter_token_latency", "unit"), "us", "tpot_mean_ms", ""),
    (("request_latency", "avg"), math.nan, "request_latency.avg", "nan"),
    (("request_latency", "p99"), 1.0, "request_latency.p99", "got 1 ms"),
    (("request_latency",), [], "request_latency", "a list"),
    (("request_count", "avg"), 0, "request_count", "got 0"),
    (("request_count", "avg"), 400, "request_throughput", ""),
    (("request_throughput", "unit"), "requests/min", "unit", "'requests/min'"),
    (("output_sequence_length", "unit"), "ms", "output_sequence_length.unit", "'ms'"),
    (("usage_completion_tokens", "avg"), "64", "usage_completion_tokens.avg", "'64'"),
    (("input_config", "phases"), [], "input_config.phases", "got 0"),
    (("input_config", "phases", 0, "type"), "guess", "phases[0].type", "'guess'"),
    (("input_config", "phases", 0, "concurrency"), None, "concurrency", "null"),
    (("input_config", "phases", 0, "concurrency"), 1.5, "concurrency", "1.5"),
    (("input_config", "models", "items"), [{"name": "a"}, {"name": "b"}], "input_config", "a, b"),
]


@pytest.mark.parametrize(("path", "value", "field", "got"), SUMMARY_FAULTS)
def test_faulty_summary_names_file_field_and_value(path, value, field, got):
    data = json.loads(text_of("c8", SUMMARY))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(InputError) as error:
        parse({f"dir/{SUMMARY}": json.dumps(data)})
    found = [fault for fault in error.value.faults if field in fault.field]
    assert found
    assert found[0].file == f"dir/{SUMMARY}"
    assert got in found[0].what
    assert found[0].fix


REQUEST_FAULTS = [
    ("metrics", "request_latency", None, "request_latency"),
    ("metrics", "request_latency", {"value": -1, "unit": "ms"}, "request_latency.value"),
    ("metrics", "request_latency", {"value": 400.0, "unit": "us"}, "request_latency"),
    ("metrics", "request_latency", {"value": 400.0, "unit": "sec"}, "request_latency"),
    ("metrics", "time_to_first_token", {"value": 9e3, "unit": "ms"}, "requests[2]"),
    ("metrics", "time_to_first_token", {"value": 9.0}, "time_to_first_token.unit"),
    ("metrics", "usage_completion_tokens", {"value": [], "unit": "tokens"}, "usage_completion"),
    ("metrics", "inter_chunk_latency", {"value": 3, "unit": "ms"}, "inter_chunk_latency.value"),
    ("metadata", "request_start_ns", 1.5, "request_start_ns"),
    ("metadata", "request_end_ns", 5, "request_end_ns"),
]


@pytest.mark.parametrize(("part", "key", "value", "field"), REQUEST_FAULTS)
def test_faulty_request_names_file_and_field(part, key, value, field):
    rows = rows_of("c8")
    rows[2][part][key] = value
    with pytest.raises(InputError) as error:
        from_rows(rows)
    assert any(field in fault.field for fault in error.value.faults)
    assert {fault.file for fault in error.value.faults} == {f"{FOLDER}{REQUESTS}"}


def test_files_of_two_runs_are_not_joined():
    rows = rows_of("c8")[:-1]
    with pytest.raises(InputError, match="the summary counts 20 answers, got 19"):
        from_rows(rows, **{SUMMARY: text_of("c8", SUMMARY)})
    with pytest.raises(InputError, match="got a second file"):
        parse({"profile_export_genai_perf.json": json.dumps(GENAI), SUMMARY: json.dumps(GENAI)})
    with pytest.raises(InputError, match="no request was answered"):
        from_rows([{**row, "error": {"code": 500}} for row in rows])


def test_faults_of_all_files_come_together():
    files = {
        SUMMARY: "{",
        REQUESTS: '{"request_start_ns": 1, "metrics"',
        "other/x.json": "{}",
        "more/y.csv": "Metric,avg\n",
    }
    with pytest.raises(InputError) as error:
        parse(files)
    assert {fault.file for fault in error.value.faults} == set(files)
