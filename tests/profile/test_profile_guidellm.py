"""Report files of GuideLLM, real and made up; what is expected comes from their raw requests."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
from mutants import altered, damaged

from planner.errors import InputError
from planner.profile.formats.guidellm import parse, recognises
from planner.spec.base import STATISTICS
from planner.spec.pool import Point

FIXTURES = Path(__file__).parent.parent / "fixtures"
FILES = ["guidellm/concurrent.json", "guidellm/constant.json", "guidellm_old/concurrent.json"]
NEW, RATES, OLD = FILES


def text_of(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


def data_of(name: str) -> dict:
    return json.loads(text_of(name))


def points_of(data: dict, name: str = "a.json") -> list[Point]:
    return parse({name: json.dumps(data)})[0].points


def notes_of(data: dict) -> str:
    return "\n".join(parse({"a.json": json.dumps(data)})[0].notes)


def raw_times(request: dict) -> tuple[float, float, float, float]:
    """Start, first token, last token and end of a request in s, from its raw time stamps."""
    if "info" in request:
        stamps = request["info"]["timings"]
        keys = ("request_start", "first_token_iteration", "last_token_iteration", "request_end")
    else:
        stamps = request
        keys = ("start_time", "first_token_time", "last_token_time", "end_time")
    return tuple(stamps[key] for key in keys)


def expected_of(benchmark: dict) -> dict:
    """Figures of a benchmark from the raw time stamps of its requests, with plain numpy."""
    requests = benchmark["requests"]["successful"]
    start, first, _, end = np.array([raw_times(request) for request in requests]).T
    n_output = np.array([request["output_tokens"] for request in requests], dtype=float)
    times = {"ttft": first - start, "tpot": (end - first) / (n_output - 1), "e2e": end - start}
    figures = {}
    for metric, values in times.items():
        figures[f"{metric}_mean_ms"] = 1e3 * np.mean(values)
        for percent in (50, 90, 95, 99):
            figures[f"{metric}_p{percent}_ms"] = 1e3 * np.percentile(values, percent)
    duration_s = end.max() - start.min()
    return {
        **figures,
        "input_tokens": np.mean([request["prompt_tokens"] for request in requests]),
        "output_tokens": n_output.mean(),
        "achieved_rps": len(requests) / duration_s,
        "output_tokens_per_s": n_output.sum() / duration_s,
        "duration_s": duration_s,
        "n_requests": len(requests),
        "n_failed": 0,
    }


def unequal(point: Point, expected: dict) -> list[str]:
    return [k for k, v in expected.items() if getattr(point, k) != pytest.approx(v, rel=1e-6)]


@pytest.mark.parametrize("name", FILES)
def test_real_reports_against_their_raw_requests(name):
    benchmarks = data_of(name)["benchmarks"]
    points = parse({name: text_of(name)})[0].points
    assert len(points) == len(benchmarks)
    for point, benchmark in zip(points, benchmarks, strict=True):
        assert unequal(point, expected_of(benchmark)) == []
        assert point.itl_mean_ms is None


@pytest.mark.parametrize("name", FILES)
def test_tpot_against_the_raw_times_of_every_request(name):
    """What GuideLLM's two figures per token are, and that ours is the one without the first."""
    for benchmark in data_of(name)["benchmarks"]:
        for request in benchmark["requests"]["successful"]:
            start, first, last, end = raw_times(request)
            n = request["output_tokens"]
            gap_ms = 1e3 * (last - first) / (n - 1)
            assert request["inter_token_latency_ms"] == pytest.approx(gap_ms, rel=1e-9)
            # Since 0.4 with the wait for the first token; before, the gaps over all tokens.
            begin = first if name == OLD else start
            per_token_ms = 1e3 * (last - begin) / n
            assert request["time_per_output_token_ms"] == pytest.approx(per_token_ms, rel=1e-9)
            one = copy.deepcopy(benchmark)
            one["requests"]["successful"] = [request]
            home = one if "request_totals" in one else one["metrics"]
            home["request_totals"]["successful"] = 1
            tpot_ms = points_of({"benchmarks": [one]})[0].tpot_mean_ms
            # Ours ends with the response as e2e does, theirs with the last token.
            assert tpot_ms == pytest.approx(gap_ms + 1e3 * (end - last) / (n - 1), rel=1e-6)


def test_loads_modes_and_sources_of_real_reports():
    closed, rates, old = (parse({name: text_of(name)})[0] for name in FILES)
    loads = [(p.mode, p.concurrency, p.offered_rps) for p in closed.points + rates.points]
    assert loads == [
        ("closed", 1, None),
        ("closed", 4, None),
        ("closed", 8, None),
        ("open", None, 2),
        ("open", None, 8),
    ]
    assert (closed.model_id, closed.engine, closed.gpu, old.model_id) == (
        "tiny",
        None,
        None,
        "tiny",
    )
    assert closed.points[0].source == "concurrent.json 20261120-191327"
    assert "even intervals" in rates.notes[0]
    assert "answered 6.13 of 8 offered requests/s" in "\n".join(rates.notes)
    # 15 requests at 8 in flight: the last ones ran with fewer beside them.
    in_flight = expected_of(data_of(OLD)["benchmarks"][2])
    mean = in_flight["achieved_rps"] * in_flight["e2e_mean_ms"] / 1e3
    assert old.points[2].concurrency == pytest.approx(mean, rel=1e-6)
    assert "the cap of 8 was not reached" in "\n".join(old.notes)


@pytest.mark.parametrize("name", FILES)
def test_summary_of_inter_token_latency_counts_tokens_since_0_4_and_requests_before(name):
    for benchmark in data_of(name)["benchmarks"]:
        requests = benchmark["requests"]["successful"]
        stats = benchmark["metrics"]["inter_token_latency_ms"]["successful"]
        n_gaps = sum(request["output_tokens"] - 1 for request in requests)
        assert stats["count"] == (len(requests) if name == OLD else n_gaps)


@pytest.mark.parametrize("name", FILES)
def test_report_without_requests_gives_what_its_summary_holds(name):
    data = data_of(name)
    whole = points_of(data)
    for benchmark in data["benchmarks"]:
        benchmark["requests"]["successful"] = []
    for point, full, benchmark in zip(points_of(data), whole, data["benchmarks"], strict=True):
        metrics = {k: v["successful"] for k, v in benchmark["metrics"].items() if "p" not in v}
        assert point.ttft_mean_ms == metrics["time_to_first_token_ms"]["mean"]
        assert point.ttft_p99_ms == metrics["time_to_first_token_ms"]["percentiles"]["p99"]
        assert point.e2e_p95_ms == 1e3 * metrics["request_latency"]["percentiles"]["p95"]
        assert point.tpot_p90_ms == metrics["inter_token_latency_ms"]["percentiles"]["p90"]
        for figure in ("achieved_rps", "input_tokens", "output_tokens", "output_tokens_per_s"):
            assert getattr(point, figure) == pytest.approx(getattr(full, figure), rel=1e-9)
        assert (point.mode, point.offered_rps) == (full.mode, full.offered_rps)
        assert point.concurrency == pytest.approx(full.concurrency)
        assert (point.n_requests, point.n_failed) == (full.n_requests, 0)


def test_summary_weighted_by_length_gives_no_tpot_but_the_mean_gap():
    data = data_of(NEW)
    for benchmark in data["benchmarks"]:
        benchmark["requests"]["successful"] = []
        benchmark["metrics"]["output_token_count"]["successful"]["min"] = 10
    for point, benchmark in zip(points_of(data), data["benchmarks"], strict=True):
        stats = benchmark["metrics"]["inter_token_latency_ms"]["successful"]
        assert point.itl_mean_ms == stats["mean"]
        assert [getattr(point, f"tpot_{s}_ms") for s in STATISTICS] == [None] * 5
        assert point.itl_p99_ms is None
    assert "tpot is left out" in notes_of(data)


def test_sample_of_the_requests_is_not_taken_for_all():
    data = data_of(NEW)
    del data["benchmarks"][0]["requests"]["successful"][5:]
    summary = data["benchmarks"][0]["metrics"]["time_to_first_token_ms"]["successful"]
    assert points_of(data)[0].ttft_p99_ms == summary["percentiles"]["p99"]
    assert points_of(data)[0].n_requests == 20
    assert "5 of 20 answers are listed: figures are the summary's" in notes_of(data)


def test_warm_up_and_cool_down_are_left_out():
    data = data_of(NEW)
    benchmark = data["benchmarks"][0]
    requests = benchmark["requests"]["successful"]
    begin = requests[4]["request_start_time"] + 1e-3  # inside the fifth, one at a time
    end = requests[17]["request_end_time"] - 1e-3
    benchmark["scheduler_metrics"] |= {"measure_start_time": begin, "measure_end_time": end}
    benchmark["metrics"]["request_totals"] = {"successful": 14, "errored": 0, "incomplete": 0}
    kept = [raw_times(request) for request in requests[4:18]]
    point = points_of(data)[0]
    ttft_ms = [1e3 * (first - start) for start, first, _, _ in kept]
    assert point.ttft_mean_ms == pytest.approx(np.mean(ttft_ms), rel=1e-6)
    assert point.ttft_p99_ms == pytest.approx(np.percentile(ttft_ms, 99), rel=1e-6)
    assert point.n_requests == 14
    # the eighteenth ended after the measured time: it counts towards no rate
    assert point.achieved_rps == pytest.approx(13 / (end - begin))
    assert "6 requests of the warm-up or cool-down are left out" in notes_of(data)


def test_failed_and_cut_off_requests_are_counted_apart():
    data = data_of(NEW)
    benchmark = data["benchmarks"][1]
    expected = expected_of(benchmark)
    requests = benchmark["requests"]["successful"]
    dead = {**requests[3], "output_tokens": None, "time_to_first_token_ms": None}
    benchmark["requests"]["errored"] = [
        dead,
        {**dead, "request_start_time": None, "request_latency": None},
    ]
    benchmark["requests"]["incomplete"] = [dead]
    benchmark["metrics"]["request_totals"] |= {"errored": 2, "incomplete": 1, "total": 23}
    point = points_of(data)[1]
    assert (point.n_requests, point.n_failed) == (22, 2)
    assert point.ttft_p95_ms == pytest.approx(expected["ttft_p95_ms"], rel=1e-6)
    assert point.achieved_rps == pytest.approx(expected["achieved_rps"], rel=1e-6)
    assert "2 of 22 requests failed" in notes_of(data)
    assert "1 requests were cut off by the end of the run" in notes_of(data)


def test_answers_without_tokens_or_streaming():
    data = data_of(NEW)
    requests = data["benchmarks"][0]["requests"]["successful"]
    requests[0]["output_tokens"] = None
    requests[1]["output_tokens"] = 1
    point = points_of(data)[0]
    assert (point.n_requests, point.n_failed) == (20, 1)
    assert "without a single token" in notes_of(data)
    assert "1 of 19 answers have one token" in notes_of(data)
    for request in requests:
        request["time_to_first_token_ms"] = None
    point = points_of(data)[0]
    assert (point.ttft_mean_ms, point.tpot_mean_ms) == (None, None)
    assert point.e2e_mean_ms is not None
    assert "not streamed" in notes_of(data)


def with_strategy(**strategy: object) -> dict:
    data = data_of(NEW)
    data["benchmarks"] = data["benchmarks"][2:]
    data["benchmarks"][0]["config"]["strategy"] = strategy
    return data


@pytest.mark.parametrize(
    ("strategy", "load", "note"),
    [
        ({"type_": "synchronous"}, ("closed", 1, None), ""),
        ({"type_": "concurrent", "streams": 8}, ("closed", 8, None), ""),
        ({"type_": "concurrent", "streams": 64}, ("closed", 7.2992932, None), "was not reached"),
        ({"type_": "throughput", "max_concurrency": 512}, ("batch", 20, None), "at once"),
        ({"type_": "throughput", "max_concurrency": 8}, ("closed", 7.2992932, None), "possible"),
        ({"type_": "throughput"}, ("closed", 7.2992932, None), "possible"),
        ({"type_": "poisson", "rate": 9.0}, ("open", None, 9), ""),
        ({"type_": "poisson", "rate": 90}, ("open", None, 90), "overloaded"),
        ({"type_": "constant", "rate": 9}, ("open", None, 9), "not as Poisson"),
        ({"type_": "trace", "time_scale": 1.0}, ("open", None, None), "recorded trace"),
        ({"type_": "synchronous", "rampup_duration": 2.0}, ("closed", 1, None), "first 2 s"),
    ],
)
def test_every_kind_of_benchmark_gets_its_load(strategy, load, note):
    data = with_strategy(**strategy)
    point = points_of(data)[0]
    got = (point.mode, point.concurrency, point.offered_rps)
    assert got == (load[0], load[1] and pytest.approx(load[1]), load[2])
    assert note in notes_of(data) if note else notes_of(data) == ""


def test_warnings_of_the_tool_are_told_by_their_code():
    assert "GuideLLM itself warns of generation_delay_ttft" in notes_of(data_of(NEW))


def test_model_and_engine_come_from_wherever_the_version_keeps_them():
    data = data_of(NEW)
    for benchmark in data["benchmarks"]:
        benchmark["config"]["backend"] = {"kind": "vllm_python"}
    data["config"]["spec"]["backend"]["model"] = "org/model"
    reading = parse({"a.json": json.dumps(data)})[0]
    assert (reading.model_id, reading.engine) == ("org/model", "vllm")
    del data["config"]
    assert parse({"a.json": json.dumps(data)})[0].model_id is None
    data["args"] = {"model": "from/args"}
    assert parse({"a.json": json.dumps(data)})[0].model_id == "from/args"


def test_csv_beside_its_json_is_left_out_and_alone_refused():
    files = {"run/constant.csv": text_of("guidellm/constant.csv")}
    with pytest.raises(InputError, match=r"import the \.json") as error:
        parse(files)
    assert error.value.faults[0].file == "run/constant.csv"
    readings = parse({**files, "run/constant.json": text_of(RATES)})
    assert [len(reading.points) for reading in readings] == [2]
    assert readings[0].notes[-1] == "constant.csv: left out, the .json says the same"


def test_recognises_its_own_files_and_no_others():
    others = ["vllm_bench/conc1.json", "aiperf/c8/profile_export_aiperf.json"]
    assert all(recognises("x", text_of(name)) for name in [*FILES, "guidellm/constant.csv"])
    assert not any(recognises(name, text_of(name)) for name in others)
    assert not any(recognises("a.json", text) for text in ("", "{", "\x00", '{"benchmarks": []}'))


FAULTS = [
    (("config", "strategy", "type_"), "mystery", "config.strategy.type_", "'mystery'"),
    (("config", "strategy", "type_"), None, "config.strategy.type_", "null"),
    (("config", "strategy", "streams"), None, "config.strategy.streams", "null"),
    (("config", "strategy", "streams"), 0, "config.strategy.streams", "got 0"),
    (("config", "strategy"), [], "config.strategy", "a list"),
    (("scheduler_metrics", "measure_end_time"), 5.0, "end_time", "5.0"),
    (("metrics", "request_totals", "successful"), 19, "requests.successful", "19"),
    (("metrics", "request_totals", "successful"), -1, "request_totals.successful", "-1"),
    (("requests", "successful"), {}, "requests.successful", "an object"),
    (("requests", "successful", 3), 7, "requests.successful[3]", "got 7"),
    (("requests", "successful", 3, "request_end_time"), None, "successful[3].end_time", ""),
    (("requests", "successful", 3, "request_latency"), 9.0, "request_latency", "9.0"),
    (("requests", "successful", 3, "output_tokens"), "64", "output_tokens", "'64'"),
    (("requests", "successful", 3, "prompt_tokens"), math.nan, "prompt_tokens", "nan"),
    (("requests", "successful", 3, "time_to_first_token_ms"), -1, "time_to_first", "-1"),
    (("requests", "successful", 3, "time_to_first_token_ms"), 9e3, "successful[3]", "9 s"),
]


@pytest.mark.parametrize(("path", "value", "field", "got"), FAULTS)
def test_faulty_report_names_file_field_and_value(path, value, field, got):
    data = data_of(NEW)
    inner = data["benchmarks"][1]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(InputError) as error:
        parse({"dir/a.json": json.dumps(data)})
    found = [fault for fault in error.value.faults if field in fault.field]
    assert found
    assert found[0].file == "dir/a.json"
    assert found[0].field.startswith("benchmarks[1].")
    assert got in found[0].what
    assert found[0].fix


def test_summary_in_another_unit_is_refused():
    data = data_of(NEW)
    for benchmark in data["benchmarks"]:
        benchmark["requests"]["successful"] = []
    stats = data["benchmarks"][0]["metrics"]["request_latency"]["successful"]
    stats["mean"] /= 1e3
    with pytest.raises(InputError, match="mean end-to-end latency"):
        points_of(data)
    stats["mean"] *= 1e6
    with pytest.raises(InputError, match="tpot_mean_ms"):
        points_of(data)


def test_two_models_empty_reports_and_faults_of_all_files_together():
    data = data_of(NEW)
    data["benchmarks"][0]["config"]["backend"]["model"] = "other"
    with pytest.raises(InputError, match="other, tiny"):
        points_of(data)
    files = {"a.json": '{"benchmarks": []}', "b.json": "{", "c.json": json.dumps({"benchmarks": 3})}
    with pytest.raises(InputError) as error:
        parse(files)
    assert {fault.file for fault in error.value.faults} == set(files)


def still_sound(points: list[Point]) -> bool:
    """No point holds a first token after its end, or a rate that its counts contradict."""
    return all(
        (p.ttft_mean_ms or 0) <= (p.e2e_mean_ms or math.inf) * (1 + 1e-6)
        and (p.achieved_rps or 0) * (p.duration_s or 0) <= (p.n_requests or 0) * (1 + 1e-6)
        for p in points
    )


def listed_figures(benchmark: dict) -> dict:
    """Latencies of a damaged benchmark with plain numpy; empty where its requests lack any."""
    try:
        requests = benchmark["requests"]["successful"]
        begin = "request_start_time" if "request_start_time" in requests[0] else "start_time"
        end = begin.replace("start", "end")
        e2e = 1e3 * np.array([request[end] - request[begin] for request in requests])
        ttft = np.array([request["time_to_first_token_ms"] for request in requests], dtype=float)
        n_output = np.array([request["output_tokens"] for request in requests], dtype=float)
        whole = len(requests) == 3 and np.isfinite([*ttft, *n_output]).all() and n_output.min() >= 2
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return {}
    times = {"ttft": ttft, "tpot": (e2e - ttft) / (n_output - 1), "e2e": e2e}
    return {f"{k}_p90_ms": np.percentile(v, 90) for k, v in times.items()} if whole else {}


@pytest.mark.parametrize("name", FILES)
def test_damaged_reports_give_input_errors_or_sound_points(name):
    data = data_of(name)
    data["benchmarks"] = [data["benchmarks"][0]]
    data["benchmarks"][0]["requests"]["successful"] = data["benchmarks"][0]["requests"][
        "successful"
    ][:3]
    home = data["benchmarks"][0] if name == OLD else data["benchmarks"][0]["metrics"]
    home["request_totals"]["successful"] = 3
    text = json.dumps(data)
    n_read = n_equal = 0
    for changed in [*altered(data, 300), *damaged(text, 120)]:
        recognises("a.json", changed)
        try:
            points = parse({"a.json": changed})[0].points
        except InputError:
            continue
        n_read += 1
        assert still_sound(points)
        for point, benchmark in zip(points, json.loads(changed)["benchmarks"], strict=True):
            expected = listed_figures(benchmark)
            if expected and point.n_requests == 3 and point.n_failed == 0:
                assert unequal(point, expected) == []
                n_equal += 1
    assert n_equal > 100
    assert 0 < n_read < 420


def test_damaged_tables_give_input_errors():
    for changed in damaged(text_of("guidellm/constant.csv"), 60):
        with pytest.raises(InputError):
            parse({"a.csv": changed})
