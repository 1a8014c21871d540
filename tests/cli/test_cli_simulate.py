"""`rb simulate` as a shell sees it: streams, exit codes, files whole or not at all."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hand_plan import BIG, SMALL
from made_runs import records, usage
from shell import Run

from planner.cli import simulate as simulating
from planner.cli.simulate_options import BALANCES
from planner.files.plans import PLAN_FILE, ROUTES_FILE
from planner.scheduling.least_delay import NAMES
from planner.simulate import rehearse as rehearsing
from planner.simulate.rehearse import Options, Rehearsal
from planner.simulate.summary import Conditions, Terms, summarise
from planner.simulate.units import PS_PER_S
from planner.simulate.warmup import Window
from planner.spec.question import LatencyObjective
from planner.spec.workload import ScopedLimit

N, UNTIL_S = 600, 60.0


@dataclass
class Stage:
    """A rehearsal that takes no time, and what it was asked for."""

    tpot_s: float = 0.02
    breaks: BaseException | None = None
    asked: list[Options] = field(default_factory=list)

    def rehearse(
        self, scene, plan, routes, options: Options, on_done: Callable[[int, int], None] | None
    ) -> Rehearsal:
        self.asked.append(options)
        if self.breaks is not None:
            raise self.breaks
        names = scene.workload.class_names
        runs = tuple(
            records(
                np.linspace(0, UNTIL_S, N),
                0.2,
                self.tpot_s,
                output_tokens=np.random.default_rng(seed).integers(2, 90, N),
                class_index=np.arange(N) % 3,
                class_names=names,
                pool_names=tuple(d.pool for d in plan.deployment),
            )
            for seed in options.seeds
        )
        none, window = np.zeros(2), Window(0, round(UNTIL_S * PS_PER_S))
        limits = tuple(
            ScopedLimit(c.name, limit) for c in scene.files.question.classes for limit in c.limits
        )
        terms = Terms(limits, LatencyObjective(), np.full((3, 2), 0.7), none + 9, none, none)
        usages = tuple(usage() for _ in runs)
        conditions = Conditions(options.seeds, options.balance, options.rate_factor)
        if on_done is not None:
            on_done(1, len(runs))
        return Rehearsal(summarise(runs, usages, terms, window, conditions), runs, usages, window)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, demo: Path) -> Stage:
    stage = Stage()
    monkeypatch.setattr(rehearsing, "rehearse", stage.rehearse)
    return stage


def test_limits_that_are_met_exit_0(rb: Run, stage: Stage) -> None:
    ran = rb("simulate", "plans/demo")
    assert (ran.code, ran.err) == (0, "")
    assert "Limits: predicted and simulated against allowed (ms)" in ran.out
    assert "every limit is met" in ran.out
    assert max(len(row) for row in ran.out.splitlines()) <= 80


def test_a_limit_that_is_missed_exits_1(rb: Run, stage: Stage) -> None:
    stage.tpot_s = 0.07
    ran = rb("simulate", "plans/demo")
    assert (ran.code, ran.err) == (1, "")
    assert "MISSED" in ran.out and "p95 tpot of crux is 70.0 ms, 17% above" in ran.out
    quiet = rb("simulate", "plans/demo", "--quiet")
    assert (quiet.code, quiet.err) == (1, "")
    assert quiet.out.startswith("p95 tpot of crux is 70.0 ms, 17% above its limit of 60.0 ms")


def test_quiet_says_nothing_of_a_plan_that_holds(rb: Run, stage: Stage) -> None:
    ran = rb("simulate", "plans/demo", "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_json_is_all_of_stdout(rb: Run, stage: Stage) -> None:
    stage.tpot_s = 0.07
    ran = rb("simulate", "plans/demo", "--json", "--seeds", "2", "--out", "r.csv")
    data = json.loads(ran.out)
    assert (ran.code, data["ok"], ran.err) == (1, False, "wrote r.csv\n")
    assert data["simulated"]["seeds"] == [0, 1]
    assert {f["verdict"] for f in data["simulated"]["latency"]} == {"met", "missed", None}
    assert len(data["statistics"]) == 4 * 3 * 5


def test_options_reach_the_rehearsal(rb: Run, stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("timestamp_s,class,input_tokens\n0,gsm,5\n1.5,,\n")
    ran = rb(
        *("simulate", "plans/demo", "--trace", "t.csv", "--rate-factor", "1.3"),
        *("--duration-s", "90", "--seeds", "3", "--balance", "vllm"),
        *("--fail", f"{BIG}@600", "--fail", f"{SMALL}/1@10-20x2"),
    )
    assert ran.code == 0, ran.err
    [options] = stage.asked
    assert options.seeds == (0, 1, 2)
    assert (options.rate_factor, options.duration_s, options.balance) == (1.3, 90.0, "vllm")
    assert [str(f) for f in options.failures] == [f"{BIG}@600", f"{SMALL}/1@10-20x2"]
    assert options.trace is not None
    assert [row.class_name for row in options.trace] == ["gsm", None]


def test_defaults(rb: Run, stage: Stage) -> None:
    rb("simulate", "plans/demo")
    [options] = stage.asked
    assert options == Options(seeds=(0, 1, 2, 3, 4))


def test_records_of_all_runs_are_written(rb: Run, stage: Stage, tmp_path: Path) -> None:
    ran = rb("simulate", "plans/demo", "--seeds", "2", "--out", "out/r.csv")
    assert ran.out.endswith("wrote out/r.csv\n")
    with (tmp_path / "out" / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["seed"] for row in rows] == ["0"] * N + ["1"] * N
    assert {row["pool"] for row in rows} == {BIG}
    assert rows[0]["ttft_ms"] == "200.000"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate-factor", "0"], "must lie above 0"),
        (["--rate-factor", "nan"], "must lie above 0"),
        (["--duration-s", "-3"], "must lie above 0"),
        (["--seeds", "0"], "--seeds"),
        (["--balance", "luck"], "luck is not one of round_robin, random"),
        (["--fail", "nonsense"], "--fail: cannot be read, got nonsense"),
        (["--out", "r.xlsx"], "--out: must end in .csv or .parquet, got r.xlsx"),
        (["--trace", "no.csv"], "no.csv: file not found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_cost_no_run(rb: Run, stage: Stage, arguments: list[str], said: str) -> None:
    ran = rb("simulate", "plans/demo", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err and "Traceback" not in ran.err
    assert stage.asked == []


def test_faults_of_a_trace_name_the_users_file(rb: Run, stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("timestamp_s,class\n0,gsm\n-1,gsm\n2,poetry\n1,gsm\n")
    ran = rb("simulate", "plans/demo", "--trace", "t.csv")
    assert ran.code == 2 and stage.asked == []
    assert "t.csv:line 3.timestamp_s" in ran.err
    assert "t.csv:class" in ran.err and "poetry" in ran.err
    assert "t.csv:timestamp_s: must not decrease" in ran.err


def test_parquet_needs_its_extra_before_any_run(
    rb: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planner.files.records.find_spec", lambda name: None)
    ran = rb("simulate", "plans/demo", "--out", "r.parquet")
    assert (ran.code, stage.asked) == (2, [])
    assert "pip install" in ran.err and "rb-planner[parquet]" in ran.err


def test_without_a_plan_there_is_nothing_to_try(rb: Run, stage: Stage, demo: Path) -> None:
    (demo / PLAN_FILE).unlink()
    (demo / ROUTES_FILE).write_text("{", encoding="utf-8")
    ran = rb("simulate", "plans/demo")
    assert (ran.code, ran.out, stage.asked) == (2, "", [])
    assert "plans/demo/plan.json: file not found" in ran.err
    assert "plans/demo/routes.json:line 1" in ran.err
    assert rb("simulate", "plans/nowhere").code == 2


def test_a_stale_plan_is_tried_with_a_warning(rb: Run, stage: Stage, demo: Path) -> None:
    question = demo / "question.yaml"
    text = question.read_text(encoding="utf-8")
    question.write_text(text.replace("headroom_ratio: 0.1", "headroom_ratio: 0.2"))
    ran = rb("simulate", "plans/demo")
    assert ran.code == 0
    assert ran.err == (
        "warning: plans/demo/plan.json: the plan was made of other inputs than today's "
        "(question.yaml); see rb check\n"
    )
    assert rb("simulate", "plans/demo", "--quiet").err == ""


def test_routes_of_another_plan_are_told(rb: Run, stage: Stage, demo: Path) -> None:
    routes = json.loads((demo / ROUTES_FILE).read_text(encoding="utf-8"))
    routes["plan_hash"] = "0" * 64
    (demo / ROUTES_FILE).write_text(json.dumps(routes), encoding="utf-8")
    ran = rb("simulate", "plans/demo")
    assert ran.code == 0
    assert "warning: plans/demo/routes.json: is not of this plan.json" in ran.err


def test_an_interrupt_writes_nothing(rb: Run, stage: Stage, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    stage.breaks = KeyboardInterrupt()
    ran = rb("simulate", "plans/demo", "--out", "r.csv")
    assert (ran.code, ran.out) == (130, "")
    assert ran.err == "interrupted; nothing was written\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bar_is_wanted_unless_only_data_are(
    rb: Run, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[bool] = []
    plain = simulating.progress_bar
    monkeypatch.setattr(
        simulating, "progress_bar", lambda show, what: wanted.append(show) or plain(show, what)
    )
    for extra in ([], ["--quiet"], ["--json"]):
        assert rb("simulate", "plans/demo", *extra).code == 0
    assert wanted == [True, False, False]


def test_every_policy_can_be_asked_for() -> None:
    assert set(BALANCES) == set(NAMES)
    assert BALANCES[0] == Options(seeds=(0,)).balance


def test_a_real_run_from_end_to_end(rb: Run, demo: Path) -> None:
    command = ("simulate", "plans/demo", "--seeds", "1", "--duration-s", "60", "--json")
    ran = rb(*command, "--out", "r.csv")
    assert ran.code in (0, 1), ran.err
    data = json.loads(ran.out)
    assert data["simulated"]["n_requests"] > 1000
    assert data["simulated"]["n_failed"] == data["simulated"]["n_refused"] == 0
    assert {p["pool"] for p in data["simulated"]["pools"]} == {BIG, SMALL}
    assert rb(*command).out == ran.out  # same seed, same bytes
