"""Reports of inference-perf: recorded ones, cut down, and requests made up to its shape."""

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from mutants import altered, damaged, readings

from planner.errors import InputError
from planner.profile.formats.inference_perf import parse, recognises
from planner.spec.pool import Point

FOLDER = Path(__file__).parent.parent / "fixtures" / "inference_perf"
TEXTS = {
    path.name: path.read_text(encoding="utf-8")
    for path in sorted(FOLDER.iterdir())
    if path.suffix != ".md"
}
STAGES = {name: json.loads(text) for name, text in TEXTS.items() if name.startswith("stage_")}
STAGE = "stage_1_lifecycle_metrics.json"
REQUESTS = "per_request_lifecycle_metrics.json"
METRICS = {
    "ttft": "time_to_first_token",
    "tpot": "time_per_output_token",
    "itl": "inter_token_latency",
    "e2e": "request_latency",
}


def stage(**changes: object) -> dict:
    """A recorded stage with changed values, by dotted path."""
    report = json.loads(TEXTS[STAGE])
    for path, value in changes.items():
        inner = report
        *outer, last = path.split("__")
        for key in outer:
            inner = inner[key]
        inner[last] = value
    return report


def reading(**changes: object):
    return parse({STAGE: json.dumps(stage(**changes)), "config.yaml": TEXTS["config.yaml"]})[0]


@pytest.mark.parametrize("place", range(3))
def test_recorded_stage_against_its_raw_numbers(place):
    found = parse(TEXTS)[place]
    name = sorted(STAGES)[place]
    raw, point = STAGES[name], found.points[0]
    latency = raw["successes"]["latency"]
    for metric, key in METRICS.items():
        for statistic in ("mean", "p50", "p90", "p95", "p99"):
            seconds = latency[key]["median" if statistic == "p50" else statistic]
            got = getattr(point, f"{metric}_{statistic}_ms")
            assert got == pytest.approx(1e3 * seconds, rel=1e-12)
    n, duration_s = raw["successes"]["count"], raw["benchmark_time_seconds"]
    assert point.achieved_rps == pytest.approx(n / duration_s, rel=1e-9)
    assert point.input_tokens == pytest.approx(raw["successes"]["prompt_tokens"]["total"] / n)
    assert point.output_tokens == pytest.approx(raw["successes"]["output_len"]["mean"])
    assert point.output_tokens_per_s == pytest.approx(
        raw["successes"]["output_len"]["mean"] * n / duration_s
    )
    assert (point.n_requests, point.n_failed, point.duration_s) == (n, 0, duration_s)
    assert (point.mode, point.offered_rps) == ("open", [2.0, 6.0, 12.0][place])
    assert point.source == name
    assert (found.model_id, found.engine) == ("tiny", "vllm")


def test_recorded_run_says_what_a_reader_should_know():
    notes = [note for found in parse(TEXTS) for note in found.notes]
    assert sum("not Poisson (load type constant)" in note for note in notes) == 3
    assert sum("the server counted 68.83" in note for note in notes) == 1
    assert [note.split(":")[0] for note in notes if "overloaded" in note] == [
        "stage_2_lifecycle_metrics.json"
    ]
    assert any(note.startswith("summary_") and "mixes the stages" in note for note in notes)


def test_every_file_of_a_run_is_recognised_and_no_other():
    for name, text in TEXTS.items():
        assert recognises(name, text)
    assert recognises(REQUESTS, json.dumps(made_run()[REQUESTS]))
    for text in ("", "[", "{}", '{"load_summary": 1}', "load: 3", "[1]", "plain words"):
        assert not recognises("a.json", text)


def test_closed_loop_and_its_cap():
    closed = reading(load_summary__concurrency=2)
    e2e_s = stage()["successes"]["latency"]["request_latency"]["mean"]
    in_flight = stage()["successes"]["throughput"]["requests_per_sec"] * e2e_s
    assert in_flight > 2
    assert (closed.points[0].mode, closed.points[0].concurrency) == ("closed", 2)
    below = reading(load_summary__concurrency=20)
    assert below.points[0].concurrency == pytest.approx(in_flight)
    assert "the cap of 20 was not reached" in " ".join(below.notes)


def test_client_that_could_not_send_offers_what_it_sent():
    found = reading(load_summary__requested_rate=50.0)
    sent_rps = stage()["load_summary"]["achieved_rate"]
    assert found.points[0].offered_rps == sent_rps
    assert "the client sent 6.22 of 50" in " ".join(found.notes)


def test_answers_without_streaming_have_end_to_end_figures_only():
    empty = {f"successes__latency__{METRICS[m]}": None for m in ("ttft", "tpot", "itl")}
    found = reading(**empty)
    assert found.points[0].e2e_p95_ms is not None
    assert (found.points[0].ttft_mean_ms, found.points[0].tpot_mean_ms) == (None, None)
    assert "not streamed" in " ".join(found.notes)


def test_older_report_and_no_configuration():
    report = stage()
    report["successes"]["prompt_len"] = report["successes"].pop("prompt_tokens")
    del report["benchmark_time_seconds"], report["successes"]["output_tokens"]
    found = parse({f"reports-20250102-030405/{STAGE}": json.dumps(report)})[0]
    point = found.points[0]
    assert point.duration_s == pytest.approx(stage()["benchmark_time_seconds"], rel=1e-9)
    assert point.input_tokens == stage()["successes"]["prompt_tokens"]["mean"]
    assert point.source == f"{STAGE} 20250102-030405"
    assert (found.model_id, found.engine) == (None, None)
    assert "no config.yaml" in " ".join(found.notes)


# --- requests one by one ----------------------------------------------------------------------


def made_run() -> dict[str, object]:
    """Two stages and their requests, the reports computed as inference-perf computes them."""
    rng = np.random.default_rng(5)
    lists, reports = [], {}
    for place, n in enumerate((6, 8)):
        block = [made_request(rng, 100.0 * place + 0.5 * k, failed=k == 3) for k in range(n)]
        lists += block
        reports[f"stage_{place}_lifecycle_metrics.json"] = report_of(block, rate=2.0)
    order = rng.permutation(len(lists))
    return {**reports, REQUESTS: [lists[k] for k in order]}


def made_request(rng: np.random.Generator, start_s: float, *, failed: bool) -> dict:
    n_client = int(rng.integers(5, 9))
    times = start_s + np.cumsum(rng.uniform(0.01, 0.05, n_client))
    usage = {"prompt_tokens": 50, "completion_tokens": n_client - 1}
    response = {
        "output_tokens": n_client,
        "server_usage": usage,
        "output_token_times": times.tolist(),
    }
    return {
        "start_time": start_s,
        "end_time": start_s + 0.2 if failed else float(times[-1]) + 0.001,
        "request": "{}",
        "response": "",
        "info": {
            "request_metrics": {"text": {"input_tokens": 50}},
            "response_metrics": None if failed else response,
            "input_tokens": 50,
        },
        "error": {"error_type": "HTTP Error 500", "error_msg": "x"} if failed else None,
    }


def report_of(block: list[dict], rate: float) -> dict:
    answers = [entry for entry in block if entry["error"] is None]
    times = [entry["info"]["response_metrics"]["output_token_times"] for entry in answers]
    took_s = max(e["end_time"] for e in block) - min(e["start_time"] for e in block)
    columns = {
        "request_latency": [e["end_time"] - e["start_time"] for e in answers],
        "time_to_first_token": [
            t[0] - e["start_time"] for e, t in zip(answers, times, strict=True)
        ],
        "time_per_output_token": [(t[-1] - t[0]) / (len(t) - 1) for t in times],
        "inter_token_latency": [b - a for t in times for a, b in pairwise(t)],
    }
    latency = {
        key: {"mean": float(np.mean(v)), "median": float(np.median(v))}
        for key, v in columns.items()
    }
    n_tokens = sum(len(t) for t in times)
    return {
        "benchmark_time_seconds": took_s,
        "load_summary": {"count": len(block), "requested_rate": rate, "achieved_rate": rate},
        "successes": {
            "count": len(answers),
            "latency": latency,
            "throughput": {
                "requests_per_sec": len(answers) / took_s,
                "output_tokens_per_sec": n_tokens / took_s,
            },
            "prompt_tokens": {"mean": 50.0},
        },
        "failures": {"count": len(block) - len(answers)},
    }


def texts_of(run: dict[str, object]) -> dict[str, str]:
    return {name: json.dumps(content) for name, content in run.items()}


def test_requests_fall_to_their_stages_and_give_tpot_by_the_server_count():
    run = made_run()
    first, second = parse(texts_of(run))
    for found, low, n in ((first, 0.0, 6), (second, 100.0, 8)):
        block = [e for e in run[REQUESTS] if low <= e["start_time"] < low + 50]
        answers = [e for e in block if e["error"] is None]
        tpot, ttft, e2e = [], [], []
        for entry in answers:
            response = entry["info"]["response_metrics"]
            first_s = response["output_token_times"][0]
            n_tokens = response["server_usage"]["completion_tokens"]
            tpot.append((entry["end_time"] - first_s) / (n_tokens - 1))
            ttft.append(first_s - entry["start_time"])
            e2e.append(entry["end_time"] - entry["start_time"])
        point = found.points[0]
        for metric, values in (("tpot", tpot), ("ttft", ttft), ("e2e", e2e)):
            mean_ms = 1e3 * math.fsum(values) / len(values)
            assert getattr(point, f"{metric}_mean_ms") == pytest.approx(mean_ms, rel=1e-9)
            got = getattr(point, f"{metric}_p99_ms")
            assert got == pytest.approx(1e3 * float(np.percentile(values, 99)), rel=1e-9)
        assert (point.n_requests, point.n_failed) == (n, 1)
        assert point.duration_s == pytest.approx(
            max(e["end_time"] for e in block) - min(e["start_time"] for e in block)
        )
        assert point.output_tokens == pytest.approx(
            np.mean(
                [
                    e["info"]["response_metrics"]["server_usage"]["completion_tokens"]
                    for e in answers
                ]
            )
        )


def test_time_per_output_token_of_a_report_is_tpot_but_for_the_end_of_the_stream():
    run = made_run()
    name = "stage_0_lifecycle_metrics.json"
    by_report = parse({name: json.dumps(run[name])})[0].points[0]
    for entry in run[REQUESTS]:
        if entry["info"]["response_metrics"] is not None:
            entry["info"]["response_metrics"]["server_usage"] = None
    by_requests = parse(texts_of(run))[0].points[0]
    assert by_requests.output_tokens == pytest.approx(by_report.output_tokens)
    assert by_requests.ttft_mean_ms == pytest.approx(by_report.ttft_mean_ms, rel=1e-9)
    tail_ms = by_requests.tpot_mean_ms - by_report.tpot_mean_ms  # 1 ms over 4 to 7 tokens
    assert 1 / 7 <= tail_ms <= 1 / 4


def test_requests_of_another_run_leave_the_reports_as_they_are():
    run = made_run()
    run[REQUESTS] = run[REQUESTS][1:]
    found = parse(texts_of(run))
    assert "do not fit" in " ".join(found[0].notes)
    report = run["stage_0_lifecycle_metrics.json"]
    stated_s = report["successes"]["latency"]["time_per_output_token"]["mean"]
    assert found[0].points[0].tpot_mean_ms == pytest.approx(1e3 * stated_s)
    shifted = made_run()
    shifted[REQUESTS][0]["end_time"] += 300.0
    assert "do not fit" in " ".join(parse(texts_of(shifted))[0].notes)


# --- faults -----------------------------------------------------------------------------------


RPS, E2E = "successes__throughput__requests_per_sec", "successes__latency__request_latency"
FAULTS = [
    ({"successes__count": 0}, "successes.count", "got 0"),
    ({"successes__count": 35}, "load_summary.count", "got 36"),
    ({"successes": None}, "successes", "got nothing"),
    ({"successes__latency": 3}, "successes.latency", "got 3"),
    ({RPS: 99.0}, "successes.throughput.requests_per_sec", "99"),
    ({f"{E2E}__mean": -1}, "successes.latency.request_latency.mean", "-1"),
    ({f"{E2E}__p90": 1e-3}, "successes.latency.request_latency.p90", "1 ms"),
    ({"load_summary__requested_rate": 0}, "load_summary.requested_rate", "got 0"),
    ({"successes__prompt_tokens__mean": "x"}, "successes.prompt_tokens.mean", "'x'"),
    ({"failures__count": 1.5}, "failures.count", "1.5"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "field", "got"), FAULTS)
def test_faults_name_file_field_and_value(change, field, got):
    with pytest.raises(InputError) as error:
        reading(**change)
    named = [fault for fault in error.value.faults if fault.field == field]
    assert named
    assert got in named[0].what
    assert (named[0].file, bool(named[0].fix)) == (STAGE, True)


def test_run_without_a_stage_is_refused():
    for name in ("summary_lifecycle_metrics.json", "config.yaml"):
        with pytest.raises(InputError, match="no stage has its own report"):
            parse({name: TEXTS[name]})


def test_faults_of_requests_and_configuration_come_together():
    run = texts_of(made_run())
    entries = json.loads(run[REQUESTS])
    entries[2]["start_time"] = "x"
    with pytest.raises(InputError) as error:
        parse({**run, REQUESTS: json.dumps(entries), "config.yaml": "load: [\nserver: 1\n"})
    assert {fault.file for fault in error.value.faults} == {REQUESTS, "config.yaml"}
    assert "[2].start_time" in {fault.field for fault in error.value.faults}


def test_damaged_files_are_refused_by_name_or_read():
    made = made_run()
    run = texts_of(made)
    cases = [
        (TEXTS, STAGE, damaged(TEXTS[STAGE], 50)),
        (TEXTS, "config.yaml", damaged(TEXTS["config.yaml"], 50)),
        (run, REQUESTS, [*damaged(run[REQUESTS], 50), *altered(made[REQUESTS], 60)]),
    ]
    for files, name, texts in cases:
        for text, found in readings(parse, files, name, texts):
            recognises(name, text)
            assert all(isinstance(point, Point) for each in found for point in each.points)


def test_altered_reports_that_are_read_are_read_rightly():
    n_read = 0
    for text, found in readings(parse, {}, STAGE, altered(stage(), 120)):
        report, point = json.loads(text), found[0].points[0]
        latency = report["successes"]["latency"]
        for metric, key in METRICS.items():
            seconds = (latency.get(key) or {}).get("median")
            expected = pytest.approx(1e3 * seconds) if seconds else None
            assert getattr(point, f"{metric}_p50_ms") == expected
        assert point.n_failed == report["failures"]["count"]
        assert point.achieved_rps == report["successes"]["throughput"]["requests_per_sec"]
        n_read += 1
    assert 0 < n_read < 120
