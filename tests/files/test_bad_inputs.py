"""Every broken input is refused with exit 2, its file and field named, and nothing is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from bad_inputs import CASES, PLAN, ROUTES, Case

import planner.plan
from planner.cli.app import run

FOLDER = "plans/demo"

# What `rb check` can read and judges: findings, exit 1. Everything else cannot be judged: exit 2.
FINDINGS = {
    "shares that do not sum to 1": "plan.json:routing",
    "route to nowhere": "plan.json:routing",
    "route of nobody": "plan.json:routing",
    "deployment nowhere": "plan.json:deployment",
    "routes missing": "routes.json",
    "routes of another plan": "routes.json:plan_hash",
}

READ = [case for case in CASES if case.name not in FINDINGS]
JUDGED = [case for case in CASES if case.name in FINDINGS]


class SlippedError(Exception):
    """A broken input reached the planner."""


def contents(root: Path) -> dict[str, tuple[int, bytes | None]]:
    """What lies below a folder: file modes and, of regular files of some size, the bytes."""
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        small = path.is_file() and not path.is_symlink() and info.st_size < 1_000_000
        found[str(path.relative_to(root))] = info.st_mode, path.read_bytes() if small else None
    return found


def places(text: str) -> list[tuple[str, str]]:
    """The (file, field) of each fault in an error message."""
    heads = [line.split(": ", 1)[0] for line in text.splitlines() if not line.startswith(" ")]
    return [(head.partition(":")[0], head.partition(":")[2]) for head in heads]


def fixes_follow(text: str) -> bool:
    """Whether each fault is followed by what to do about it."""
    lines = text.splitlines()
    lines = lines[:-1] if lines[-1].endswith(" faults") else lines
    return all(line.startswith("  fix: ") and len(line) > 8 for line in lines[1::2])


def assert_named(case: Case, text: str) -> None:
    named = places(text)
    assert any(Path(file).name == case.file and case.field in field for file, field in named), text
    assert fixes_follow(text), text
    assert "Traceback" not in text


@pytest.fixture(autouse=True)
def _no_planning(monkeypatch: pytest.MonkeyPatch) -> None:
    def slipped(*_args: object, **_options: object) -> None:
        raise SlippedError

    monkeypatch.setattr(planner.plan, "make_plan", slipped)


def test_an_unbroken_folder_gets_through(workspace, capsys):
    """Else every refusal below could have another cause."""
    assert run(["plan", FOLDER]) == 70
    assert "SlippedError" in capsys.readouterr().err


def test_an_unbroken_plan_is_clean(workspace, capsys):
    """Else every finding below could have another cause."""
    assert run(["check", FOLDER]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("clean")
    assert err == ""


@pytest.mark.parametrize("case", READ, ids=lambda case: case.name)
def test_refused(case, workspace, capsys):
    case.break_it(workspace)
    before = contents(workspace)
    code = run([case.command, FOLDER])
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert_named(case, err)
    assert contents(workspace) == before


@pytest.mark.parametrize("case", JUDGED, ids=lambda case: case.name)
def test_judged(case, workspace, capsys):
    case.break_it(workspace)
    before = contents(workspace)
    assert run(["check", FOLDER]) == 1
    out, err = capsys.readouterr()
    heads = [line for line in out.splitlines() if line.startswith("error ")]
    assert any(FINDINGS[case.name] in line for line in heads), out
    assert out.count("fix: ") >= len(heads)
    assert "Traceback" not in out + err
    assert contents(workspace) == before


def test_each_finding_is_one_of_the_cases():
    assert {case.name for case in JUDGED} == FINDINGS.keys()
    assert {case.file for case in JUDGED} == {Path(PLAN).name, Path(ROUTES).name}
    assert len(READ) > 140
    assert len({case.name for case in CASES}) == len(CASES)


SEEN_FROM_OUTSIDE = ["question missing", "rate NaN", "points with a ragged row", "plan cut off"]


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name in SEEN_FROM_OUTSIDE], ids=lambda case: case.name
)
def test_refused_by_a_real_process(case, workspace):
    case.break_it(workspace)
    before = contents(workspace)
    done = subprocess.run(
        [sys.executable, "-m", "planner", case.command, FOLDER],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(planner.__file__).parent.parent)},
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert_named(case, done.stderr)
    assert contents(workspace) == before
