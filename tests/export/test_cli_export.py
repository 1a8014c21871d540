from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hand_plan import ROOT
from made_fleets import DEMO_PLAN

from planner.cli.app import run
from planner.export.targets import TARGETS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The demo's question and plan."""
    made = tmp_path / "demo"
    shutil.copytree(ROOT / "plans" / "demo", made)
    shutil.copytree(DEMO_PLAN, made, dirs_exist_ok=True)
    return made


def export(folder: Path, *words: str) -> int:
    return run(["export", str(folder), "--profiles", str(ROOT / "profiles"), *words])


def written(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_it_writes_what_it_says(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert export(folder, "--to", "compose") == 0
    out, err = capsys.readouterr()
    place = folder / "export" / "compose"
    said = {line.removeprefix("wrote ") for line in out.splitlines()}
    assert said == {f"{place}/{name}" for name in written(place)}
    assert "note: the weights of llama-3.1-70b are not known" in err


def test_as_data_it_says_the_same(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert export(folder, "--to", "vllm", "--out", str(tmp_path / "out"), "--json") == 0
    out, err = capsys.readouterr()
    data = json.loads(out)
    assert data["target"] == "vllm" and data["period"] is None
    assert set(data["files"]) == written(tmp_path / "out")
    assert data["plan_hash"] == json.loads((folder / "routes.json").read_text())["plan_hash"]
    assert all(f"note: {note}" in err for note in data["notes"])


def test_settings_beside_the_plan_are_read(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "export.yaml").write_text(
        "models:\n  llama-3.1-70b: {weights: org/seventy}\n  llama-3.1-8b: {weights: org/eight}\n"
    )
    assert export(folder, "--to", "vllm") == 0
    assert capsys.readouterr().err == ""
    scripts = folder / "export" / "vllm" / "start"
    assert "vllm serve org/eight" in (scripts / "llama-3-1-8b-h100.sh").read_text()


def test_a_target_that_is_an_engine_starts_that_one(folder: Path):
    for target, program in (("vllm", "exec vllm serve"), ("sglang", "-m sglang.launch_server")):
        assert export(folder, "--to", target, "--quiet") == 0
        scripts = list((folder / "export" / target / "start").glob("*.sh"))
        assert scripts and all(program in script.read_text() for script in scripts)


def test_a_wrong_setting_is_a_fault_with_the_nearest_name(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    given = tmp_path / "mine.yaml"
    given.write_text(
        "pools: {llama-3.1-8b-h10: {weigths: a/b}}\n"
        "models: {llama-3.1-8: {weights: a/b}}\n"
        "gpus: {h100: {ray: H100}}\n"
    )
    assert export(folder, "--to", "vllm", "--settings", str(given)) == 2
    err = capsys.readouterr().err
    assert "weigths" in err and "did you mean weights?" in err
    given.write_text("pools: {llama-3.1-8b-h10: {}}\nmodels: {llama-3.1-8: {}}\ngpus: {h100: {}}\n")
    assert export(folder, "--to", "vllm", "--settings", str(given)) == 2
    err = capsys.readouterr().err
    assert all(what in err for what in ("unknown model", "unknown pool", "unknown gpu", "3 faults"))
    assert not (folder / "export").exists()


def test_no_value_of_a_secret_is_repeated(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "export.yaml").write_text(
        "pools: {llama-3.1-8b-h100: {env: {HF_TOKEN: hf_123456}}}\n"
    )
    assert export(folder, "--to", "vllm") == 2
    err = capsys.readouterr().err
    assert "HF_TOKEN looks like one" in err and "hf_123456" not in err


def test_a_plan_that_a_check_does_not_pass_is_not_exported(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    data = json.loads((folder / "routes.json").read_text())
    shares = data["classes"]["gsm"]
    shares[0]["share"], shares[1]["share"] = shares[1]["share"], shares[0]["share"]
    (folder / "routes.json").write_text(json.dumps(data))
    assert export(folder, "--to", "compose") == 1
    out, err = capsys.readouterr()
    assert "error routes" in err and "nothing was written" in err and out == ""
    assert not (folder / "export").exists()


def test_a_stale_plan_is_not_exported(folder: Path, capsys: pytest.CaptureFixture[str]):
    question = folder / "question.yaml"
    question.write_text(
        question.read_text().replace("quality_at_least: 0.7", "quality_at_least: 0.69")
    )
    assert export(folder, "--to", "compose") == 1
    assert "error stale: question.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "compse"), "did you mean compose?"),
        (("--to", "compose", "--period", "night"), "the plan has no periods"),
        ((), "needs a plan folder and --to TARGET"),
        (("--to", "vllm", "--settings", "none.yaml"), "none.yaml: file not found"),
        (("--to", "litellm", "--endpoints", "none.yaml"), "none.yaml"),
    ],
)
def test_what_cannot_be_judged_is_exit_2(folder, capsys, words, said):
    assert export(folder, *words) == 2
    assert said in capsys.readouterr().err
    assert not (folder / "export").exists()


def test_a_folder_without_a_plan_is_exit_2(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "plan.json").unlink()
    assert export(folder, "--to", "compose") == 2
    assert "make one with: rb plan DIR" in capsys.readouterr().err


def test_what_a_gateway_does_not_do_is_said(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "endpoints.yaml").write_text(
        "llama-3.1-70b-h100-tp4: http://a:1\n"
        "llama-3.1-70b-b200-tp2: http://b:1\n"
        "llama-3.1-8b: http://c:1\n"
    )
    assert export(folder, "--to", "litellm", "--json") == 0
    out, err = capsys.readouterr()
    said = [note for note in json.loads(out)["notes"] if "only rb serve refuses" in note]
    assert len(said) == 1 and f"note: {said[0]}" in err
    assert export(folder, "--to", "compose") == 0
    assert "only rb serve" not in capsys.readouterr().err


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_place_that_cannot_be_written_to_is_exit_2(folder, capsys, tmp_path, is_folder):
    out = tmp_path / "taken"
    if is_folder:  # where a file is to be, there is a folder
        (out / "plan" / "routes.json").mkdir(parents=True)
    else:
        out.write_text("mine")
    assert export(folder, "--to", "vllm", "--out", str(out)) == 2
    assert "cannot be written" in capsys.readouterr().err
    left = [p for p in tmp_path.rglob("*") if p.name.endswith(".part") or p.suffix == ".sh"]
    assert left == []
    assert is_folder or out.read_text() == "mine"


def test_files_of_an_earlier_export_are_told(folder: Path, capsys: pytest.CaptureFixture[str]):
    assert export(folder, "--to", "vllm", "--quiet") == 0
    assert capsys.readouterr().err == ""
    place = folder / "export" / "vllm"
    script = place / "start" / "llama-3-1-8b-h100.sh"
    script.write_text("exec mine\n")
    assert export(folder, "--to", "compose", "--out", str(place)) == 0
    err = capsys.readouterr().err
    assert "lie files of an earlier export, not of this one: hosts/b200-sxm-180g-0.sh, " in err
    assert export(folder, "--to", "vllm", "--json") == 0
    out, err = capsys.readouterr()
    kept = f"start/{script.name}.kept"
    said = f"{script} was not as rb export had written it: what was there is {kept} now"
    assert said in json.loads(out)["notes"] and f"note: {said}" in err
    assert (place / kept).read_text() == "exec mine\n"


def test_it_says_what_there_is_to_export_to(capsys: pytest.CaptureFixture[str]):
    assert run(["export", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(target.name in out for target in TARGETS)
    assert max(map(len, out.splitlines())) <= 80
    assert run(["export", "--list", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in data] == [target.name for target in TARGETS]
    assert all(set(each) == {"name", "writes", "routes", "validated"} for each in data)


@pytest.mark.parametrize("target", [target.name for target in TARGETS])
def test_every_target_makes_files_of_the_demo(target, demo_fleet):
    """That they are right is asserted target by target; here, that none is forgotten."""
    made = next(t for t in TARGETS if t.name == target).files(demo_fleet)
    paths = [file.path for file in made]
    assert paths and len(set(paths)) == len(paths)
    for file in made:
        assert file.text.endswith("\n") and not file.path.startswith("/")
    assert any(demo_fleet.plan_hash in file.text for file in made)
