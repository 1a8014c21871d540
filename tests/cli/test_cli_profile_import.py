"""`rb profile import` as a shell sees it: what it writes, what it says, what it refuses."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml
from hand_plan import ROOT, SMALL
from shell import Run

from planner.files import results
from planner.profile.formats.own_csv import COLUMNS

RESULTS = ROOT / "tests" / "fixtures" / "vllm_bench"
ROW = ["100", "200", "closed", "4", *[""] * (len(COLUMNS) - 6), "measured", "by hand"]
HEADER = ",".join(COLUMNS)
CAPACITY = "input_tokens,output_tokens,max_rps,source\n100,200,12,bench\n"


def importing(*more: str) -> list[str]:
    return ["profile", "import", str(RESULTS), "--pool", "mine", "--gpu", "h100-sxm-80g", *more]


def pool_yaml(name: str = "mine") -> dict[str, object]:
    data: dict[str, object] = yaml.safe_load(Path(f"profiles/{name}/pool.yaml").read_text("utf-8"))
    return data


def rows(name: str = "mine") -> list[str]:
    return Path(f"profiles/{name}/points.csv").read_text("utf-8").splitlines()[1:]


def sidecar(folder: str, text: str, *files: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "rb-pool.yaml").write_text(text, "utf-8")
    for file in files:
        shutil.copy(RESULTS / file, folder)


# ---- What is written ----------------------------------------------------------------------------


def test_it_makes_the_folder_and_warns_of_unknown_facts(rb: Run) -> None:
    ran = rb(*importing())
    assert ran.code == 0
    assert pool_yaml()["gpu"] == "h100-sxm-80g" and pool_yaml()["tensor_parallel"] == 1
    assert len(rows()) == 4
    assert "GPU h100-sxm-80g is not in profiles/gpus.yaml" in ran.err
    assert "model tiny is not in profiles/models.yaml" in ran.err
    assert "wrote profiles/mine/points.csv" in ran.err


def test_it_knows_the_facts_that_are_there(rb: Run, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    ran = rb(*importing("--model-name", "llama-3.1-8b"))
    assert ran.code == 0 and "is not in" not in ran.err


def test_into_another_folder(rb: Run) -> None:
    assert rb(*importing("--profiles", "some/where")).code == 0
    assert sorted(p.name for p in Path("some/where/mine").iterdir()) == ["points.csv", "pool.yaml"]


def test_dry_run_shows_what_was_understood_and_writes_nothing(rb: Run) -> None:
    ran = rb(*importing("--dry-run"))
    assert ran.code == 0 and "nothing was written (--dry-run)" in ran.err
    assert "Closed loop, 2 load levels" in ran.out and "Open loop, 2 load levels" in ran.out
    assert "Understood (4 runs)" in ran.out and "vLLM bench serve" in ran.out
    assert "gpu: files say cpu, h100-sxm-80g counts (--gpu)" in ran.out
    assert not Path("profiles").exists()


def test_json(rb: Run) -> None:
    ran = rb(*importing("--json", "--quiet"))
    (pool,) = json.loads(ran.out)["pools"]
    assert ran.err == ""
    assert len(pool["points"]) == 4 and len(pool["runs"]) == 4
    assert pool["pool"]["name"] == "mine"
    assert pool["written"] == ["profiles/mine/pool.yaml", "profiles/mine/points.csv"]


def test_quiet_says_nothing(rb: Run) -> None:
    ran = rb(*importing("--quiet"))
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert len(rows()) == 4


def test_again_replaces_points_and_keeps_what_a_person_wrote(rb: Run) -> None:
    rb(*importing("--engine-version", "0.11"))
    path = Path("profiles/mine/pool.yaml")
    path.write_text(path.read_text("utf-8") + "kv_precision: fp8\n# a comment\n", "utf-8")
    before = path.read_bytes()
    ran = rb(*importing())
    assert ran.code == 0
    assert path.read_bytes() == before  # nothing to say: comments stay
    assert "the rows that were there are replaced; --append keeps them" in ran.err
    ran = rb(*importing("--tensor-parallel", "2"))
    assert "tensor_parallel is now 2, was 1" in ran.err
    kept = pool_yaml()
    assert (kept["tensor_parallel"], kept["kv_precision"], kept["engine_version"]) == (
        2,
        "fp8",
        "0.11",
    )


def test_a_pool_that_is_there_needs_no_gpu(rb: Run) -> None:
    rb(*importing("--tensor-parallel", "2"))
    ran = rb("profile", "import", str(RESULTS), "--pool", "mine")
    assert ran.code == 0
    assert (pool_yaml()["gpu"], pool_yaml()["tensor_parallel"]) == ("h100-sxm-80g", 2)


def test_measured_points_make_an_estimated_pool_a_measured_one(rb: Run) -> None:
    rb(*importing())
    path = Path("profiles/mine/pool.yaml")
    path.write_text(path.read_text("utf-8").replace("measured", "estimated"), "utf-8")
    ran = rb(*importing())
    assert "origin is now measured, was estimated" in ran.err
    assert pool_yaml()["origin"] == "measured"


def test_append_keeps_adds_and_drops_exact_duplicates(rb: Run) -> None:
    def run(*names: str, more: tuple[str, ...] = ()) -> str:
        paths = [str(RESULTS / name) for name in names]
        ran = rb("profile", "import", *paths, "--pool", "mine", "--gpu", "g", *more)
        assert ran.code == 0
        return ran.out + ran.err

    run("conc1.json", "rate2.json")
    first = rows()
    said = run("conc8.json", "conc1.json", more=("--append",))
    assert len(rows()) == 3 and set(first) < set(rows())
    assert "1 of 2 rows were there already" in said and "replaced" not in said
    before = rows()
    run("conc8.json", more=("--append",))
    assert rows() == before
    run("conc8.json")
    assert len(rows()) == 1


def test_append_refuses_faulty_rows_that_are_there(rb: Run) -> None:
    rb(*importing())
    path = Path("profiles/mine/points.csv")
    path.write_text(path.read_text("utf-8").replace("closed,1,", "closed,-1,"), "utf-8")
    ran = rb(*importing("--append"))
    assert ran.code == 2 and "profiles/mine/points.csv:line 2.concurrency" in ran.err


def test_capacities_alone_make_a_capacity_file(rb: Run) -> None:
    Path("melange.csv").write_text(CAPACITY, "utf-8")
    arguments = ["profile", "import", "melange.csv", "--pool", "c", "--gpu", "g"]
    ran = rb(*arguments, "--model-name", "m", "--n-replicas", "2")
    assert ran.code == 0 and "capacity only" in ran.out
    assert (
        Path("profiles/c/capacity.csv").read_text("utf-8").splitlines()[1].startswith("100,200,6,")
    )
    assert not Path("profiles/c/points.csv").exists()
    ran = rb(*arguments[:3], "--pool", "c", str(RESULTS / "conc1.json"))
    assert "profiles/c/capacity.csv: is no longer used" in ran.err
    ran = rb(*arguments)
    assert ran.code == 2 and "profiles/c/points.csv: is there and says more" in ran.err


def test_the_points_of_two_replicas_are_halved(rb: Run) -> None:
    rb(*importing())
    whole = list(csv.DictReader([HEADER, *rows()]))
    rb(*importing("--n-replicas", "2"))
    half = list(csv.DictReader([HEADER, *rows()]))
    for one, part in zip(whole, half, strict=True):
        assert float(part["achieved_rps"]) == float(one["achieved_rps"]) / 2
        assert part["e2e_p99_ms"] == one["e2e_p99_ms"]
    assert "n_replicas" not in pool_yaml()


# ---- rb-pool.yaml -------------------------------------------------------------------------------


def test_a_sidecar_makes_options_unnecessary(rb: Run) -> None:
    sidecar("r", "name: s\ngpu: h100\ntensor_parallel: 2\nkv_precision: fp8\n", "conc1.json")
    ran = rb("profile", "import", "r")
    assert ran.code == 0
    made = pool_yaml("s")
    assert (made["gpu"], made["tensor_parallel"], made["kv_precision"]) == ("h100", 2, "fp8")
    ran = rb("profile", "import", "r/conc1.json", "r/rb-pool.yaml", "--tensor-parallel", "4")
    assert ran.code == 0 and pool_yaml("s")["tensor_parallel"] == 4


def test_sub_folders_with_sidecars_become_a_pool_each(rb: Run) -> None:
    sidecar("r/a", "name: a\ngpu: g\n", "conc1.json")
    sidecar("r/b", "name: b\ngpu: g\n", "conc8.json")
    Path("r/b/deep").mkdir()
    shutil.copy(RESULTS / "rate2.json", "r/b/deep")
    ran = rb("profile", "import", "r", "--engine", "vllm")
    assert ran.code == 0
    assert (len(rows("a")), len(rows("b"))) == (1, 2)
    assert (pool_yaml("a")["engine"], pool_yaml("b")["engine"]) == ("vllm", "vllm")
    ran = rb("profile", "import", "r", "--pool", "one")
    assert ran.code == 2 and "--pool: names one pool, got results of 2" in ran.err
    assert "faults" not in ran.err


def test_one_faulty_pool_writes_none(rb: Run) -> None:
    sidecar("r/a", "name: a\ngpu: g\n", "conc1.json")
    sidecar("r/b", "name: b\n", "conc8.json")
    ran = rb("profile", "import", "r")
    assert ran.code == 2 and "r/b/conc8.json:gpu: is no GPU of profiles/gpus.yaml" in ran.err
    assert not Path("profiles").exists()


def test_faults_of_a_sidecar_come_together(rb: Run) -> None:
    sidecar("r", "nam: a\ngpu: [g]\ntensor_parallel: 0\norigin: measured\n", "conc1.json")
    ran = rb("profile", "import", "r")
    assert ran.code == 2 and "4 faults" in ran.err
    assert "r/rb-pool.yaml:nam: unknown key" in ran.err and "did you mean name?" in ran.err
    assert "r/rb-pool.yaml:tensor_parallel: must be at least 1" in ran.err


def test_a_sidecar_above_the_named_folder_is_not_about_it(rb: Run) -> None:
    sidecar("r", "name: s\ngpu: g\n")
    Path("r/deep").mkdir()
    shutil.copy(RESULTS / "conc1.json", "r/deep")
    assert rb("profile", "import", "r").code == 0
    assert rb("profile", "import", "r/deep").code == 2


# ---- What is refused ----------------------------------------------------------------------------


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
    (tmp_path / "empty" / "._x.json").write_bytes(b"\x00\x05\x16\x07")
    ran = rb("profile", "import", path, "--pool", "mine", "--gpu", "g")
    assert ran.code == 2 and f"{path}: {says}" in ran.err
    assert not Path("profiles").exists()


def test_what_cannot_be_read_and_what_is_wrong_come_together(rb: Run) -> None:
    sidecar("r", "gpu: [1]\n")
    text = (RESULTS / "conc1.json").read_text("utf-8")
    Path("r/a.json").write_text(text.replace('"duration": ', '"duration": -'), "utf-8")
    ran = rb("profile", "import", "gone.json", "r")
    assert ran.code == 2 and "3 faults" in ran.err
    for place in ("gone.json: file not found", "r/rb-pool.yaml:gpu", "r/a.json:duration"):
        assert place in ran.err


def test_a_stranger_is_a_fault_by_name_and_left_out_in_a_folder(rb: Run) -> None:
    sidecar("r", "name: s\ngpu: g\n", "conc1.json")
    Path("r/notes.csv").write_text("date,what\n1,2\n", "utf-8")
    ran = rb("profile", "import", "r/notes.csv", "r/conc1.json")
    assert ran.code == 2 and "GuideLLM" in ran.err and "r/notes.csv:content" in ran.err
    ran = rb("profile", "import", "r")
    assert ran.code == 0 and "left out, not a result file: r/notes.csv" in ran.err


def test_an_aggregate_alone_says_why_it_gives_nothing(rb: Run) -> None:
    Path("aggregate.json").write_text('{"aggregation_type": "confidence"}', "utf-8")
    ran = rb("profile", "import", "aggregate.json", "--pool", "mine", "--gpu", "g")
    assert ran.code == 2 and "import the files of the single runs" in ran.err


def test_a_pool_cannot_be_written_outside_the_profiles(rb: Run) -> None:
    ran = rb("profile", "import", str(RESULTS), "--pool", "../out", "--gpu", "g")
    assert ran.code == 2 and "--pool" in ran.err
    assert not Path("out").exists() and not Path("profiles").exists()


def test_without_options_it_says_what_it_needs(rb: Run) -> None:
    Path("points.csv").write_text(f"{HEADER}\n{','.join(ROW)}\n", "utf-8")
    ran = rb("profile", "import", "points.csv")
    assert ran.code == 2 and "3 faults" in ran.err
    for needed in ("--model-name", "--gpu", "--pool"):
        assert needed in ran.err


def test_too_many_files_are_refused(rb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MAX_FILES", 3)
    ran = rb(*importing())
    assert ran.code == 2 and "too many result files, more than 3" in ran.err


# ---- --against ----------------------------------------------------------------------------------


def measured(factor: float) -> str:
    """Writes what the small pool of the demo would measure if it were slower by a factor."""
    with Path("profiles", SMALL, "points.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    for row in table:
        row["source"] = "today"
        for column in row:
            if row[column] and column.endswith("_ms"):
                row[column] = repr(float(row[column]) * factor)
            if row[column] and column in ("output_tokens_per_s", "achieved_rps"):
                row[column] = repr(float(row[column]) / factor)
    with Path("today.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, table[0].keys())
        writer.writeheader()
        writer.writerows(table)
    return "today.csv"


def against(rb: Run, *more: str):
    return rb("profile", "import", "today.csv", "--pool", SMALL, "--against", "plans/demo", *more)


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("factor", "code", "says"),
    [(1.0, 0, "within the predicted band"), (1.7, 1, "slower"), (0.6, 1, "faster")],
)
def test_against_a_plan(
    rb: Run, demo: Path, tmp_path: Path, factor: float, code: int, says: str
) -> None:
    measured(factor)
    before = everything(tmp_path)
    ran = against(rb)
    assert ran.code == code
    assert ran.out.splitlines()[0].startswith(f"{SMALL}: {says}")
    assert everything(tmp_path) == before
    data = json.loads(against(rb, "--json").out)
    assert data["ok"] is (code == 0)
    assert (against(rb, "--quiet").code, against(rb, "--quiet").out) == (code, "")


def test_against_a_plan_whose_profile_has_changed_since(rb: Run, demo: Path) -> None:
    measured(1.0)
    path = Path("profiles", SMALL, "points.csv")
    lines = path.read_text("utf-8").splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n", "utf-8")
    ran = against(rb)
    assert ran.code == 2 and f"profiles/{SMALL}/points.csv: is not what the plan" in ran.err


def test_against_needs_a_plan_and_one_of_its_pools(rb: Run, demo: Path) -> None:
    measured(1.0)
    ran = rb("profile", "import", "today.csv", "--against", "plans/none")
    assert ran.code == 2 and "plans/none: folder not found" in ran.err
    ran = rb("profile", "import", "today.csv", "--against", "plans/demo")
    assert ran.code == 2 and "pools of this plan" in ran.err and SMALL in ran.err
    ran = rb("profile", "import", "today.csv", "--pool", SMALL[:-1], "--against", "plans/demo")
    assert ran.code == 2 and f"did you mean {SMALL}?" in ran.err
