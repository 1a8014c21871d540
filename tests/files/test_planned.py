"""A plan with what it was made of, wherever it lies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from planner import __version__
from planner.errors import Fault
from planner.files.planned import Planned, read_planned
from planner.files.plans import PLAN_FILE

PLAN = "plans/demo"


def planned(text: str, profiles: Path | None = None) -> Planned:
    faults: list[Fault] = []
    found = read_planned(text, profiles, faults)
    assert found is not None and faults == []
    return found


def test_a_folder_and_its_plan_file_are_the_same(workspace: Path) -> None:
    folder, file = planned(PLAN), planned(f"{PLAN}/{PLAN_FILE}")
    assert folder.plan == file.plan and folder.unread is None
    assert folder.inputs is not None and file.inputs is not None
    assert folder.inputs.hashes == file.inputs.hashes == folder.plan.provenance.inputs


def test_a_plan_by_itself_has_no_inputs(workspace: Path) -> None:
    (workspace / "alone").mkdir()
    shutil.copy(workspace / PLAN / PLAN_FILE, workspace / "alone")
    assert planned("alone") == Planned(planned(PLAN).plan, None)


def test_inputs_that_cannot_be_read_are_no_fault_of_the_plan(workspace: Path) -> None:
    question = workspace / PLAN / "question.yaml"
    question.write_text(question.read_text().replace("headroom_ratio: 0.1", "headroom_ratio: 7"))
    found = planned(PLAN)
    assert found.inputs is None and found.unread is not None
    assert found.unread.file == f"{PLAN}/question.yaml"


def test_profiles_that_are_named(workspace: Path) -> None:
    shutil.move(workspace / "profiles", workspace / "elsewhere")
    assert planned(PLAN).inputs is None
    named = planned(PLAN, Path("elsewhere"))
    assert named.inputs is not None and named.inputs.profiles.folder == "elsewhere"
    faults: list[Fault] = []
    assert read_planned(PLAN, Path("nowhere"), faults) is None
    assert faults[0].fix == "correct --profiles"


def test_what_is_no_plan_has_its_faults_told(workspace: Path) -> None:
    faults: list[Fault] = []
    assert read_planned("plans/nowhere", None, faults) is None
    assert read_planned("main:plans/nowhere", None, faults) is None
    (workspace / PLAN / PLAN_FILE).write_text("[]")
    assert read_planned(PLAN, None, faults) is None
    assert [f.file for f in faults] == [
        "plans/nowhere", "main:plans/nowhere", f"{PLAN}/{PLAN_FILE}"
    ]  # fmt: skip


def test_a_plan_of_another_version_that_cannot_be_read_says_so(workspace: Path) -> None:
    """Whoever upgrades has the old plan in main: keys to add by hand are no help."""
    file = workspace / PLAN / PLAN_FILE
    data = json.loads(file.read_text())
    del data["predicted"]["quality"]
    for version, n_more in (("0.0.9", 1), (__version__, 0), (7, 1)):
        data["provenance"]["rb_version"] = version
        file.write_text(json.dumps(data))
        faults: list[Fault] = []
        assert read_planned(PLAN, None, faults) is None
        assert len(faults) == 1 + n_more
    file.write_text(json.dumps({**data, "provenance": {"rb_version": "9.0.0"}}))
    faults = []
    assert read_planned(PLAN, None, faults) is None
    assert faults[-1].field == "provenance.rb_version"
    assert faults[-1].what == f"it was written by rb 9.0.0, this is rb {__version__}"
    assert "rb plan DIR" in faults[-1].fix
