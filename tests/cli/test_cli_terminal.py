"""What `rb` writes, where it writes it: as wide as there is room, plain in a pipe, calm in CI."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hand_plan import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from router_folder import write_router_folder
from shell import Run

from planner.cli.app import run
from planner.gate.diff import diff
from planner.gate.finding import error, warning
from planner.gate.judgement import Judgement
from planner.gate.rules import RULES
from planner.gate.way.steps import PeakGpus, PoolStep, Step, Transition
from planner.report.check import render_findings
from planner.report.console import make_console
from planner.report.diff import render_diff
from planner.report.rules import render_rules
from planner.spec.plan import Plan

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;[\d;]+)m")


def long_names(plan: Plan, n: int) -> Plan:
    """A plan whose pools, classes and GPUs bear names of n characters."""
    text = plan.model_dump_json(by_alias=True)
    names = {d.pool for d in plan.deployment} | {r.class_name for r in plan.routing}
    names |= {d.gpu for d in plan.deployment if d.gpu}
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(f'"{name}"', json.dumps((name + "-0123456789" * 9)[:n]))
    return Plan.model_validate_json(text)


def width_of(render: Callable[[Console], None], width: int) -> int:
    """The columns that the widest line takes: a Chinese character takes two."""
    stream = io.StringIO()
    render(make_console(stream, width))
    return max(map(cell_len, stream.getvalue().splitlines()))


WIDTHS = st.integers(60, 200)
LENGTHS = st.integers(1, 80)  # as many characters as a name may have


@settings(max_examples=30)
@given(width=WIDTHS, n=LENGTHS, word=st.sampled_from(["llama-", "模型-", "🦙é"]))
def test_a_check_fits_the_width(width: int, n: int, word: str) -> None:
    name = (word * 40)[:n]
    found = (
        error("stock", f"plan.json:deployment ({name})", f"takes 9 GPUs of {name}", f"rent {name}"),
        warning("extrapolated", name, f"{name} runs outside", f"measure {name}"),
    )
    judgement = Judgement(found, RULES, (("stale", 3),))
    assert (
        width_of(
            lambda console: render_findings(judgement.findings, console, judgement.n_kept_back),
            width,
        )
        <= width
    )
    assert width_of(lambda console: render_rules(RULES[::7], console), width) <= width


@settings(max_examples=25)
@given(width=WIDTHS, n=LENGTHS)
def test_a_diff_fits_the_width(demo_plan: Plan, width: int, n: int) -> None:
    old = long_names(demo_plan, n)
    row, *rows = old.deployment
    change = {"replicas": row.replicas + 1, "n_gpus": row.n_gpus + 4, "usd_per_h": 1e6}
    route, *routes = old.routing
    new = old.model_copy(
        update={
            "deployment": (row.model_copy(update=change), *rows),
            "routing": (route.model_copy(update={"share": 0.1}), *routes),
        }
    )
    gpu = row.gpu or "gpu"
    step = Step(
        "start",
        (PoolStep(row.pool, gpu, 1, 2, 4.0),),
        0.0,
        {gpu: 29.0},
        False,
        0.9,
        1.2,
        (f"p95 e2e of {row.pool} reaches 12,400 ms of 10,000 ms",),
    )
    way = Transition(
        (
            step,
            replace(step, kind="shift", pools=(), shifted_ratio=1.0),
            replace(step, kind="stop"),
        ),
        (PeakGpus(gpu, 25.0, 29.0, 29.0, 28.0),),
        "tables",
        False,
        (f"1 more {gpu} for a while",),
    )
    change_of = diff(old, new, way)
    assert width_of(lambda console: render_diff(change_of, console), width) <= width


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "--list"],
        ["check", "--list"],
        ["report", "plans/demo", "--list"],
        ["check", "plans/demo"],
        ["diff", "plans/demo", "plans/demo"],
    ],
    ids=" ".join,
)
def test_a_command_fits_the_width(
    rb: Run, demo: Path, monkeypatch: pytest.MonkeyPatch, width: int, arguments: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    done = rb(*arguments)
    assert done.code == 0
    rows = done.out.splitlines()
    assert rows and max(map(len, rows)) <= width
    assert not ESCAPE.search(done.out + done.err)


# ---- On a terminal, and where there is none ------------------------------------------------------


def on_a_terminal(arguments: list[str], folder: Path, **environment: str) -> tuple[int, str]:
    """The exit code of `rb` on a pseudo-terminal, and all that it wrote there."""
    own, its = pty.openpty()
    known = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-m", "planner", *arguments],
        cwd=folder,
        stdin=its,
        stdout=its,
        stderr=its,
        env={**known, **environment},
    )
    os.close(its)
    told = all_from(own)
    return child.wait(), told


def all_from(terminal: int) -> str:
    """What was written to a pseudo-terminal, to its end: Linux then fails a read."""
    told = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            piece = b""
        if not piece:
            os.close(terminal)
            return told.decode()
        told += piece


COLOURED = ["check", "--list"]  # warnings are yellow; quick, as it reads no file


def test_colours_on_a_terminal_and_none_where_they_are_unwanted(tmp_path: Path) -> None:
    code, told = on_a_terminal(COLOURED, tmp_path)
    assert code == 0 and COLOUR.search(told)
    for without in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, told = on_a_terminal(COLOURED, tmp_path, **without)
        assert code == 0 and "shares-sum" in told
        assert not COLOUR.search(told)


@pytest.mark.parametrize("forced", [False, True])
def test_a_pipe_gets_nothing_but_text_unless_it_asks_for_colours(forced: bool) -> None:
    known = {"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "planner", *COLOURED],
        env=known | ({"FORCE_COLOR": "1"} if forced else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.replace("\n", "").isprintable() != forced
    assert bool(COLOUR.search(done.stdout)) == forced


def test_who_reads_may_stop_reading(tmp_path: Path) -> None:
    script = f'"{sys.executable}" -m planner check --list | head -n 1; echo "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")


PROGRESS = """
import sys
from planner.cli.progress import working
with working(True, "fitting") as say:
    say("drawing the curves")
print("done")
"""


@pytest.mark.parametrize(
    ("environment", "shows"),
    [({}, True), ({"CI": "true"}, False), ({"TERM": "dumb"}, False)],
    ids=["terminal", "CI", "dumb"],
)
def test_a_bar_is_for_people(tmp_path: Path, environment: dict[str, str], shows: bool) -> None:
    own, its = pty.openpty()
    known = {"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRESS],
        env={**known, **environment},
        stdout=subprocess.PIPE,
        stderr=its,
        text=True,
        check=True,
    )
    os.close(its)
    told = all_from(own)
    assert done.stdout == "done\n"
    assert ("drawing the curves" in told) == shows
    assert bool(told) == shows


def test_an_interrupted_bar_leaves_a_clean_terminal() -> None:
    """The cursor, hidden while a bar moves, is there again, and the bar is not."""
    own, its = pty.openpty()
    stopped = PROGRESS.replace('print("done")', "").replace(
        'say("drawing the curves")', "import time; time.sleep(0.15); raise KeyboardInterrupt"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import contextlib\nwith contextlib.suppress(KeyboardInterrupt):\n"
         + "".join(f"    {row}\n" for row in stopped.splitlines())],
        env={"PATH": os.environ["PATH"], "TERM": "xterm", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=its,
        text=True,
        check=False,
    )  # fmt: skip
    os.close(its)
    told = all_from(own)
    assert done.returncode == 0
    assert 0 <= told.rfind("\x1b[?25l") < told.rfind("\x1b[?25h")
    assert told.endswith("\x1b[2K")  # the line of the bar is wiped out


def test_data_is_all_there_is_on_stdout(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["check", str(demo), "--json"], ["diff", str(demo), str(demo), "--json"]):
        assert run(arguments) == 0
        json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "work", "file"),
    [
        (["plan", "plans/demo"], "planner.plan.make_plan", "plan.json"),
        (["router", "train", "plans/mine"], "planner.quality.train.cross_fit", "router.npz"),
    ],
    ids=["plan", "router train"],
)
def test_where_nothing_can_be_written_no_work_is_begun(
    rb: Run,
    demo: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    work: str,
    file: str,
) -> None:
    write_router_folder(demo.parent / "mine")
    monkeypatch.setattr(work, lambda *_given, **_named: pytest.fail("works, for nothing"))
    monkeypatch.setattr("os.access", lambda _path, mode: not mode & os.W_OK)
    done = rb(*arguments)
    assert (done.code, done.out) == (2, "")
    assert f"{arguments[-1]}/{file}: cannot be written" in done.err
    assert "no folder that you may write to\n  fix: " in done.err


def test_a_full_stderr_changes_no_exit_code(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "planner", "check", "plans/none"],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stderr=full,
            stdout=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stdout) == (2, b"")
