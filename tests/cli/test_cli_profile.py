"""`rb profile import` and `rb profile show` as a shell sees them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from hand_plan import ROOT, SMALL
from shell import Run

from planner.files import results

RESULTS = ROOT / "tests" / "fixtures" / "vllm_bench"


def importing(*more: str) -> list[str]:
    return ["profile", "import", str(RESULTS), "--pool", "mine", "--gpu", "h100-sxm-80g", *more]


def pool_yaml() -> dict[str, object]:
    data: dict[str, object] = yaml.safe_load(Path("profiles/mine/pool.yaml").read_text("utf-8"))
    return data


# ---- import ------------------------------------------------------------------------------------


def test_import_makes_the_folder_and_warns_of_unknown_facts(rb: Run) -> None:
    ran = rb(*importing())
    assert ran.code == 0
    assert pool_yaml()["gpu"] == "h100-sxm-80g" and pool_yaml()["tensor_parallel"] == 1
    rows = Path("profiles/mine/points.csv").read_text("utf-8").splitlines()
    assert len(rows) == 5 and rows[0].startswith("input_tokens,output_tokens,mode")
    assert "GPU h100-sxm-80g is not in profiles/gpus.yaml" in ran.err
    assert "model tiny is not in profiles/models.yaml" in ran.err
    assert "wrote profiles/mine/points.csv" in ran.err


def test_import_knows_the_facts_that_are_there(rb: Run, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    ran = rb(*importing("--model-name", "llama-3.1-8b"))
    assert ran.code == 0 and "is not in" not in ran.err


def test_import_into_another_folder(rb: Run) -> None:
    assert rb(*importing("--profiles", "some/where")).code == 0
    assert sorted(p.name for p in Path("some/where/mine").iterdir()) == ["points.csv", "pool.yaml"]


def test_dry_run_writes_nothing(rb: Run) -> None:
    ran = rb(*importing("--dry-run"))
    assert ran.code == 0 and "4 load levels" in ran.out
    assert not Path("profiles").exists()


def test_import_json(rb: Run) -> None:
    ran = rb(*importing("--json", "--quiet"))
    data = json.loads(ran.out)
    assert len(data["points"]) == 4
    assert data["pool"]["name"] == "mine"
    assert data["written"] == ["profiles/mine/pool.yaml", "profiles/mine/points.csv"]


def test_importing_again_replaces_points_and_keeps_what_a_person_wrote(rb: Run) -> None:
    rb(*importing("--engine-version", "0.11"))
    path = Path("profiles/mine/pool.yaml")
    path.write_text(path.read_text("utf-8") + "kv_precision: fp8\n# a comment\n", "utf-8")
    before = path.read_bytes()
    ran = rb(*importing())
    assert ran.code == 0
    assert path.read_bytes() == before  # nothing to say: comments stay
    assert "the points that were there are replaced" in ran.err
    ran = rb(*importing("--tensor-parallel", "2"))
    assert "tensor_parallel is now 2, was 1" in ran.err
    kept = pool_yaml()
    assert (kept["tensor_parallel"], kept["kv_precision"], kept["engine_version"]) == (
        2,
        "fp8",
        "0.11",
    )


def test_a_faulty_pool_yaml_is_not_overwritten(rb: Run) -> None:
    Path("profiles/mine").mkdir(parents=True)
    path = Path("profiles/mine/pool.yaml")
    path.write_text("nonsense: 1\n", "utf-8")
    ran = rb(*importing())
    assert ran.code == 2 and "profiles/mine/pool.yaml:nonsense" in ran.err
    assert path.read_text("utf-8") == "nonsense: 1\n"
    assert not Path("profiles/mine/points.csv").exists()


@pytest.mark.parametrize(
    ("path", "says"),
    [("gone.json", "file not found"), ("empty", "holds no result files")],
)
def test_what_cannot_be_read(rb: Run, tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    (tmp_path / "empty" / ".hidden" / "x.json").write_text("{}", "utf-8")
    ran = rb("profile", "import", path, "--pool", "mine", "--gpu", "g")
    assert ran.code == 2 and f"{path}: {says}" in ran.err
    assert not Path("profiles").exists()


def test_a_pool_cannot_be_written_outside_the_profiles(rb: Run) -> None:
    arguments = ["profile", "import", str(RESULTS), "--pool", "../out", "--gpu", "g"]
    assert rb(*arguments).code == 2
    assert not Path("out").exists() and not Path("profiles").exists()


def test_too_many_files_are_refused(rb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_FILES", 3)
    ran = rb(*importing())
    assert ran.code == 2 and "too many result files, more than 3" in ran.err


# ---- show --------------------------------------------------------------------------------------


@pytest.fixture
def profiles(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    return tmp_path / "profiles"


def test_show(rb: Run, profiles: Path) -> None:
    ran = rb("profile", "show", SMALL)
    assert (ran.code, ran.err) == (0, "")
    assert "Measured (6 load levels" in ran.out and "Capacity of one replica" in ran.out


def test_show_json(rb: Run, profiles: Path) -> None:
    data = json.loads(rb("profile", "show", SMALL, "--json").out)
    assert data["pool"]["name"] == SMALL and 0 < data["fit_error_ratio"] < 0.2


def test_show_exits_1_when_the_fit_is_worse_than_allowed(rb: Run, profiles: Path) -> None:
    off = json.loads(rb("profile", "show", SMALL, "--json").out)["fit_error_ratio"]
    assert rb("profile", "show", SMALL, "--max-error-ratio", f"{off * 1.01}").code == 0
    ran = rb("profile", "show", SMALL, "--max-error-ratio", f"{off * 0.99}")
    assert ran.code == 1 and "the fit is off by" in ran.err


def test_show_of_an_unknown_pool_names_the_nearest(rb: Run, profiles: Path) -> None:
    ran = rb("profile", "show", "llama-3.1-8b-h10")
    assert ran.code == 2 and f"did you mean {SMALL}?" in ran.err


def test_show_without_profiles(rb: Run) -> None:
    ran = rb("profile", "show", SMALL)
    assert ran.code == 2 and "folder not found" in ran.err
