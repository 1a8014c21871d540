"""`rb report` as a shell sees it: a page or a drawing in a file, streams, exit codes."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hand_plan import ROOT
from shell import Run

from planner.files.plans import PLAN_FILE
from planner.files.profiles import POINTS_FILE

PAGE = Path("plans/demo/report.html")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def written(demo: Path) -> Path:
    """A plan folder with a plan as `rb plan` writes it; its pools' loads are few, to be quick."""
    shutil.copy(ROOT / "tests" / "demo_plan" / PLAN_FILE, demo)
    for points in (demo.parent.parent / "profiles").glob(f"*/{POINTS_FILE}"):
        lines = points.read_text(encoding="utf-8").splitlines(keepends=True)
        points.write_text("".join(lines[:4]), encoding="utf-8")
    return demo


def test_it_writes_one_page_into_the_plan_folder(rb: Run, demo: Path) -> None:
    ran = rb("report", "plans/demo")
    assert (ran.code, ran.err) == (0, "")
    assert re.fullmatch(r"wrote plans/demo/report.html \(\d+ kB\)\n", ran.out)
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">') and text.endswith("</html>\n")
    assert "Inputs unchanged" in text and 'id="speed"' in text
    first = PAGE.read_bytes()
    assert rb("report", "plans/demo", "--quiet").out == ""
    assert PAGE.read_bytes() == first  # the same bytes every time


def test_out_says_where_to(rb: Run, demo: Path) -> None:
    (demo / "question.yaml").unlink()  # a short page will do
    assert rb("report", "plans/demo", "--out", "shown/demo.html").code == 0
    assert Path("shown/demo.html").exists() and not PAGE.exists()
    (demo / "file").write_text("")
    ran = rb("report", "plans/demo", "--out", "plans/demo/file/x.html")
    assert (ran.code, ran.out) == (2, "") and "\n  fix: " in ran.err


def test_no_page_is_written_over_data(rb: Run, demo: Path) -> None:
    for name in (PLAN_FILE, "question.yaml"):
        before = (demo / name).read_bytes()
        ran = rb("report", "plans/demo", "--out", f"plans/demo/{name}")
        assert (ran.code, ran.out) == (2, "")
        assert f"would overwrite plans/demo/{name}" in ran.err and "\n  fix: " in ran.err
        assert (demo / name).read_bytes() == before
    ran = rb("report", "plans/demo", "--dark")
    assert ran.code == 2 and "add --png FIGURE" in ran.err and not PAGE.exists()


def test_without_inputs_the_page_says_what_is_missing(rb: Run, demo: Path) -> None:
    (demo / "question.yaml").unlink()
    ran = rb("report", "plans/demo")
    assert ran.code == 0
    assert ran.err.startswith("note: the page says less, the inputs cannot be read: plans/demo/")
    text = PAGE.read_text(encoding="utf-8")
    assert "Inputs not at hand" in text and "question.yaml" in text
    assert 'id="speed"' not in text
    assert rb("report", "plans/demo", "--quiet").err == ""


def test_a_plan_file_by_itself_is_enough(rb: Run, demo: Path) -> None:
    alone = demo.parent / "alone"
    alone.mkdir()
    shutil.copy(demo / PLAN_FILE, alone)
    assert rb("report", "plans/alone").code == 0
    assert (alone / "report.html").exists()
    ran = rb("report", "plans/alone/plan.json")
    assert ran.code == 0
    assert sorted(path.name for path in alone.iterdir()) == [PLAN_FILE, "report.html"]


def test_changed_profiles_make_it_stale(rb: Run, written: Path) -> None:
    assert rb("report", "plans/demo").code == 0
    text = PAGE.read_text(encoding="utf-8")
    assert "Stale: " in text and "Profiles have changed since the plan was made" in text


def test_a_pool_that_cannot_be_fitted_costs_its_curves_alone(rb: Run, demo: Path) -> None:
    points = Path("profiles/llama-3.1-8b-h100") / POINTS_FILE
    table = list(csv.DictReader(points.read_text(encoding="utf-8").splitlines()))
    with points.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        # A time to the first token says nothing of how long the others take.
        known = ("mode", "concurrency", "input_tokens", "output_tokens", "source")
        writer.writerow({**{k: table[0][k] for k in known}, "ttft_mean_ms": 50})
    ran = rb("report", "plans/demo")
    assert ran.code == 0
    text = PAGE.read_text(encoding="utf-8")
    assert "What could not be read" in text and "llama-3.1-8b-h100/points.csv" in text


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / PLAN_FILE).unlink(), "plan.json: file not found"),
        (lambda folder: (folder / PLAN_FILE).write_text("{"), "is not valid JSON"),
        (lambda folder: (folder / PLAN_FILE).write_text("{}"), "is missing"),
        (lambda folder: folder.rename(folder.parent / "gone"), "plans/demo: folder not found"),
    ],
    ids=["no plan", "no JSON", "empty", "no folder"],
)
def test_a_plan_that_cannot_be_read_is_refused(rb: Run, demo: Path, break_it, said: str) -> None:
    break_it(demo)
    ran = rb("report", "plans/demo")
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err and "\n  fix: " in ran.err
    assert not PAGE.exists()


# ---- Single drawings -----------------------------------------------------------------------------


def test_the_drawings_of_a_plan_are_listed(rb: Run, written: Path) -> None:
    ran = rb("report", "plans/demo", "--list")
    assert (ran.code, ran.err) == (0, "")
    names = [line.split()[0] for line in ran.out.splitlines()[1:]]
    plan = json.loads((written / PLAN_FILE).read_text(encoding="utf-8"))
    assert names == [
        "flow",
        "utilisation",
        "limits",
        "front-cost-quality",
        "front-cost-latency",
        "front-latency-quality",
        *(f"curves-{row['pool']}" for row in plan["deployment"]),
    ]
    assert max(len(line) for line in ran.out.splitlines()) <= 80
    assert not PAGE.exists()


def test_a_drawing_as_png(rb: Run, written: Path) -> None:
    pytest.importorskip("matplotlib")
    ran = rb("report", "plans/demo", "--png", "limits")
    assert (ran.code, ran.out) == (0, "wrote plans/demo/limits.png\n")
    light = (written / "limits.png").read_bytes()
    assert light.startswith(PNG) and not PAGE.exists()
    assert rb("report", "plans/demo", "--png", "limits", "--dark", "--out", "d.png").code == 0
    assert Path("d.png").read_bytes().startswith(PNG) and Path("d.png").read_bytes() != light


def test_an_unknown_drawing_names_the_nearest(rb: Run, written: Path) -> None:
    ran = rb("report", "plans/demo", "--png", "limit")
    assert (ran.code, ran.out) == (2, "")
    assert "unknown figure, got limit" in ran.err and "limits" in ran.err
    ran = rb("report", "plans/demo", "--png", "day")  # this plan has no periods
    assert ran.code == 2 and "unknown figure, got day" in ran.err


def test_no_solver_and_no_torch_is_loaded(demo: Path) -> None:
    script = (
        "import sys\nfrom planner.cli.app import run\n"
        f"code = run(['report', {str(demo)!r}, '--quiet'])\n"
        "heavy = {'torch', 'botorch', 'highspy', 'matplotlib', 'scipy'}\n"
        "sys.exit(code or (9 if heavy & set(sys.modules) else 0))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, cwd=ROOT).returncode == 0
