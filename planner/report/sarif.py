"""Findings as SARIF 2.1.0, which code scanning of GitHub, GitLab and Azure DevOps reads.

Reference: OASIS Standard, Static Analysis Results Interchange Format (SARIF) Version 2.1.0.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable

from planner import __version__
from planner.gate.finding import Finding
from planner.gate.judgement import Judgement
from planner.gate.rules import Rule
from planner.report.console import plain
from planner.report.locate import Sources, place_of

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def sarif_text(judgement: Judgement, sources: Sources) -> str:
    """Returns a SARIF log with one run: the rules that were judged, and a result per finding.

    Args:
        judgement: what was found, and the rules that had their say.
        sources: the files that the findings point into; paths are relative to the repository.
    """
    rules = list(judgement.judged)
    driver = {
        "name": "rb",
        "semanticVersion": __version__,
        "rules": [_rule(rule) for rule in rules],
    }
    run: dict[str, object] = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": list(_results(judgement.findings, [rule.id for rule in rules], sources)),
    }
    if judgement.switched_off:  # a viewer shows no result of these: the file says that there are
        run["properties"] = {"switchedOff": dict(judgement.switched_off)}
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=False) + "\n"


def _rule(rule: Rule) -> dict[str, object]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": f"{rule.summary}: {rule.why}"},
        "help": {"text": f"fix: {rule.fix}"},
        "defaultConfiguration": {"level": rule.severity},
    }


def _results(
    findings: Iterable[Finding], rule_ids: list[str], sources: Sources
) -> Iterable[dict[str, object]]:
    seen: Counter[str] = Counter()
    for finding in findings:
        place = place_of(finding.where, sources)
        key = f"{finding.code}\0{place.path}\0{finding.where}"
        seen[key] += 1
        index = {"ruleIndex": rule_ids.index(finding.code)} if finding.code in rule_ids else {}
        yield {
            "ruleId": finding.code,
            **index,
            "level": finding.severity,
            "message": {"text": _message(finding)},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": _uri(place.path),
                        "region": {"startLine": place.line},
                    }
                }
            ],
            # The same fault in the next commit is the same alert, though its figures have moved.
            "partialFingerprints": {"rbFinding/v1": _fingerprint(key, seen[key])},
        }


def _message(finding: Finding) -> str:
    """Returns a text without what SARIF reads as a placeholder {0} or as a link [text](target)."""
    text = plain(f"{finding.where}: {finding.what}; fix: {finding.fix}")
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _uri(path: str) -> dict[str, str]:
    """Returns a file: one of the repository by its path in there, any other by its whole path."""
    spelled = "".join(
        c if c.isascii() and (c.isalnum() or c in "/._-~+") else _escaped(c) for c in path
    )
    if path.startswith("/"):
        return {"uri": f"file://{spelled}"}
    return {"uri": spelled, "uriBaseId": "%SRCROOT%"}


def _escaped(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "replace"))


def _fingerprint(key: str, count: int) -> str:
    return f"{hashlib.sha256(key.encode()).hexdigest()[:32]}:{count}"
