"""Loaders of public latency measurements, as load curves of one replica each.

    curves(Path(DIR)) yields every curve of every data set found under DIR:

    ml_energy/configurations.csv           ML.ENERGY leaderboard v3, closed loops (vLLM)
    llm_inference_bench/All_results.csv    Argonne LLM-Inference-Bench, static batches
    llm_pilot/aggregate.csv, requests.csv.gz   IBM LLM-Pilot, closed loops (TGI), single requests
    splitwise/perf_model.csv               Splitwise, static batches, repeated runs
    aibrix/simulator-*.jsonl               AIBrix optimiser profiles, open loops: SIMULATED
    trtllm_perf_overview/max_throughput.csv    TensorRT-LLM, capacity per request shape only

Nothing of these files is part of this repository. A curve is one configuration at one request
shape. Rows that cannot be are dropped and counted: runs with more than 5 % failed requests, and
steps faster than 0.9 times the time that reading the active weights takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from planner.spec.pool import CapacityPoint, Point, Pool, Precision, Profile

MAX_FAILED_RATIO = 0.05
FASTER_THAN_POSSIBLE = 0.9
# Mean prompt lengths are not in the file; the step law is insensitive to them at these ratios.
ML_ENERGY_PROMPTS = {"lm-arena-chat": 300.0, "gpqa": 250.0, "sourcegraph-fim": 1000.0}
ML_ENERGY_PRECISION: dict[str, Precision] = {"bfloat16": "bfloat16", "fp8": "fp8", "mxfp4": "mxfp4"}
# GB/s of one device, from the vendors' data sheets; the larger where a device has variants.
BANDWIDTH_GB_PER_S = {
    "Nvidia A100 GPU": 2039.0,
    "Nvidia H100 GPU": 3350.0,
    "Nvidia GH200 GPU": 4900.0,
    "AMD MI250 GPU": 3277.0,
    "AMD MI300X GPU": 5300.0,
    "Intel PVC GPU": 3277.0,
    "Intel Max 1550": 3277.0,
    "Habana Gaudi2": 2450.0,
    "SambaNova SN40L": 2000.0,
}
# Parameters that one token activates, in billions, from the model cards.
ACTIVE_BILLIONS = {
    "BAAI/Aquila-7B": 7.3,
    "Deci/DeciLM-7B": 7.04,
    "EleutherAI/gpt-j-6b": 6.05,
    "Qwen/Qwen1.5-7B": 7.72,
    "Qwen/Qwen2-72B": 72.7,
    "Qwen/Qwen2-7B": 7.62,
    "bigscience/bloom-7b1": 7.07,
    "facebook/opt-6.7b": 6.66,
    "huggyllama/llama-7b": 6.74,
    "meta-llama/Llama-2-70b-hf": 69.0,
    "meta-llama/Llama-2-7b-hf": 6.74,
    "meta-llama/Meta-Llama-3-70B": 70.6,
    "meta-llama/Meta-Llama-3-8B": 8.03,
    "mistralai/Mistral-7B-v0.1": 7.24,
    "mistralai/Mixtral-8x7B-v0.1": 12.9,
}
LLM_PILOT_STATISTICS = {"mean": None, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Curve:
    """The measured loads of one replica at one request shape."""

    name: str  # unique within its source
    source: str  # the data set
    model_name: str
    gpu: str
    n_gpus: int
    engine: str
    points: tuple[Point, ...]  # ascending in load
    tensor_parallel: int = 1
    data_parallel: int = 1
    weight_precision: Precision | None = None
    capacity: tuple[CapacityPoint, ...] = ()
    n_dropped: int = 0  # impossible or failed rows that are not among the points
    simulated: bool = False

    @property
    def pool_key(self) -> tuple[str, str, str, int, int, str]:
        """Returns what curves of one pool at several request shapes have in common."""
        precision = self.weight_precision or ""
        return (
            self.engine,
            self.model_name,
            self.gpu,
            self.n_gpus,
            self.tensor_parallel,
            precision,
        )

    def profile(self, points: tuple[Point, ...] | None = None) -> Profile:
        """Returns a profile without facts of the GPU or the model, of some or all points."""
        pool = Pool(
            name="pool",
            model_name="m",
            gpu="g",
            tensor_parallel=self.tensor_parallel,
            weight_precision=self.weight_precision,
            source=self.source,
        )
        return Profile(pool, None, None, self.points if points is None else points, self.capacity)


def ml_energy(folder: Path) -> Iterator[Curve]:
    """Yields closed loops: throughput and ITL percentiles over the mean batch size."""
    table = pd.read_csv(folder / "ml_energy" / "configurations.csv")
    keys = ["model_id", "task", "gpu_model", "num_gpus", "tensor_parallel"]
    keys += ["expert_parallel", "data_parallel", "weight_precision"]
    for key, rows in table.groupby(keys):
        name, task, gpu, n_gpus, tensor_parallel, _, data_parallel, precision = key
        points = [
            Point(
                input_tokens=ML_ENERGY_PROMPTS.get(task, 500.0),
                output_tokens=float(row.avg_output_len),
                mode="closed",
                concurrency=float(row.avg_batch_size),
                output_tokens_per_s=float(row.output_throughput_tokens_per_sec),
                itl_p50_ms=float(row.median_itl_ms),
                itl_p90_ms=float(row.p90_itl_ms),
                itl_p95_ms=float(row.p95_itl_ms),
                itl_p99_ms=float(row.p99_itl_ms),
                estimated="input_tokens",
                source="ml_energy",
            )
            for row in rows.itertuples()
        ]
        yield Curve(
            " ".join(str(k) for k in key),
            "ml_energy",
            name,
            gpu,
            int(n_gpus),
            "vllm",
            _by_load(points),
            tensor_parallel=int(tensor_parallel),
            data_parallel=int(data_parallel),
            weight_precision=ML_ENERGY_PRECISION[precision],
        )


def llm_inference_bench(folder: Path) -> Iterator[Curve]:
    """Yields static batches: E2E and output throughput; input and output lengths are equal."""
    table = pd.read_csv(folder / "llm_inference_bench" / "All_results.csv").dropna()
    keys = ["Hardware", "Num of Hardware", "Framework", "Model", "Input Output Length"]
    for key, rows in table.groupby(keys):
        gpu, n_gpus, engine, model_name, tokens = key
        read_s = 2.0 * ACTIVE_BILLIONS[model_name] / (BANDWIDTH_GB_PER_S[gpu] * n_gpus)
        possible = rows[rows["Latency"] >= FASTER_THAN_POSSIBLE * read_s * tokens]
        points = [
            Point(
                input_tokens=float(tokens),
                output_tokens=float(tokens),
                mode="batch",
                concurrency=float(batch),
                output_tokens_per_s=float(batch) * float(tokens) / float(latency_s),
                e2e_mean_ms=1000.0 * float(latency_s),
                source="llm_inference_bench",
            )
            for batch, latency_s in zip(possible["Batch Size"], possible["Latency"], strict=True)
        ]
        yield Curve(
            " ".join(str(k) for k in key),
            "llm_inference_bench",
            model_name,
            gpu,
            int(n_gpus),
            engine,
            _by_load(points),
            tensor_parallel=int(n_gpus),
            n_dropped=len(rows) - len(possible),
        )


def llm_pilot(folder: Path) -> Iterator[Curve]:
    """Yields closed loops with TTFT, TPOT and E2E statistics over the single requests."""
    at = folder / "llm_pilot"
    requests = pd.read_csv(at / "requests.csv.gz")
    single = dict(iter(requests.groupby(["model", "gpu", "n_gpus", "num_users"])))
    for key, rows in pd.read_csv(at / "aggregate.csv").groupby(["model", "gpu", "n_gpus"]):
        model_name, gpu, n_gpus = key
        tried = rows.n_requests + rows.n_failed
        answered = rows[rows.n_failed <= MAX_FAILED_RATIO * tried]
        points = [_pilot_point(row, single[*key, row.num_users]) for row in answered.itertuples()]
        yield Curve(
            " ".join(str(k) for k in key),
            "llm_pilot",
            model_name,
            gpu,
            int(n_gpus),
            "tgi",
            _by_load(points),
            tensor_parallel=int(n_gpus),
            n_dropped=len(rows) - len(answered),
        )


def _pilot_point(row, requests: pd.DataFrame) -> Point:
    several = requests[requests.n_out >= 2]
    times_ms = {
        "ttft": requests.ttft_ms,
        "tpot": (several.latency_ms - several.ttft_ms) / (several.n_out - 1),
        "e2e": requests.latency_ms,
    }
    figures: dict[str, float] = {}
    for metric, values in times_ms.items():
        for statistic, level in LLM_PILOT_STATISTICS.items():
            value = values.mean() if level is None else values.quantile(level)
            if value > 0:
                figures[f"{metric}_{statistic}_ms"] = float(value)
    return Point(
        input_tokens=float(requests.n_in.mean()),
        output_tokens=float(requests.n_out.mean()),
        mode="closed",
        concurrency=float(row.num_users),
        achieved_rps=float(row.n_requests) / float(row.duration_s),
        output_tokens_per_s=float(requests.n_out.sum()) / float(row.duration_s),
        n_requests=int(row.n_requests + row.n_failed),
        n_failed=int(row.n_failed),
        duration_s=float(row.duration_s),
        source="llm_pilot",
        **figures,
    )


def splitwise(folder: Path) -> Iterator[Curve]:
    """Yields static batches with TTFT, TPOT and E2E; repeated runs are points of one load."""
    table = pd.read_csv(folder / "splitwise" / "perf_model.csv")
    keys = ["model", "hardware", "tensor_parallel", "prompt_size", "token_size"]
    for key, rows in table.groupby(keys):
        model_name, gpu, n_gpus, prompt, output = key
        points = [
            Point(
                input_tokens=float(prompt),
                output_tokens=float(output),
                mode="batch",
                concurrency=float(row.batch_size),
                output_tokens_per_s=1000.0 * float(row.batch_size * output / row.e2e_time),
                ttft_mean_ms=float(row.prompt_time),
                tpot_mean_ms=float(row.token_time),
                e2e_mean_ms=float(row.e2e_time),
                source="splitwise",
            )
            for row in rows.dropna().itertuples()
        ]
        yield Curve(
            " ".join(str(k) for k in key),
            "splitwise",
            model_name,
            gpu,
            int(n_gpus),
            "splitwise",
            _by_load(points),
            tensor_parallel=int(n_gpus),
        )


def aibrix(folder: Path) -> Iterator[Curve]:
    """Yields simulated open loops: E2E over the offered rate, saturated rates left out."""
    for path in sorted((folder / "aibrix").glob("*.jsonl")):
        lines = path.read_text().splitlines()
        table = pd.DataFrame([json.loads(line) for line in lines if line.strip()])
        gpu = path.stem.rsplit("-", 1)[-1]
        for (prompt, output), rows in table.groupby(["input_tokens", "output_tokens"]):
            by_rate = {rate: r.set_index("metric") for rate, r in rows.groupby("request_rate")}
            points = [_aibrix_point(prompt, output, rate, r) for rate, r in by_rate.items()]
            kept = [p for p in points if p is not None]
            yield Curve(
                f"{path.stem} {prompt} {output}",
                "aibrix",
                "llama2-7b",
                gpu,
                1,
                "aibrix",
                _by_load(kept),
                n_dropped=len(points) - len(kept),
                simulated=True,
            )


def _aibrix_point(prompt: float, output: float, rate: float, r: pd.DataFrame) -> Point | None:
    achieved = float(r.loc["TPUT", "mean"])
    if achieved < 0.9 * rate:
        return None
    e2e = {"e2e_mean_ms": "mean", "e2e_p50_ms": "P50", "e2e_p90_ms": "P90", "e2e_p99_ms": "P99"}
    return Point(
        input_tokens=float(prompt),
        output_tokens=float(output),
        mode="open",
        offered_rps=float(rate),
        achieved_rps=achieved,
        source="aibrix",
        origin="simulated",
        **{column: 1000.0 * float(r.loc["E2E", name]) for column, name in e2e.items()},
    )


def trtllm_perf_overview(folder: Path) -> Iterator[Curve]:
    """Yields pools of which only the capacity at several request shapes is known."""
    table = pd.read_csv(folder / "trtllm_perf_overview" / "max_throughput.csv")
    for key, rows in table.groupby(["model", "gpu", "tp", "pp", "precision"]):
        model_name, gpu, tensor_parallel, pipeline_parallel, precision = key
        capacity = tuple(
            CapacityPoint(
                input_tokens=float(row.isl),
                output_tokens=float(row.osl),
                max_rps=float(row.total_output_tok_per_s) / float(row.osl),
                source="trtllm_perf_overview",
            )
            for row in rows.itertuples()
        )
        yield Curve(
            " ".join(str(k) for k in key),
            "trtllm_perf_overview",
            model_name,
            gpu,
            int(tensor_parallel * pipeline_parallel),
            "tensorrt-llm",
            (),
            tensor_parallel=int(tensor_parallel),
            weight_precision={"FP8": "fp8", "FP4": "fp4", "NVFP4": "fp4"}.get(precision),
            capacity=capacity,
        )


LOADERS: dict[str, Callable[[Path], Iterator[Curve]]] = {
    "ml_energy": ml_energy,
    "llm_inference_bench": llm_inference_bench,
    "llm_pilot": llm_pilot,
    "splitwise": splitwise,
    "aibrix": aibrix,
    "trtllm_perf_overview": trtllm_perf_overview,
}


def curves(folder: Path, sources: tuple[str, ...] = tuple(LOADERS)) -> Iterator[Curve]:
    """Yields the curves of the data sets that lie under the folder."""
    for source in sources:
        if (folder / source).is_dir():
            yield from LOADERS[source](folder)


def _by_load(points: list[Point]) -> tuple[Point, ...]:
    loads = np.array([p.concurrency or p.offered_rps or 0.0 for p in points])
    return tuple(points[i] for i in np.argsort(loads, kind="stable"))
