"""The simulator against recorded engines: calibrated on a part of a recording, judged on the rest.

    python benchmarks/simulator_reality.py --data DIR [--processes N]

DIR holds public recordings (see simulator_data.py).

vLLM   Four runs of 300 requests. Step times are calibrated on the answers to the first 150, the
       whole run is played, and the 15 statistics (mean, p50, p90, p95, p99 of TTFT, TPOT, E2E) of
       the last 150 are compared: the same run a little later, not another load.
TGI    Closed loops of LLM-Pilot. Of each pool four loads are calibrated on (both ends, and two
       between, evenly in the logarithm), the others are played and judged. Pools are those of
       pilot_pools, with a roomy cache; the others are counted apart.

Errors are simulated/recorded - 1. The last table says what each rule of the engines is worth: with
it left out, error on the same judged requests with the step times as they were, and calibrated
again without it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from latency_accuracy import log_spaced
from simulator_data import (
    TO_BE_FITTED,
    UNBOUNDED_BLOCKS,
    PilotPool,
    VllmRun,
    pilot_pools,
    vllm_runs,
)

from planner.parallel.local import over_seeds
from planner.simulate.calibrate import Calibrated, calibrate, with_law
from planner.simulate.engines import step_times
from planner.simulate.recording import Recording, play, statistics_ms
from planner.simulate.settings import EngineSettings

FIRST_HALF, SECOND_HALF = slice(0, 150), slice(150, 300)
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
N_FITTED_LOADS = 4

MEAN_GOAL = 0.04
# Of single statistics: (metric, statistic) -> largest error.
VLLM_GOALS = {
    ("TTFT", "p95"): 0.08,
    ("TPOT", "mean"): 0.06,
    ("TPOT", "p50"): 0.06,
    ("TPOT", "p95"): 0.08,
    ("E2E", "mean"): 0.06,
    ("E2E", "p50"): 0.06,
    ("E2E", "p95"): 0.08,
}
METRICS = ("TTFT", "TPOT", "E2E")
# Median and 90th percentile of |error| over held-out loads.
PILOT_GOALS = {
    "TTFT mean": (0.08, 0.18),
    "TPOT mean": (0.05, 0.10),
    "E2E mean": (0.05, 0.10),
    "requests/s": (0.05, 0.10),
}
PILOT_FIGURES = {
    "TTFT mean": (0, 0),
    "TPOT mean": (1, 0),
    "E2E mean": (2, 0),
    "TTFT p50": (0, 1),
    "TTFT p95": (0, 3),
    "TPOT p95": (1, 3),
    "E2E p50": (2, 1),
    "E2E p95": (2, 3),
}


def errors(run: Recording, fitted: Calibrated, part: slice = slice(None)) -> np.ndarray:
    """Returns simulated/recorded - 1 of the 15 statistics of a part of a run, (3, 5)."""
    simulated = play(run, fitted.settings, fitted.law.request_ms)
    return statistics_ms(simulated, part) / statistics_ms(run, part) - 1.0


# vLLM


@dataclass(frozen=True)
class VllmResult:
    """One run, calibrated on its first half."""

    run: VllmRun
    fitted: Calibrated
    train: np.ndarray  # (3, 5)
    test: np.ndarray  # (3, 5)
    cpu_s: float


def judge_vllm(run: VllmRun) -> VllmResult:
    """Returns the errors of a run on both of its halves."""
    start_s = time.process_time()
    fitted = calibrate([run.recording], run.settings, run.guess, FIRST_HALF)
    cpu_s = time.process_time() - start_s
    train, test = (errors(run.recording, fitted, part) for part in (FIRST_HALF, SECOND_HALF))
    return VllmResult(run, fitted, train, test, cpu_s)


def print_vllm(results: Sequence[VllmResult]) -> None:
    """Prints the table of the four runs and which goals they meet."""
    columns = [f"{metric} {statistic}" for metric, statistic in VLLM_GOALS]
    print("\n| run | first half | second half | " + " | ".join(columns) + " | worst | simulated |")
    print("|---|--:|--:|" + "--:|" * (len(columns) + 2))
    for r in results:
        cells = [f"{100 * value_at(r.test, *goal):+.1f}" for goal in VLLM_GOALS]
        worst = np.unravel_index(np.argmax(np.abs(r.test)), r.test.shape)
        cells.append(
            f"{METRICS[worst[0]]} {STATISTICS[worst[1]]} {100 * r.test[worst]:+.1f} | "
            f"{r.fitted.n_runs} runs, {r.cpu_s:.1f} s"
        )
        print(
            f"| {r.run.name} | {100 * np.abs(r.train).mean():.1f} | "
            f"**{100 * np.abs(r.test).mean():.1f}** | " + " | ".join(cells) + " |"
        )
    missed = list(vllm_misses(results))
    print("\nGoals: " + ("met" if not missed else "MISSED: " + "; ".join(missed)))


def value_at(table: np.ndarray, metric: str, statistic: str) -> float:
    """Returns one of the 15 statistics."""
    return float(table[METRICS.index(metric), STATISTICS.index(statistic)])


def vllm_misses(results: Sequence[VllmResult]) -> Iterator[str]:
    """Yields what misses its goal."""
    for r in results:
        mean = float(np.abs(r.test).mean())
        if mean > MEAN_GOAL:
            yield f"{r.run.name} mean {mean:.1%}"
        for goal, most in VLLM_GOALS.items():
            if abs(value_at(r.test, *goal)) > most:
                yield f"{r.run.name} {' '.join(goal)} {value_at(r.test, *goal):+.1%}"


def vllm_without(result: VllmResult) -> Iterator[tuple[str, EngineSettings]]:
    """Yields engines that lack one rule of the recorded one."""
    settings = result.run.settings
    yield "async scheduling's lag", replace(settings, lag_steps=0)
    if "4090" in result.run.name:
        yield "the limit of the KV cache", replace(settings, kv_blocks=UNBOUNDED_BLOCKS)
        yield "the whole prompt's blocks at admission", replace(settings, reserve_prompt=False)
    if settings.n_ranks > 1:
        yield "ranks: one batch instead", one_batch(settings)


def one_batch(settings: EngineSettings) -> EngineSettings:
    """Returns the replica whose ranks are one."""
    n = settings.n_ranks
    return replace(
        settings,
        steps=step_times(TO_BE_FITTED, n * settings.max_num_seqs),
        max_num_seqs=n * settings.max_num_seqs,
        max_num_batched_tokens=n * settings.max_num_batched_tokens,
        kv_blocks=n * settings.kv_blocks,
        n_ranks=1,
    )


def print_vllm_without(result: VllmResult) -> None:
    """Prints the errors on the second half of a run without one rule after the other."""
    recording, fitted = result.run.recording, result.fitted
    for rule, settings in vllm_without(result):
        same = replace(fitted, settings=with_law(settings, fitted.law, fitted.pair_ms))
        again = calibrate([recording], settings, result.run.guess, FIRST_HALF)
        cells = [100 * np.abs(errors(recording, f, SECOND_HALF)).mean() for f in (same, again)]
        print(
            f"| {result.run.name} | {rule} | {100 * np.abs(result.test).mean():.1f} | "
            f"{cells[0]:.1f} | {cells[1]:.1f} |"
        )


# TGI


@dataclass(frozen=True)
class PilotResult:
    """One pool: figures of held-out loads, name -> errors by load."""

    pool: PilotPool
    held: tuple[int, ...]
    errors: dict[str, np.ndarray]
    cpu_s: float


def judge_pilot(pool: PilotPool) -> PilotResult:
    """Returns the errors of the loads of a pool that were not calibrated on."""
    start_s = time.process_time()
    users = list(pool.recordings)
    fitted_to = {users[i] for i in log_spaced(users, N_FITTED_LOADS)}
    fitted = calibrate([pool.recordings[n] for n in sorted(fitted_to)], pool.settings)
    held = tuple(n for n in users if n not in fitted_to)
    figures: dict[str, list[float]] = {name: [] for name in (*PILOT_FIGURES, "requests/s")}
    for n in held:
        recorded = pool.recordings[n]
        simulated = play(recorded, fitted.settings, fitted.law.request_ms)
        error = statistics_ms(simulated) / statistics_ms(recorded) - 1.0
        for name, at in PILOT_FIGURES.items():
            figures[name].append(float(error[at]))
        figures["requests/s"].append(simulated.n_requests / recorded.n_requests - 1.0)
    table = {name: np.array(values) for name, values in figures.items()}
    return PilotResult(pool, held, table, time.process_time() - start_s)


def pooled(results: Sequence[PilotResult], name: str) -> np.ndarray:
    """Returns a figure's errors over all pools and held-out loads."""
    return np.concatenate([r.errors[name] for r in results])


def print_pilot(results: Sequence[PilotResult]) -> None:
    """Prints the table over all held-out loads, and of each pool."""
    roomy = [r for r in results if r.pool.is_roomy]
    n_loads = sum(len(r.held) for r in roomy)
    print(f"\n{len(roomy)} pools, {n_loads} held-out loads; in brackets with the other pools.\n")
    print("| figure | median | p90 | worst | bias | goal | |\n|---|--:|--:|--:|--:|--:|---|")
    for name in roomy[0].errors:
        error, everything = pooled(roomy, name), np.abs(pooled(results, name))
        median, p90 = np.quantile(np.abs(error), (0.5, 0.9))
        goal = PILOT_GOALS.get(name)
        verdict = (
            "" if goal is None else "met" if median <= goal[0] and p90 <= goal[1] else "MISSED"
        )
        text = "" if goal is None else f"{100 * goal[0]:.0f} / {100 * goal[1]:.0f}"
        print(
            f"| {name} | {100 * median:.1f} ({100 * np.median(everything):.1f}) | "
            f"{100 * p90:.1f} ({100 * np.quantile(everything, 0.9):.1f}) | "
            f"{100 * np.abs(error).max():.0f} | {100 * np.median(error):+.1f} | "
            f"{text} | {verdict} |"
        )
    print("\n| pool | held-out users | " + " | ".join(PILOT_GOALS) + " | s |")
    print("|---|---|" + "---|" * len(PILOT_GOALS) + "--:|")
    for r in results:
        cells = [" ".join(f"{100 * e:+.0f}" for e in r.errors[name]) for name in PILOT_GOALS]
        note = "" if r.pool.is_roomy else " (cache not roomy)"
        print(
            f"| {r.pool.name}{note} | {' '.join(map(str, r.held))} | "
            + " | ".join(cells)
            + f" | {r.cpu_s:.0f} |"
        )


def print_admission(results: Sequence[PilotResult], processes: int) -> None:
    """Prints what other admission rules make of the first pool of each model, calibrated again."""
    first = {r.pool.name.split()[0]: r for r in reversed(results) if r.pool.is_roomy}
    chosen = sorted(first.values(), key=lambda r: r.pool.name)
    print("\n| admission, calibrated again | TTFT mean | TPOT mean | E2E mean | requests/s |")
    print("|---|--:|--:|--:|--:|")
    _admission_row("pause decode: 0.3 waiting per running, or 20 steps", chosen)
    others = {
        "pause decode: 1.2 per running, or 20 steps": {"waiting_ratio": 1.2},
        "chunked prefill": {"prefill": "chunked"},
    }
    for rule, change in others.items():
        pools = [
            replace(r.pool, settings=replace(r.pool.settings, **change))  # type: ignore[arg-type]
            for r in chosen
        ]
        _admission_row(rule, list(over_seeds(judge_pilot, pools, processes)))


def _admission_row(rule: str, results: Sequence[PilotResult]) -> None:
    cells = [f"{100 * np.median(np.abs(pooled(results, name))):.1f}" for name in PILOT_GOALS]
    print(f"| {rule} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=None)
    options = parser.parse_args()
    print("Errors in %, medians of absolute values where not signed.")
    vllm = list(over_seeds(judge_vllm, list(vllm_runs(options.data)), options.processes))
    print_vllm(vllm)
    pilot = list(over_seeds(judge_pilot, list(pilot_pools(options.data)), options.processes))
    print_pilot(pilot)
    print("\n| run | without | error | same step times | calibrated again |")
    print("|---|---|--:|--:|--:|")
    for result in vllm:
        print_vllm_without(result)
    print_admission(pilot, options.processes)


if __name__ == "__main__":
    main()
