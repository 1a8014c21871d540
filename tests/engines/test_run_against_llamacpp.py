"""`rb profile run` as a whole against llama.cpp: a plausible curve, resumed, interrupted.

The engine runs one thread and four slots: a fifth request waits. Levels end after a few answers and
budgets are long: what is asserted must hold on a busy machine.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from time import monotonic, sleep

import pytest

import planner
from planner.cli.app import run
from planner.files.profile_out import read_rows
from planner.files.profiles import read_profiles
from planner.latency.fit import fit

ROOT = Path(planner.__file__).parent.parent
SECRET = "sk-not-to-be-seen"
GIVEN = ("--loads", "2", "--time-budget", "10m")
# For a process of its own: no level is driven a second time because the first was noisy.
ONCE = "import math; from planner.profile.load import runner; runner.NOISE_RATIO = math.inf; "
MAIN = "from planner.cli.app import main; main()"

pytestmark = pytest.mark.usefixtures("short_levels")


def arguments(url: str, folder: Path, *more: str) -> list[str]:
    shape = ["--input-tokens", "64", "--output-tokens", "48"]
    where = ["--url", url, "--model", "tiny", "--gpu", "cpu", "--profiles", str(folder)]
    return ["profile", "run", *where, *shape, *more]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def levels(self) -> list[dict]:
        return json.loads(self.out)["levels"]


def rb(url: str, folder: Path, *more: str) -> Ran:
    """Runs the command in this process, data on stdout."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([*arguments(url, folder, *more), "--json"])
    assert "Traceback" not in err.getvalue()
    return Ran(code, out.getvalue(), err.getvalue())


def process(url: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    """Starts the command in a process of its own, for signals."""
    return subprocess.Popen(
        [sys.executable, "-c", ONCE + MAIN, *arguments(url, folder, *more)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def whole(llamacpp_url, tmp_path_factory, short_levels):
    """One run of the whole plan, and its folder."""
    folder = tmp_path_factory.mktemp("profiles")
    done = rb(llamacpp_url, folder, "--time-budget", "10m")
    assert done.code in (0, 1), done.err
    return folder, json.loads(done.out), done.err


@pytest.mark.slow
def test_the_whole_plan_runs(whole):
    folder, data, _ = whole
    closed = [x["level"]["step"] for x in data["levels"] if x["level"]["step"]["mode"] == "closed"]
    assert {s["load"] for s in closed if s["input_tokens"] == 64} >= {1, 4}
    assert {s["input_tokens"] for s in closed} == {64, 256}
    assert any(x["level"]["step"]["mode"] == "open" for x in data["levels"])
    points, _ = read_rows(folder / "tiny-cpu")
    assert len(points) == len(data["levels"])


@pytest.mark.slow
def test_the_engine_was_recognised(whole):
    _, data, talk = whole
    assert data["pool"]["engine"] == "llama.cpp"
    assert "engine llama.cpp" in talk


@pytest.mark.slow
def test_lengths_are_as_asked(whole):
    for entry in whole[1]["levels"]:
        step, point = entry["level"]["step"], entry["point"]
        assert point["output_tokens"] == step["output_tokens"]
        assert point["input_tokens"] == pytest.approx(step["input_tokens"], rel=0.25)
        assert point["n_failed"] == 0


@pytest.mark.slow
def test_the_profile_can_be_fitted(whole):
    faults = []
    found = read_profiles(whole[0], faults, facts_needed=False)
    assert faults == []
    model = fit(found.profiles[0])
    assert model.law is not None and model.max_num_seqs >= 4


def test_throughput_is_flat_and_requests_wait_beyond_four(llamacpp_url, tmp_path):
    four, eight = rb(llamacpp_url, tmp_path, "--loads", "4,8", "--time-budget", "20s").levels
    assert four["level"]["n_waiting"] < 0.5
    assert eight["level"]["n_waiting"] == pytest.approx(4, abs=1)
    assert eight["point"]["output_tokens_per_s"] < 1.5 * four["point"]["output_tokens_per_s"]
    assert eight["point"]["ttft_mean_ms"] > 1.5 * four["point"]["ttft_mean_ms"]


@pytest.fixture(scope="module")
def finished(llamacpp_url, tmp_path_factory, short_levels):
    """One run of one given load with a key, and its folder."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RB_TEST_KEY", SECRET)
        done = rb(llamacpp_url, folder, *GIVEN, "--api-key-env", "RB_TEST_KEY")
    assert done.code in (0, 1), done.err
    return folder, done


def test_a_finished_run_measures_nothing_again(llamacpp_url, finished):
    folder, first = finished
    again = rb(llamacpp_url, folder, *GIVEN)
    assert again.levels == first.levels and len(first.levels) == 1
    assert "going on after 1 level" in again.err


def test_a_run_with_other_settings_has_to_be_a_new_one(llamacpp_url, finished, tmp_path):
    folder, first = copytree(finished[0], tmp_path / "copy"), finished[1]
    changed = rb(llamacpp_url, folder, *GIVEN, "--api", "chat")
    assert changed.code == 2 and "settings.api" in changed.err
    restarted = rb(llamacpp_url, folder, *GIVEN, "--api", "chat", "--restart").levels
    assert len(restarted) == 1 and restarted[0]["point"] != first.levels[0]["point"]


def test_the_key_is_taken_from_the_environment_and_written_nowhere(llamacpp_url, finished):
    folder, done = finished
    unset = rb(llamacpp_url, folder, *GIVEN, "--api-key-env", "RB_TEST_KEY")
    assert unset.code == 2 and "--api-key-env" in unset.err
    written = "".join(p.read_text("utf-8") for p in (folder / "tiny-cpu").iterdir())
    assert "levels" in written
    assert SECRET not in written + done.out + done.err


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_finished_and_the_next_call_goes_on(llamacpp_url, tmp_path):
    given = ("--loads", "1,8", "--time-budget", "10m")
    path = tmp_path / "tiny-cpu" / "points.csv"
    running = process(llamacpp_url, tmp_path, *given)
    end = monotonic() + 30
    while not path.exists() and monotonic() < end and running.poll() is None:
        sleep(0.02)
    sleep(0.3)  # well inside the second level, which wants 216 answers
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 0, err
    assert "Traceback" not in err and "Measured" in out
    assert "interrupted: " in err and "(incomplete); the same command goes on with" in err
    kept, _ = read_rows(tmp_path / "tiny-cpu")
    assert len(kept) == 1
    assert [p.name for p in (tmp_path / "tiny-cpu").iterdir() if p.name.startswith(".")] == []
    done = rb(llamacpp_url, tmp_path, *given)
    points, _ = read_rows(tmp_path / "tiny-cpu")
    assert points[: len(kept)] == kept and len(points) == 2
    assert "going on after 1 level" in done.err


def test_an_interrupt_before_the_first_level_writes_nothing(llamacpp_url, tmp_path):
    running = process(llamacpp_url, tmp_path, "--time-budget", "10m")
    assert running.stderr is not None
    # Notes come first; once the engine is told, the first level is under way.
    told = any("engine llama.cpp" in line for line in iter(running.stderr.readline, ""))
    running.send_signal(signal.SIGINT)
    rest = running.communicate(timeout=20)[1]
    assert told, rest
    assert (running.returncode, "nothing was written" in rest) == (130, True)
    assert list(tmp_path.iterdir()) == []
