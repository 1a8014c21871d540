"""What a person reads of drift: the verdict first, promises apart, long lists cut."""

from __future__ import annotations

import io

from planner.drift.finding import DriftReport, Finding
from planner.drift.intervals import Interval
from planner.report.console import make_console
from planner.report.drift import MOST_ROWS, render_drift


def finding(where: str, kind: str = "latency", unit: str = "ms", seen: float = 300.0) -> Finding:
    around = Interval(seen, 0.9 * seen, 1.1 * seen)
    return Finding(kind, where, "", unit, 100.0, around, 80.0, 120.0, 500.0, "look at it")  # type: ignore[arg-type]


def text_of(*findings: Finding, **changes: object) -> str:
    fields = {"fits": "fits", "notes": (), "seconds": 7_300.0, "n_requests": 1_234_567.0}
    report = DriftReport(plan_hash="e" * 64, findings=findings, **{**fields, **changes})  # type: ignore[arg-type]
    stream = io.StringIO()
    render_drift(report, make_console(stream, 80))
    assert max(map(len, stream.getvalue().splitlines())) <= 80
    return stream.getvalue()


def test_the_first_line_says_whether_it_fits_and_what_was_seen() -> None:
    first = text_of().splitlines()[0]
    assert first == (
        "fits: plan eeeeeeeeeeee, nothing has drifted, 1,234,567 requests in 2.0 hours"
    )
    early = text_of(fits="too early to tell", notes=("only a few came",), seconds=90.0)
    assert early.startswith("too early to tell: ")
    assert "in\n90 s" in early and "- only a few came" in early


def test_promises_stand_apart_with_what_they_allow() -> None:
    text = text_of(
        finding("chat", "limit"), finding("code", "rate", "req/s"), fits="no longer fits"
    )
    promised, drifted = text.split("What has drifted")
    assert "limit (ms)  chat" in promised and "drift" in promised
    assert "requests/s  code" in drifted and "80..120" in drifted
    assert "limit of chat, requests/s of code: look at it" in drifted


def test_a_floor_is_allowed_from_below() -> None:
    assert ">= 80.0000" in text_of(finding("chat", "quality_floor", "quality", 60.0))


def test_long_lists_are_cut_and_latencies_come_last() -> None:
    many = [finding(f"class-{k}") for k in range(MOST_ROWS + 3)]
    text = text_of(*many, finding("chat", "share", "ratio"))
    assert "4 more figures: see --json" in text
    assert text.index("share") < text.index("class-0")
    assert "and 14 more: look at it" in text


def test_what_nobody_knows_is_a_question_mark() -> None:
    endless = Interval(9.0, 0.0, float("inf"))
    wide = Finding("limit", "chat", "", "ms", 1.0, endless, 0.0, 1.0, 1.0, "look at it")
    text = text_of(wide)
    assert "0.0..?" in text and "open" in text
    assert "1 open" in text.splitlines()[-1]
