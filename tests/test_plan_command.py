"""`rb plan` as a process: same bytes, streams, Ctrl-C, and a plan that `rb check` accepts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from questions import PROFILES, REPOSITORY, small, write_question


def rb(
    *arguments: str, hash_seed: str = "0", check: int | None = 0
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "planner", *arguments],
        capture_output=True, text=True, env=environment, cwd=REPOSITORY, timeout=240, check=False,
    )  # fmt: skip
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


def plan_bytes(folder: Path) -> tuple[bytes, ...]:
    names = "plan.json", "routes.json", "serving.json"
    return tuple((folder / name).read_bytes() for name in names)


@pytest.mark.slow
def test_same_bytes_in_another_process_quiet_or_as_json_and_check_accepts_them(
    tmp_path: Path,
) -> None:
    folder = write_question(tmp_path / "plans" / "q", small())
    shared = ("--profiles", str(PROFILES))
    asked = ("plan", str(folder), *shared, "--effort", "quick", "--method", "local")
    quiet = rb(*asked, "--quiet", hash_seed="1")
    assert quiet.stdout == quiet.stderr == ""
    texts = plan_bytes(folder)
    done = rb(*asked, "--json", hash_seed="2")
    assert plan_bytes(folder) == texts
    assert done.stdout == (folder / "plan.json").read_text()
    assert done.stderr == ""
    checked = rb("check", str(folder), *shared, "--json")
    codes = {finding["code"] for finding in json.loads(checked.stdout)["findings"]}
    assert "prediction-drift" not in codes
    assert "stale" not in codes
    assert rb("diff", str(folder), str(folder), "--exit-code").returncode == 0


@pytest.mark.slow
def test_a_plan_that_simulation_contradicts_is_found_wanting(tmp_path: Path) -> None:
    """Bursts that the formula does not see, and no second deployment to turn to (§9)."""
    bursts = {"process": "square", "low_rps": 0.0, "high_rps": 30.0, "period_s": 120.0}
    question = small(arrivals=bursts, stock={"h100-sxm-80g": 4})
    folder = write_question(tmp_path / "plans" / "q", question)
    shared = ("--profiles", str(PROFILES))
    done = rb("plan", str(folder), *shared, "--effort", "quick", check=1)
    assert "simulation contradicts every plan that was tried" in done.stderr
    assert "contradicted" in done.stdout
    plan = json.loads((folder / "plan.json").read_text())
    assert any("do not rely on this plan" in sentence for sentence in plan["why"])
    checked = rb("check", str(folder), *shared, "--json", check=1)
    assert "simulated" in {finding["code"] for finding in json.loads(checked.stdout)["findings"]}
    tried = rb("simulate", str(folder), *shared, "--seeds", "2", check=1)
    assert "MISSED" in tried.stdout


@pytest.mark.slow
def test_ctrl_c_keeps_the_best_so_far(tmp_path: Path) -> None:
    # A question whose search goes on for minutes: three models on two kinds of GPU.
    question = small(
        pools=None, stock={"h100-sxm-80g": 32, "b200-sxm-180g": 32}, quality_at_least=0.5
    )
    folder = write_question(tmp_path / "plans" / "q", question)
    process = subprocess.Popen(
        [sys.executable, "-m", "planner", "plan", str(folder), "--profiles", str(PROFILES),
         "--effort", "thorough", "--method", "local"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        time.sleep(8)
        assert process.poll() is None, "the search ended before it could be interrupted"
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 0, talk
    assert "interrupted: this is the best found so far" in talk
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["complete"] is False
    assert plan["deployment"]
    checked = rb("check", str(folder), "--profiles", str(PROFILES), "--json")
    findings = json.loads(checked.stdout)["findings"]
    assert "incomplete" in {finding["code"] for finding in findings}


@pytest.mark.slow
def test_the_demo_is_planned_from_its_exact_front_with_split_shares(tmp_path: Path) -> None:
    texts = []
    for hash_seed in ("1", "2"):
        folder = tmp_path / hash_seed / "plans" / "demo"
        folder.mkdir(parents=True)
        for path in (REPOSITORY / "plans" / "demo").glob("*.[cy][sa][vm]*"):
            (folder / path.name).write_bytes(path.read_bytes())
        rb("plan", str(folder), "--profiles", str(PROFILES), "--effort", "quick",
           hash_seed=hash_seed)  # fmt: skip
        texts.append(plan_bytes(folder))
    assert texts[0] == texts[1]
    plan = json.loads(texts[0][0])
    assert plan["provenance"]["method"] == "exact front, then local search"
    assert len({entry["model_name"] for entry in plan["deployment"]}) >= 2
    assert any(0.001 < route["share"] < 0.999 for route in plan["routing"])
    rb("check", str(folder), "--profiles", str(PROFILES))
