"""Findings as text: severity, code, place, what is wrong, what to do; and the rules behind them."""

from __future__ import annotations

import io

from planner.gate.finding import Finding, error, warning
from planner.gate.judgement import Judgement
from planner.gate.rules import RULES
from planner.report.check import render_findings, verdict
from planner.report.console import make_console
from planner.report.data import findings_data
from planner.report.rules import render_rules


def text_of(*findings: Finding) -> str:
    stream = io.StringIO()
    render_findings(findings, make_console(stream, 80))
    return stream.getvalue()


STOCK = error("stock", "plan.json:deployment (h100)", "takes 9 GPUs, 8 exist", "raise the stock")
MARK = warning("extrapolated", "a-pool", "runs outside its measured loads", "measure it")


def test_findings_and_their_number() -> None:
    assert text_of(STOCK, MARK).splitlines() == [
        "error stock: plan.json:deployment (h100)",
        "  takes 9 GPUs, 8 exist",
        "  fix: raise the stock",
        "warning extrapolated: a-pool",
        "  runs outside its measured loads",
        "  fix: measure it",
        "1 error, 1 warning",
    ]


def test_clean_is_said() -> None:
    assert text_of().startswith("clean: ")
    assert verdict([MARK, MARK]) == "0 errors, 2 warnings"


def test_long_findings_wrap_under_themselves() -> None:
    text = text_of(error("x", "w" * 120, "word " * 60, "fix " * 60))
    assert max(len(row) for row in text.splitlines()) <= 80
    assert all(row.startswith("  ") for row in text.splitlines() if row.strip().startswith("word"))


def test_data_holds_every_field() -> None:
    data = findings_data([STOCK, MARK])
    assert (data["ok"], data["n_errors"], data["n_warnings"]) == (False, 1, 1)
    assert data["findings"] == [
        {"severity": f.severity, "code": f.code, "where": f.where, "what": f.what, "fix": f.fix}
        for f in (STOCK, MARK)
    ]
    assert findings_data([MARK])["ok"] is True


def test_what_a_policy_keeps_back_is_said() -> None:
    stream = io.StringIO()
    judgement = Judgement((MARK,), RULES, (("stale", 2), ("stock", 0)))
    render_findings(judgement.findings, make_console(stream, 80), judgement.n_kept_back)
    assert stream.getvalue().splitlines()[-1] == (
        "0 errors, 1 warning; 2 findings of rules switched off"
    )
    assert verdict([], 1).endswith("today's profiles; 1 finding of rules switched off")


def test_every_rule_is_listed_with_its_reason_in_80_columns() -> None:
    stream = io.StringIO()
    render_rules(RULES, make_console(stream, 80))
    rows = stream.getvalue().splitlines()
    assert max(map(len, rows)) <= 80
    for rule in RULES:
        mild = "" if rule.severity == "error" else f" ({rule.severity})"
        assert sum(row.startswith(f"{rule.id}{mild}: ") for row in rows) == 1
    of_policy = sum(rule.of == "policy" for rule in RULES)
    assert f"Rules of every plan ({len(RULES) - of_policy})" in rows
    assert any(row.startswith("Rules of a policy, ") for row in rows)
