"""Findings as JUnit XML: one test case for each rule."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from planner.gate.finding import Finding, error, warning
from planner.gate.judgement import Judgement
from planner.gate.rules import RULES
from planner.report.junit import junit_xml

STOCK = error("stock", "plan.json:deployment (h100)", "takes 9 GPUs, 8 exist", "raise the stock")
MARK = warning("extrapolated", "a-pool", "runs outside its measured loads", "measure it")


def suite_of(*findings: Finding, off: tuple[tuple[str, int], ...] = ()) -> ET.Element:
    judged = tuple(rule for rule in RULES if rule.id not in dict(off))
    root = ET.fromstring(junit_xml(Judgement(findings, judged, off), "plans/demo"))
    assert root.tag == "testsuites"
    (suite,) = root
    for name in ("tests", "failures"):
        assert root.get(name) == suite.get(name)
    return suite


def case(suite: ET.Element, name: str) -> ET.Element:
    (found,) = [each for each in suite if each.get("name") == name]
    return found


def test_each_rule_is_a_test_case() -> None:
    suite = suite_of()
    assert [each.get("name") for each in suite] == [rule.id for rule in RULES]
    assert (suite.get("tests"), suite.get("failures")) == (str(len(RULES)), "0")
    assert {each.get("classname") for each in suite} == {"plans/demo"}
    assert all(len(each) == 0 for each in suite)


def test_a_rule_with_errors_fails_once_and_tells_them_all() -> None:
    suite = suite_of(STOCK, STOCK, MARK)
    assert suite.get("failures") == "1"
    (failure,) = case(suite, "stock")
    assert (failure.tag, failure.get("type"), failure.get("message")) == (
        "failure",
        "stock",
        "2 errors",
    )
    assert (failure.text or "").splitlines() == [
        "error: plan.json:deployment (h100): takes 9 GPUs, 8 exist; fix: raise the stock"
    ] * 2


def test_a_warning_is_told_and_does_not_fail() -> None:
    suite = suite_of(MARK)
    (said,) = case(suite, "extrapolated")
    assert said.tag == "system-out" and "measure it" in (said.text or "")
    assert suite.get("failures") == "0"


def test_what_is_switched_off_is_skipped_and_said() -> None:
    suite = suite_of(off=(("stale", 2),))
    (skipped,) = case(suite, "stale")
    assert skipped.tag == "skipped"
    assert skipped.get("message") == "switched off by the policy: 2 findings"
    assert (suite.get("skipped"), suite.get("tests")) == ("1", str(len(RULES)))


def test_the_same_judgement_is_the_same_bytes() -> None:
    one, two = (junit_xml(Judgement((STOCK,), RULES), "x") for _ in range(2))
    assert one == two and one.startswith('<?xml version="1.0" encoding="UTF-8"?>\n')


@given(st.text(max_size=60))
def test_any_text_is_xml(text: str) -> None:
    found = error("stock", text, text, text)
    root = ET.fromstring(junit_xml(Judgement((found,), RULES), text or "x").encode("utf-8"))
    (failure,) = case(root[0], "stock")
    told = "".join(c if c.isprintable() else " " for c in text)
    assert (failure.get("message") or "") == told
