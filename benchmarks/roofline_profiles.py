"""Estimated profiles of nine models on three GPUs: a plain roofline, for the llmrouter question.

Not the planner's own estimator: an independent and cruder one, so that the benchmark does not
plan with the same formula that it is meant to test.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tables import write_csv, write_yaml


@dataclass(frozen=True)
class RoutedModel:
    """One of the nine models: its architecture, and whose answer lengths stand in for its own."""

    name: str
    n_parameters: float
    n_layers: int
    hidden_size: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    max_context_tokens: int
    lengths_of: str
    source: str = "published configuration and checkpoint size"


_NAS = "80 layers of unequal attention found by search: taken as uniform, so the KV cache is upper"
ROUTED = (
    RoutedModel("codegemma-7b", 8.54e9, 28, 3072, 16, 16, 256, 8192, "gemma-2-9b-it"),
    RoutedModel("gemma-2-9b-it", 9.24e9, 42, 3584, 16, 8, 256, 8192, "gemma-2-9b-it"),
    RoutedModel(
        "llama-3.1-8b-instruct", 8.03e9, 32, 4096, 32, 8, 128, 131072, "Meta-Llama-3.1-8B-Instruct"
    ),
    RoutedModel(
        "llama-3.1-nemotron-51b-instruct",
        *(51.5e9, 80, 8192, 64, 8, 128, 131072),
        "Meta-Llama-3.1-70B-Instruct",
        _NAS,
    ),
    RoutedModel(
        "llama-3.3-nemotron-super-49b-v1",
        *(49.9e9, 80, 8192, 64, 8, 128, 131072),
        "Meta-Llama-3.1-70B-Instruct",
        _NAS,
    ),
    RoutedModel(
        "llama3-chatqa-1.5-70b", 70.6e9, 80, 8192, 64, 8, 128, 8192, "Meta-Llama-3-70B-Instruct"
    ),
    RoutedModel(
        "llama3-chatqa-1.5-8b", 8.03e9, 32, 4096, 32, 8, 128, 8192, "Meta-Llama-3-8B-Instruct"
    ),
    RoutedModel(
        "mistral-7b-instruct-v0.3",
        7.25e9,
        32,
        4096,
        32,
        8,
        128,
        32768,
        "Meta-Llama-3-8B-Instruct",
    ),
    RoutedModel("qwen2.5-7b-instruct", 7.62e9, 28, 3584, 28, 4, 128, 131072, "Qwen2-7B-Instruct"),
)
# Whose answer lengths a task borrows: the three tasks of ZeroEval are the only ones with lengths.
LENGTHS_OF_TASK = {"gsm8k": "gsm", "agentverse-mgsm": "gsm", "math": "math-l5", "gpqa": "math-l5"}
EFFICIENCY_RATIO = 0.4  # achieved part of the data sheet's bandwidth and arithmetic
SHAPES = ((128, 256), (1024, 256))
LOADS = (1, 4, 16, 64, 128, 256)


def roofline_point(
    model: RoutedModel, gpu: dict[str, Any], n_gpus: int, shape: tuple[int, int], load: int
) -> dict[str, object] | None:
    """Returns a row of points.csv for one load, or None when its KV cache does not fit.

    Decode reads the weights and every context once per step (memory-bound) or multiplies
    (compute-bound), whichever takes longer; prefill multiplies, 2 operations per parameter and
    token. In a closed loop of N requests each sees its own o steps and the N prefills that start
    while it runs: T = o * step + N * prefill, throughput = N * o / T.
    """
    n_input, n_output = shape
    weight_bytes = 2.0 * model.n_parameters
    kv_bytes = 2.0 * 2.0 * model.n_layers * model.n_kv_heads * model.head_dim
    room_bytes = 0.9 * n_gpus * gpu["memory_gib"] * 2**30 - weight_bytes
    if load * (n_input + n_output) * kv_bytes > room_bytes:
        return None
    bytes_per_s = EFFICIENCY_RATIO * n_gpus * gpu["memory_gb_per_s"] * 1e9
    flop_per_s = EFFICIENCY_RATIO * n_gpus * gpu["fp16_tflops"] * 1e12
    context_bytes = load * (n_input + n_output / 2) * kv_bytes
    step_s = max(
        (weight_bytes + context_bytes) / bytes_per_s, 2.0 * model.n_parameters * load / flop_per_s
    )
    prefill_s = 2.0 * model.n_parameters * n_input / flop_per_s
    request_s = n_output * step_s + load * prefill_s
    ttft_s = prefill_s + step_s
    return {
        "input_tokens": n_input,
        "output_tokens": n_output,
        "mode": "closed",
        "concurrency": load,
        "output_tokens_per_s": round(load * n_output / request_s, 3),
        "ttft_mean_ms": round(1000 * ttft_s, 3),
        "tpot_mean_ms": round(1000 * (request_s - ttft_s) / (n_output - 1), 3),
        "e2e_mean_ms": round(1000 * request_s, 3),
        "origin": "estimated",
        "source": f"roofline at {EFFICIENCY_RATIO:g} of the data sheet, no measurement",
    }


def gpus_needed(model: RoutedModel, gpu: dict[str, Any]) -> int | None:
    """Returns the smallest power of two of GPUs that holds the weights and as much KV as half."""
    needed = 1.5 * 2.0 * model.n_parameters / (0.9 * gpu["memory_gib"] * 2**30)
    n_gpus = 1 << max(0, math.ceil(math.log2(needed)))
    return n_gpus if n_gpus <= gpu["gpus_per_node"] else None


def write_roofline_pool(
    folder: Path, model: RoutedModel, gpu: dict[str, Any], n_gpus: int, columns: Sequence[str]
) -> None:
    """Writes pool.yaml and points.csv of one estimated pool."""
    rows = [roofline_point(model, gpu, n_gpus, shape, load) for shape in SHAPES for load in LOADS]
    points = pd.DataFrame([row for row in rows if row is not None])
    pool = {
        "name": folder.name,
        "model_name": model.name,
        "gpu": gpu["name"],
        "tensor_parallel": n_gpus,
        "weight_precision": "bfloat16",
        "kv_precision": "bfloat16",
        "engine": "vllm",
        "max_num_seqs": int(points["concurrency"].max()),
        "origin": "estimated",
        "source": f"A roofline at {EFFICIENCY_RATIO:g} of the data sheet; nothing was measured.",
    }
    write_yaml(folder / "pool.yaml", pool)
    write_csv(folder / "points.csv", points.reindex(columns=columns))


def model_facts(model: RoutedModel) -> dict[str, object]:
    """Returns the entry of models.yaml."""
    return {
        "name": model.name,
        "n_parameters": model.n_parameters,
        "n_active_parameters": model.n_parameters,
        "n_layers": model.n_layers,
        "hidden_size": model.hidden_size,
        "n_heads": model.n_heads,
        "n_kv_heads": model.n_kv_heads,
        "head_dim": model.head_dim,
        "bytes_per_parameter": 2,
        "max_context_tokens": model.max_context_tokens,
        "source": model.source,
    }


def write_routed_profiles(repository: Path, profiles: Path) -> None:
    """Writes the profiles of the nine models on H100, A100 and L40S; GPUs as in the repository."""
    profiles.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(repository / "gpus.yaml", profiles / "gpus.yaml")
    gpus = yaml.safe_load((repository / "gpus.yaml").read_text(encoding="utf-8"))
    header = (repository / "llama-3.1-8b-h100" / "points.csv").read_text(encoding="utf-8")
    columns = header.splitlines()[0].split(",")
    facts = [model_facts(model) for model in ROUTED]
    write_yaml(profiles / "models.yaml", facts)
    wanted = {"h100-sxm-80g": "h100", "a100-sxm-80g": "a100", "l40s-48g": "l40s"}
    for model in ROUTED:
        for gpu in gpus:
            n_gpus = gpus_needed(model, gpu) if gpu["name"] in wanted else None
            if n_gpus is not None:
                suffix = "" if n_gpus == 1 else f"-tp{n_gpus}"
                folder = profiles / f"{model.name}-{wanted[gpu['name']]}{suffix}"
                write_roofline_pool(folder, model, gpu, n_gpus, columns)
