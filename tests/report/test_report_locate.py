"""Where a finding points to: the line of a JSON or YAML file that it is about."""

from __future__ import annotations

import json

import pytest
from hand_plan import ROOT
from hypothesis import given
from hypothesis import strategies as st

from planner.report.locate import Place, Source, line_of, place_of

PLAN = (ROOT / "tests" / "demo_plan" / "plan.json").read_text(encoding="utf-8")
QUESTION = (ROOT / "plans" / "demo" / "question.yaml").read_text(encoding="utf-8")
SOURCES = {
    "plan.json": Source("plans/demo/plan.json", PLAN),
    "question.yaml": Source("plans/demo/question.yaml", QUESTION),
    "policy.yaml": Source(
        "policies/strict.yaml", "max_cost_usd_per_h: 40\nseverity:\n  stale: off\n"
    ),
    "profiles/": Source("profiles/", ""),
    "": Source("plans/demo/", ""),
}


def line_text(place: Place) -> str:
    text = next(source.text for source in SOURCES.values() if source.path == place.path)
    return text.splitlines()[place.line - 1].strip()


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("plan.json:complete", '"complete": true,'),
        ("plan.json:deployment", '"deployment": ['),
        ("plan.json:deployment (h100-sxm-80g)", '"gpu": "h100-sxm-80g",'),
        ("plan.json:deployment[llama-3.1-8b-h100]", '"pool": "llama-3.1-8b-h100",'),
        ("plan.json:deployment[llama-3.1-8b-h100].replicas", '"replicas": 1,'),
        ("plan.json:predicted.cost_usd_per_h", '"cost_usd_per_h": 48.55,'),
        ("plan.json:routing[math-l5]", '"class": "math-l5",'),
        ("plan.json:nonsense.at[3].all", "{"),
        ("p95 tpot of crux", '"class": "crux",'),
        ("p95 e2e of all traffic", '"class": null,'),
        ("quality of all traffic", '"quality": 0.703868,'),
        ("quality of gsm", '"gsm": 0.911603,'),
        ("llama-3.1-8b-h100", '"pool": "llama-3.1-8b-h100",'),
        ("no-such-pool", '"deployment": ['),
        ("question.yaml:quality_at_least", "quality_at_least: 0.70           #"),
        ("question.yaml:classes[crux].limits", "limits:"),
        ("policy.yaml:severity.stale", "stale: off"),
    ],
)
def test_the_line_that_is_meant(where: str, line: str) -> None:
    assert line_text(place_of(where, SOURCES)).startswith(line)


@pytest.mark.parametrize(
    ("where", "path"),
    [
        ("question.yaml", "plans/demo/question.yaml"),
        ("profiles/gpus.yaml", "profiles/gpus.yaml"),
        ("profiles/llama-3.1-8b-h100/points.csv", "profiles/llama-3.1-8b-h100/points.csv"),
        ("arrivals.csv", "plans/demo/arrivals.csv"),
        ("routes.json:plan_hash", "plans/demo/routes.json"),
    ],
)
def test_a_file_without_its_text_is_pointed_to_as_a_whole(where: str, path: str) -> None:
    assert place_of(where, SOURCES) == Place(path, 1)


def test_a_class_of_the_right_limit_not_of_another() -> None:
    """The words of a label stand in one entry of the list, not somewhere near."""
    place = place_of("p95 e2e of math-l5", SOURCES)
    entry = "\n".join(PLAN.splitlines()[place.line - 1 : place.line + 3])
    assert all(word in entry for word in ('"math-l5"', '"e2e"', '"p95"'))


def test_numbered_entries() -> None:
    latencies = json.loads(PLAN)["predicted"]["latency"]
    for k, figure in enumerate(latencies):
        line = line_of(PLAN, f"predicted.latency[{k}].ms")
        assert PLAN.splitlines()[line - 1].strip() == f'"ms": {figure["ms"]},'
    listed = "limits:\n- a: 1\n  b: 2\n- a: 3\n  b: 4\n"
    assert line_of(listed, "limits[1].b") == 5


@given(text=st.text(max_size=200), where=st.text(max_size=60))
def test_whatever_is_asked_there_is_a_line(text: str, where: str) -> None:
    assert 1 <= line_of(text, where) <= max(len(text.splitlines()), 1)
    assert place_of(where, {"plan.json": Source("plan.json", text)}).line >= 1
