"""`rb profile show` with pictures."""

import json
from pathlib import Path

import pytest

from planner.profile import review

ROOT = Path(__file__).parent.parent.parent
POOL = "llama-3.1-8b-h100"


@pytest.fixture(autouse=True)
def coarse_curves(monkeypatch):
    """Curves of a few points: what takes the time of a report, and nothing looks at here."""
    monkeypatch.setattr(review, "N_CURVE", 6)


def test_a_picture_and_a_page_are_written_beside_the_report(rb, tmp_path):
    png, page = tmp_path / "p.png", tmp_path / "deep" / "p.html"
    options = ("--profiles", str(ROOT / "profiles"), "--png", str(png), "--html", str(page))
    ran = rb("profile", "show", POOL, *options)
    assert ran.code == 0, ran.err
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in page.read_text() and "off by" in page.read_text()
    assert f"wrote {png}" in ran.err and "Each load predicted from the others" in ran.out


def test_a_picture_that_cannot_be_written_is_said(rb, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    options = ("--profiles", str(ROOT / "profiles"), "--png", str(blocked / "p.png"))
    ran = rb("profile", "show", POOL, *options)
    assert ran.code == 2 and "cannot be written" in ran.err


def test_the_data_holds_curves_and_left_out_loads(rb):
    ran = rb("profile", "show", POOL, "--profiles", str(ROOT / "profiles"), "--json")
    data = json.loads(ran.out)
    assert len(data["left_out"]) >= 20
    chart = data["charts"][0]
    assert len(chart["loads"]) == len(chart["value"]) == len(chart["low"]) == len(chart["high"])
