"""`rb profile gpu` as a shell sees it; the kernels are timed in tests/profile."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hand_plan import ROOT
from shell import Run

from planner.profile.device import entry, machine
from planner.profile.device.clock import HostClock
from planner.profile.device.plan import CPU_QUICK

torch = pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor, small kernels and no patience: what is checked here is not how fast it is."""
    small = replace(
        CPU_QUICK, weights=(64, 64), n_buffer_bytes=2**16, context_tokens=16, prompt_tokens=(16,)
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_CPU_COLD_BYTES", 1.0)
    monkeypatch.setattr(entry, "sizes_for", lambda *_: small)
    monkeypatch.setattr(entry, "clock_for", lambda *_: HostClock(0.02))


def gpu(*more: str) -> list[str]:
    return ["profile", "gpu", "--quick", "--name", "mine", *more]


def entries() -> list[dict[str, object]]:
    found: list[dict[str, object]] = yaml.safe_load(Path("profiles/gpus.yaml").read_text("utf-8"))
    return found


def test_dry_run_writes_nothing(rb: Run) -> None:
    ran = rb(*gpu("--dry-run"))
    assert ran.code == 0 and not Path("profiles").exists()
    assert "memory copy" in ran.out and "TFLOP/s" in ran.out and "launch by the host" in ran.out
    assert "note: no price" in ran.err


def test_a_first_run_makes_the_file_and_a_plan_can_read_it(rb: Run) -> None:
    ran = rb(*gpu("--usd-per-h", "0.5", "--fp16-tflops", "2", "--quiet"))
    assert ran.code == 0 and ran.out == "" and "wrote" not in ran.err
    (found,) = entries()
    assert (found["name"], found["usd_per_h"], found["fp16_tflops"]) == ("mine", 0.5, 2.0)
    assert "memory_gb_per_s is the measured one" in str(found["source"])


def test_a_second_run_changes_its_own_entry_only(rb: Run, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    before = Path("profiles/gpus.yaml").read_text("utf-8")
    assert rb(*gpu()).code == 0
    once = Path("profiles/gpus.yaml").read_text("utf-8")
    assert once.startswith(before)
    ran = rb(*gpu("--usd-per-h", "1.5"))
    assert ran.code == 0 and "wrote profiles/gpus.yaml: mine" in ran.err
    twice = Path("profiles/gpus.yaml").read_text("utf-8")
    assert twice.startswith(before) and entries()[-1]["usd_per_h"] == 1.5
    assert len(entries()) == len(yaml.safe_load(before)) + 1


def test_json(rb: Run) -> None:
    ran = rb(*gpu("--json", "--profiles", "some/where"))
    data = json.loads(ran.out)
    measured = data["gpu"]["measured"]
    assert data["gpu"]["name"] == "mine" and data["written"] == ["some/where/gpus.yaml"]
    assert measured["origin"] == "measured" and measured["gemm"][0]["precision"] == "fp32"
    assert data["notes"]


def test_an_entry_of_another_device_is_left_alone(rb: Run, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    before = Path("profiles/gpus.yaml").read_bytes()
    # The largest of the file: no processor of a test has as much memory.
    largest = max(yaml.safe_load(before), key=lambda each: each["memory_gib"])
    Path("profiles/gpus.yaml").write_bytes(before.replace(b"memory_gib: 180", b"memory_gib: 99999"))
    ran = rb("profile", "gpu", "--quick", "--name", largest["name"])
    assert ran.code == 2 and "is 99999 GiB, but" in ran.err
    assert Path("profiles/gpus.yaml").read_bytes().count(b"measured:") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "cuda"], "torch sees no CUDA device"),
        (["--name", "../out"], "is not a name"),
        (["--device", "tpu"], "'tpu' is not one of"),
        (["--usd-per-h", "0"], "--usd-per-h"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(
    rb: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setattr(entry, "measure", None)
    ran = rb("profile", "gpu", *arguments)
    assert ran.code == 2 and said in ran.err and not Path("profiles").exists()


def test_without_torch(rb: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    ran = rb(*gpu())
    assert ran.code == 2 and "rb profile gpu: needs the optional 'plan' extra" in ran.err
    assert "pip install" in ran.err and not Path("profiles").exists()
