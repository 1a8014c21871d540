"""Which tool wrote which file: detection by content, what is left out, all faults together."""

import json
from pathlib import Path

import pytest
from vllm_case import run

from planner.errors import InputError
from planner.profile.runs import FORMATS, read_runs

FIXTURES = Path(__file__).parent.parent / "fixtures"
CSV = "input_tokens,output_tokens,mode,concurrency,source\n"
ONE_OF_EACH = {
    "aibrix/tiny-streamed.jsonl": "AIBrix GPU optimizer",
    "aiperf/c8/profile_export.jsonl": "AIPerf / GenAI-Perf",
    "aiperf/c8/profile_export_aiperf.csv": "AIPerf / GenAI-Perf",
    "aiperf/c8/profile_export_aiperf.json": "AIPerf / GenAI-Perf",
    "guidellm/concurrent.json": "GuideLLM",
    "guidellm/constant.csv": "GuideLLM",
    "guidellm_old/concurrent.json": "GuideLLM",
    "inference_perf/config.yaml": "inference-perf",
    "inference_perf/stage_0_lifecycle_metrics.json": "inference-perf",
    "llmd/report.yaml": "llm-d Benchmark Report",
    "llmperf/tiny-model_500_30_summary.json": "llmperf",
    "sglang/closed.jsonl": "SGLang bench_serving",
    "sglang/rate4.jsonl": "SGLang bench_serving",
    "vidur/request_metrics.csv": "Vidur",
    "vllm_bench/conc1.json": "vLLM bench serve",
}


def fixture_text(name: str) -> str:
    return (FIXTURES / name).read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "expected"), ONE_OF_EACH.items())
def test_each_file_is_recognised_by_its_tool_and_no_other(name, expected):
    text = fixture_text(name)
    by = [form.NAME for form in FORMATS if form.recognises(name, text)]
    assert by == [expected]


def test_every_format_has_a_file_here():
    assert {form.NAME for form in FORMATS} - set(ONE_OF_EACH.values()) == {"rb points.csv"}


@pytest.mark.parametrize("name", [n for n in ONE_OF_EACH if not n.endswith(".csv")])
def test_the_name_of_a_file_does_not_matter_to_who_wrote_it(name):
    text = fixture_text(name)
    assert any(f.recognises("x.txt", text) and ONE_OF_EACH[name] == f.NAME for f in FORMATS)


def test_all_folders_at_once_keep_what_belongs_together():
    texts = {
        path.relative_to(FIXTURES).as_posix(): path.read_text(encoding="utf-8")
        for path in FIXTURES.rglob("*.*")
        if path.suffix in {".json", ".jsonl", ".csv", ".yaml"}
    }
    found = read_runs(texts, named=())
    counts: dict[str, int] = {}
    for each in found.runs:
        n_points = len(each.reading.points)
        counts[each.format_name] = counts.get(each.format_name, 0) + n_points
    # One point per AIPerf run of three files, per GuideLLM strategy (the CSV repeats the JSON),
    # per stage, per run.
    assert counts["AIPerf / GenAI-Perf"] == 3
    reports = [name for name in texts if "guidellm" in name and name.endswith(".json")]
    assert counts["GuideLLM"] == sum(len(json.loads(texts[n])["benchmarks"]) for n in reports) > 6
    assert counts["inference-perf"] == 3
    assert counts["vLLM bench serve"] == 4
    assert counts["SGLang bench_serving"] == 2 + 1  # two runs appended to one file
    assert counts["llmperf"] == 1


def test_order_of_files_does_not_matter():
    texts = {f"{cap}.json": run(max_concurrency=cap) for cap in (16, 2, 9)}
    assert read_runs(texts) == read_runs(dict(reversed(texts.items())))


def test_a_repeating_file_is_left_out_and_said_so():
    found = read_runs({"x/a.json": run(), "x/a.pytorch.json": "[not even JSON"})
    assert len(found.runs) == 1
    assert found.notes[0].startswith("a.pytorch.json: left out")


def test_a_copy_beside_its_original_is_read_once():
    found = read_runs({"x/a.json": run(), "x/b.json": run(), "y/b.json": run()})
    assert [each.files for each in found.runs] == [("x/a.json",), ("y/b.json",)]
    assert found.notes == ("b.json: left out, its content is that of a.json",)


def test_each_table_of_our_own_is_a_run_of_its_own_file_whatever_its_rows_name():
    tables = {"x/a.csv": CSV + "9,20,closed,2,s\n", "x/b.csv": CSV + "9,20,closed,4,x a.csv\n"}
    assert [each.files for each in read_runs(tables).runs] == [("x/a.csv",), ("x/b.csv",)]


def test_a_name_that_begins_like_another_is_not_it():
    folder = "aibrix/simulator-llama2-7b-a100.json"
    texts = {name: fixture_text(name) for name in (folder, f"{folder}l")}
    assert [each.files for each in read_runs(texts).runs] == [(folder,), (f"{folder}l",)]


def test_what_is_named_must_be_a_result_and_the_fix_lists_all_tools():
    texts = {"a.json": "{}", "b.csv": "x,y\n1,2\n", "c.json": "", "d.json": run()}
    with pytest.raises(InputError) as error:
        read_runs(texts, named={"a.json", "b.csv", "c.json"})
    faults = error.value.faults
    assert [(f.file, f.field) for f in faults] == [(n, "content") for n in sorted(texts)[:3]]
    for tool in {form.NAME for form in FORMATS}:
        assert tool in faults[0].fix and tool in faults[1].fix
    assert "'x,y" in faults[1].what
    assert "empty" in faults[2].what


def test_what_was_found_in_a_folder_may_be_something_else():
    found = read_runs({"a.json": "{}", "b.csv": "x,y\n", "c.json": run()}, named={"c.json"})
    assert found.left_out == ("a.json", "b.csv")
    assert len(found.runs) == 1


def test_faults_of_all_files_come_together():
    texts = {
        "a.json": run(duration=-1, completed="x"),
        "b.json": "",
        "c.csv": CSV + "0,20,closed,2,s\n",
        "d.txt": "hello",
        "e.json": run(),
        "f/stage_0_lifecycle_metrics.json": fixture_text(
            "inference_perf/stage_0_lifecycle_metrics.json"
        ).replace('"count"', '"counted"'),
    }
    with pytest.raises(InputError) as error:
        read_runs(texts)
    assert {(fault.file, fault.field) for fault in error.value.faults} >= {
        ("a.json", "duration"),
        ("a.json", "completed"),
        ("b.json", "content"),
        ("c.csv", "line 2.input_tokens"),
        ("d.txt", "content"),
    }
    assert any(fault.file.startswith("f/") for fault in error.value.faults)
    assert all("got" in fault.what and fault.fix for fault in error.value.faults)


def test_broken_json_in_a_folder_is_left_out_by_name():
    """Nobody can tell whose it is; a run that was cut off early is told apart from strangers."""
    texts = {"a.json": run(), "b.json": '{"date": "2026', "c.json": '{"an": "other"}', "d.csv": "x"}
    found = read_runs(texts, named=())
    assert found.left_out == ("c.json", "d.csv")
    assert found.notes == ("b.json: left out, it is broken JSON, perhaps cut off",)


def test_a_cut_off_result_is_a_fault_and_no_stranger():
    """Its first keys still tell whose it is; left out silently it would be missed."""
    with pytest.raises(InputError) as error:
        read_runs({"a.json": run()[:-20]}, named=())
    assert [(fault.file, fault.field) for fault in error.value.faults] == [("a.json", "line 1")]
