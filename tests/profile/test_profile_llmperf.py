"""Result files of llmperf, made up to its shape."""

import json
import math
from pathlib import Path

import pytest
from mutants import altered, damaged, readings
from percentiles import percentile

from planner.errors import InputError
from planner.profile.formats.llmperf import parse, recognises
from planner.spec.pool import Point

FOLDER = Path(__file__).parent.parent / "fixtures" / "llmperf"
SUMMARY, RESPONSES = (
    f"tiny-model_500_30_{kind}.json" for kind in ("summary", "individual_responses")
)
TEXTS = {name: (FOLDER / name).read_text(encoding="utf-8") for name in (SUMMARY, RESPONSES)}
RUN, REQUESTS = json.loads(TEXTS[SUMMARY]), json.loads(TEXTS[RESPONSES])


def with_summary(**changes: object) -> dict[str, str]:
    return {SUMMARY: json.dumps({**RUN, **changes})}


def test_responses_against_their_own_recomputation():
    found = parse(TEXTS)
    assert len(found) == 1
    point = found[0].points[0]
    answers = [entry for entry in REQUESTS if entry["error_code"] is None]
    times = {
        "ttft": [entry["ttft_s"] for entry in answers],
        "e2e": [entry["end_to_end_latency_s"] for entry in answers],
        "tpot": [
            (entry["end_to_end_latency_s"] - entry["ttft_s"]) / (entry["number_output_tokens"] - 1)
            for entry in answers
        ],
    }
    for metric, values in times.items():
        mean_ms = 1e3 * math.fsum(values) / len(values)
        assert getattr(point, f"{metric}_mean_ms") == pytest.approx(mean_ms, rel=1e-9)
        for percent in (50, 90, 95, 99):
            expected = pytest.approx(1e3 * percentile(values, percent), rel=1e-9)
            assert getattr(point, f"{metric}_p{percent}_ms") == expected
    wrong_ms = 1e3 * RUN["results_inter_token_latency_s_mean"]
    assert point.tpot_mean_ms < 0.9 * wrong_ms
    assert (point.itl_mean_ms, point.itl_p50_ms) == (None, None)
    assert point.output_tokens == pytest.approx(RUN["results_number_output_tokens_mean"])
    assert point.input_tokens == pytest.approx(RUN["results_number_input_tokens_mean"])
    assert (point.n_requests, point.n_failed) == (10, 1)
    assert (point.mode, point.concurrency) == ("closed", 2)
    assert point.achieved_rps == pytest.approx(RUN["results_num_completed_requests_per_min"] / 60)
    assert point.output_tokens_per_s == pytest.approx(
        RUN["results_mean_output_throughput_token_per_s"]
    )
    assert point.source == f"{SUMMARY} 1735700000"
    assert found[0].model_id == "org/tiny-model"
    assert "1 of 10 requests failed" in " ".join(found[0].notes)


def test_summary_alone_has_no_tpot_and_says_why():
    found = parse(with_summary())[0]
    point = found.points[0]
    for metric, key in {"ttft": "ttft_s", "e2e": "end_to_end_latency_s"}.items():
        for statistic in ("p50", "p90", "p95", "p99"):
            stated = RUN[f"results_{key}_quantiles_{statistic}"]
            assert getattr(point, f"{metric}_{statistic}_ms") == pytest.approx(1e3 * stated)
        assert getattr(point, f"{metric}_mean_ms") == pytest.approx(
            1e3 * RUN[f"results_{key}_mean"]
        )
    left_out = [f"{m}_{s}_ms" for m in ("tpot", "itl") for s in ("mean", "p50", "p99")]
    assert [name for name in left_out if getattr(point, name) is not None] == []
    assert "tpot and itl are left out" in " ".join(found.notes)


def test_cap_that_was_not_reached_gives_the_mean_in_flight():
    found = parse(with_summary(num_concurrent_requests=8))[0]
    in_flight = RUN["results_num_completed_requests_per_min"] / 60
    in_flight *= RUN["results_end_to_end_latency_s_mean"]
    assert found.points[0].concurrency == pytest.approx(in_flight)
    assert "the cap of 8 was not reached" in " ".join(found.notes)


def test_empty_answers_count_as_failed():
    entries = [dict(entry) for entry in REQUESTS]
    entries[0]["number_output_tokens"] = 0
    point = parse({**TEXTS, RESPONSES: json.dumps(entries)})[0].points[0]
    assert (point.n_requests, point.n_failed) == (10, 2)


def test_both_files_are_recognised_and_no_other():
    for name, text in TEXTS.items():
        assert recognises(name, text)
    for text in ("", "[", "[]", "{}", '{"model": 1}', '[{"ttft_s": 1}]', "x,y"):
        assert not recognises("a.json", text)


FAULTS = [
    ({"model": None}, "model", "null"),
    ({"num_concurrent_requests": 0}, "num_concurrent_requests", "got 0"),
    ({"results_num_completed_requests": 0}, "results_num_completed_requests", "got 0"),
    (
        {"results_num_completed_requests_per_min": -3},
        "results_num_completed_requests_per_min",
        "-3",
    ),
    ({"results_number_errors": 1.5}, "results_number_errors", "1.5"),
    ({"results_ttft_s_mean": math.nan}, "results_ttft_s_mean", "nan"),
    ({"results_ttft_s_quantiles_p99": 1e-6}, "results_ttft_s_quantiles_p99", "0.001 ms"),
]


@pytest.mark.parametrize(("change", "field", "got"), FAULTS)
def test_faults_name_file_field_and_value(change, field, got):
    with pytest.raises(InputError) as error:
        parse(with_summary(**change))
    named = [fault for fault in error.value.faults if fault.field == field]
    assert named
    assert got in named[0].what
    assert (named[0].file, bool(named[0].fix)) == (SUMMARY, True)


def test_responses_without_or_against_their_summary_are_refused():
    with pytest.raises(InputError, match="its summary is needed"):
        parse({RESPONSES: TEXTS[RESPONSES]})
    with pytest.raises(InputError, match="8 answers and 1 errors, got 9 and 1"):
        parse({**TEXTS, RESPONSES: json.dumps(REQUESTS[1:])})


def test_times_that_cannot_be_are_refused():
    entries = [dict(entry) for entry in REQUESTS]
    entries[2]["ttft_s"] = 99.0
    entries[3]["number_output_tokens"] = "many"
    with pytest.raises(InputError) as error:
        parse({**TEXTS, RESPONSES: json.dumps(entries)})
    assert {(f.file, f.field) for f in error.value.faults} == {
        (RESPONSES, "[3].number_output_tokens")
    }
    entries[3] = REQUESTS[3]
    with pytest.raises(InputError, match=r"responses\[2\]"):
        parse({**TEXTS, RESPONSES: json.dumps(entries)})


def test_damaged_files_are_refused_by_name_or_read():
    for name, data in ((SUMMARY, RUN), (RESPONSES, REQUESTS)):
        texts = [*damaged(TEXTS[name], 50), *altered(data, 50)]
        for text, found in readings(parse, TEXTS, name, texts):
            recognises(name, text)
            assert all(isinstance(point, Point) for each in found for point in each.points)


def test_altered_summaries_that_are_read_are_read_rightly():
    n_read = 0
    for text, found in readings(parse, {}, SUMMARY, altered(RUN, 150)):
        run, point = json.loads(text), found[0].points[0]
        stated = run.get("results_ttft_s_quantiles_p90")
        assert point.ttft_p90_ms == (pytest.approx(1e3 * stated) if stated else None)
        assert point.n_failed == run["results_number_errors"]
        assert point.achieved_rps * 60 == pytest.approx(
            run["results_num_completed_requests_per_min"]
        )
        n_read += 1
    assert 0 < n_read < 150
