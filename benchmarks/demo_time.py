"""How long `rb plan plans/demo` takes at each effort, as whole processes.

    python benchmarks/demo_time.py [--efforts quick standard]

Runs on a copy of the demo; prints wall and CPU seconds, evaluations, the plan and what is proved.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--efforts", nargs="+", default=["quick", "standard"])
    options = parser.parse_args()
    print("| effort | wall s | CPU s | evaluations | $/h | quality | proved: at least $/h |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as folder:
        demo = Path(folder) / "plans" / "demo"
        shutil.copytree(ROOT / "plans" / "demo", demo)
        for effort in options.efforts:
            wall_s, cpu_s = time.perf_counter(), children_cpu_s()
            command = [sys.executable, "-m", "planner", "plan", str(demo), "--profiles"]
            subprocess.run(
                [*command, str(ROOT / "profiles"), "--effort", effort, "--quiet"],
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            )
            wall_s, cpu_s = time.perf_counter() - wall_s, children_cpu_s() - cpu_s
            plan = json.loads((demo / "plan.json").read_text(encoding="utf-8"))
            print(
                f"| {effort} | {wall_s:.0f} | {cpu_s:.0f} | {plan['provenance']['n_evaluations']} "
                f"| {plan['predicted']['cost_usd_per_h']:.2f} | {plan['predicted']['quality']:.4f} "
                f"| {plan['bound']['best_possible']:.2f} |"
            )


if __name__ == "__main__":
    main()
