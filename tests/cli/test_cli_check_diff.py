"""`rb check` and `rb diff` as a shell sees them: streams, exit codes, no traceback, no solver."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hand_plan import BIG, ROOT, SMALL
from shell import Run

from planner.files.plans import PLAN_FILE, ROUTES_FILE


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def edit_plan(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
    change(data)
    (folder / PLAN_FILE).write_text(json.dumps(data), encoding="utf-8")


# ---- check -------------------------------------------------------------------------------------


def test_check_of_a_clean_plan(rb: Run, demo: Path) -> None:
    ran = rb("check", "plans/demo")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("clean:")


def test_check_json_has_data_on_stdout_and_talk_on_stderr(rb: Run, demo: Path) -> None:
    ran = rb("check", "plans/demo", "--json")
    assert ran.code == 0
    data = json.loads(ran.out)
    judged = data.pop("judged")
    assert data == {"ok": True, "n_errors": 0, "n_warnings": 0, "findings": [], "switched_off": {}}
    assert "stale" in judged and "policy-cost" not in judged
    assert ran.err.startswith("clean:")
    assert rb("check", "plans/demo", "--json", "--quiet").err == ""


def test_check_quiet_says_nothing_but_errors(rb: Run, demo: Path) -> None:
    edit_plan(demo, lambda plan: plan.update(complete=False))
    loud, quiet = rb("check", "plans/demo"), rb("check", "plans/demo", "--quiet")
    assert (loud.code, quiet.code) == (0, 0)
    assert "warning incomplete" in loud.out and quiet.out == ""
    (demo / ROUTES_FILE).unlink()
    ran = rb("check", "plans/demo", "--quiet")
    assert ran.code == 1
    assert "error routes-missing" in ran.out and "incomplete" not in ran.out


def test_check_names_the_input_that_changed_and_what_it_breaks(rb: Run, demo: Path) -> None:
    edit(demo / "question.yaml", "headroom_ratio: 0.1", "headroom_ratio: 0.5")
    ran = rb("check", "plans/demo", "--json")
    assert ran.code == 1
    found = {(f["code"], f["where"]) for f in json.loads(ran.out)["findings"]}
    assert found == {("stale", "question.yaml"), ("capacity", BIG)}


def test_check_does_not_mind_comments_in_an_input(rb: Run, demo: Path) -> None:
    edit(demo / "question.yaml", "version: 1", "# another word\nversion: 1")
    assert rb("check", "plans/demo").code == 0


def test_check_sees_a_remeasured_pool(rb: Run, demo: Path, tmp_path: Path) -> None:
    points = tmp_path / "profiles" / BIG / "points.csv"
    rows = points.read_text(encoding="utf-8").splitlines()
    points.write_text("\n".join(rows[:-1]) + "\n", encoding="utf-8")
    ran = rb("check", "plans/demo", "--json")
    assert ran.code == 1
    stale = [f["where"] for f in json.loads(ran.out)["findings"] if f["code"] == "stale"]
    assert stale == [f"profiles/{BIG}/points.csv"]


def test_check_without_a_plan_cannot_judge(rb: Run, demo: Path) -> None:
    (demo / PLAN_FILE).unlink()
    ran = rb("check", "plans/demo")
    assert (ran.code, ran.out) == (2, "")
    assert "plans/demo/plan.json: file not found" in ran.err and "rb plan" in ran.err


def test_check_reports_the_faults_of_all_files_together(rb: Run, demo: Path) -> None:
    edit(demo / "question.yaml", "headroom_ratio: 0.1", "headroom_ratio: 7")
    edit_plan(demo, lambda plan: plan.update(complete="perhaps"))
    (demo / ROUTES_FILE).write_text("{", encoding="utf-8")
    ran = rb("check", "plans/demo")
    assert ran.code == 2
    for place in ("question.yaml:headroom_ratio", "plan.json:complete", "routes.json:line 1"):
        assert f"plans/demo/{place}" in ran.err
    assert "Traceback" not in ran.err


def test_check_of_a_folder_that_is_not_there(rb: Run, demo: Path) -> None:
    ran = rb("check", "plans/nowhere")
    assert ran.code == 2
    assert ran.err.count("plans/nowhere") == 1  # one fault says it


def test_check_of_a_pool_that_cannot_be_fitted(rb: Run, demo: Path, tmp_path: Path) -> None:
    points = tmp_path / "profiles" / SMALL / "points.csv"
    rows = points.read_text(encoding="utf-8").splitlines()
    header = rows[0].split(",")
    blank = dict(zip(header, rows[1].split(","), strict=True)) | {
        name: "" for name in header if name.endswith(("_ms", "tokens_per_s", "_rps"))
    }
    points.write_text(f"{rows[0]}\n{','.join(blank.values())}\n", encoding="utf-8")
    ran = rb("check", "plans/demo")
    assert ran.code == 2
    assert f"profiles/{SMALL}/points.csv" in ran.err and "fix: measure" in ran.err


# ---- diff --------------------------------------------------------------------------------------


@pytest.fixture
def old(demo: Path) -> Path:
    """Returns a second plan folder: one replica less, gsm and crux routed as in the demo."""
    folder = demo.parent / "old"
    shutil.copytree(demo, folder)

    def smaller(plan: dict[str, Any]) -> None:
        plan["deployment"][0] |= {"replicas": 5, "n_gpus": 20.0, "usd_per_h": 59.0}
        plan["predicted"]["cost_usd_per_h"] = 61.95

    edit_plan(folder, smaller)
    return folder


def test_diff_shows_and_exits_0(rb: Run, old: Path) -> None:
    ran = rb("diff", "plans/old", "plans/demo")
    assert (ran.code, ran.err) == (0, "")
    assert "5 -> 6" in ran.out and "+$11.80" in ran.out
    assert "h100-sxm-80g: 21 -> 25 GPUs" in ran.out


def test_diff_exit_code(rb: Run, old: Path) -> None:
    assert rb("diff", "plans/old", "plans/demo", "--exit-code").code == 1
    assert rb("diff", "plans/demo", "plans/demo", "--exit-code").code == 0
    quiet = rb("diff", "plans/old", "plans/demo", "--exit-code", "--quiet")
    assert (quiet.code, quiet.out) == (1, "")


def test_diff_takes_plan_files_and_folders(rb: Run, old: Path) -> None:
    by_folder = rb("diff", "plans/old", "plans/demo", "--json")
    silent = rb("diff", "plans/old", "plans/demo", "--format", "json", "--quiet")
    assert (silent.out, silent.err) == (by_folder.out, "")  # data is no talk
    by_file = rb("diff", "plans/old/plan.json", "plans/demo/plan.json", "--json")
    assert by_folder.out == by_file.out
    data = json.loads(by_folder.out)
    assert data["empty"] is False
    assert data["pools"][0]["replicas"]["difference"] == 1
    assert data["cost_usd_per_month"]["difference"] == pytest.approx(8614.0)


def test_diff_weighs_moved_traffic_by_the_question(rb: Run, old: Path) -> None:
    def moved(plan: dict[str, Any]) -> None:
        for route in plan["routing"]:
            if route["class"] == "gsm":
                route["share"] = {BIG: 0.5, SMALL: 0.5}[route["pool"]]

    edit_plan(old, moved)
    data = json.loads(rb("diff", "plans/old", "plans/demo", "--json").out)
    assert data["moved_ratio"] == pytest.approx(0.1 * 2.541 / 5.471, rel=1e-6)


def test_diff_of_what_is_no_plan_cannot_judge(rb: Run, demo: Path) -> None:
    (demo / PLAN_FILE).write_text("[]", encoding="utf-8")
    ran = rb("diff", "plans/nowhere", "plans/demo")
    assert (ran.code, ran.out) == (2, "")
    assert "plans/nowhere" in ran.err and "plans/demo/plan.json" in ran.err


# ---- as processes ------------------------------------------------------------------------------


SOLVERS = ("torch", "botorch", "gpytorch", "ortools", "pandas", "scipy")
SERVING = ("aiohttp", "asyncio", "multiprocessing", "matplotlib")
ROOMS = ("search", "exact", "runtime", "profile", "drift", "export", "plan", "routing.solve")
NOT_FOR_A_CHANGE = (*SOLVERS, *SERVING, *(f"planner.{room}" for room in ROOMS))
NOT_FOR_A_CHECK = (
    *NOT_FOR_A_CHANGE,
    *("rich", "numpy.ma", "numpy.random"),  # a fifth of the time that it takes
    *("planner.gate.diff", "planner.gate.way", "planner.gate.policy.table"),
    *("planner.periods", "planner.robust", "planner.drills", "planner.simulate.cluster"),
    *("planner.offered", "planner.quality.cascade", "planner.report.review", "planner.report.page"),
)
"""A check takes as long as its imports do: what is of no use to it is not loaded."""


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (["check", "plans/demo", "--quiet"], NOT_FOR_A_CHECK),
        (["diff", "plans/demo", "plans/demo"], NOT_FOR_A_CHANGE),
    ],
)
def test_nothing_is_loaded_that_is_of_no_use(
    demo: Path, tmp_path: Path, arguments: list[str], unused: tuple[str, ...]
) -> None:
    program = f"""
import sys
from planner.cli.app import main
sys.argv = ["rb", *{arguments!r}]
try:
    main()
except SystemExit as left:
    assert not left.code, left.code
bad = set({unused!r}) & set(sys.modules)
assert not bad, bad
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_pipe_that_cannot_show_a_title_is_no_bug(demo: Path, tmp_path: Path) -> None:
    edit_plan(demo, lambda plan: plan["provenance"]["inputs"].update({"größe.csv": "0" * 64}))
    done = subprocess.run(
        [sys.executable, "-m", "planner", "check", "plans/demo"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "gr??e.csv" in done.stdout and done.stderr == ""
