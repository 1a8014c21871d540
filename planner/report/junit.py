"""Findings as JUnit XML, which every CI system shows: one test case for each rule that was judged.

rule without findings              a test that passes
rule with errors                   a failure that tells all of them
rule with warnings only            passes, and tells them as its output
rule that the policy switches off  skipped
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from planner.gate.finding import Finding
from planner.gate.judgement import Judgement
from planner.report.console import plain
from planner.report.figures import count

# What XML 1.0 cannot hold is taken out by `plain`, these apart: they print, but are no characters.
_NOT_XML = dict.fromkeys((65534, 65535), " ")


def junit_xml(judgement: Judgement, where: str) -> str:
    """Returns a JUnit report.

    Args:
        judgement: what was found, and the rules that had their say.
        where: the plan that was judged, as the user named it: the name of the suite.
    """
    rules = dict.fromkeys(
        (*(r.id for r in judgement.judged), *(f.code for f in judgement.findings))
    )
    found = {rule: [f for f in judgement.findings if f.code == rule] for rule in rules}
    failed = sum(any(f.severity == "error" for f in each) for each in found.values())
    suite = ET.Element(
        "testsuite",
        name=_text(f"rb check {where}"),
        tests=str(len(rules) + len(judgement.switched_off)),
        failures=str(failed),
        errors="0",
        skipped=str(len(judgement.switched_off)),
        time="0",
    )
    for rule in rules:
        _case(suite, rule, where, found[rule])
    for name, n_kept in judgement.switched_off:
        case = ET.SubElement(suite, "testcase", name=_text(name), classname=_text(where), time="0")
        ET.SubElement(
            case, "skipped", message=f"switched off by the policy: {count(n_kept, 'finding')}"
        )
    suites = ET.Element("testsuites", name="rb check", tests=suite.get("tests", "0"))
    suites.set("failures", str(failed))
    suites.append(suite)
    ET.indent(suites)
    body = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _case(suite: ET.Element, rule: str, where: str, found: Sequence[Finding]) -> None:
    case = ET.SubElement(suite, "testcase", name=_text(rule), classname=_text(where), time="0")
    errors = [f for f in found if f.severity == "error"]
    if errors:
        message = errors[0].what if len(errors) == 1 else count(len(errors), "error")
        failure = ET.SubElement(case, "failure", message=_text(message), type=_text(rule))
        failure.text = "\n".join(map(_told, errors))
    warnings = [f for f in found if f.severity != "error"]
    if warnings:
        ET.SubElement(case, "system-out").text = "\n".join(map(_told, warnings))


def _told(finding: Finding) -> str:
    return _text(f"{finding.severity}: {finding.where}: {finding.what}; fix: {finding.fix}")


def _text(text: str) -> str:
    """Returns text that XML can hold."""
    return plain(text).translate(_NOT_XML)
