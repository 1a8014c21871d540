"""Findings as SARIF 2.1.0: the structure that the standard asks for, written down by hand here."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner import __version__
from planner.gate.finding import Finding, error, warning
from planner.gate.judgement import Judgement
from planner.gate.rules import RULES
from planner.report.locate import Source
from planner.report.sarif import sarif_text

TEXT = '{\n  "deployment": [\n  ],\n  "complete": false\n}\n'
SOURCES = {"plan.json": Source("plans/ä b/plan.json", TEXT)}
STOCK = error("stock", "plan.json:deployment", "takes {9} GPUs, see [8](http://x)", "buy")
OFF = Judgement((STOCK,), RULES[:9], (("stock", 2),))
MARK = warning("incomplete", "plan.json:complete", "was interrupted", "again")


class Line:
    """Stands for the number of a line."""


# Of the standard: what a property must be where it is there, and which must be there (sections
# 3.13 sarifLog, 3.14 run, 3.18 tool, 3.19 toolComponent, 3.49 reportingDescriptor, 3.27 result,
# 3.11 message, 3.28 location, 3.29 physicalLocation, 3.4 artifactLocation, 3.30 region).
MESSAGE = {"text!": str}
LEVEL = ("none", "note", "warning", "error")
RULE = {
    "id!": str,
    "shortDescription": MESSAGE,
    "fullDescription": MESSAGE,
    "help": MESSAGE,
    "defaultConfiguration": {"level": LEVEL},
}
LOCATION = {
    "physicalLocation": {
        "artifactLocation": {"uri": str, "uriBaseId": str},
        "region": {"startLine": Line},
    }
}
RESULT = {
    "ruleId": str,
    "ruleIndex": int,
    "level": LEVEL,
    "message!": MESSAGE,
    "locations": [LOCATION],
    "partialFingerprints": str,  # a mapping to texts
}
RUN = {
    "tool!": {"driver!": {"name!": str, "semanticVersion": str, "rules": [RULE]}},
    "columnKind": ("utf16CodeUnits", "unicodeCodePoints"),
    "results": [RESULT],
    "properties": {"switchedOff": int},  # a bag of the tool's own (3.8)
}
LOG = {"$schema": str, "version!": ("2.1.0",), "runs!": [RUN]}


def faults(data: object, shape: object, at: str = "log") -> list[str]:
    """What is wrong with data by a shape: types, words, and keys with '!' where they must be."""
    if isinstance(shape, Mapping):
        if not isinstance(data, Mapping):
            return [f"{at} is no object"]
        allowed = {key.rstrip("!"): each for key, each in shape.items()}
        missing = [key for key in shape if key.endswith("!") and key.rstrip("!") not in data]
        wrong = [f"{at}.{key.rstrip('!')} is missing" for key in missing]
        wrong += [f"{at}.{key} is unknown" for key in data if key not in allowed]
        known = [key for key in data if key in allowed]
        return wrong + [f for key in known for f in faults(data[key], allowed[key], f"{at}.{key}")]
    if isinstance(shape, list):
        if not isinstance(data, list):
            return [f"{at} is no array"]
        return [f for k, each in enumerate(data) for f in faults(each, shape[0], f"{at}[{k}]")]
    if isinstance(shape, tuple):
        return [] if data in shape else [f"{at} is {data!r}"]
    each = list(data.values()) if isinstance(data, Mapping) else [data]
    fine = all(type(value) is shape for value in each)
    if shape is Line:  # 3.30.5: counted from 1
        fine = type(data) is int and data >= 1
    return [] if fine else [f"{at} is no {shape}"]


def log_of(findings: Sequence[Finding]) -> dict[str, object]:
    data = json.loads(sarif_text(Judgement(tuple(findings), RULES), SOURCES))
    assert isinstance(data, dict)
    return data


def run_of(*findings: Finding) -> dict[str, list[dict[str, object]]]:
    (run,) = log_of(findings)["runs"]  # type: ignore[misc]
    return run


def test_it_has_the_structure_of_the_standard() -> None:
    assert faults(log_of([STOCK, MARK]), LOG) == []
    assert faults(log_of([]), LOG) == []
    log = json.loads(sarif_text(OFF, SOURCES))
    assert faults(log, LOG) == []
    assert log["runs"][0]["properties"] == {"switchedOff": {"stock": 2}}


def test_the_structure_is_checked() -> None:
    log = log_of([STOCK])
    assert faults({**log, "version": "2.0"}, LOG) == ["log.version is '2.0'"]
    assert faults({"version": "2.1.0", "x": 1}, LOG) == ["log.runs is missing", "log.x is unknown"]
    assert faults(0, Line) == faults(True, Line) == [f"log is no {Line}"]


def test_the_official_schema_accepts_it() -> None:
    """Where SARIF_SCHEMA names a copy of it, which is not ours to pass on.

    OASIS publishes it; npm's @microsoft/jest-sarif carries it: npm pack @microsoft/jest-sarif, then
    package/lib/schemas/sarif-2.1.0-rtm.5.json.
    """
    path = os.environ.get("SARIF_SCHEMA")
    if path is None:
        pytest.skip("SARIF_SCHEMA names no copy of sarif-schema-2.1.0.json")
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(Path(path).read_text(encoding="utf-8"))
    official = jsonschema.validators.validator_for(schema)(schema)  # drafts 4 and 7 are about
    assert not official.is_valid({"version": "2.1.0"})
    for findings in ([STOCK, MARK], [STOCK, STOCK], []):
        official.validate(log_of(findings))
    official.validate(json.loads(sarif_text(OFF, {"plan.json": Source("/srv/plan.json", TEXT)})))


def test_a_result_points_to_its_rule_and_its_line() -> None:
    run = run_of(STOCK, MARK)
    driver = run["tool"]["driver"]  # type: ignore[call-overload]
    assert (driver["name"], driver["semanticVersion"]) == ("rb", __version__)
    assert [rule["id"] for rule in driver["rules"]] == [rule.id for rule in RULES]
    for result, finding, line in zip(run["results"], (STOCK, MARK), (2, 4), strict=True):
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"] == finding.code
        assert result["level"] == finding.severity
        place = result["locations"][0]["physicalLocation"]  # type: ignore[index]
        assert place["region"] == {"startLine": line}
        assert place["artifactLocation"]["uriBaseId"] == "%SRCROOT%"
        assert unquote(place["artifactLocation"]["uri"]) == "plans/ä b/plan.json"


def test_braces_and_links_are_text() -> None:
    message = run_of(STOCK)["results"][0]["message"]
    text = "plan.json:deployment: takes {{9}} GPUs, see [8] (http://x); fix: buy"
    assert message == {"text": text}


def test_the_same_fault_is_the_same_alert_though_its_figures_move() -> None:
    def prints(*findings: Finding) -> list[object]:
        return [result["partialFingerprints"] for result in run_of(*findings)["results"]]

    moved = error("stock", STOCK.where, "takes 10 GPUs", "buy")
    other = error("stock", "plan.json:deployment (b200)", "takes 9 GPUs", "buy")
    assert prints(STOCK) == prints(moved) != prints(other)
    assert prints(STOCK, STOCK)[0] != prints(STOCK, STOCK)[1]


def test_a_file_outside_of_the_repository_is_named_by_its_whole_path() -> None:
    sources = {"plan.json": Source("/srv/plan.json", TEXT)}
    data = json.loads(sarif_text(Judgement((STOCK,), RULES), sources))
    place = data["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "file:///srv/plan.json"}


@given(st.text(max_size=60))
def test_any_text_keeps_the_structure(text: str) -> None:
    found = error("stock", text, text, text)
    assert faults(log_of([found]), LOG) == []
