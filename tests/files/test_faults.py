"""What is wrong with an entry, in the words of its file: field, what, value, what to do."""

import pytest

from planner.errors import Fault
from planner.files.faults import build, build_list
from planner.spec.hardware import Gpu
from planner.spec.question import Question


def question_faults(**changes: object) -> list[str]:
    data: dict[str, object] = {
        "version": 1,
        "classes": [{"name": "a", "rate_rps": 1}],
        "stock": {"h": 1},
        "scores": "scores.csv",
    }
    faults: list[Fault] = []
    built = build(Question, {**data, **changes}, "q.yaml", faults)
    assert (built is None) == bool(faults)
    return [f"{fault.field}: {fault.what}" for fault in faults]


def class_with(**changes: object) -> dict[str, object]:
    return {"classes": [{"name": "a", "rate_rps": 1, **changes}]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        (class_with(rate_rps=True), ["classes[0].rate_rps: must be a number, got True"]),
        (class_with(rate_rps="3"), ["classes[0].rate_rps: must be a number, got '3'"]),
        (class_with(rate_rps=0), ["classes[0].rate_rps: must be above 0, got 0"]),
        (class_with(priority=True), ["classes[0].priority: must be a whole number, got True"]),
        (class_with(priority=1.5), ["classes[0].priority: must be a whole number, got 1.5"]),
        (class_with(rate_rsp=1), ["classes[0].rate_rsp: unknown key, got 1"]),
        ({"classes": []}, ["classes: needs at least 1 entry, got []"]),
        ({"classes": "a"}, ["classes: must be a list, got 'a'"]),
        ({"classes": [3]}, ["classes[0]: must be a mapping of keys to values, got 3"]),
        ({"stock": [1]}, ["stock: must be a mapping of keys to values, got [1]"]),
        ({"stock": {"h": True}}, ["stock.h: must be a whole number, got True"]),
        ({"stock": {"a b": 1}}, ["stock.a b: is not a name, got 'a b'"]),
        ({"title": ""}, ["title: must not be empty, got ''"]),
        ({"title": 7}, ["title: must be text, got 7"]),
        ({"pools": "a"}, ["pools: must be a list, got 'a'"]),
        ({"keep": "x"}, ["keep: must be a mapping of keys to values, got 'x'"]),
        ({"quality_at_least": 70}, ["quality_at_least: must be at most 1, got 70"]),
        ({"arrivals": "poisson"}, ["arrivals: must be a mapping of keys to values, got 'poisson'"]),
    ],
    ids=str,
)
def test_a_fault_in_the_words_of_the_file(changes, said):
    assert question_faults(**changes) == said


SQUARE = {"process": "square", "low_rps": 1, "high_rps": 2, "period_s": 60}
WORDS = "poisson, gamma, weibull, square, schedule, trace"


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [
        ({}, []),
        ({"process": "poisson"}, []),
        ({"process": "gamma", "cv": 2}, []),
        ({"process": "weibull", "cv": 2}, []),
        (SQUARE, []),
        ({"process": "schedule", "file": "a.csv"}, []),
        ({"trace": "a.csv"}, []),
        ({"process": "trace", "trace": "a.csv"}, []),
        ({"process": "bursts"}, [f"arrivals.process: must be one of {WORDS}, got 'bursts'"]),
        ({"process": None}, [f"arrivals.process: must be one of {WORDS}, got None"]),
        ({"process": ["a"], "cv": 1}, [f"arrivals.process: must be one of {WORDS}, got ['a']"]),
        ({"process": "gamma"}, ["arrivals.cv: is missing"]),
        ({"process": "gamma", "cv": -1}, ["arrivals.cv: must be above 0, got -1"]),
        ({"process": "gamma", "cv": 1, "x": 2}, ["arrivals.x: unknown key, got 2"]),
        ({"cv": 2}, ["arrivals.cv: unknown key, got 2"]),
        ({"process": "schedule"}, ["arrivals.file: is missing"]),
        ({"process": "trace"}, ["arrivals.trace: is missing"]),
        ({"process": "poisson", "trace": "a"}, ["arrivals.trace: unknown key, got 'a'"]),
        ({"trace": 3}, ["arrivals.trace: must be text, got 3"]),
        ({**SQUARE, "low_rps": 3}, ["arrivals: low_rps is above high_rps"]),
        (
            {**SQUARE, "low_rps": -1, "period_s": "x"},
            [
                "arrivals.low_rps: must be at least 0, got -1",
                "arrivals.period_s: must be a number, got 'x'",
            ],
        ),
    ],
    ids=str,
)
def test_only_the_meant_kind_of_arrivals_is_judged(arrivals, said):
    assert question_faults(arrivals=arrivals) == said


def test_a_faulty_process_hides_no_other_fault():
    said = question_faults(arrivals={"process": "x"}, title=3)
    assert [line.split(":")[0] for line in said] == ["arrivals.process", "title"]


def test_a_faulty_entry_does_not_make_its_list_empty():
    said = question_faults(classes=[{"name": "a"}])
    assert said == ["classes[0].rate_rps: is missing"]


@pytest.mark.parametrize(
    ("changes", "near"),
    [
        ({"headroom": 0.1}, "headroom_ratio"),
        (class_with(input_token=3), "input_tokens"),
        (class_with(limits=[{"metric": "e2e", "statistc": "p95"}]), "statistic"),
        ({"arrivals": {"process": "gamma", "cv": 1, "rate_facto": 2}}, "rate_factor"),
        ({"replicas": {"a": {"mim": 1}}}, "min"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_misspelt_key_is_met_with_the_right_one(changes, near):
    data = {"version": 1, "classes": [], "stock": {"h": 1}, "scores": "x", **changes}
    faults: list[Fault] = []
    build(Question, data, "q.yaml", faults)
    assert f"did you mean {near}?" in [fault.fix for fault in faults]


def test_an_entry_of_a_list_is_named_by_its_name():
    faults: list[Fault] = []
    assert build_list(Gpu, [{"name": "h100"}, {}], "gpus.yaml", faults) == ()
    assert {fault.field.split(".")[0] for fault in faults} == {"[h100]", "[1]"}
