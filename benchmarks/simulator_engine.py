"""The simulator against a running engine that is sent the same open loops.

    python benchmarks/simulator_engine.py --url URL --model NAME --max-num-seqs N [options]

Poisson arrivals of requests of mixed lengths at several rates, each for --seconds. Step times are
calibrated on all rates but one at a time (other loads), and on the first half of each run (the
same load); every time the 15 statistics of what was held out are compared. The engine's limits must
be given as it was started: --max-num-seqs, --max-num-batched-tokens, --kv-blocks, --lag 0 or 1.

vLLM on a CPU as in profile_engine.py. Dynamo's mocker, a pretended vLLM (two minutes to install);
its event sockets listen on every address, so give it a network of its own (unshare -n):

    python3.11 -m venv d && d/bin/pip install --no-deps ai-dynamo==1.6.1 ai-dynamo-runtime==1.6.1
    d/bin/pip install uvloop 'pydantic<=2.13.5' msgspec pyzmq 'prometheus-client<1' tqdm aiohttp \
        redis zstandard transformers kubernetes
    export DYN_DISCOVERY_BACKEND=file DYN_FILE_KV=$PWD/kv DYN_REQUEST_PLANE=tcp \
        DYN_EVENT_PLANE=zmq DYN_TCP_RPC_HOST=127.0.0.1 DYN_TCP_RESPONSE_STREAM_HOST=127.0.0.1
    d/bin/python -m dynamo.frontend --http-host 127.0.0.1 --http-port 18100 &
    d/bin/python -m dynamo.mocker --model-path tiny --model-name tiny --num-workers 1 \
        --max-num-seqs 16 --num-gpu-blocks-override 2048 --block-size 16 &
    python benchmarks/simulator_engine.py --url http://127.0.0.1:18100 --model tiny \
        --max-num-seqs 16 --kv-blocks 2048
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from simulator_data import TO_BE_FITTED

from planner.profile.load.client import Client, Endpoint, Outcome
from planner.profile.load.driver import Ending, Records, open_loop
from planner.profile.load.probe import Watch, probe
from planner.profile.load.prompts import Lengths, PromptSource
from planner.simulate.calibrate import calibrate
from planner.simulate.engines import step_times
from planner.simulate.recording import Recording, play, statistics_ms
from planner.simulate.settings import EngineSettings, Tokens

N_LENGTHS = 200
METRICS = ("TTFT", "TPOT", "E2E")
STATISTICS = ("mean", "p50", "p90", "p95", "p99")


def mixed_lengths(input_tokens: float, output_tokens: float, seed: int) -> Lengths:
    """Returns lengths around two means, spread as much as those of chats (log-normal, cv 0.7)."""
    rng = np.random.default_rng(seed)
    sigma = np.sqrt(np.log(1.0 + 0.7**2))
    factors = np.exp(sigma * rng.standard_normal((2, N_LENGTHS)) - sigma**2 / 2)
    return Lengths(
        np.maximum(np.rint(input_tokens * factors[0]), 8.0),
        np.maximum(np.rint(output_tokens * factors[1]), 2.0),
    )


async def recorded(endpoint: Endpoint, options: argparse.Namespace) -> dict[float, Recording]:
    """Returns what an engine did at each rate, one load after the other."""
    lengths = mixed_lengths(options.input_tokens, options.output_tokens, options.seed)
    runs = {}
    async with Client(endpoint) as client, Watch(endpoint) as watch:
        found = await probe(client, watch, lengths, options.seed)
        for k, rate in enumerate(options.rates):
            seed = options.seed + k
            n = round(rate * options.seconds)
            times_s = np.cumsum(np.random.default_rng(seed).exponential(1.0 / rate, n))
            source = PromptSource(lengths, seed=seed, calibration=found.calibration)
            ending = Ending(n_requests=n, drain_s=120.0)
            runs[rate] = as_recording(await open_loop(client.send, source.ask, times_s, ending))
    return runs


def as_recording(records: Records) -> Recording:
    """Returns the answered requests of a load; raises ValueError when any was not answered."""
    n_failed = int((records.outcome != Outcome.OK).sum())
    if n_failed:
        raise ValueError(f"{n_failed} requests were not answered: {records.examples}")
    prompt = records.n_input.tolist()
    return Recording(
        Tokens(prompt, prompt, records.n_output.tolist()),
        *(1000.0 * at_s for at_s in (records.scheduled_s, records.first_s, records.done_s)),
    )


def compared(runs: dict[float, Recording], settings: EngineSettings) -> Iterator[str]:
    """Yields rows: how far the simulator is from each run that it did not see."""
    for rate, run in runs.items():
        others = [other for at, other in runs.items() if at != rate]
        half = run.n_requests // 2
        fits = {
            "other loads": (others, slice(None), slice(None)),
            "its first half": ([run], slice(0, half), slice(half, None)),
        }
        for name, (seen, part, judged) in fits.items():
            fitted = calibrate(seen, settings, part=part)
            simulated = play(run, fitted.settings, fitted.law.request_ms)
            error = statistics_ms(simulated, judged) / statistics_ms(run, judged) - 1.0
            yield _row(rate, run, name, error)


def _row(rate: float, run: Recording, seen: str, error: np.ndarray) -> str:
    picked = [error[m, s] for m in range(3) for s in (0, 1, 3)]
    mean_ms = [float(run.latency_ms(m).mean()) for m in ("ttft", "tpot", "e2e")]
    return (
        f"| {rate:g} | {' '.join(f'{ms:.3g}' for ms in mean_ms)} | {seen} | "
        f"**{100 * np.abs(error).mean():.1f}** | "
        + " | ".join(f"{100 * e:+.1f}" for e in picked)
        + " |"
    )


def head() -> str:
    """Returns the head of the table."""
    columns = [f"{metric} {STATISTICS[s]}" for metric in METRICS for s in (0, 1, 3)]
    names = ["requests/s", "TTFT TPOT E2E ms", "calibrated on", "mean of 15", *columns]
    return f"| {' | '.join(names)} |\n|--:|--:|---|" + "--:|" * (len(columns) + 1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--max-num-seqs", type=int, required=True)
    parser.add_argument("--max-num-batched-tokens", type=int, default=8192)
    parser.add_argument("--kv-blocks", type=int, default=2**40)
    parser.add_argument("--lag", type=int, choices=(0, 1), default=0)
    parser.add_argument("--rates", type=float, nargs="+", default=[2.0, 4.0, 8.0, 12.0])
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--input-tokens", type=float, default=300.0)
    parser.add_argument("--output-tokens", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    settings = EngineSettings(
        steps=step_times(TO_BE_FITTED, options.max_num_seqs),
        max_num_seqs=options.max_num_seqs,
        max_num_batched_tokens=options.max_num_batched_tokens,
        kv_blocks=options.kv_blocks,
    )
    settings = replace(settings, lag_steps=options.lag)
    runs = asyncio.run(recorded(Endpoint(options.url, options.model), options))
    print("Errors in %, simulated/measured - 1; mean of 15 statistics in absolute value.\n")
    print(head())
    for row in compared(runs, settings):
        print(row, flush=True)


if __name__ == "__main__":
    main()
