"""Is what `rb plan` predicts what users of `rb serve` see? From unknown engines to a replay.

    python benchmarks/planned_against_measured.py [--seconds 240] [--headroom 0.4] [--repeats 1]

Needs the extra `dev`. Six engines of three models keep time by a step law each and compute nothing
(tests/runtime/timed_engine.py), so that two cores are enough. Everything goes through the command
line, and nothing is told to the planner that a user would not know:

1. `rb profile run` measures one engine of each model;
2. `rb plan` routes two classes over 3 + 2 + 1 replicas;
3. `rb serve` serves the plan;
4. a client that shares no code with `rb` replays a Poisson trace of lognormal lengths, streamed.

Compared: the share of every pool in every class, and p50 and p95 of TTFT and end-to-end latency of
each class, measured by the client, with what plan.json predicts. Goals: shares within 1 %, p50
within 15 %, p95 within 25 %.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "runtime")]
import timed_plan  # noqa: E402
from replaying import Got, replay  # noqa: E402
from serving import serving  # noqa: E402
from timed_plan import Figure  # noqa: E402

GOALS = {"share": 0.01, "p50": 0.15, "p95": 0.25}


def once(folder: Path, seconds: float, headroom_ratio: float, seed: int) -> list[Figure]:
    """Returns the figures of one whole round, after printing them."""
    with timed_plan.engines(folder) as urls:
        timed_plan.measure(urls, folder / "profiles")
        plan = timed_plan.make_plan(folder / "plan", folder / "profiles", urls, headroom_ratio)
        trace = timed_plan.draw_trace(seconds, seed)
        with serving(folder / "plan") as rb:
            got = asyncio.run(replay("127.0.0.1", rb.port, trace, timeout_s=60))
    figures = timed_plan.compare(plan, got, warm_s=min(20.0, seconds / 5))
    tell(got, figures, seconds)
    return figures


def tell(got: list[Got], figures: list[Figure], seconds: float) -> None:
    late_ms = 1000 * float(np.percentile([g.late_s for g in got], 99))
    n_failed = sum(g.status != 200 or g.n_output != g.asked.n_output for g in got)
    print(f"{len(got)} requests in {seconds:g} s, {n_failed} failed; the client was late by")
    print(f"at most {late_ms:.1f} ms in 99 % of them")
    print(f"{'':5} {'':16} {'planned':>9} {'measured':>9} {'deviation':>9}  (simulated)")
    for f in figures:
        numbers = f"{f.planned:9.4f} {f.measured:9.4f}"
        if f.kind != "share":
            numbers = f"{f.planned:9.1f} {f.measured:9.1f}"
        simulated = "" if f.kind == "share" else f"  ({f.simulated:.1f})"
        print(f"{f.kind:5} {f.name:16} {numbers} {f.deviation:9.3f}{simulated}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=240.0)
    parser.add_argument("--headroom", type=float, default=timed_plan.HEADROOM_RATIO)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the files of the first round are kept")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for seed in range(asked.repeats):
        with tempfile.TemporaryDirectory() as other:
            folder = asked.folder if asked.folder and not seed else Path(other)
            figures = once(folder, asked.seconds, asked.headroom, seed)
        for kind, goal in GOALS.items():
            worst = max(f.deviation for f in figures if f.kind == kind)
            verdict = "met" if worst <= goal else "MISSED"
            print(f"worst {kind:5} {worst:.4f}  goal {goal:<5} {verdict}")


if __name__ == "__main__":
    main()
