"""What a shell offers after TAB, asked as the shells themselves ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shellingham
from hand_plan import ROOT
from shell import Run

from planner.cli.app import run
from planner.cli.completion import SHELLS
from planner.export.targets import TARGETS
from planner.files.folders import N_LOOKED_AT, not_a_plan, plan_folders, pool_names

POOLS = ("llama-3.1-70b-h100-tp4", "llama-3.1-8b-h100")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns a working folder with a plan folder and two pools; what they hold is not read."""
    for name in ("plans/demo/question.yaml", *(f"profiles/{pool}/pool.yaml" for pool in POOLS)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Returns a function: a line as typed, the last word incomplete, to what bash offers."""

    def ask(line: str) -> list[str]:
        monkeypatch.setenv("_RB_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        capsys.readouterr()
        assert run([]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("rb pl", ["plan"]),
        ("rb profile sh", ["show"]),
        ("rb plan ", ["plans/demo"]),
        ("rb report plans/d", ["plans/demo"]),
        ("rb plan elsewhere", []),
        ("rb plan plans/demo --effort ", ["quick", "standard", "thorough"]),
        ("rb plan plans/demo --method bo", ["boute"]),
        ("rb schema quest", ["question"]),
        ("rb profile show llama-3.1-8b-h", ["llama-3.1-8b-h100"]),
        ("rb completion f", ["fish"]),
        ("rb serve p", ["plans/demo"]),
        ("rb router collect p", ["plans/demo"]),
        ("rb router import p", ["plans/demo"]),
        ("rb simulate plans/demo --fail llama-3.1-8", ["llama-3.1-8b-h100"]),
        ("rb profile import results --pool llama-3.1-7", ["llama-3.1-70b-h100-tp4"]),
    ],
)
def test_what_is_offered(here: Path, offered, line: str, words: list[str]) -> None:
    assert offered(line) == words


def test_every_target_is_offered(here: Path, offered) -> None:
    assert offered("rb export plans/demo --to ") == [target.name for target in TARGETS]


def test_options_are_offered(here: Path, offered) -> None:
    assert "--against" in offered("rb check plans/demo --a")


def test_plan_folders_are_found_where_people_put_them(tmp_path: Path) -> None:
    for name in ("a/question.yaml", "plans/b/plan.json", "plans/team/c/question.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    for name in (".hidden/plan.json", "node_modules/x/plan.json", "1/2/3/4/plan.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    assert plan_folders(tmp_path) == ["a", "plans/b", "plans/team/c"]
    assert plan_folders(tmp_path / "missing") == []
    assert pool_names(tmp_path / "missing") == []


def test_a_folder_that_may_not_be_looked_into_is_passed_by(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "plans" / "denied").mkdir()
    is_file = Path.is_file

    def looked(path: Path) -> bool:
        if path.parent.name == "denied":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", looked)
    assert plan_folders(here) == ["plans/demo"]
    fault = not_a_plan(Path("plans/dmo"), "plan.json")
    assert fault is not None and fault.fix == "did you mean plans/demo?"


def test_a_large_tree_is_not_searched_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(N_LOOKED_AT + 50):
        (tmp_path / f"{k:04}" / "deep").mkdir(parents=True)
    looked: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (looked.append(str(path)), scan(path))[1])
    assert plan_folders(tmp_path) == []
    assert len(looked) <= N_LOOKED_AT + 1


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_its_script(rb: Run, shell: str) -> None:
    done = rb("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "_RB_COMPLETE" in done.out


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_itself_completes(here: Path, tmp_path: Path) -> None:
    """The script is read by bash, which calls what it defines as for a TAB."""
    tool = tmp_path / "bin" / "rb"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m planner "$@"\n')
    tool.chmod(0o755)
    script = (
        'eval "$(rb completion bash)"\n'
        "complete -p rb > /dev/null\n"
        'COMP_WORDS=(rb check plans/); COMP_CWORD=2; _rb_completion rb; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "--norc", "-e", "-c", script],
        env={**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "plans/demo\n", "")


def test_fish_is_told_by_the_exit_code(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0: take what is offered; 1: nothing to offer, complete file names."""
    monkeypatch.setenv("_RB_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "is-args")
    for line, code in (("rb plan plans/d", 0), ("rb plan elsewhere", 1)):
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
        assert run([]) == code


def test_a_shell_that_nobody_can_tell_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lost() -> tuple[str, str]:
        raise shellingham.ShellDetectionFailure

    for shell in (lost, lambda: ("tcsh", "/bin/tcsh")):
        monkeypatch.setattr("shellingham.detect_shell", shell)
        assert run(["--install-completion"]) == 2
        assert "rb completion SHELL" in capsys.readouterr().err


def test_installing_it_writes_to_the_home_of_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    assert run(["--install-completion"]) == 0
    assert "bash completion installed in" in capsys.readouterr().out
    installed = tmp_path / ".bash_completions" / "rb.sh"
    assert "_RB_COMPLETE" in installed.read_text()
    assert str(installed) in (tmp_path / ".bashrc").read_text()
