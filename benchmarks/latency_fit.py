"""Leave-one-load-out errors of the step law on public measurements.

    python benchmarks/latency_fit.py --data DIR

DIR holds ml_energy/configurations.csv (ML.ENERGY leaderboard v3, closed loops) and
llm_inference_bench/All_results.csv (Argonne LLM-Inference-Bench, static batches). For every
configuration with at least four loads, each load is predicted from the others. Interior loads
measure interpolation, the largest load extrapolation by one step of the sweep (usually a
doubling). No facts of GPU or model are used: only the measurements and order-of-magnitude priors.

TPOT here is the time per output token and sequence at a kept concurrency, prefills included;
throughput is its inverse at the same concurrency.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from planner.latency.fit import fit_law, predicted_ms
from planner.latency.observation import load_groups, observations
from planner.latency.physics import prior
from planner.spec.pool import Point, Pool, Profile

SOURCE = "benchmark"
# Mean prompt lengths are not in the file; the step law is insensitive to them at these ratios.
ML_ENERGY_PROMPTS = {"lm-arena-chat": 300.0, "gpqa": 250.0, "sourcegraph-fim": 1000.0}
MIN_LOADS = 4


def ml_energy(folder: Path) -> Iterator[tuple[str, list[Point]]]:
    groups: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    with (folder / "ml_energy" / "configurations.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            keys = ("model_id", "task", "gpu_model", "num_gpus", "tensor_parallel")
            key = tuple(row[k] for k in (*keys, "weight_precision"))
            groups[key].append(
                Point(
                    input_tokens=ML_ENERGY_PROMPTS.get(row["task"], 500.0),
                    output_tokens=float(row["avg_output_len"]),
                    mode="closed",
                    concurrency=float(row["avg_batch_size"]),
                    output_tokens_per_s=float(row["output_throughput_tokens_per_sec"]),
                    source=SOURCE,
                )
            )
    for key, points in groups.items():
        yield " ".join(key), points


def inference_bench(folder: Path) -> Iterator[tuple[str, list[Point]]]:
    groups: dict[tuple[str, ...], list[Point]] = defaultdict(list)
    with (folder / "llm_inference_bench" / "All_results.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if not row["Hardware"] or not row["Latency"]:
                continue
            key = (row["Hardware"], row["Num of Hardware"], row["Framework"], row["Model"])
            groups[*key, row["Input Output Length"]].append(
                Point(
                    input_tokens=float(row["Input Output Length"]),
                    output_tokens=float(row["Input Output Length"]),
                    mode="batch",
                    concurrency=float(row["Batch Size"]),
                    e2e_mean_ms=1000.0 * float(row["Latency"]),
                    source=SOURCE,
                )
            )
    for key, points in groups.items():
        yield " ".join(key), points


def errors(name: str, points: list[Point]) -> tuple[list[float], list[float]]:
    """Returns the signed relative errors of TPOT at interior loads and at the last load."""
    rows, _ = observations(points)
    groups = sorted(load_groups(rows), key=lambda mask: rows[int(np.argmax(mask))].n)
    if len(groups) < MIN_LOADS:
        return [], []
    profile = Profile(Pool(name="pool", model_name="m", gpu="g", source=SOURCE), None, None)
    guess = prior(profile, rows[0].time_ms, rows[0].n)
    inside: list[float] = []
    last: list[float] = []
    for i, mask in enumerate(groups[1:], start=1):
        law = fit_law([r for r, out in zip(rows, mask, strict=True) if not out], guess)
        found = [predicted_ms(law, rows[j]) / rows[j].time_ms - 1 for j in np.flatnonzero(mask)]
        (last if i == len(groups) - 1 else inside).extend(found)
    return inside, last


def report(title: str, curves: Iterable[tuple[str, list[Point]]]) -> None:
    inside: list[float] = []
    last: list[float] = []
    n_curves = 0
    for name, points in curves:
        found = errors(name, points)
        n_curves += bool(found[0])
        inside += found[0]
        last += found[1]
    print(f"{title}: {n_curves} curves")
    for label, values in (("interior loads", inside), ("largest load", last)):
        tpot = np.array(values)
        for figure, error in (("TPOT", tpot), ("throughput", 1 / (1 + tpot) - 1)):
            size = np.abs(error) * 100
            median, p90 = np.quantile(size, [0.5, 0.9])
            bias = np.median(error) * 100
            print(
                f"  {label:15s} {figure:10s} median {median:5.1f} %  p90 {p90:5.1f} %"
                f"  bias {bias:+5.1f} %  n {size.size}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with both data sets")
    folder = parser.parse_args().data
    report("ml_energy (closed loops)", ml_energy(folder))
    report("llm_inference_bench (static batches)", inference_bench(folder))


if __name__ == "__main__":
    main()
