"""The bar on stderr: there where a person looks, silent elsewhere."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from hand_plan import ROOT

import planner
from planner.cli.progress import BAR_WIDTH, NOTE_WIDTH, progress_bar, working
from planner.files.inputs import read_inputs
from planner.plan import make_plan

LONG_WORK = {
    "plan", "simulate", "simulate_change", "report", "export", "profile_show", "profile_estimate",
    "profile_gpu", "router_train", "router_eval", "router_next", "router_collect",
}  # fmt: skip


def look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes stderr, as it is captured in a test, a terminal that a person looks at."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)


def told(capsys: pytest.CaptureFixture[str], show: bool) -> str:
    """What a bar that is moved twice writes."""
    with progress_bar(show, "searching") as moved:
        moved(1, 4, "hypervolume 0.5")
        moved(9, 4, "hypervolume 0.7")
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def test_nothing_is_written_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, show=True) == ""


def test_nothing_is_written_to_the_log_of_a_ci_job(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    look(monkeypatch)
    monkeypatch.setenv("CI", "true")
    assert told(capsys, show=True) == ""


def test_on_a_terminal_it_says_what_and_how_far(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    look(monkeypatch)
    shown = told(capsys, show=True)
    assert "searching" in shown
    assert "4/4" in shown  # never more than all
    assert "hypervolume 0.7" in shown
    assert told(capsys, show=False) == ""


def test_other_work_begins_with_nothing_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    look(monkeypatch)
    with progress_bar(True, "searching") as moved:
        moved(4, 4, "hypervolume 0.7")
        moved.stage("proving how good it is")
    last = capsys.readouterr().err.rsplit("\x1b[2K", 2)[-2]
    assert "proving how good it is" in last
    assert "4/4" not in last and "hypervolume" not in last


def test_parts_that_nobody_can_count_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    look(monkeypatch)
    with working(True, "reading scores") as say:
        say("learning [bold]from[/] all")  # no markup: it is shown as it is
    assert "learning [bold]from[/] all" in capsys.readouterr().err


def test_a_long_note_is_cut_so_that_the_bar_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    look(monkeypatch)
    with progress_bar(True, "searching") as moved:
        moved(123456, 234567, "x" * 200)
    assert "x" * NOTE_WIDTH in capsys.readouterr().err
    counted, elapsed, gaps = len("123456/234567"), len("0:00:00"), 4
    assert len("searching") + BAR_WIDTH + counted + elapsed + NOTE_WIDTH + gaps <= 85


@pytest.mark.slow
def test_what_a_plan_does_beside_the_search_is_told() -> None:
    stages: list[str] = []
    inputs = read_inputs(ROOT / "plans" / "a100", ROOT / "profiles")
    make_plan(inputs, "quick", on_stage=stages.append)
    assert stages[0] == "simulating the choice"
    assert "proving how good it is" in stages
    assert len(set(stages)) == len(stages) == 5


def test_every_long_work_has_one() -> None:
    folder = Path(planner.__file__).parent / "cli"
    with_one = {
        path.stem
        for path in folder.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("progress_bar", "working")
    }
    assert with_one >= LONG_WORK
