"""Recorded runs of real engines, request by request, as the simulator takes them.

    vllm_runs(Path(DIR))     llmservingsim/*: 300 ShareGPT requests at 10/s, vLLM 0.19
    pilot_pools(Path(DIR))   llm_pilot/*: closed loops of 1 to 128 users for 120 s, TGI

Nothing of these files is part of this repository. GPUs and models are described as their data
sheets and cards do: for guesses, and for the cache size where a run did not record it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from planner.latency.memory import Memory
from planner.latency.physics import Prior, prior
from planner.latency.steplaw import StepLaw
from planner.simulate.engines import BLOCK_TOKENS, step_times
from planner.simulate.recording import Recording
from planner.simulate.settings import EngineSettings, Tokens
from planner.spec.hardware import Gpu, ModelFacts
from planner.spec.pool import Pool, Profile

UNBOUNDED_BLOCKS = 2**40
PILOT_DURATION_MS = 120_000.0
MAX_FAILED_RATIO = 0.01
# TGI reserves room for the longest answer that a request may have, which nobody recorded.
ROOMY_TOKENS_PER_USER = 512
# Keys (and values) of a token in one layer: multi-query attention in starcoder.
PILOT_KEY_WIDTH = {
    "EleutherAI/gpt-neox-20b": 6144,
    "bigcode/starcoder": 128,
    "llama-13b": 5120,
    "llama-7b": 4096,
}
# The load generator often got the last two tokens together: at one user, answers of two tokens have
# a gap of 0.1 to 0.9 of a step, depending on the model. From 10 tokens on it hardly matters.
PILOT_SHORTEST_TOKENS = 10
TO_BE_FITTED = StepLaw(1.0, 0.0, 0.0, 0.0, 0.0)

_AS_OF = datetime.date(2025, 12, 31)


def _gpu(name: str, memory_gib: float, fp16_tflops: float, memory_gb_per_s: float) -> Gpu:
    return Gpu(
        name=name,
        memory_gib=memory_gib,
        fp16_tflops=fp16_tflops,
        memory_gb_per_s=memory_gb_per_s,
        source="NVIDIA data sheet, dense 16-bit with sums in 32 bit",
        as_of=_AS_OF,
    )


def _facts(
    name: str,
    billions: tuple[float, float],
    n_layers: int,
    hidden_size: int,
    heads: tuple[int, int],
) -> ModelFacts:
    return ModelFacts(
        name=name,
        n_parameters=billions[0] * 1e9,
        n_active_parameters=billions[1] * 1e9,
        n_layers=n_layers,
        hidden_size=hidden_size,
        n_heads=heads[0],
        n_kv_heads=heads[1],
        head_dim=128,
        bytes_per_parameter=2.0,
        max_context_tokens=32768,
        source="model card and config.json",
    )


# Server edition of the PRO 6000: 4,000 sparse 4-bit TOPS are 500 dense 16-bit ones.
GPUS = {
    "RTX4090": _gpu("RTX4090", 24.0, 165.0, 1008.0),
    "RTXPRO6000": _gpu("RTXPRO6000", 96.0, 500.0, 1597.0),
}
MODELS = {
    "Llama-3.1-8B": _facts("Llama-3.1-8B", (8.03, 8.03), 32, 4096, (32, 8)),
    "Qwen3-32B": _facts("Qwen3-32B", (32.8, 32.8), 64, 5120, (64, 8)),
    "Qwen3-30B-A3B-Instruct-2507": _facts("Qwen3-30B-A3B", (30.5, 3.3), 48, 2048, (32, 4)),
}


@dataclass(frozen=True)
class VllmRun:
    """One recorded run of vLLM with the engine that it was recorded of."""

    name: str
    recording: Recording
    settings: EngineSettings  # step times are placeholders
    guess: Prior


def vllm_runs(folder: Path) -> Iterator[VllmRun]:
    """Yields the recorded runs in the order of their names."""
    for path in sorted((folder / "llmservingsim").glob("*_vllm_requests.jsonl")):
        name = path.name.removesuffix("_vllm_requests.jsonl")
        meta = json.loads(path.with_name(f"{name}_vllm_meta.json").read_text())
        requests = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
        gpu, model_name = name.split("_", 1)
        profile = Profile(_pool(name, gpu, meta["engine_kwargs"]), GPUS[gpu], MODELS[model_name])
        yield VllmRun(
            name=name.replace("_", " "),
            recording=_recording(requests),
            settings=_settings(profile, meta),
            guess=prior(profile, (), ()),
        )


def _recording(requests: pd.DataFrame) -> Recording:
    """Returns a run, in ms since the first arrival.

    Arrivals are read from one clock and everything else from another. The engine takes a request at
    once when it is idle, so the shortest way from arrival to queue is the clocks' difference.
    """
    apart_s = (requests.queued_ts - requests.arrival_time).min()
    arrived_s = requests.arrival_time + apart_s
    times_s = (arrived_s, requests.first_token_ts, requests.last_token_ts)
    prompt = requests.input_toks.tolist()
    return Recording(
        Tokens(prompt, prompt, requests.output_toks.tolist()),
        *(1000.0 * (at_s - arrived_s.min()).to_numpy() for at_s in times_s),
    )


def _pool(name: str, gpu: str, options: dict) -> Pool:
    return Pool(
        name=name.lower(),
        model_name=options["model"].rsplit("/", 1)[-1],
        gpu=gpu,
        tensor_parallel=options["tensor_parallel_size"],
        data_parallel=options["data_parallel_size"],
        engine="vllm",
        max_num_seqs=options["max_num_seqs"],
        max_num_batched_tokens=options["max_num_batched_tokens"],
        source="LLMServingSim",
    )


def _settings(profile: Profile, meta: dict) -> EngineSettings:
    """Returns the settings of one rank; max_num_seqs and the rest are vLLM's, per rank."""
    pool = profile.pool
    assert pool.max_num_seqs is not None
    assert pool.max_num_batched_tokens is not None
    recorded = meta.get("kv_cache", {}).get("num_gpu_blocks")
    estimated = Memory.of(profile).kv_capacity_tokens / pool.data_parallel / BLOCK_TOKENS
    return EngineSettings(
        steps=step_times(TO_BE_FITTED, pool.max_num_seqs),
        max_num_seqs=pool.max_num_seqs,
        max_num_batched_tokens=pool.max_num_batched_tokens,
        # vLLM keeps one block for itself.
        kv_blocks=recorded - 1 if recorded else int(estimated),
        lag_steps=1,
        n_ranks=pool.data_parallel,
    )


@dataclass(frozen=True)
class PilotPool:
    """The closed loops of one model on one kind and number of GPUs."""

    name: str
    recordings: dict[int, Recording]  # by users, ascending
    settings: EngineSettings  # step times are placeholders
    is_roomy: bool  # a cache that is not full with the most users


def pilot_pools(folder: Path) -> Iterator[PilotPool]:
    """Yields the pools whose engine batches without padding and that failed hardly any request.

    TGI batched continuously without padding for models with flash attention; of these, pools where
    no load had more than 1 % failed requests: survivors of failures are short.
    """
    at = folder / "llm_pilot"
    models = pd.read_csv(at / "llm_features.csv").set_index("model")
    memory_gb = pd.read_csv(at / "gpu_features.csv").set_index("gpu").gpu_memory_capacity_gb_total
    loads = pd.read_csv(at / "aggregate.csv")
    keys = ["model", "gpu", "n_gpus"]
    requests = pd.read_csv(at / "requests.csv.gz")
    by_load = dict(iter(requests.groupby([*keys, "num_users"])))
    for key, rows in loads.groupby(keys):
        facts = models.loc[key[0]]
        failed = rows.n_failed / (rows.n_requests + rows.n_failed)
        if not facts.model_is_flash_attention or failed.max() > MAX_FAILED_RATIO:
            continue
        recordings = {n: _closed(by_load[*key, n], n) for n in sorted(rows.num_users)}
        most = max(recordings)
        cache_gb = 0.9 * memory_gb[f"{key[2]} x {key[1]}"] - key[2] - 2 * facts.model_n_parameters
        token_bytes = 4 * facts.model_n_layers * PILOT_KEY_WIDTH[key[0]]
        yield PilotPool(
            name=f"{key[0].rsplit('/', 1)[-1]} {key[2]}x{key[1]}",
            recordings=recordings,
            settings=_pausing(most),
            is_roomy=bool(cache_gb * 1e9 / token_bytes >= ROOMY_TOKENS_PER_USER * most),
        )


def _closed(requests: pd.DataFrame, n_users: int) -> Recording:
    ordered = requests.sort_values("start_ms", kind="stable")
    prompt = np.maximum(ordered.n_in.to_numpy(dtype=np.int64), 1).tolist()
    start = ordered.start_ms.to_numpy(dtype=np.float64)
    return Recording(
        Tokens(prompt, prompt, ordered.n_out.to_numpy(dtype=np.int64).tolist()),
        start,
        start + ordered.ttft_ms.to_numpy(),
        start + ordered.latency_ms.to_numpy(),
        n_users=int(n_users),
        duration_ms=PILOT_DURATION_MS,
        shortest_tokens=PILOT_SHORTEST_TOKENS,
    )


def _pausing(n_users: int) -> EngineSettings:
    """Returns TGI's admission rule, with room for everybody."""
    return EngineSettings(
        steps=step_times(TO_BE_FITTED, n_users),
        max_num_seqs=n_users,
        max_num_batched_tokens=2**20,
        kv_blocks=UNBOUNDED_BLOCKS,
        prefill="pausing",
    )
