"""A small valid workspace: plans/demo with the pools that it may use, and a plan made by hand."""

import shutil
from pathlib import Path

import pytest
import yaml
from hand_plan import ROOT, hand_plan

from planner.files.inputs import read_inputs
from planner.files.plans import write_plan
from planner.files.sheets import write_sheet
from planner.sheet import make_sheet

POOLS = ("llama-3.1-405b-fp8-h100-tp8", "llama-3.1-70b-h100-tp4", "llama-3.1-8b-h100")


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of a valid workspace; not to be changed."""
    root = tmp_path_factory.mktemp("pristine")
    shutil.copytree(
        ROOT / "plans" / "demo", root / "plans" / "demo", ignore=shutil.ignore_patterns("*.json")
    )
    for pool in POOLS:
        shutil.copytree(ROOT / "profiles" / pool, root / "profiles" / pool)
    pools = [yaml.safe_load((root / f"profiles/{p}/pool.yaml").read_text()) for p in POOLS]
    stocked = yaml.safe_load((root / "plans/demo/question.yaml").read_text())["stock"]
    for file, names in (
        ("gpus.yaml", {pool["gpu"] for pool in pools} | set(stocked)),
        ("models.yaml", {pool["model_name"] for pool in pools}),
    ):
        entries = yaml.safe_load((ROOT / "profiles" / file).read_text(encoding="utf-8"))
        kept = [entry for entry in entries if entry["name"] in names]
        (root / "profiles" / file).write_text(yaml.safe_dump(kept, sort_keys=False))
    folder = root / "plans" / "demo"
    inputs = read_inputs(folder)
    plan = hand_plan(inputs)
    write_plan(folder, plan)
    write_sheet(folder, make_sheet(inputs, plan))
    return root


@pytest.fixture
def workspace(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a private copy of a valid workspace, which is also the working folder."""
    root = tmp_path / "workspace"
    shutil.copytree(pristine, root)
    monkeypatch.chdir(root)
    return root
