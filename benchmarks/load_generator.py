"""The load generator's own delay: how late it sends when one core has all of its work.

    python benchmarks/load_generator.py

An open loop of streaming requests (Poisson, 256 words, 32 chunks 10 ms apart) against a fake server
in a process of its own, both on the loopback. Own delay is sent minus scheduled; +TTFT is what
client, server and network add to the TTFT that the server was set to. A run counts only when this
process had a core to itself: it waited for one less than a tenth of the time. On a busy machine
`chrt --reset-on-fork --fifo 1 python ...` gives it one (the server has to share the others).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from planner.arrivals import poisson
from planner.profile.load.client import Client, Endpoint, Outcome
from planner.profile.load.driver import Ending, Records, open_loop
from planner.profile.load.level import LATE_MS, measure
from planner.profile.load.prompts import Lengths, PromptSource

FAKE = Path(__file__).parents[1] / "tests" / "profile" / "fake_server.py"
TTFT_S, TPOT_S = 0.05, 0.01
N_INPUT, N_OUTPUT = 256, 32
TARGET_RPS = 200.0
MOST_WAITED_RATIO = 0.1


@contextlib.contextmanager
def fake_server() -> Iterator[str]:
    """Gives the address of a fake server that runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        behaviour = json.dumps({"ttft_s": TTFT_S, "tpot_s": TPOT_S})
        command = [sys.executable, str(FAKE), str(port_file), behaviour]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
            while not (port_file.exists() and port_file.read_text()):
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port_file.read_text()}"
            server.stdin.close()


async def run(url: str, rate_rps: float, duration_s: float, seed: int) -> Records:
    """Returns the records of one open loop."""
    source = PromptSource(Lengths.fixed(N_INPUT, N_OUTPUT), seed=seed)
    times_s = poisson(rate_rps, seed=seed, duration_s=duration_s)
    async with Client(Endpoint(url, "fake", "chat")) as client:
        await client.probe(source.ask(0))
        return await open_loop(client.send, source.ask, times_s, Ending(duration_s=duration_s))


def processor_s() -> tuple[float, float]:
    """Returns how long this process had a core, and how long it waited for one, in s.

    The waiting (Linux, else NaN) is other programs' doing: no run with much of it counts.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    with contextlib.suppress(OSError):
        waited_ns = int(Path("/proc/self/schedstat").read_text().split()[1])
        return used.ru_utime + used.ru_stime, waited_ns * 1e-9
    return used.ru_utime + used.ru_stime, math.nan


def report(rate_rps: float, seconds: float, seed: int) -> tuple[float, float]:
    """Prints one run; returns its own delay (p99, ms) and how much of it waited for a core."""
    with fake_server() as url:
        before_s, start_s = processor_s(), time.perf_counter()
        records = asyncio.run(run(url, rate_rps, seconds, seed))
        lasted_s = time.perf_counter() - start_s
        used, waited = (np.array(processor_s()) - before_s) / lasted_s
    level = measure(records, source="benchmark")
    ok = records.outcome == Outcome.OK
    added_ms = (records.first_s - records.sent_s)[ok] * 1e3 - TTFT_S * 1e3
    p50_ms, p99_ms = np.percentile(added_ms, [50, 99])
    print(
        f"{rate_rps:4.0f}  {seed:4}  {records.outcome.size:4}  {sum(level.failures.values()):6}"
        f"  {level.own_delay_p50_ms:5.2f}  {level.own_delay_p99_ms:6.2f}"
        f"  {p50_ms:6.2f}  {p99_ms:6.2f}  {used:4.0%}  {waited:10.0%}",
        flush=True,
    )
    return level.own_delay_p99_ms, float(waited)


def main() -> None:
    """Prints one line per run, and whether the target is met."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rates", type=float, nargs="+", default=[50.0, 100.0, TARGET_RPS])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    print("                         own delay, ms      +TTFT, ms      processor")
    print("rate  seed  sent  failed    p50     p99     p50     p99  used  waited for")
    for rate_rps in options.rates:
        runs = [report(rate_rps, options.seconds, seed) for seed in range(options.runs)]
        delays_ms = [delay_ms for delay_ms, waited in runs if not waited > MOST_WAITED_RATIO]
        if not delays_ms:
            print(f"{rate_rps:.0f}/s: no run had a core to itself, nothing can be said")
            continue
        worst_ms = max(delays_ms)
        verdict = "met" if worst_ms < LATE_MS else "NOT met"
        print(
            f"{rate_rps:.0f}/s: {len(delays_ms)} of {len(runs)} runs had a core to themselves; p99 "
            f"median {np.median(delays_ms):.2f} ms, worst {worst_ms:.2f} ms; "
            f"target, below {LATE_MS:g} ms: {verdict}"
        )


if __name__ == "__main__":
    main()
