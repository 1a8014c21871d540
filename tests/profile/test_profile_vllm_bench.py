"""Result files of `vllm bench serve`, real and made up."""

import json
import math
from pathlib import Path

import pytest
from percentiles import percentile

from planner.errors import InputError
from planner.profile.fields import Reading
from planner.profile.formats import vllm_bench
from planner.profile.importer import sorted_by_load
from planner.profile.runs import read_runs

FIXTURES = Path(__file__).parent.parent / "fixtures" / "vllm_bench"
SUMMARY = {
    "date": "20250102-030405",
    "backend": "vllm",
    "model_id": "org/model",
    "num_prompts": 200,
    "request_rate": "inf",
    "max_concurrency": 16,
    "duration": 50.0,
    "completed": 200,
    "failed": 0,
    "total_input_tokens": 20000,
    "total_output_tokens": 40000,
    "request_throughput": 4.0,
    "mean_ttft_ms": 40.0,
    "median_ttft_ms": 35.0,
    "p99_ttft_ms": 90.0,
    "mean_tpot_ms": 20.0,
    "median_tpot_ms": 19.0,
    "p99_tpot_ms": 30.0,
    "mean_itl_ms": 20.5,
    "median_itl_ms": 18.0,
    "p99_itl_ms": 70.0,
}
DETAILED = {
    **{key: SUMMARY[key] for key in ("date", "model_id", "request_rate")},
    "max_concurrency": 2,
    "duration": 2.0,
    "completed": 3,
    "failed": 2,
    "total_input_tokens": 60,
    "total_output_tokens": 16,
    "input_lens": [10, 20, 30, 900, 800],
    "output_lens": [5, 10, 1, 0, 0],
    "ttfts": [0.1, 0.2, 0.3, 0.0, 5.0],
    "itls": [[0.1] * 4, [0.05] * 9, [], [], [9.0]],
    "latencies": [0.5, 0.65, 0.3, 0.0, 14.0],
    "start_times": [0.0, 0.0, 0.5, 0.6, 0.7],
    "errors": ["", "", "", "refused", "timed out"],
}


def parse(name: str, text: str) -> Reading:
    return vllm_bench.parse({name: text})[0]


def text_of(run: dict, **changes: object) -> str:
    return json.dumps({**run, **changes})


def fixture(name: str) -> tuple[str, dict]:
    text = (FIXTURES / name).read_text(encoding="utf-8")
    return text, json.loads(text)


@pytest.mark.parametrize("name", ["conc1.json", "conc8.json", "rate2.json", "rate24.json"])
def test_real_file_against_its_requests_and_its_own_summary(name):
    text, run = fixture(name)
    point = parse(name, text).points[0]
    requests = list(zip(run["output_lens"], run["ttfts"], run["latencies"], strict=True))
    times = {
        "ttft": [ttft for _, ttft, _ in requests],
        "tpot": [(e2e - ttft) / (out - 1) for out, ttft, e2e in requests],
        "itl": [gap for gaps in run["itls"] for gap in gaps],
        "e2e": [e2e for _, _, e2e in requests],
    }
    for metric, values in times.items():
        mean = getattr(point, f"{metric}_mean_ms")
        assert mean == pytest.approx(1e3 * math.fsum(values) / len(values), rel=1e-9)
        for percent in (50, 90, 95, 99):
            expected = 1e3 * percentile(values, percent)
            got = getattr(point, f"{metric}_p{percent}_ms")
            assert got == pytest.approx(expected, rel=1e-9)
        theirs = {"e2e": "e2el"}.get(metric, metric)
        for statistic in ("mean", "p50", "p90", "p99"):
            got = getattr(point, f"{metric}_{statistic}_ms")
            assert got == pytest.approx(run[f"{statistic}_{theirs}_ms"], rel=1e-9)
    assert point.input_tokens == pytest.approx(2002 / 20)
    assert point.output_tokens == 64
    assert point.achieved_rps == pytest.approx(run["request_throughput"])
    assert point.output_tokens_per_s == pytest.approx(run["output_throughput"])
    assert (point.n_requests, point.n_failed) == (20, 0)
    assert point.duration_s == run["duration"]
    assert point.source == f"{name} {run['date']}"
    assert point.origin == "measured"


def test_real_files_in_order_of_load_with_what_they_served():
    names = ["rate24.json", "rate2.json", "conc8.json", "conc1.json"]
    runs = read_runs({name: fixture(name)[0] for name in names}).runs
    points = sorted_by_load([point for run in runs for point in run.reading.points])
    modes = [(p.mode, p.concurrency, p.offered_rps) for p in points]
    assert modes == [
        ("closed", 1, None),
        ("closed", 8, None),
        ("open", None, 2),
        ("open", None, 24),
    ]
    served = {(r.reading.model_id, r.reading.engine, r.reading.gpu) for r in runs}
    assert served == {("tiny", None, "cpu")}
    notes = [note for run in runs for note in run.reading.notes]
    assert [note.split(":")[0] for note in notes] == ["rate24.json"]
    assert "10.8 of 24 offered requests/s: overloaded" in notes[0]


def test_lists_without_latencies_take_first_token_plus_gaps():
    text, run = fixture("conc8.json")
    with_them = parse("a.json", text).points[0]
    del run["latencies"]
    without = parse("a.json", json.dumps(run)).points[0]
    assert without.e2e_p99_ms == pytest.approx(with_them.e2e_p99_ms, rel=1e-9)
    assert without.tpot_p90_ms == pytest.approx(with_them.tpot_p90_ms, rel=1e-9)


def test_summary_only_file_keeps_what_exists_and_invents_nothing():
    reading = parse("results/a.json", text_of(SUMMARY))
    point = reading.points[0]
    assert (point.ttft_mean_ms, point.ttft_p50_ms, point.ttft_p99_ms) == (40, 35, 90)
    assert (point.tpot_mean_ms, point.tpot_p50_ms, point.tpot_p99_ms) == (20, 19, 30)
    assert (point.itl_mean_ms, point.itl_p50_ms, point.itl_p99_ms) == (20.5, 18, 70)
    unknown = [f"{m}_{s}_ms" for m in ("ttft", "tpot", "itl") for s in ("p90", "p95")]
    unknown += [f"e2e_{s}_ms" for s in ("mean", "p50", "p90", "p95", "p99")]
    assert [name for name in unknown if getattr(point, name) is not None] == []
    assert (point.mode, point.concurrency, point.achieved_rps) == ("closed", 16, 4)
    assert (point.input_tokens, point.output_tokens) == (100, 200)
    assert point.output_tokens_per_s == 800
    assert point.source == "a.json 20250102-030405"
    assert (reading.model_id, reading.engine, reading.notes) == ("org/model", "vllm", [])


def test_latencies_alone_give_end_to_end_figures():
    latencies = [1.0 + 0.01 * i for i in range(200)]
    point = parse("a.json", text_of(SUMMARY, latencies=latencies)).points[0]
    assert point.e2e_mean_ms == pytest.approx(1995)
    assert point.e2e_p90_ms == pytest.approx(1e3 * percentile(latencies, 90))
    failed = parse("a.json", text_of(SUMMARY, latencies=[*latencies, 0.0], failed=1)).points[0]
    assert failed.e2e_mean_ms is None


def test_failed_requests_and_one_token_answers_are_counted_apart():
    reading = parse("a.json", text_of(DETAILED))
    point = reading.points[0]
    assert (point.n_requests, point.n_failed, point.achieved_rps) == (5, 2, 1.5)
    assert (point.input_tokens, point.output_tokens) == (20, pytest.approx(16 / 3))
    assert point.ttft_mean_ms == pytest.approx(200)
    assert point.e2e_mean_ms == pytest.approx((500 + 650 + 300) / 3)
    assert point.tpot_mean_ms == pytest.approx((0.4 / 4 + 0.45 / 9) / 2 * 1e3)
    assert point.itl_mean_ms == pytest.approx((4 * 0.1 + 9 * 0.05) / 13 * 1e3)
    assert any("2 of 5 requests failed" in note for note in reading.notes)
    assert any("1 of 3 answers have one token" in note for note in reading.notes)


def test_answers_without_a_token_count_as_failed():
    empty = {"completed": 4, "errors": ["", "", "", "", "timed out"], "failed": 1}
    reading = parse("a.json", text_of(DETAILED, **empty))
    assert (reading.points[0].n_failed, reading.points[0].achieved_rps) == (2, 1.5)
    assert any("without a single token" in note for note in reading.notes)


def test_answers_that_were_not_streamed_have_only_end_to_end_figures():
    reading = parse("a.json", text_of(DETAILED, ttfts=[0] * 5))
    point = reading.points[0]
    assert point.e2e_mean_ms == pytest.approx(1450 / 3)
    assert (point.ttft_mean_ms, point.tpot_mean_ms, point.itl_mean_ms) == (None, None, None)
    assert any("not streamed" in note for note in reading.notes)


def test_old_file_without_failed_counts_what_was_sent_and_not_answered():
    old = {key: value for key, value in SUMMARY.items() if key != "failed"}
    assert parse("a.json", text_of(old, num_prompts=210)).points[0].n_failed == 10
    del old["num_prompts"]
    assert parse("a.json", text_of(old)).points[0].n_failed is None


def test_cap_that_never_filled_gives_the_mean_in_flight_by_littles_law():
    reading = parse("a.json", text_of(SUMMARY, max_concurrency=64, mean_e2el_ms=4000.0))
    assert reading.points[0].concurrency == pytest.approx(4.0 * 4.0)
    assert "the cap of 64 was not reached" in reading.notes[0]
    few = parse("a.json", text_of(SUMMARY, max_concurrency=500))
    assert few.points[0].concurrency == 200
    assert "only 200 requests" in few.notes[0]
    full = parse("a.json", text_of(SUMMARY, max_concurrency=16, mean_e2el_ms=3900.0))
    assert (full.points[0].concurrency, full.notes) == (16, [])


def test_infinite_rate_without_a_cap_is_a_batch():
    reading = parse("a.json", text_of(SUMMARY, max_concurrency=None))
    assert (reading.points[0].mode, reading.points[0].concurrency) == ("batch", 200)
    assert "sent at once" in reading.notes[0]


@pytest.mark.parametrize("rate", ["inf", "INF", math.inf])
def test_infinite_rate_is_read_in_every_spelling(rate):
    assert parse("a.json", text_of(SUMMARY, request_rate=rate)).points[0].mode == "closed"


def test_open_run_notes_overload_cap_and_burstiness():
    run = text_of(SUMMARY, request_rate=5, burstiness=0.5)
    reading = parse("a.json", run)
    point = reading.points[0]
    assert (point.mode, point.offered_rps, point.achieved_rps) == ("open", 5, 4)
    assert point.concurrency is None
    assert len(reading.notes) == 3
    calm = parse("a.json", text_of(SUMMARY, request_rate=4.4, max_concurrency=None))
    assert calm.notes == []


def test_appended_runs_become_one_point_each_with_equal_loads_kept():
    runs = [text_of(SUMMARY), text_of(SUMMARY, max_concurrency=8), text_of(SUMMARY)]
    for text in ("\n".join(runs), "\r\n".join(runs) + "\r\n", "\ufeff" + "\n\n".join(runs)):
        assert [point.concurrency for point in parse("all.json", text).points] == [16, 8, 16]


def test_pretty_printed_runs_one_after_the_other():
    text = "\n".join(json.dumps(SUMMARY, indent=2) for _ in range(2))
    assert len(parse("a.jsonl", text).points) == 2


def test_throughput_alone_is_kept_with_a_note():
    bare = {key: value for key, value in SUMMARY.items() if not key.endswith("_ms")}
    reading = parse("a.json", text_of(bare))
    assert reading.points[0].output_tokens_per_s == 800
    assert "no latency figure" in reading.notes[0]


def test_metadata_may_name_engine_gpu_and_tensor_parallel():
    said = {"engine": "SGLang", "engine_version": "0.5", "gpu_type": "H100", "tp": "4"}
    reading = parse("a.json", text_of(SUMMARY, **said))
    assert (reading.engine, reading.engine_version) == ("sglang", "0.5")
    assert (reading.gpu, reading.tensor_parallel) == ("H100", 4)


@pytest.mark.parametrize("said", ["four", "0", "-1", "99999", "", 4, None, "4.0"])
def test_a_tensor_parallel_that_is_no_count_is_not_guessed(said):
    assert parse("a.json", text_of(SUMMARY, tp=said)).tensor_parallel is None


def test_runs_on_two_widths_in_one_file_are_refused():
    with pytest.raises(InputError, match="4 x h100"):
        parse("a.json", "".join(text_of(SUMMARY, gpu="h100", tp=tp) for tp in ("2", "4")))


def test_own_files_are_recognised_also_when_keys_are_lost():
    text, run = fixture("rate2.json")
    assert vllm_bench.recognises("a.json", text)
    few = {key: run[key] for key in ("model_id", "duration", "completed", "request_rate")}
    assert vllm_bench.recognises("a.json", "\ufeff\n" + json.dumps(few))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"model_id": "m", "duration": 1, "completed": 2}',
        json.dumps({**SUMMARY, "mean_e2e_latency_ms": 1.0}),  # SGLang's
        "model_id,duration,completed,request_rate",
    ],
)
def test_foreign_texts_are_not_recognised(text):
    assert not vllm_bench.recognises("a.json", text)


FAULTS = [
    ("duration missing", {"duration": None}, "duration", "null"),
    ("duration negative", {"duration": -1.0}, "duration", "-1.0"),
    ("duration text", {"duration": "50"}, "duration", "'50'"),
    ("duration NaN", {"duration": math.nan}, "duration", "nan"),
    ("latency NaN", {"mean_ttft_ms": math.nan}, "mean_ttft_ms", "nan"),
    ("latency infinite", {"p99_tpot_ms": math.inf}, "p99_tpot_ms", "inf"),
    ("latency negative", {"p99_itl_ms": -3}, "p99_itl_ms", "-3"),
    ("latency true", {"mean_tpot_ms": True}, "mean_tpot_ms", "true"),
    ("latency object", {"mean_tpot_ms": {}}, "mean_tpot_ms", "an object"),
    ("latency huge", {"mean_ttft_ms": 10**40}, "mean_ttft_ms", "30 digits"),
    ("completed zero", {"completed": 0}, "completed", "got 0"),
    ("completed fractional", {"completed": 1.5}, "completed", "1.5"),
    ("completed huge", {"completed": 10**12}, "completed", "1000000000000"),
    ("completed above sent", {"num_prompts": 9, "failed": None}, "completed", "got 200"),
    ("failed negative", {"failed": -1}, "failed", "-1"),
    ("no output tokens", {"total_output_tokens": 0}, "total_output_tokens", "got 0"),
    ("totals contradict", {"request_throughput": 9.0}, "request_throughput", "got 9"),
    ("median contradicts", {"p50_ttft_ms": 70.0}, "median_ttft_ms", "got 35 ms"),
    ("percentiles fall", {"p99_ttft_ms": 20.0}, "p99_ttft_ms", "got 20 ms"),
    ("rate word", {"request_rate": "fast"}, "request_rate", "'fast'"),
    ("rate zero", {"request_rate": 0}, "request_rate", "got 0"),
    ("rate absent", {"request_rate": None}, "request_rate", "null"),
    ("cap zero", {"max_concurrency": 0}, "max_concurrency", "got 0"),
    ("cap text", {"max_concurrency": "16"}, "max_concurrency", "'16'"),
    ("model absent", {"model_id": None}, "model_id", "null"),
    ("model number", {"model_id": 7}, "model_id", "got 7"),
    ("date number", {"date": 20250102}, "date", "20250102"),
    ("ramp", {"ramp_up_strategy": "linear"}, "ramp_up_strategy", "linear"),
]


@pytest.mark.parametrize(
    ("change", "field", "got"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS]
)
def test_faulty_summary_names_file_field_and_value(change, field, got):
    with pytest.raises(InputError) as error:
        parse("dir/a.json", text_of(SUMMARY, **change))
    found = [f for f in error.value.faults if f.field == field]
    assert found
    assert found[0].file == "dir/a.json"
    assert got in found[0].what
    assert found[0].fix


LIST_FAULTS = [
    ("entry text", {"ttfts": [0.1, "x", 0.3, 0, 5]}, "ttfts[1]"),
    ("entry negative", {"latencies": [0.5, 0.65, -1, 0, 14]}, "latencies[2]"),
    ("entry NaN", {"itls": [[0.1, math.nan], [], [], [], []]}, "itls[0][1]"),
    ("entry no list", {"itls": [0.1, [], [], [], []]}, "itls[0]"),
    ("no list", {"ttfts": 3}, "ttfts"),
    ("length differs", {"latencies": [0.5, 0.65]}, "latencies"),
    ("errors too short", {"errors": [""]}, "errors"),
    ("neither times", {"latencies": None, "itls": None}, "latencies"),
    ("first token after last", {"ttfts": [0.1, 0.7, 0.3, 0, 5]}, "ttfts[1]"),
    ("answer in no time", {"latencies": [0.5, 0.65, 0, 0, 14]}, "latencies[2]"),
    ("all failed", {"errors": ["x"] * 5}, "output_lens"),
    ("completed differs", {"completed": 5}, "completed"),
    ("tokens differ", {"total_output_tokens": 17}, "total_output_tokens"),
]


@pytest.mark.parametrize(
    ("change", "field"), [f[1:] for f in LIST_FAULTS], ids=[f[0] for f in LIST_FAULTS]
)
def test_faulty_lists_name_file_field_and_entry(change, field):
    with pytest.raises(InputError) as error:
        parse("a.json", text_of(DETAILED, **change))
    assert field in [fault.field for fault in error.value.faults]


TEXT_FAULTS = [
    ("empty", "", "content"),
    ("blank", " \n\t", "content"),
    ("binary", "{\x00}", "content"),
    ("cut off", text_of(SUMMARY)[:-30], "line 1"),
    ("second run cut off", text_of(SUMMARY) + "\n{", "line 2"),
    ("list", "[1, 2]", "run 1"),
    ("doubled key", '{"duration": 1, "duration": 2}', "duration"),
    ("too deep", '{"a": ' + "[" * 200_000, "content"),
    ("endless number", '{"a": ' + "9" * 5000 + "}", "content"),
]


@pytest.mark.parametrize(
    ("text", "field"), [f[1:] for f in TEXT_FAULTS], ids=[f[0] for f in TEXT_FAULTS]
)
def test_text_that_is_no_result_names_file_and_place(text, field):
    with pytest.raises(InputError) as error:
        parse("a.json", text)
    assert [(fault.file, fault.field) for fault in error.value.faults] == [("a.json", field)]


def test_faults_of_every_run_come_together():
    runs = [text_of(SUMMARY, duration=-1), text_of(SUMMARY), text_of(SUMMARY, completed="x")]
    with pytest.raises(InputError) as error:
        parse("a.json", "\n".join(runs))
    assert {fault.field for fault in error.value.faults} == {"run 1.duration", "run 3.completed"}


def test_runs_of_two_models_in_one_file_are_refused():
    runs = [text_of(SUMMARY), text_of(SUMMARY, model_id="org/other")]
    with pytest.raises(InputError, match="org/other"):
        parse("a.json", "\n".join(runs))
