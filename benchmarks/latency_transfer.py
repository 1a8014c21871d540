"""Accuracy for what was never measured: another request shape, another pool, another GPU.

    python benchmarks/latency_transfer.py --data DIR

DIR holds public measurements (see latency_data.py; facts of models and GPUs in latency_facts.py).

shapes   pools measured at three request shapes or more: each shape is predicted by latency.fit from
         one other (the middle one) or two (the shortest and the longest). TPOT, all loads; static
         batches without TTFT: time per output token, prefills included.
pools    every pool is left out and estimated from the other pools of its engine and data set, alone
         or corrected at 1 or 3 of its loads (then judged at the others); pools whose GPU or model
         no other pool has are not among them. Time per output token.
GPUs     every pool on one type of GPU is left out; the part of figures within a factor of 1.7, and
         within the band that rb profile estimate gives.

The widths of the estimate's priors were chosen on the four data sets of POOLS, from a handful of
variants per term: their figures are out of sample for the pools, not for those few constants. The
engines of UNTUNED were looked at only after that.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from latency_data import LOADERS, Curve
from latency_facts import GPU_NAMES, MODEL_NAMES, gpus, model_facts

from planner.errors import FitError
from planner.latency.fit import fit
from planner.latency.predict import Condition, figures
from planner.profile.left_out import (
    COVERED_RATIO,
    Lack,
    conformal_half_width,
    error_band,
    left_out_errors,
)
from planner.profile.transfer import PoolFacts
from planner.spec.arrays import FloatArray
from planner.spec.pool import Point, Pool, Profile

GPU = gpus()
FACTS = model_facts()
RANGE = 1.7
# Data set, engine: the targets of the issue, median and 90th percentile.
HOMOGENEOUS, MIXED, PROBED = (0.10, 0.30), (0.20, 0.55), (0.10, 0.33)
POOLS = (
    ("llm_inference_bench", "TensorRT-LLM", HOMOGENEOUS),
    ("llm_inference_bench", "vLLM", HOMOGENEOUS),
    ("ml_energy", "vllm", MIXED),
    ("llm_pilot", "tgi", MIXED),
)
UNTUNED = (
    ("llm_inference_bench", "llama.cpp", HOMOGENEOUS),
    ("llm_inference_bench", "Deepspeed", HOMOGENEOUS),
    ("llm_inference_bench", "Deepspeed-MII", HOMOGENEOUS),
)
SHAPES = {1: (0.08, 0.38), 2: (0.07, 0.25)}
SHAPE_SOURCES = ("llm_inference_bench", "splitwise")


@dataclass(frozen=True)
class Result:
    """One line of the report."""

    what: str
    n: int
    error: FloatArray  # |predicted/measured - 1|
    target: tuple[float, float] | None = None

    def text(self) -> str:
        """Returns the line as a row of a table."""
        median, tail = np.median(self.error), np.quantile(self.error, 0.9)
        verdict = ""
        if self.target is not None:
            met = median <= self.target[0] and tail <= self.target[1]
            verdict = f"{100 * self.target[0]:.0f} / {100 * self.target[1]:.0f} %, "
            verdict += "met" if met else "MISSED"
        return (
            f"| {self.what} | {self.n} | {self.error.size:,} "
            f"| {100 * median:.1f} / {100 * tail:.1f} % | {verdict} |"
        )


def profile_of(curve: Curve, points: Sequence[Point], name: str = "pool") -> Profile:
    """Returns a profile of a curve's pool with the facts of its GPU and model."""
    gpu, model = GPU_NAMES[curve.gpu], MODEL_NAMES[curve.model_name]
    pool = Pool(
        name=name,
        model_name=model,
        gpu=gpu,
        # Expert parallelism is not told apart: all GPUs that are not data-parallel share a step.
        tensor_parallel=curve.n_gpus // curve.data_parallel,
        data_parallel=curve.data_parallel,
        weight_precision=curve.weight_precision,
        engine=curve.engine,
        source=curve.source,
    )
    return Profile(pool, GPU[gpu], FACTS[model], tuple(points))


def measured_pools(folder: Path, source: str, engine: str) -> list[PoolFacts]:
    """Returns the pools of a data set on one engine, all request shapes of a pool together."""
    points: dict[tuple[object, ...], list[Point]] = defaultdict(list)
    curve_of = {}
    for curve in LOADERS[source](folder):
        if curve.engine == engine and curve.points:
            facts = (MODEL_NAMES[curve.model_name], GPU_NAMES[curve.gpu])
            key = (*facts, curve.n_gpus, curve.data_parallel, curve.weight_precision or "")
            points[key] += curve.points
            curve_of[key] = curve
    pools = [
        PoolFacts.of(profile_of(curve_of[key], points[key], f"pool-{i}"))
        for i, key in enumerate(sorted(points))
    ]
    return [pool for pool in pools if pool is not None]


def shape_errors(folder: Path, source: str, n_known: int) -> tuple[int, FloatArray]:
    """Returns the pools, and the errors of TPOT at every shape left out of them."""
    found: list[float] = []
    n_pools = 0
    for by_shape in _by_shape(folder, source):
        shapes = sorted(by_shape)
        if len(shapes) < 3:
            continue
        n_pools += 1
        for held in shapes:
            others = [shape for shape in shapes if shape != held]
            known = [others[len(others) // 2]] if n_known == 1 else [others[0], others[-1]]
            points = [point for shape in known for point in by_shape[shape].points]
            found += _held_errors(by_shape[held], points)
    return n_pools, np.array(found)


def _by_shape(folder: Path, source: str) -> Iterator[dict[tuple[float, float], Curve]]:
    pools: dict[tuple[object, ...], dict[tuple[float, float], Curve]] = defaultdict(dict)
    for curve in LOADERS[source](folder):
        points = tuple(point for point in curve.points if _whole(point))
        if points:
            shape = (points[0].input_tokens, points[0].output_tokens)
            pools[curve.pool_key][shape] = Curve(**{**curve.__dict__, "points": points})
    yield from (pools[key] for key in sorted(pools, key=str))


def _whole(point: Point) -> bool:
    """Returns whether a run made all the tokens that it was asked for, as its times tell.

    Splitwise's longest answers did not: TTFT and TPOT do not add up to their E2E.
    """
    if point.ttft_mean_ms is None or point.tpot_mean_ms is None or point.e2e_mean_ms is None:
        return True
    asked_ms = point.ttft_mean_ms + (point.output_tokens - 1.0) * point.tpot_mean_ms
    return abs(point.e2e_mean_ms / asked_ms - 1.0) < 0.05


def _held_errors(held: Curve, points: Sequence[Point]) -> list[float]:
    try:
        model = fit(profile_of(held, points))
    except FitError:  # every known row is faster than the weights can be read
        return []
    found = []
    for point in held.points:
        load = point.concurrency or 0.0
        said = figures(model, Condition(point.mode, point.input_tokens, point.output_tokens, load))
        column = "tpot_mean_ms" if point.tpot_mean_ms else "e2e_mean_ms"
        if column in said:
            found.append(abs(said[column].value / getattr(point, column) - 1.0))
    return found


def pool_lines(folder: Path) -> Iterator[Result]:
    """Yields the accuracy of every data set's pools, left out one by one."""
    for source, engine, target in POOLS + UNTUNED:
        pools = measured_pools(folder, source, engine)
        for n_probes in (0, 1, 3):
            errors = left_out_errors(pools, "configuration", n_probes)
            goal = {0: target, 1: None, 3: PROBED}[n_probes]
            what = f"{source} {engine}, {n_probes} loads measured"
            yield Result(what, len(errors), np.abs(np.expm1(np.concatenate(errors))), goal)
        if (source, engine, target) in UNTUNED:
            continue
        errors = left_out_errors(pools, "model", 0)
        what = f"{source} {engine}, model never measured"
        yield Result(what, len(errors), np.abs(np.expm1(np.concatenate(errors))))


def covered(errors: Sequence[FloatArray]) -> float:
    """Returns the part of pools' figures within the band that the other pools give, a mean."""
    inside = []
    for k, error in enumerate(errors):
        half_width = conformal_half_width([*errors[:k], *errors[k + 1 :]])
        if half_width is not None:
            inside.append(np.mean(np.abs(error) <= half_width))
    return float(np.mean(inside)) if inside else float("nan")


def band_line(pools: Sequence[PoolFacts], name: str, lack: Lack) -> str:
    """Returns how much the range and the band of an estimate that lacks something cover."""
    errors = left_out_errors(pools, lack, 0)
    size = np.abs(np.concatenate(errors))
    median, tail = np.quantile(np.expm1(size), [0.5, 0.9])
    factor = 1.0 + error_band(pools, lack, 0).ratio
    return (
        f"| {name} | {len(errors)} | {100 * median:.0f} / {100 * tail:.0f} % "
        f"| {np.mean(size <= np.log(RANGE)):.0%} | {factor:.2f} | {covered(errors):.0%} |"
    )


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    print("| new request shape | pools | figures | median / p90 | target |\n|---|--:|--:|--:|---|")
    for source in SHAPE_SOURCES:
        for n_known, target in SHAPES.items():
            n_pools, errors = shape_errors(folder, source, n_known)
            print(Result(f"{source}, {n_known} known", n_pools, errors, target).text(), flush=True)
    print("\n| pool left out | pools | figures | median / p90 | target |\n|---|--:|--:|--:|---|")
    for line in pool_lines(folder):
        print(line.text(), flush=True)
    for lack, title in (("gpu", "GPU type"), ("configuration", "pool")):
        head = f"| {title} left out | pools | median / p90 | within a factor of {RANGE} | band "
        head += f"| covered by it, nominal {COVERED_RATIO:.0%} |"
        print(f"\n{head}\n|---|--:|--:|--:|--:|--:|")
        for source, engine, _ in POOLS:
            pools = measured_pools(folder, source, engine)
            print(band_line(pools, f"{source} {engine}", lack), flush=True)


if __name__ == "__main__":
    main()
