"""Result files of SGLang's bench_serving, made up to its shape."""

import json
import math
from pathlib import Path

import pytest
from mutants import altered, damaged, readings
from percentiles import percentile

from planner.errors import InputError
from planner.profile.formats import vllm_bench
from planner.profile.formats.sglang_bench import parse, recognises
from planner.spec.pool import Point

FIXTURES = Path(__file__).parent.parent / "fixtures"
TEXT = (FIXTURES / "sglang" / "rate4.jsonl").read_text(encoding="utf-8")
RUN = json.loads(TEXT)
LISTS = ("input_lens", "output_lens", "ttfts", "itls", "generated_texts", "errors")
SUMMARY = {key: value for key, value in RUN.items() if key not in LISTS}


def reading(run: dict, **changes: object):
    return parse({"dir/a.jsonl": json.dumps({**run, **changes})})[0]


def test_lists_against_their_own_recomputation():
    point = reading(RUN).points[0]
    rows = zip(*(RUN[key] for key in LISTS if key != "generated_texts"), strict=True)
    answers = [
        (n_in, n_out, ttft, sum(gaps), gaps) for n_in, n_out, ttft, gaps, error in rows if not error
    ]
    times = {
        "ttft": [ttft for _, _, ttft, _, _ in answers],
        "tpot": [decode / (n_out - 1) for _, n_out, _, decode, _ in answers],
        "itl": [gap for *_, gaps in answers for gap in gaps],
        "e2e": [ttft + decode for _, _, ttft, decode, _ in answers],
    }
    for metric, values in times.items():
        mean_ms = 1e3 * math.fsum(values) / len(values)
        assert getattr(point, f"{metric}_mean_ms") == pytest.approx(mean_ms, rel=1e-9)
        for percent in (50, 90, 95, 99):
            expected = pytest.approx(1e3 * percentile(values, percent), rel=1e-9)
            assert getattr(point, f"{metric}_p{percent}_ms") == expected
        stated = {"e2e": "e2e_latency"}.get(metric, metric)
        assert mean_ms == pytest.approx(RUN[f"mean_{stated}_ms"], rel=1e-9)
    assert point.input_tokens == pytest.approx(sum(n for n, *_ in answers) / len(answers))
    assert point.output_tokens == pytest.approx(sum(RUN["output_lens"]) / len(answers))
    assert point.n_requests == 12
    assert point.n_failed == 12 - len(answers)
    assert point.n_failed > 0
    assert point.achieved_rps == pytest.approx(len(answers) / 3.1)
    assert (point.mode, point.offered_rps, point.duration_s) == ("open", 4, 3.1)
    assert (point.source, point.origin) == ("a.jsonl", "measured")


def test_what_was_served_comes_from_server_info_of_newer_versions():
    found = reading(RUN)
    assert found.model_id == "org/tiny-model"
    assert (found.engine, found.engine_version, found.tensor_parallel) == ("sglang", "0.5.6", 2)
    old = reading({key: value for key, value in RUN.items() if key != "server_info"})
    assert (old.model_id, old.engine, old.tensor_parallel) == (None, "sglang", None)


def test_summary_keeps_what_exists_and_invents_nothing():
    found = reading(SUMMARY)
    point = found.points[0]
    for metric, key in {"ttft": "ttft", "tpot": "tpot", "itl": "itl", "e2e": "e2e_latency"}.items():
        assert getattr(point, f"{metric}_mean_ms") == SUMMARY[f"mean_{key}_ms"]
        assert getattr(point, f"{metric}_p50_ms") == SUMMARY[f"median_{key}_ms"]
        for percent in ("p90", "p95", "p99"):
            stated = SUMMARY.get(f"{percent}_{key}_ms")
            assert getattr(point, f"{metric}_{percent}_ms") == stated
    assert (point.ttft_p90_ms, point.tpot_p95_ms, point.e2e_p95_ms) == (None, None, None)
    assert point.n_failed is None
    assert any("not counted" in note for note in found.notes)


def test_closed_loops_of_one_file_are_one_point_each():
    text = (FIXTURES / "sglang" / "closed.jsonl").read_text(encoding="utf-8")
    found = parse({"closed.jsonl": text})[0]
    runs = [json.loads(line) for line in text.splitlines()]
    assert [run["request_rate"] for run in runs] == [math.inf, math.inf]
    assert [point.mode for point in found.points] == ["closed", "closed"]
    for point, run in zip(found.points, runs, strict=True):
        full = run["concurrency"] >= 0.8 * run["max_concurrency"]
        in_flight = run["max_concurrency"] if full else run["concurrency"]
        assert point.concurrency == pytest.approx(in_flight)


def test_mode_of_a_run_by_rate_and_cap():
    assert reading(SUMMARY, request_rate=math.inf).points[0].mode == "batch"
    closed = reading(SUMMARY, request_rate="inf", max_concurrency=1, concurrency=0.95)
    assert (closed.points[0].mode, closed.points[0].concurrency) == ("closed", 1)
    below = reading(SUMMARY, request_rate=math.inf, max_concurrency=8, concurrency=2.5)
    assert below.points[0].concurrency == 2.5
    assert "the cap of 8 was not reached" in " ".join(below.notes)
    trace = reading(SUMMARY, request_rate="trace")
    assert (trace.points[0].mode, trace.points[0].offered_rps) == ("open", None)
    assert "not Poisson" in " ".join(trace.notes)
    late = reading(SUMMARY, request_rate=40.0, max_concurrency=8)
    assert "overloaded" in " ".join(late.notes)
    assert "max_concurrency 8" in " ".join(late.notes)


def test_answers_without_streaming_have_end_to_end_figures_only():
    lists = {"ttfts": [0.5 if n else 0.0 for n in RUN["output_lens"]], "itls": [[]] * 12}
    found = reading(RUN, **lists)
    point = found.points[0]
    assert point.e2e_mean_ms == pytest.approx(500)
    assert (point.ttft_mean_ms, point.tpot_mean_ms, point.itl_mean_ms) == (None, None, None)
    assert "not streamed" in " ".join(found.notes)


def test_one_token_answers_keep_their_first_token():
    ones = [min(n, 1) for n in RUN["output_lens"]]
    n = sum(ones)
    totals = {"total_output_tokens": n, "output_throughput": n / 3.1, "itls": [[]] * 12}
    point = reading(RUN, output_lens=ones, **totals).points[0]
    assert point.ttft_mean_ms == pytest.approx(point.e2e_mean_ms)
    assert point.tpot_mean_ms is None


def test_files_of_sglang_and_vllm_are_told_apart():
    closed = (FIXTURES / "sglang" / "closed.jsonl").read_text(encoding="utf-8")
    for text in (TEXT, closed, json.dumps(SUMMARY, indent=2)):
        assert recognises("a.json", text)
        assert not vllm_bench.recognises("a.json", text)
    for path in sorted((FIXTURES / "vllm_bench").glob("*.json")):
        text = path.read_text(encoding="utf-8")
        assert not recognises(path.name, text)
        assert vllm_bench.recognises(path.name, text)


FAULTS = [
    ({"duration": None}, "duration", "null"),
    ({"duration": -1.0}, "duration", "-1.0"),
    ({"completed": 0}, "completed", "got 0"),
    ({"completed": 2}, "request_throughput", "got"),
    ({"mean_ttft_ms": math.nan}, "mean_ttft_ms", "nan"),
    ({"p99_ttft_ms": 0.5}, "p99_ttft_ms", "got 0.5 ms"),
    ({"mean_tpot_ms": 20000.0}, "tpot_mean_ms", "got"),
    ({"request_rate": "fast"}, "request_rate", "'fast'"),
    ({"request_rate": 0}, "request_rate", "got 0"),
    ({"max_concurrency": "8"}, "max_concurrency", "'8'"),
    ({"server_info": 3}, "server_info", "got 3"),
]


@pytest.mark.parametrize(("change", "field", "got"), FAULTS)
def test_faults_name_file_field_and_value(change, field, got):
    with pytest.raises(InputError) as error:
        reading(SUMMARY, **change)
    named = [fault for fault in error.value.faults if fault.field == field]
    assert named
    assert got in named[0].what
    assert named[0].file == "dir/a.jsonl"
    assert named[0].fix


def test_faults_of_all_runs_and_files_come_together():
    good = json.dumps(SUMMARY)
    bad = json.dumps({**SUMMARY, "duration": -1})
    with pytest.raises(InputError) as error:
        parse({"a.jsonl": f"{good}\n{bad}", "b.jsonl": bad})
    places = {(fault.file, fault.field) for fault in error.value.faults}
    assert places == {("a.jsonl", "run 2.duration"), ("b.jsonl", "duration")}


def test_runs_of_two_servers_in_one_file_are_refused():
    other = {**SUMMARY, "server_info": {"model_path": "org/other"}}
    with pytest.raises(InputError, match="differ"):
        parse({"a.jsonl": json.dumps(SUMMARY) + json.dumps(other)})


def test_damaged_files_are_refused_by_name_or_read():
    for _, found in readings(parse, {}, "a.jsonl", [*damaged(TEXT, 60), *altered(RUN, 60)]):
        assert all(isinstance(point, Point) for point in found[0].points)


def test_altered_summaries_that_are_read_are_read_rightly():
    n_read = 0
    for text, found in readings(parse, {}, "a.jsonl", altered(SUMMARY, 120)):
        run, point = json.loads(text), found[0].points[0]
        assert point.ttft_p99_ms == (run.get("p99_ttft_ms") or None)
        assert point.tpot_p50_ms == (run.get("median_tpot_ms") or None)
        assert point.e2e_mean_ms == (run.get("mean_e2e_latency_ms") or None)
        assert point.achieved_rps == pytest.approx(run["completed"] / run["duration"])
        n_read += 1
    assert 0 < n_read < 120
