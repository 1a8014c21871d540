"""The picture of `rb serve --watch`: what stands in it, within 80 columns."""

import io

import pytest
from msgspec.structs import replace
from rich.console import Console

from planner.report.serve import status_view
from planner.runtime.metrics import InstanceState
from planner.runtime.status import ClassStatus, LimitStatus, PoolShare, Status


def limit(statistic: str, metric: str, **changes: object) -> LimitStatus:
    told = {
        "at_most_ms": 800.0,
        "predicted_ms": 620.0,
        "ms": 512.3,
        "n_answers": 4321,
        "above_ratio": 0.012,
        "is_met": True,
    }
    return LimitStatus(metric=metric, statistic=statistic, **{**told, **changes})


def class_status(name: str | None, pools: list[PoolShare], **changes: object) -> ClassStatus:
    told = {
        "planned_rps": 36.5986,
        "rate_rps": 35.21,
        "n_since_start": 123_456,
        "n_ok": 2098,
        "n_error": 0,
        "n_cancelled": 3,
        "n_refused": 0,
        "n_escalated": 0,
        "score": None,
        "n_scores": 0,
        "limits": [],
    }
    return ClassStatus(class_name=name, pools=pools, **{**told, **changes})


def instance(name: str, **changes: object) -> InstanceState:
    told = {
        "state": "up",
        "up": True,
        "n_running": 12.0,
        "n_waiting": 1.0,
        "n_in_flight": 13,
        "predicted_delay_s": 0.2345,
        "telemetry_age_s": 0.51,
    }
    return InstanceState(pool=name.partition("/")[0], instance=name, **{**told, **changes})


BIG, SMALL = "llama-3.1-70b-b200-tp2", "llama-3.1-8b-h100"
STATUS = Status(
    plan_hash="3324de394449" + "0" * 52,
    title="Three kinds of reasoning, three sizes of Llama 3.1",
    up_s=3723.0,
    recent_s=64.0,
    n_workers=4,
    is_draining=False,
    rate_rps=57.21,
    planned_rps=78.8,
    classes=[
        class_status(
            "math-l5",
            [PoolShare(BIG, 0.75, 0.7512, 0.7501), PoolShare(SMALL, 0.25, 0.2488, 0.2499)],
            limits=[limit("p95", "ttft"), limit("p95", "tpot", ms=61.2, is_met=False)],
        ),
        class_status(
            "gsm", [PoolShare(BIG, 0.9, 0.7, 0.7), PoolShare(SMALL, 0.1, 0.3, 0.3)], n_error=17
        ),
        class_status(None, [PoolShare(SMALL, None, 1.0, 1.0)], planned_rps=None, n_refused=4),
    ],
    limits=[limit("mean", "e2e", ms=None, n_answers=0, above_ratio=None, is_met=None)],
    instances=[
        instance(f"{BIG}/0"),
        instance(f"{SMALL}/11", up=False, state="slow start", predicted_delay_s=None),
    ],
    prices={"small": 0.0371332},
    retries={f"{SMALL}: connect": 12},
    refused={"capacity": 4},
    reloads={"ok": 2, "refused": 1},
    n_log_lines_lost=0,
)


def drawn(status: Status, width: int = 80) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, markup=False, emoji=False, highlight=False)
    console.print(status_view(status))
    return [row.rstrip() for row in out.getvalue().splitlines()]


def row(rows: list[str], *words: str) -> str:
    """The one row that bears some words."""
    found = [each for each in rows if all(word in each for word in words)]
    assert len(found) == 1, (words, found)
    return found[0]


def test_planned_stands_beside_actual():
    rows = drawn(STATUS)
    assert rows[0] == STATUS.title
    assert "plan 3324de394449, up 1:02:03, 4 workers" in rows[1]
    assert "57.21 requests/s of 78.8 planned" in " ".join(rows[1:3])
    assert row(rows, "math-l5", BIG).split() == ["math-l5", BIG, "75.0%", "75.1%", "75.0%"]
    assert row(rows, "gsm", "36.6").split()[:6] == ["gsm", "35.21", "36.6", "2,098", "17", "3"]
    assert row(rows, "(not told)", "35.21").split()[-2:] == ["4", "-"]


def test_shares_off_the_plan_are_marked_once_enough_requests_tell():
    rows = drawn(STATUS)
    assert row(rows, "gsm", BIG).endswith("off plan")
    assert sum("off plan" in each for each in rows) == 2
    for each in STATUS.classes:
        each.n_since_start, before = 50, each.n_since_start
    try:
        assert not any("off plan" in each for each in drawn(STATUS))
    finally:
        for each in STATUS.classes:
            each.n_since_start = before


def test_limits_say_whether_they_are_met():
    rows = drawn(STATUS)
    assert row(rows, "p95 ttft of math-l5").split()[-6:] == [
        *("620", "512", "800", "1.2%", "4,321", "met"),
    ]
    assert row(rows, "p95 tpot of math-l5").endswith("MISSED")
    assert row(rows, "mean e2e").split() == ["mean", "e2e", "620", "-", "800", "-", "-"]


def test_instances_and_troubles():
    text = "\n".join(drawn(STATUS))
    assert f"{BIG}/0" in text and "slow start" in text
    assert f"failed tries: {SMALL}: connect 12" in text
    assert "refused: capacity 4" in text and "reloads: ok 2, refused 1" in text
    assert "small 0.03713" in text and "lost" not in text
    assert "  - log: lines lost 1,234" in drawn(replace(STATUS, n_log_lines_lost=1234))


@pytest.mark.parametrize("width", [80, 60, 132])
def test_it_fits(width):
    assert max(map(len, drawn(STATUS, width))) <= width


def test_an_end_is_told():
    assert "ending: nothing new is taken" in drawn(replace(STATUS, is_draining=True))
    bare = replace(STATUS, title="", classes=[], limits=[], instances=[], planned_rps=None)
    rows = drawn(replace(bare, retries={}, refused={}, reloads={}, prices={}))
    assert rows[0] == "Serving" and not any("Limits" in each for each in rows)
