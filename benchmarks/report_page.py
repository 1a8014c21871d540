"""How large a report page is, how soon it is there, what it asks for, and what it costs to make.

Three pages: the demo's with its curves; the same plan over the 168 hours of a week; and 40 classes
on 40 pools over a week, with something in every part. Each is opened in a new context of a headless
Chromium from its file; first paint is `first-contentful-paint` of the Performance API. Making one
is a cold process of `rb report`, by the processor time that the system counts.

    python benchmarks/report_page.py --runs 20
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
for place in (ROOT, ROOT / "tests", ROOT / "tests" / "report"):
    sys.path.insert(0, str(place))

from chromium import CHROMIUM, FLAGS, PAINTED  # noqa: E402
from drawn_plans import demo, plan_of, with_periods  # noqa: E402
from paged import demo_page, full  # noqa: E402

from planner.report.page.assemble import page  # noqa: E402
from planner.report.page.subject import Subject  # noqa: E402

LOADED = "performance.getEntriesByType('navigation')[0].loadEventEnd"


def main() -> None:
    """Prints a row of each page, then the processor time of `rb report`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20, help="how often each page is opened")
    parser.add_argument("--made", type=int, default=5, help="how often the demo's page is made")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        opened(dict(pages(Path(home))), asked.runs)
        times = sorted(made_cpu_s(Path(home)) for _ in range(asked.made))
    if times:
        middle = statistics.median(times)
        print(f"rb report, cold: {times[0]:.2f} s least, {middle:.2f} s median (n={len(times)})")


def pages(home: Path) -> Iterator[tuple[str, Path]]:
    """Yields the pages by name, as files."""
    most = with_periods(full(plan_of(40, 40)), 168)
    week = page(Subject(with_periods(demo(), 168)))
    texts = {"demo": demo_page(), "week": week, "40 x 40 x 168": page(Subject(most))}
    for name, text in texts.items():
        file = home / f"{name.replace(' ', '')}.html"
        file.write_text(text, encoding="utf-8")
        yield name, file


def opened(files: dict[str, Path], runs: int) -> None:
    """Prints size, first paint, load and requests of each page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        print(f"Chromium {browser.version}, {runs} times each")
        for name, file in files.items():
            seen = [visit(browser, file) for _ in range(runs)]
            paint, load, asked = zip(*seen, strict=True)
            spread = f"{min(paint):.0f} / {statistics.median(paint):.0f} / {max(paint):.0f}"
            print(
                f"{name}: {file.stat().st_size / 1000:,.0f} kB, first paint {spread} ms (least, "
                f"median, most), loaded {statistics.median(load):.0f} ms, further requests "
                f"{max(asked)}"
            )
        browser.close()


def visit(browser: Any, file: Path) -> tuple[float, float, int]:
    """Returns first paint and load in ms, and how many requests there were beside the file's."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    tab = context.new_page()
    tab.goto(file.as_uri())
    times = float(tab.evaluate(PAINTED)), float(tab.evaluate(LOADED))
    context.close()
    return *times, len(asked) - 1


def made_cpu_s(home: Path) -> float:
    """Returns the processor time of `rb report` of the demo, of a process of its own, in s."""
    folder = home / "plan"
    shutil.copytree(ROOT / "plans" / "demo", folder, dirs_exist_ok=True)
    shutil.copytree(ROOT / "tests" / "demo_plan", folder, dirs_exist_ok=True)
    command = [sys.executable, "-m", "planner", "report", str(folder), "--quiet", "--profiles"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(ROOT / "profiles")], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
