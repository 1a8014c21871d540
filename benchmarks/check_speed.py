"""How long a cold `rb check` of the demo's plan takes, and what of it is what.

Each run is a process of its own, timed from its start to its end: wall clock, and processor time as
the system counts it. Bytecode is written once before, as an installed package has it. The parts are
processes, too, each of which does what the one before it does and something more.

    python benchmarks/check_speed.py --runs 9
    python benchmarks/check_speed.py --runs 9 --source ../another-checkout
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUESTION = ("question.yaml", "class_scores.csv", "arrivals.csv")
ANSWER = ("plan.json", "routes.json", "serving.json")
POLICY = """\
version: 1
max_cost_usd_per_h: 100
max_cost_increase_ratio: 0.1
max_latency_increase_ratio: 0.1
min_headroom_ratio: 0.05
max_gap_ratio: 0.1
require_safe_transition: true
"""
READ = """\
from pathlib import Path
from planner.files.inputs import read_inputs
from planner.files.plans import need_plan
import planner.gate.check
inputs = read_inputs(Path({folder!r}), Path({profiles!r}))
need_plan(Path({folder!r}))
"""


def main() -> None:
    """Prints the least and the median of each kind of run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--source", type=Path, default=ROOT, help="folder that holds planner/")
    asked = parser.parse_args()
    source = asked.source.resolve()
    os.chdir(source)  # the first place where Python looks
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "demo"
        folder.mkdir()
        for name in QUESTION:
            shutil.copy(ROOT / "plans" / "demo" / name, folder)
        for name in ANSWER:
            shutil.copy(ROOT / "tests" / "demo_plan" / name, folder)
        (Path(home) / "policy.yaml").write_text(POLICY)
        environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        environment["PYTHONPYCACHEPREFIX"] = str(Path(home) / "bytecode")
        print(f"{asked.runs} runs each, cold processes, ms; least (median)")
        print(f"{'':34}{'wall':>16}{'processor':>16}")
        for name, arguments in kinds(folder, source == ROOT).items():
            timed(arguments, environment)  # writes the bytecode
            runs = [timed(arguments, environment) for _ in range(asked.runs)]
            columns = "".join(f"{told([run[k] for run in runs]):>16}" for k in (0, 1))
            print(f"{name:34}{columns}")


def kinds(folder: Path, is_new: bool) -> dict[str, list[str]]:
    """Returns the arguments of Python of each kind of run, by its name."""
    profiles = str(ROOT / "profiles")
    check = ["-m", "planner", "check", str(folder), "--profiles", profiles]
    policy = ["--policy", str(folder.parent / "policy.yaml"), "--against", str(folder)]
    found = {
        "Python itself": ["-c", "pass"],
        "its libraries": ["-c", "import numpy, pydantic, typer, rich.console, yaml"],
        "the gate, imported": ["-c", "import planner.cli.app, planner.gate.check"],
        "the same, and the files read": [
            "-c",
            READ.format(folder=str(folder), profiles=profiles),
        ],
        "rb check": check,
    }
    if is_new:
        found["rb check, policy and plan before"] = [*check, *policy]
        found["the same, as a comment"] = [*check, *policy, "--quiet", "--format", "markdown"]
    return found


def timed(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Returns the wall clock and the processor time of one process, in ms."""
    begun = time.perf_counter()
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, *arguments],
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, devnull, 1)],
        )
        _, status, usage = os.wait4(child, 0)
    finally:
        os.close(devnull)
    wall_ms = 1000.0 * (time.perf_counter() - begun)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"failed: {' '.join(arguments)}")
    return wall_ms, 1000.0 * (usage.ru_utime + usage.ru_stime)


def told(values: list[float]) -> str:
    """Returns the least and the median of some times."""
    return f"{min(values):,.0f} ({statistics.median(values):,.0f})"


if __name__ == "__main__":
    main()
