"""`rb profile show` as a shell sees it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hand_plan import ROOT, SMALL
from shell import Run

from planner.profile import review


@pytest.fixture(autouse=True)
def coarse_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves of a few points: what takes the time of a report, and nothing looks at here."""
    monkeypatch.setattr(review, "N_CURVE", 6)


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
