"""Benchmark Reports of llm-d, made up to their schema."""

import copy
import json
import math
from pathlib import Path

import pytest
import yaml
from mutants import altered, damaged, readings

from planner.errors import InputError
from planner.profile.formats.llmd_report import parse, recognises
from planner.spec.pool import Point

NAME = "report.yaml"
TEXT = (Path(__file__).parent.parent / "fixtures" / "llmd" / NAME).read_text(encoding="utf-8")
REPORT = yaml.safe_load(TEXT)
AGGREGATE = REPORT["results"]["request_performance"]["aggregate"]
KEYS = {
    "ttft": "time_to_first_token",
    "tpot": "time_per_output_token",
    "itl": "inter_token_latency",
    "e2e": "request_latency",
}
LOAD = "scenario.load.standardized"
ENGINE = "scenario.stack.0.standardized"
LATENCY = "results.request_performance.aggregate.latency"


def changed(changes: dict[str, object]) -> dict:
    """The report with values set by dotted path; ABSENT takes one away."""
    report = copy.deepcopy(REPORT)
    for path, value in changes.items():
        *outer, last = path.split(".")
        inner = report
        for key in outer:
            inner = inner[int(key) if isinstance(inner, list) else key]
        inner[last] = value
    return report


def reading(changes: dict[str, object] | None = None):
    return parse({NAME: json.dumps(changed(changes or {}))})[0]


@pytest.mark.parametrize("text", [TEXT, json.dumps(REPORT), json.dumps(REPORT, indent=2)])
def test_report_against_its_raw_numbers_in_every_unit(text):
    found = parse({f"run/{NAME}": text})[0]
    point = found.points[0]
    for metric, key in KEYS.items():
        stated = AGGREGATE["latency"][key]
        scale = 1.0 if stated["units"].startswith("ms") else 1e3
        for statistic in ("mean", "p50", "p90", "p95", "p99"):
            value = stated.get(statistic)
            expected = None if value is None else pytest.approx(scale * value, rel=1e-12)
            assert getattr(point, f"{metric}_{statistic}_ms") == expected
    assert (point.input_tokens, point.output_tokens) == (500.5, 41)
    assert (point.mode, point.offered_rps, point.achieved_rps) == ("open", 4, 3.932)
    assert point.output_tokens_per_s == 161.2
    assert (point.n_requests, point.n_failed) == (240, 4)
    assert point.duration_s == pytest.approx(236 / 3.932)
    assert (point.source, point.origin) == (f"{NAME} 5f3c", "measured")
    assert (found.model_id, found.gpu) == ("org/tiny-model", "NVIDIA-H100-80GB-HBM3")
    assert (found.engine, found.engine_version, found.tensor_parallel) == ("vllm", "0.11.0", 2)
    assert any("4 of 240 requests failed" in note for note in found.notes)


def test_inference_perf_divides_by_its_own_count_of_tokens():
    counted = {
        f"{LOAD}.tool": "inference-perf",
        "results.request_performance.aggregate.throughput.output_token_rate.mean": 3.932 * 50,
    }
    found = reading(counted)
    assert found.points[0].output_tokens == pytest.approx(50)
    assert any("count of 50 tokens per answer; output_length says 41" in n for n in found.notes)
    other = reading({**counted, f"{LOAD}.tool": "vllm-benchmark"})
    assert other.points[0].output_tokens == 41


def test_tpot_follows_from_the_requests_behind_a_report():
    """Ten requests of 41 tokens: the report's time_per_output_token must be (e2e-ttft)/(out-1)."""
    ttft_s = [0.04 + 0.002 * k for k in range(10)]
    e2e_s = [0.44 + 0.003 * k for k in range(10)]
    tpot_s = [(e2e - ttft) / 40 for e2e, ttft in zip(e2e_s, ttft_s, strict=True)]
    stated = {
        f"{LATENCY}.{key}": {"units": unit, "mean": math.fsum(values) / 10}
        for key, unit, values in (
            ("time_to_first_token", "s", ttft_s),
            ("request_latency", "s", e2e_s),
            ("time_per_output_token", "s/token", tpot_s),
        )
    }
    point = reading(stated).points[0]
    implied_ms = (point.e2e_mean_ms - point.ttft_mean_ms) / (point.output_tokens - 1)
    assert point.tpot_mean_ms == pytest.approx(implied_ms, rel=1e-9)
    normalized = {f"{LATENCY}.time_per_output_token.mean": 90 * math.fsum(tpot_s) / 10}
    with pytest.raises(InputError, match="ttft, e2e and output tokens give about"):
        reading({**stated, **normalized})


@pytest.mark.parametrize("tool", ["guidellm", "aiperf"])
def test_tools_whose_inter_token_latency_is_tpot(tool):
    found = reading({f"{LOAD}.tool": tool})
    point = found.points[0]
    assert (point.tpot_mean_ms, point.tpot_p50_ms, point.tpot_p99_ms) == (10, 8, 35)
    assert (point.itl_mean_ms, point.tpot_p95_ms) == (None, None)
    assert "counts the first token: left out" in " ".join(found.notes)
    assert point.n_failed == (None if tool == "aiperf" else 4)


def test_mode_by_rate_and_concurrency():
    closed = reading({f"{LOAD}.rate_qps": None, f"{LOAD}.concurrency": 2})
    assert (closed.points[0].mode, closed.points[0].concurrency) == ("closed", 2)
    below = reading({f"{LOAD}.rate_qps": math.inf, f"{LOAD}.concurrency": 20})
    assert below.points[0].concurrency == pytest.approx(3.932 * 0.45)
    assert "the cap of 20 was not reached" in " ".join(below.notes)
    of_stage = reading({f"{LOAD}.concurrency": 2})
    assert of_stage.points[0].mode == "closed"
    capped = reading({f"{LOAD}.concurrency": 2, f"{LOAD}.tool": "vllm-benchmark"})
    assert (capped.points[0].mode, capped.points[0].offered_rps) == ("open", 4)
    assert "concurrency 2 may have held" in " ".join(capped.notes)
    assert reading({f"{LOAD}.rate_qps": math.inf}).points[0].mode == "batch"
    assert "overloaded" in " ".join(reading({f"{LOAD}.rate_qps": 8.0}).notes)


def test_several_replicas_share_the_load_and_count_as_estimated():
    found = reading({f"{ENGINE}.replicas": 2})
    point = found.points[0]
    assert (point.offered_rps, point.achieved_rps) == (2, 3.932 / 2)
    assert point.output_tokens_per_s == 161.2 / 2
    assert point.ttft_mean_ms == 50
    assert point.origin == "estimated"
    assert "2 replicas were measured together" in " ".join(found.notes)


def test_report_without_a_stack_leaves_the_pool_to_the_user():
    found = reading({"scenario.stack": None})
    assert (found.model_id, found.gpu, found.tensor_parallel) == (None, None, None)
    assert "no inference engine" in " ".join(found.notes)
    wide = reading({f"{ENGINE}.accelerator.parallelism.dp": 4})
    assert "dp 4" in " ".join(wide.notes)


def test_reports_are_recognised_in_both_notations_and_no_other_text():
    assert recognises(NAME, TEXT)
    assert recognises(NAME, json.dumps(REPORT))
    for text in ("", "{}", "version: 0.2\n", '{"version": "0.2", "run": {}}', "run: 1\nresults: 2"):
        assert not recognises(NAME, text)


FAULTS = [
    ({"version": "0.1"}, "version", "'0.1'"),
    ({"results": None}, "results", "got nothing"),
    (
        {f"{LATENCY}.time_to_first_token.units": "us"},
        f"{LATENCY}.time_to_first_token.units",
        "'us'",
    ),
    ({f"{LATENCY}.request_latency.mean": -4}, f"{LATENCY}.request_latency.mean", "-4"),
    ({f"{LATENCY}.request_latency.p99": 1}, f"{LATENCY}.request_latency.p99", "got 1 ms"),
    ({f"{LOAD}.rate_qps": None}, f"{LOAD}.rate_qps", "got nothing"),
    ({f"{LOAD}.rate_qps": "fast"}, f"{LOAD}.rate_qps", "'fast'"),
    ({"scenario.stack": [3]}, "scenario.stack[0]", "got 3"),
    ({f"{ENGINE}.role": "prefill"}, "scenario.stack", "both roles"),
    ({f"{ENGINE}.replicas": 0}, "scenario.stack[0].standardized.replicas", "got 0"),
]


@pytest.mark.parametrize(("change", "field", "got"), FAULTS)
def test_faults_name_file_field_and_value(change, field, got):
    with pytest.raises(InputError) as error:
        reading(change)
    named = [fault for fault in error.value.faults if fault.field == field]
    assert named
    assert got in named[0].what
    assert (named[0].file, bool(named[0].fix)) == (NAME, True)


def test_yaml_that_is_none_names_its_line():
    with pytest.raises(InputError) as error:
        parse({NAME: TEXT.replace("units: s,", "units: s, units: ms,", 1)})
    assert error.value.faults[0].field.startswith("line ")


def test_damaged_files_are_refused_by_name_or_read():
    as_json = json.dumps(REPORT)
    for text, found in readings(parse, {}, NAME, [*damaged(TEXT, 80), *damaged(as_json, 60)]):
        recognises(NAME, text)
        assert all(isinstance(point, Point) for point in found[0].points)


def test_altered_reports_that_are_read_are_read_rightly():
    n_read = 0
    for text, found in readings(parse, {}, NAME, altered(REPORT, 150)):
        point = found[0].points[0]
        aggregate = json.loads(text)["results"]["request_performance"]["aggregate"]
        latency = aggregate.get("latency") or {}
        stated = (latency.get("request_latency") or {}).get("p90")
        assert point.e2e_p90_ms == (stated or None)
        stated_s = (latency.get("time_per_output_token") or {}).get("p95")
        if point.tpot_p99_ms is None:  # else the tool is not inference-perf any more
            assert point.tpot_p95_ms == (pytest.approx(1e3 * stated_s) if stated_s else None)
        assert point.input_tokens == aggregate["requests"]["input_length"]["mean"]
        n_read += 1
    assert 0 < n_read < 150
