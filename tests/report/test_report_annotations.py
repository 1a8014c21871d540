"""Findings as workflow commands of GitHub, read back as its runner reads them."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from planner.gate.diff import diff
from planner.gate.finding import Finding, error, warning
from planner.gate.judgement import Judgement
from planner.gate.rules import RULES
from planner.report.annotations import diff_annotations, github_annotations
from planner.report.locate import Source
from planner.spec.plan import Plan

TEXT = '{\n  "deployment": [\n  ],\n  "complete": false\n}\n'
SOURCES = {"plan.json": Source("plans/a, b:c%/plan.json", TEXT)}


def read(line: str) -> tuple[str, dict[str, str], str]:
    """A command as actions/runner takes it apart: its name, its properties, its message."""
    found = re.fullmatch(r"::(\w+) ([^:]*)::(.*)", line)
    assert found is not None, line
    properties = dict(part.split("=", 1) for part in found[2].split(","))
    return found[1], {k: unescaped(v) for k, v in properties.items()}, unescaped(found[3])


def unescaped(text: str) -> str:
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, char)
    return text


def commands(*findings: Finding) -> list[str]:
    return github_annotations(Judgement(findings, RULES), SOURCES).splitlines()


def test_a_finding_stands_beside_its_line() -> None:
    (line,) = commands(error("stock", "plan.json:deployment", "takes 9, 8 exist: 100%", "buy one"))
    assert read(line) == (
        "error",
        {"file": "plans/a, b:c%/plan.json", "line": "2", "title": "rb stock"},
        "plan.json:deployment: takes 9, 8 exist: 100%\nfix: buy one",
    )
    assert "line=2" in line


def test_warnings_come_after_errors() -> None:
    mild = warning("incomplete", "plan.json:complete", "x", "y")
    bad = error("stock", "plan.json:deployment", "x", "y")
    kinds = [read(line)[:2] for line in commands(mild, bad)]
    assert [(kind, properties["line"]) for kind, properties in kinds] == [
        ("error", "2"),
        ("warning", "4"),
    ]


def test_nothing_found_nothing_said() -> None:
    assert commands() == []


def test_more_than_github_shows_is_counted() -> None:
    lines = commands(*[error("stock", "plan.json:deployment", "x", "y")] * 25)
    assert len(lines) == 10
    assert read(lines[-1])[2] == "and 16 more of severity error: rb check tells all"


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_text_ends_a_command_or_begins_another(what: str, where: str) -> None:
    text = github_annotations(Judgement((error("stock", where, what, what),), RULES), SOURCES)
    assert text.count("\n") == 1 and len(text.splitlines()) == 1
    kind, properties, message = read(text.rstrip("\n"))
    assert kind == "error"
    assert set(properties) == {"file", "line", "title"}
    told = "".join(c if c.isprintable() or c == "\n" else " " for c in what)
    assert "%" in what or message.endswith(f"fix: {told}")


def test_a_change_is_a_notice(demo_plan: Plan) -> None:
    line = diff_annotations(diff(demo_plan, demo_plan), "plans/demo/plan.json").rstrip("\n")
    kind, properties, message = read(line)
    assert (kind, properties["file"], properties["line"]) == ("notice", "plans/demo/plan.json", "1")
    assert message.startswith("the plans order the same")
