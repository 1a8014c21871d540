"""What the tests of the commands share."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from hand_plan import ROOT
from shell import Ran, Run

from planner.cli.app import main
from planner.files.plans import write_plan
from planner.files.sheets import write_sheet
from planner.spec.plan import Plan
from planner.spec.sheet import ServingSheet


@pytest.fixture
def rb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Returns a function that runs rb in a folder of its own, errors mapped as in a shell."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["rb", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        streams = capsys.readouterr()
        return Ran(int(left.value.code or 0), streams.out, streams.err)

    return run


@pytest.fixture
def demo(tmp_path: Path, demo_plan: Plan, demo_sheet: ServingSheet) -> Path:
    """Returns a private plans/demo with a plan, beside its profiles."""
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    folder = tmp_path / "plans" / "demo"
    shutil.copytree(ROOT / "plans" / "demo", folder)
    write_plan(folder, demo_plan)
    write_sheet(folder, demo_sheet)
    return folder
