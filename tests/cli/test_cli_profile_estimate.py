"""`rb profile estimate` on the repository's profiles."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from planner.profile import review

ROOT = Path(__file__).parent.parent.parent
WANTED = ("--model", "llama-3.1-70b", "--gpu", "h100-sxm-80g", "--tensor-parallel", "8")


@pytest.fixture
def profiles(tmp_path) -> Path:
    return Path(shutil.copytree(ROOT / "profiles", tmp_path / "profiles"))


def test_a_pool_is_written_shown_and_planned_with(rb, profiles, monkeypatch):
    monkeypatch.setattr(review, "N_CURVE", 6)  # points of a curve that nothing looks at here
    ran = rb("profile", "estimate", "--pool", "big", *WANTED, "--profiles", str(profiles))
    assert ran.code == 0, ran.err
    assert "Estimated (18 load levels of one replica)" in ran.out
    assert f"wrote {profiles.as_posix()}/big/points.csv" in ran.err
    entry = yaml.safe_load((profiles / "big" / "pool.yaml").read_text())
    assert entry["origin"] == "estimated" and 0.15 <= entry["error_ratio"] < 1.5
    assert (entry["tensor_parallel"], entry["engine"]) == (8, "vllm")
    shown = rb("profile", "show", "big", "--profiles", str(profiles))
    assert shown.code == 0, shown.err
    assert "tpot: estimated" in shown.out


def test_twice_the_gpus_are_faster_but_less_than_twice(rb, profiles):
    ran = rb(
        "profile", "estimate", "--pool", "big", *WANTED, "--profiles", str(profiles), "--json",
        "--input-tokens", "300", "--output-tokens", "350", "--dry-run",
    )  # fmt: skip
    rows = json.loads(ran.out)["points"]
    at_8 = next(p for p in rows if p["concurrency"] == 8 and p["input_tokens"] == 300)
    assert 1.05 < at_8["output_tokens_per_s"] / 469.7 < 2.0  # measured on four of these GPUs


def test_a_dry_run_writes_nothing(rb, profiles):
    ran = rb(
        "profile", "estimate", "--pool", "big", *WANTED, "--profiles", str(profiles), "--dry-run"
    )
    assert ran.code == 0 and not (profiles / "big").exists()
    assert "wrote" not in ran.err and "Estimated" in ran.out


def test_the_same_command_twice_leaves_the_same_bytes(rb, profiles):
    texts = []
    for _ in range(2):
        assert (
            rb("profile", "estimate", "--pool", "big", *WANTED, "--profiles", str(profiles)).code
            == 0
        )
        texts.append(
            [(profiles / "big" / name).read_bytes() for name in ("pool.yaml", "points.csv")]
        )
    assert texts[0] == texts[1]


def test_an_unmeasured_gpu_is_told_as_a_range(rb, profiles):
    ran = rb(
        "profile", "estimate", "--pool", "p", "--model", "llama-3.1-8b", "--gpu", "l40s-48g",
        "--profiles", str(profiles), "--json",
    )  # fmt: skip
    data = json.loads(ran.out)
    assert data["pool"]["error_ratio"] >= 0.7
    assert "A RANGE, not a point: no l40s-48g was measured" in data["pool"]["source"]
    assert any("A RANGE" in note for note in data["notes"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "llama-3.1-70", "--gpu", "h100-sxm-80g"), "did you mean llama-3.1-70b?"),
        (("--model", "llama-3.1-8b", "--gpu", "h100"), "did you mean h100-sxm-80g?"),
        (("--model", "llama-3.1-70b", "--gpu", "h100-sxm-80g"), "give --tensor-parallel 2"),
        ((*WANTED, "--weight-precision", "int3"), "--weight-precision"),
        ((*WANTED, "--source", "aic", "--engine", "tgi"), "fix:"),
    ],
    ids=["model", "gpu", "memory", "precision", "aic"],
)
def test_mistakes_are_told_with_a_way_out(rb, profiles, options, said):
    ran = rb("profile", "estimate", "--pool", "p", *options, "--profiles", str(profiles))
    assert ran.code == 2 and said in ran.err and "Traceback" not in ran.err
    assert not (profiles / "p").exists()


def test_a_measured_pool_is_corrected_by_its_own_loads(rb, profiles):
    folder = profiles / "llama-3.1-70b-h100-tp4"
    before = (folder / "points.csv").read_text().splitlines()
    ran = rb(
        "profile", "estimate", "--pool", folder.name, "--model", "llama-3.1-70b",
        "--gpu", "h100-sxm-80g", "--profiles", str(profiles),
    )  # fmt: skip
    assert ran.code == 0, ran.err
    after = (folder / "points.csv").read_text().splitlines()
    assert len(after) > len(before)
    assert [line.split(",")[:4] for line in after[1 : len(before)]] == [
        line.split(",")[:4] for line in before[1:]
    ]
    entry = yaml.safe_load((folder / "pool.yaml").read_text())
    assert entry["origin"] == "estimated" and entry["tensor_parallel"] == 4
    refused = rb("profile", "estimate", "--pool", folder.name, *WANTED, "--profiles", str(profiles))
    assert refused.code == 2 and "measured rows were made with 4, got 8" in refused.err
