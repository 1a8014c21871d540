"""`rb drift` as a shell sees it: a page made by our own meter, exit codes, a question to plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_pages import Seen, page_text
from questions import PROFILES, small, write_question
from shell import Run

from planner.errors import Fault
from planner.files.plans import read_routes
from planner.files.sheets import read_sheet
from planner.gate.finding import error
from planner.gate.judgement import Judgement
from planner.runtime.metrics import Counts, Meter, Report
from planner.runtime.page import render
from planner.runtime.served import Served
from planner.runtime.status import Planned
from planner.spec.plan import Plan
from planner.spec.sheet import ServingSheet

SECONDS = 10


def served(
    k: int, name: str, pool: str, sheet: ServingSheet, longer: float, tpot_s: float
) -> Served:
    answer = sheet.classes[name].answers[pool]
    n_output = round(longer * answer.output_tokens * (0.5 if k % 2 else 1.5))
    return Served(
        request_id=f"{name}-{pool}-{k}",
        operation="chat",
        class_name=name,
        asked_model="rb/auto",
        model_name=sheet.pools[pool].model_name,
        pool=pool,
        instance=f"{pool}/0",
        outcome="ok",
        why="",
        status=200,
        started_s=k * 0.01,
        ttft_s=0.1,
        e2e_s=0.1 + tpot_s * (n_output - 1),
        n_input=round(answer.input_tokens),
        n_output=n_output,
        usage_known=True,
        n_tries=1,
        failed_tries=(),
        cascade=None,
        escalated=False,
        streamed=True,
        decision_s=0.0,
    )


def page(
    plan: Plan, sheet: ServingSheet, seconds: int = SECONDS, longer: float = 1.0, late: bool = False
) -> str:
    """The page of a server after some time: as planned, but for the length of answers and times."""
    limits = [(x.metric, x.at_most_ms) for c in sheet.classes.values() for x in c.limits]
    meter = Meter(limits, 0.0)
    for route in plan.routing:
        cls = sheet.classes[route.class_name]
        for k in range(round(cls.rate_rps * route.share * seconds)):
            meter(served(k, route.class_name, route.pool, sheet, longer, 0.15 if late else 0.03))
    report = Report(
        worker=0,
        plan_hash=sheet.plan_hash,
        started_s=1_000.0,
        counted_from_s=1_000.0,
        scraped_s=1_000.0 + seconds,
        bounds=meter.bounds,
        total=meter.counts,
        recent=Counts(),
        recent_s=60.0,
        instances=[],
        prices={},
    )
    planned = Planned(sheet.plan_hash, sheet.title, {}, {}, {}, {})
    return render([report], planned)[0].decode()


@pytest.fixture
def write(
    demo: Path, tmp_path: Path, demo_plan: Plan, demo_sheet: ServingSheet
) -> Callable[..., Path]:
    """Returns a function that writes the page of a server of the plan."""

    def written(name: str = "page.txt", **changes: Any) -> Path:
        path = tmp_path / name
        path.write_text(page(demo_plan, demo_sheet, **changes))
        return path

    return written


ASKED = ("drift", "plans/demo", "--metrics", "page.txt")


def test_traffic_as_planned_fits(rb: Run, write: Callable[..., Path]) -> None:
    write()
    ran = rb(*ASKED)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("fits: plan ")
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "What the plan promises" in ran.out and "e2e above 10 s" in ran.out
    assert rb(*ASKED, "--quiet").out == ""


def test_a_missed_limit_is_exit_1_and_data_is_alone_on_stdout(
    rb: Run, write: Callable[..., Path]
) -> None:
    write(late=True)
    ran = rb(*ASKED)
    assert ran.code == 1
    assert "the limit is missed" in ran.out
    ran = rb(*ASKED, "--json")
    assert (ran.code, ran.err) == (1, "")
    data = json.loads(ran.out)
    assert data["fits"] == "no longer fits"
    broken = {f["where"] for f in data["findings"] if f["breaks"]}
    assert broken == {"gsm", "crux", "math-l5"}


def test_a_few_seconds_are_too_early(rb: Run, write: Callable[..., Path]) -> None:
    write(seconds=1, late=True)
    ran = rb(*ASKED)
    assert ran.code == 0
    assert ran.out.startswith("too early to tell")


def test_since_an_earlier_page_only_the_new_counts(rb: Run, write: Callable[..., Path]) -> None:
    write("before.txt", seconds=5)
    write(seconds=15)
    data = json.loads(rb(*ASKED, "--since", "before.txt", "--json").out)
    assert data["seconds"] == 10.0
    assert data["n_requests"] == pytest.approx(78.8 * 10, abs=6)
    assert rb("drift", "plans/demo", "--metrics", "before.txt", "--since", "page.txt").code == 2


def test_the_question_with_what_was_seen(rb: Run, write: Callable[..., Path], demo: Path) -> None:
    write(longer=1.5)
    before = (demo / "question.yaml").read_text()
    ran = rb(*ASKED, "--write-question", "plans/demo/question.yaml", "--quiet")
    assert (ran.code, ran.out, ran.err) == (1, "", "")
    after = (demo / "question.yaml").read_text()
    added = [line for line in after.splitlines() if line not in before.splitlines()]
    assert len(added) == 3
    assert all(line.startswith("    output_tokens: {mean: ") for line in added)
    assert [line for line in before.splitlines() if line not in after.splitlines()] == []
    told = rb(*ASKED, "--write-question", "next/question.yaml", "--json").err
    assert "wrote next/question.yaml" in told
    assert "copy beside it: class_scores.csv" in told


def test_without_drift_no_question_is_written(rb: Run, write: Callable[..., Path]) -> None:
    write()
    ran = rb(*ASKED, "--write-question", "next.yaml")
    assert ran.code == 0
    assert "no question was written" in ran.err
    assert not Path("next.yaml").exists()


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda: Path("page.txt").write_text("up 1\n"), "page.txt: is no page of metrics"),
        (lambda: Path("page.txt").unlink(), "page.txt: file not found"),
        (lambda: Path("plans/demo/serving.json").unlink(), "serving.json: file not found"),
        (lambda: Path("plans/demo/serving.json").write_text("{"), "serving.json:line 1"),
    ],
)
def test_what_cannot_be_judged_is_exit_2(
    rb: Run, write: Callable[..., Path], break_it: Callable[[], object], said: str
) -> None:
    write(seconds=1)
    break_it()
    ran = rb(*ASKED)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_the_page_of_another_plan_is_exit_2(rb: Run, write: Callable[..., Path]) -> None:
    path = write(seconds=1)
    text = path.read_text()
    start = text.index('plan_hash="') + len('plan_hash="')
    path.write_text(text[:start] + "c" * 64 + text[start + 64 :])
    ran = rb(*ASKED)
    assert ran.code == 2
    assert "rb serve has another plan (cccccccccccc)" in ran.err


def test_an_address_without_http_is_told_what_it_lacks(rb: Run, demo: Path) -> None:
    ran = rb("drift", "plans/demo", "--metrics", "localhost:8000/metrics")
    assert (ran.code, ran.out) == (2, "")
    assert "localhost:8000/metrics: file not found" in ran.err
    assert "an address that begins with http://" in ran.err


def test_nobody_at_an_address_is_exit_2(rb: Run, demo: Path) -> None:
    ran = rb("drift", "plans/demo", "--metrics", "http://127.0.0.1:1/metrics")
    assert ran.code == 2
    assert "does not answer" in ran.err


# ---- rb check of serving.json --------------------------------------------------------------------


def test_check_reads_the_sheet_where_there_is_one(
    rb: Run, demo: Path, demo_sheet: ServingSheet, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []

    def judged_by(*given: object) -> Judgement:
        sheet = given[3]
        judged.append(sheet)
        found = () if sheet is None else (error("sheet-differs", "serving.json", "so", "again"),)
        return Judgement(found, ())

    monkeypatch.setattr("planner.gate.judge.judge", judged_by)
    ran = rb("check", "plans/demo")
    assert (ran.code, ran.err) == (1, "")
    assert "error sheet-differs: serving.json" in ran.out
    path = demo / "serving.json"
    path.write_text(path.read_text().replace('"headroom_ratio": 0.1', '"headroom_ratio": 2'))
    ran = rb("check", "plans/demo")
    assert (ran.code, ran.out) == (2, "")
    assert "serving.json:headroom_ratio" in ran.err
    path.unlink()
    ran = rb("check", "plans/demo")
    assert ran.code == 0
    assert ran.err.startswith("note: there is no serving.json")
    assert judged == [demo_sheet, None]


# ---- The loop ------------------------------------------------------------------------------------


def traffic_page(folder: Path, sheet: ServingSheet, rates_rps: dict[str, float]) -> str:
    """An hour of traffic at given rates, with the planned lengths, routed as planned."""
    faults: list[Fault] = []
    routes = read_routes(folder, faults)
    assert routes is not None, faults
    seen = [
        Seen(
            name,
            entry.pool,
            round(rates_rps[name] * entry.share * 3600),
            sheet.classes[name].answers[entry.pool].input_tokens,
            sheet.classes[name].answers[entry.pool].output_tokens,
        )
        for name, entries in routes.classes.items()
        for entry in entries
    ]
    return page_text(seen, sheet.plan_hash)


@pytest.mark.slow
def test_from_drift_to_a_plan_that_fits(rb: Run, tmp_path: Path) -> None:
    """Planned, outgrown, asked anew with what was seen, planned: the same traffic fits."""
    folder = write_question(tmp_path / "plans" / "q", small())
    plan = ("plan", str(folder), "--profiles", str(PROFILES), "--effort", "quick", "--quiet")
    drift = ("drift", str(folder), "--metrics", "page.txt", "--quiet")
    assert rb(*plan).code == 0
    seen_rps = {"easy": 42.0, "hard": 10.0}

    def judged(*more: str) -> int:
        sheet = read_sheet(folder, [])
        assert sheet is not None
        Path("page.txt").write_text(traffic_page(folder, sheet, seen_rps))
        return rb(*drift, *more).code

    assert judged("--write-question", str(folder / "question.yaml")) == 1
    before = read_sheet(folder, [])
    assert rb(*plan).code == 0
    assert judged() == 0
    after = read_sheet(folder, [])
    assert before is not None and after is not None
    assert {n: c.rate_rps for n, c in after.classes.items()} == seen_rps
    assert after.plan_hash != before.plan_hash
    most = 1.0 - after.headroom_ratio
    assert all(pool.utilisation_ratio <= most + 1e-6 for pool in after.pools.values())
    assert rb("check", str(folder), "--profiles", str(PROFILES), "--quiet").code == 0
