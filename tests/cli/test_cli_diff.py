"""`rb diff` as a shell sees it: git revisions, formats, the way there, what is said on stderr."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hand_plan import BIG, ROOT, SHARES, SMALL, hand_plan
from shell import Run

from planner.files.inputs import read_inputs
from planner.files.plans import PLAN_FILE, write_plan
from planner.files.sheets import write_sheet
from planner.sheet import make_sheet
from planner.spec.inputs import Inputs
from planner.spec.plan import Plan
from planner.spec.sheet import ServingSheet

B200 = "llama-3.1-70b-b200-tp2"
ELSEWHERE = {(c, B200 if p == BIG else p): share for (c, p), share in SHARES.items()}


def git(folder: Path, *arguments: str) -> None:
    own = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", *own, *arguments], cwd=folder, env=env, capture_output=True, check=True)


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory,
    demo_inputs: Inputs,
    demo_plan: Plan,
    demo_sheet: ServingSheet,
) -> Path:
    """A repository: main has the demo's plan, the working tree has the big model elsewhere."""
    top = tmp_path_factory.mktemp("made")
    folder = top / "plans" / "demo"
    shutil.copytree(ROOT / "profiles", top / "profiles")
    shutil.copytree(ROOT / "plans" / "demo", folder)
    write_plan(folder, demo_plan)
    write_sheet(folder, demo_sheet)
    git(top, "init", "--quiet", "--initial-branch", "main")
    git(top, "add", "--all", "--force")
    git(top, "commit", "--quiet", "--message", "first")
    plan = hand_plan(demo_inputs, {B200: 6, SMALL: 2}, ELSEWHERE)
    write_plan(folder, plan)
    write_sheet(folder, make_sheet(demo_inputs, plan))
    return top


@pytest.fixture
def repository(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may change."""
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    return Path(shutil.copytree(made, tmp_path, dirs_exist_ok=True))


def test_a_revision_against_the_working_tree(rb: Run, repository: Path) -> None:
    ran = rb("diff", "main:plans/demo", "plans/demo")
    assert (ran.code, ran.err) == (0, "")
    assert f"1. start 6 {B200} (0 -> 6), 1" in ran.out
    assert "2. shift the traffic to the new routes" in ran.out
    assert f"3. drain, then stop 6 {BIG} (6" in ran.out
    assert "h100-sxm-80g: 25 -> 2 GPUs, 26 meanwhile, 32 in stock" in ran.out
    assert "safe: capacity, headroom, limits and floors hold after every step" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    back = rb("diff", "plans/demo", "main:plans/demo/plan.json", "--exit-code")
    assert back.code == 1 and f"start 6 {BIG} (0 -> 6)" in back.out
    same = rb("diff", "main:plans/demo", "HEAD:plans/demo", "--exit-code")
    assert same.code == 0 and "The way there" not in same.out


def test_json_has_the_transition(rb: Run, repository: Path) -> None:
    data = json.loads(rb("diff", "main:plans/demo", "plans/demo", "--json").out)
    assert (
        rb("diff", "main:plans/demo", "plans/demo", "--format", "json").out
        == rb("diff", "main:plans/demo", "plans/demo", "--json").out
    )
    way = data["transition"]
    assert (way["is_safe"], way["judged_by"]) == (True, "tables")
    assert [s["kind"] for s in way["steps"]] == ["start", "shift", "stop"]
    assert way["peak_gpus"][1] == {
        "gpu": "h100-sxm-80g", "old": 25.0, "new": 2.0, "peak": 26.0, "stock": 32.0
    }  # fmt: skip
    assert data["front"]["cost_usd_per_h"]["old"] == 73.75
    assert data["provenance"] == []


def test_each_format_says_what_it_is_for(rb: Run, repository: Path) -> None:
    markdown = rb("diff", "main:plans/demo", "plans/demo", "--format", "markdown")
    assert markdown.code == 0 and len(markdown.out.splitlines()) < 40
    assert "|" in markdown.out and B200 in markdown.out and "\x1b" not in markdown.out
    github = rb("diff", "main:plans/demo", "plans/demo", "--format", "github")
    assert github.out.startswith("::notice file=plans/demo/plan.json,line=1,")
    wrong = rb("diff", "main:plans/demo", "plans/demo", "--format", "markdwon")
    assert wrong.code == 2 and "did you mean markdown?" in wrong.err


def test_an_old_plan_that_cannot_be_had(rb: Run, repository: Path) -> None:
    ran = rb("diff", "mian:plans/demo", "plans/demo")
    assert (ran.code, ran.out) == (2, "")
    assert "mian:plans/demo: unknown revision mian" in ran.err and "Traceback" not in ran.err
    both = rb("diff", "main:plans/nowhere", "plans/nowhere")
    assert both.code == 2
    assert "no such path at main" in both.err and "plans/nowhere: folder not found" in both.err


def test_a_question_that_cannot_be_read_is_said_and_capacity_judged(
    rb: Run, repository: Path
) -> None:
    question = repository / "plans" / "demo" / "question.yaml"
    question.write_text(question.read_text().replace("headroom_ratio: 0.1", "headroom_ratio: 7"))
    ran = rb("diff", "main:plans/demo", "plans/demo")
    assert ran.code == 0
    assert "note: plans/demo: the transition is judged without its question" in ran.err
    assert "plans/demo/question.yaml:headroom_ratio" in ran.err
    assert "judged by the figures of both plans" in ran.out
    assert rb("diff", "main:plans/demo", "plans/demo", "--quiet").err == ""


def test_bare_plans_are_judged_by_their_figures(rb: Run, repository: Path) -> None:
    alone = repository / "alone"
    alone.mkdir()
    shutil.copy(repository / "plans" / "demo" / PLAN_FILE, alone / PLAN_FILE)
    ran = rb("diff", "main:plans/demo", "alone/plan.json")
    assert (ran.code, ran.err) == (0, "")
    assert "no pool is beyond its capacity on the way" in ran.out and "safe:" not in ran.out
    # Another pool.yaml under the same orders: its replicas are started anew, and that differs.
    other = json.loads((alone / PLAN_FILE).read_text())
    other["provenance"]["inputs"][f"profiles/{SMALL}/pool.yaml"] = "0" * 64
    (alone / "other.json").write_text(json.dumps(other))
    ran = rb("diff", "alone/plan.json", "alone/other.json", "--exit-code")
    assert ran.code == 1 and "on replicas that are\nstarted anew" in ran.out
    assert f"taken for another engine: {SMALL}" in " ".join(ran.out.split())
    assert rb("diff", "alone/plan.json", "alone/plan.json", "--exit-code").code == 0


def test_a_profiles_folder_that_is_none_is_refused(rb: Run, repository: Path) -> None:
    ran = rb("diff", "main:plans/demo", "plans/demo", "--profiles", "nowhere")
    assert ran.code == 2 and "correct --profiles" in ran.err


# ---- rb simulate --from --------------------------------------------------------------------------


def slow_traffic(repository: Path) -> None:
    """Rewrites question and plans at a tenth of the traffic, so that a run takes a second."""
    folder = repository / "plans" / "demo"
    question = folder / "question.yaml"
    question.write_text(question.read_text().replace("rate_factor: 10", "rate_factor: 1"))
    inputs = read_inputs(folder, repository / "profiles")
    old = folder.parent / "old"
    shutil.copytree(folder, old)
    for place, n, shares in (
        (old, {BIG: 1, SMALL: 1}, SHARES),
        (folder, {B200: 1, SMALL: 1}, ELSEWHERE),
    ):
        plan = hand_plan(inputs, n, shares)
        write_plan(place, plan)
        write_sheet(place, make_sheet(inputs, plan))


@pytest.mark.slow
def test_a_change_is_played(rb: Run, repository: Path) -> None:
    slow_traffic(repository)
    ran = rb("simulate", "plans/demo", "--from", "plans/old", "--seeds", "1", "--step-s", "60")
    assert ran.code == 0, ran.err
    assert "1 run of the change" in ran.out and "no limit is missed" in ran.out
    assert "1. start 1" in ran.out and B200 in ran.out and "2. shift the traffic" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    data = json.loads(
        rb("simulate", "plans/demo", "--from", "plans/old", "--seeds", "1", "--json").out
    )
    assert data["ok"] is True
    assert [step["step"] for step in data["steps"]] == [None, 1, 2, 3]
    assert data["steps"][0]["n_requests"] > 100 and data["steps"][1]["n_unanswered"] == 0


def test_options_that_make_no_sense_with_a_change(rb: Run, repository: Path) -> None:
    for option in (["--rate-factor", "2"], ["--fail", "x@1"], ["--out", "r.csv"]):
        ran = rb("simulate", "plans/demo", "--from", "main:plans/demo", *option)
        assert ran.code == 2 and "--from goes with --seeds" in ran.err
    (repository / "plans" / "demo" / "question.yaml").unlink()
    ran = rb("simulate", "plans/demo", "--from", "main:plans/demo")
    assert ran.code == 2 and "question is needed" in ran.err
