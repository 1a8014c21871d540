"""The planner beside BOute and RouterWise, each on a set-up like that of its paper.

    OMP_NUM_THREADS=1 python benchmarks/named_methods.py [--effort standard] [--only boute-quality]

Both methods run as `rb plan --method boute|routerwise` runs them, on the same tables, the same
limits and the same boxes as the planner's own. For each question and method it prints what the
method's own routing reaches, what the planner's routing makes of its deployment (the plan), and the
CPU seconds of the search alone. Last the ratios to `exact`.

    boute-*        Llama 3.1 8B and 70B; 8 each of H100, RTX PRO 6000, RTX 5090, RTX 4090 at the
                   paper's prices; 100 requests/s; 30 $/h, or the least money for two of its targets
    routerwise-*   Mistral 7B, WizardLM 13B, Yi 34B as shares of 4 or 8 A100 (tensor parallel 1, 2
                   or 4; a quarter, half or all of a GPU's compute), one replica each; most quality
                   within a mean time to first token

Speeds are a roofline (benchmarks/roofline_profiles.py), quality per class is assumed with the
papers' means: ratios between methods on one set of tables, not the papers' own figures.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from roofline_profiles import LOADS, SHAPES, RoutedModel, model_facts, roofline_point
from tables import write_csv, write_yaml

from planner.case import make_case
from planner.choose import choose
from planner.explore import Explored, explore
from planner.files.inputs import read_inputs
from planner.named.boute import explore_boute
from planner.named.routerwise import explore_routerwise
from planner.objectives import Objectives, make_objectives

# memory GiB, dense 16-bit TFLOPS, GB/s (data sheets), $/h (BOute), what a doubling of the tensor
# parallel size keeps of its speed-up (assumed: NVLink 0.95, PCIe 0.8)
GPUS: dict[str, tuple[float, float, float, float, float]] = {
    "h100": (80.0, 989.0, 3350.0, 2.64, 0.95),
    "pro6000": (96.0, 503.0, 1597.0, 1.84, 0.8),
    "rtx5090": (32.0, 209.5, 1792.0, 0.89, 0.8),
    "rtx4090": (24.0, 165.2, 1008.0, 0.59, 0.8),
    "a100": (80.0, 312.0, 1935.0, 1.9, 0.8),
}
_8B = RoutedModel("llama-3.1-8b", 8.03e9, 32, 4096, 32, 8, 128, 131072, "")
_70B = RoutedModel("llama-3.1-70b", 70.6e9, 80, 8192, 64, 8, 128, 131072, "")
_7B = RoutedModel("mistral-7b-chat", 7.24e9, 32, 4096, 32, 8, 128, 32768, "")
_13B = RoutedModel("wizardlm-13b", 13.0e9, 40, 5120, 40, 40, 128, 4096, "")
_34B = RoutedModel("yi-34b-chat", 34.4e9, 60, 7168, 56, 8, 128, 4096, "")
COMPUTE_RATIOS = (0.25, 0.5, 1.0)
COLUMNS = (
    "input_tokens", "output_tokens", "mode", "concurrency", "output_tokens_per_s",
    "ttft_mean_ms", "tpot_mean_ms", "e2e_mean_ms", "origin", "source",
)  # fmt: skip
N_CLASSES = 10


@dataclass(frozen=True)
class Setup:
    """A question, and the pools that may answer it."""

    name: str
    models: tuple[RoutedModel, ...]
    stock: dict[str, int]
    sizes: tuple[int, ...]
    shares: bool
    mean_quality: tuple[float, ...]
    tokens: tuple[int, int]
    rate_rps: float
    question: dict[str, Any]


def _limit(metric: str, statistic: str, at_most_ms: float) -> list[dict[str, Any]]:
    return [{"metric": metric, "statistic": statistic, "at_most_ms": at_most_ms}]


_BOUTE_STOCK = {"h100": 8, "pro6000": 8, "rtx5090": 8, "rtx4090": 8}
_BOUTE = Setup(
    "boute-quality", (_8B, _70B), _BOUTE_STOCK, (1, 2, 4, 8), False, (0.845, 0.951), (130, 180),
    100.0, {"choose": "best_quality", "budget_usd_per_h": 30.0,
            "limits": _limit("e2e", "p95", 20_000)},
)  # fmt: skip
_ROUTERWISE = Setup(
    "routerwise-4", (_7B, _13B, _34B), {"a100": 4}, (1, 2, 4), True, (0.45, 0.52, 0.66), (160, 60),
    30.0, {"choose": "best_quality", "limits": _limit("ttft", "mean", 250)},
)  # fmt: skip


def _asks(setup: Setup, name: str, **question: object) -> Setup:
    return replace(setup, name=name, question=question)


SETUPS = (
    _BOUTE,
    _asks(
        _BOUTE, "boute-cost-87",
        choose="cheapest", quality_at_least=0.87, limits=_limit("e2e", "p95", 15_000),
    ),
    _asks(
        _BOUTE, "boute-cost-91",
        choose="cheapest", quality_at_least=0.91, limits=_limit("e2e", "p95", 20_000),
    ),
    _ROUTERWISE,
    replace(_ROUTERWISE, name="routerwise-8", stock={"a100": 8}, rate_rps=60.0),
)  # fmt: skip


# ---- Folders -------------------------------------------------------------------------------------


def gpu_entry(name: str) -> dict[str, Any]:
    memory_gib, tflops, gb_per_s, usd_per_h, _ = GPUS[name]
    return {
        "name": name,
        "memory_gib": memory_gib,
        "fp16_tflops": tflops,
        "memory_gb_per_s": gb_per_s,
        "gpus_per_node": 8,
        "usd_per_h": usd_per_h,
        "source": "data sheet; price of the paper, of a100 assumed",
        "as_of": "2026-01-01",
    }


def write_pool(
    profiles: Path, model: RoutedModel, gpu: str, n_gpus: int, compute_ratio: float | None
) -> None:
    """Writes a pool where its model fits with room for eight requests of each shape."""
    memory_gib, tflops, gb_per_s, _, kept = GPUS[gpu]
    ratio = compute_ratio or 1.0
    speed = ratio * kept ** math.log2(n_gpus)
    part = {
        "memory_gib": memory_gib * ratio,
        "fp16_tflops": tflops * speed,
        "memory_gb_per_s": gb_per_s * speed,
    }
    rows = [roofline_point(model, part, n_gpus, shape, load) for shape in SHAPES for load in LOADS]
    points = pd.DataFrame([row for row in rows if row is not None])
    if (
        points.empty
        or points["concurrency"].max() < 8
        or 1.3 * 2 * model.n_parameters > (0.9 * n_gpus * part["memory_gib"] * 2**30)
    ):
        return
    name = f"{model.name}-{gpu}-tp{n_gpus}" + (f"-{ratio:g}" if compute_ratio else "")
    pool: dict[str, Any] = {
        "name": name,
        "model_name": model.name,
        "gpu": gpu,
        "tensor_parallel": n_gpus,
        "weight_precision": "bfloat16",
        "kv_precision": "bfloat16",
        "engine": "vllm",
        "max_num_seqs": int(points["concurrency"].max()),
        "origin": "estimated",
        "source": "a roofline; nothing was measured",
    }
    if compute_ratio:
        pool["share"] = {"compute_ratio": ratio, "memory_gib": part["memory_gib"]}
    write_yaml(profiles / name / "pool.yaml", pool)
    write_csv(profiles / name / "points.csv", points.reindex(columns=list(COLUMNS)))


def class_scores(setup: Setup) -> pd.DataFrame:
    """Quality of each model on ten classes of rising difficulty, with the means of the set-up.

    The better a model, the slower its quality falls; the worse one keeps a lead on one class in
    five, as in every table of real scores.
    """
    rng = np.random.default_rng(7)
    difficulty = np.linspace(-1.0, 1.0, N_CLASSES)
    rows = []
    for model, mean in zip(setup.models, setup.mean_quality, strict=True):
        logit = math.log(mean / (1.0 - mean))
        noise = rng.normal(0.0, 0.25, N_CLASSES)
        score = 1.0 / (1.0 + np.exp(-(logit - 1.6 * difficulty + noise)))
        score = np.clip(score + mean - score.mean(), 0.01, 0.995)
        for c in range(N_CLASSES):
            n_input, n_output = setup.tokens
            rows.append(
                {
                    "class": f"d{c}",
                    "model_name": model.name,
                    "n_prompts": 100,
                    "score": round(float(score[c]), 4),
                    "input_tokens_mean": n_input,
                    "input_tokens_cv": 0.3,
                    "output_tokens_mean": round(n_output * (1.0 + 0.5 * float(difficulty[c])), 1),
                    "output_tokens_cv": 0.4,
                    "origin": "assumed",
                    "source": "assumed",
                }
            )
    return pd.DataFrame(rows)


def build(setup: Setup, folder: Path) -> Objectives:
    """Returns the evaluation of a set-up, whose files are written to a folder."""
    profiles = folder / "profiles"
    write_yaml(profiles / "gpus.yaml", [gpu_entry(name) for name in setup.stock])
    facts = [model_facts(model) for model in setup.models]
    write_yaml(profiles / "models.yaml", facts)
    for model in setup.models:
        for gpu in setup.stock:
            for n_gpus in setup.sizes:
                for ratio in COMPUTE_RATIOS if setup.shares else (None,):
                    write_pool(profiles, model, gpu, n_gpus, ratio)
    write_csv(folder / "class_scores.csv", class_scores(setup))
    question = {
        "version": 1,
        "title": setup.name,
        "classes": [
            {"name": f"d{c}", "rate_rps": setup.rate_rps / N_CLASSES} for c in range(N_CLASSES)
        ],
        "class_scores": "class_scores.csv",
        "stock": setup.stock,
        **setup.question,
    }
    if setup.shares:
        question["replicas"] = {
            path.name: {"max": 1} for path in profiles.iterdir() if path.is_dir()
        }
    (folder / "question.yaml").write_text(yaml.safe_dump(question, sort_keys=False))
    return make_objectives(make_case(read_inputs(folder, profiles)))


# ---- Runs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What one method found."""

    cost_usd_per_h: float
    own_quality: float
    quality: float
    latency_ratio: float
    cpu_s: float
    n_evaluations: int
    deployment: str


def searched(objectives: Objectives, method: str, effort: Any) -> Explored:
    if method == "boute":
        return explore_boute(objectives, effort, 0)
    if method == "routerwise":
        return explore_routerwise(objectives, effort, 0)
    return explore(objectives, effort, method, 0)  # type: ignore[arg-type]


def run(objectives: Objectives, method: str, effort: str) -> Result | None:
    """Returns the plan of one method; None where it finds none."""
    began = time.process_time()
    explored = searched(objectives, method, effort)
    cpu_s = time.process_time() - began
    chosen, _ = choose(objectives, explored, None)
    if chosen is None:
        return None
    own = [
        e.quality
        for e in explored.evaluations
        if e.violation <= 1e-9 and np.array_equal(e.replicas, chosen.replicas)
    ]
    names = objectives.case.space.pool_names
    return Result(
        chosen.cost_usd_per_h,
        max(own, default=float("nan")),
        chosen.score.quality,
        chosen.score.latency_ratio or 0.0,
        cpu_s,
        len(explored.evaluations),
        ", ".join(f"{n} x {name}" for n, name in zip(chosen.replicas, names, strict=True) if n),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--effort", default="standard")
    parser.add_argument("--only", default="")
    parser.add_argument("--methods", nargs="+", default=["exact", "auto", "boute", "routerwise"])
    options = parser.parse_args()
    for setup in SETUPS:
        if not setup.name.startswith(options.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            objectives = build(setup, Path(folder))
        _print(setup, objectives, options.methods, options.effort)


def _print(setup: Setup, objectives: Objectives, methods: list[str], effort: str) -> None:
    print(f"\n### {setup.name}: {len(objectives.case.pools)} pools, {setup.rate_rps:g} req/s\n")
    print(
        "| method | $/h | quality (own routing) | of the limit | deployments | CPU s | vs exact |"
    )
    print("|---|--:|--:|--:|--:|--:|---|")
    first: Result | None = None
    for method in methods:
        result = run(objectives, method, effort)
        if result is None:
            print(f"| {method} | none found | | | | | |", flush=True)
            continue
        first = first or result
        print(
            f"| {method} | {result.cost_usd_per_h:.2f} "
            f"| {result.quality:.4f} ({result.own_quality:.4f}) | {result.latency_ratio:.0%} "
            f"| {result.n_evaluations} | {result.cpu_s:.1f} "
            f"| cost x{result.cost_usd_per_h / first.cost_usd_per_h:.3f}, quality "
            f"{result.quality - first.quality:+.4f}, CPU x{result.cpu_s / first.cpu_s:.2f} |"
        )
        print(f"| | {result.deployment} | | | | | |", flush=True)


if __name__ == "__main__":
    main()
