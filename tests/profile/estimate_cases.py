"""A made-up world of pools whose true step times are known."""

import datetime
import math

from planner.spec.hardware import Gpu, ModelFacts
from planner.spec.pool import Point, Pool, Profile

SHAPE = (512.0, 256.0)
LOADS = (1, 4, 16, 64)


def gpu(name: str, tflops: float = 900.0, gb_per_s: float = 3000.0, gib: float = 80.0) -> Gpu:
    return Gpu(
        name=name,
        memory_gib=gib,
        fp16_tflops=tflops,
        memory_gb_per_s=gb_per_s,
        interconnect_gb_per_s=400,
        source="made up",
        as_of=datetime.date(2025, 1, 1),
    )


def model(name: str, billions: float = 8.0, layers: int = 32, active: float = 1.0) -> ModelFacts:
    return ModelFacts(
        name=name,
        n_parameters=billions * 1e9,
        n_active_parameters=billions * active * 1e9,
        n_layers=layers,
        hidden_size=layers * 128,
        n_heads=32,
        n_kv_heads=8,
        head_dim=128,
        bytes_per_parameter=2,
        max_context_tokens=16384,
        source="made up",
    )


GPUS = {
    "old": gpu("old", 300.0, 2000.0),
    "mid": gpu("mid", 900.0, 3300.0),
    "new": gpu("new", 2000.0, 7000.0, 180.0),
}
MODELS = {
    "small": model("small", 8.0, 32),
    "middle": model("middle", 14.0, 40),
    "large": model("large", 30.0, 64),
}
# What a GPU's kernels reach of memory bandwidth and arithmetic in this world.
REACHED = {"old": (0.7, 0.5), "mid": (0.5, 0.35), "new": (0.4, 0.3)}


def pool(model_name: str, gpu_name: str, parallel: int = 1, **more: object) -> Pool:
    fields = {
        "name": f"{model_name}-{gpu_name}-tp{parallel}",
        "model_name": model_name,
        "gpu": gpu_name,
        "tensor_parallel": parallel,
        "engine": "vllm",
        "source": "made up",
    }
    return Pool.model_validate({**fields, **more})


def true_token_ms(of: Pool, n: float, shape: tuple[float, float] = SHAPE) -> float:
    """The time per output token of a closed loop: a roofline with a host part, written apart."""
    facts, card = MODELS[of.model_name], GPUS[str(of.gpu)]
    memory, arithmetic = REACHED[card.name]
    prompt, output = shape
    gb_per_ms = card.memory_gb_per_s / 1000.0 * memory * of.tensor_parallel
    gflop_per_ms = card.fp16_tflops * arithmetic * of.tensor_parallel
    weights = 2.0 * facts.n_parameters / 1e9 / gb_per_ms
    cache_gb = 4.0 * facts.n_layers * 8 * 128 / 1e9 * n * (prompt + output / 2.0)
    token = 2.0 * facts.n_parameters / 1e9 / gflop_per_ms
    host = 0.03 * facts.n_layers
    talk = 0.01 * facts.n_layers if of.tensor_parallel > 1 else 0.0
    return host + talk + weights + cache_gb / gb_per_ms + token * n * (1.0 + prompt / output)


def point(of: Pool, n: float, shape: tuple[float, float] = SHAPE, ratio: float = 1.0) -> Point:
    token_ms = true_token_ms(of, n, shape) * ratio
    return Point(
        input_tokens=shape[0],
        output_tokens=shape[1],
        mode="closed",
        concurrency=float(n),
        output_tokens_per_s=1000.0 * n / token_ms,
        source="made up",
    )


def profile(of: Pool, loads: tuple[int, ...] = LOADS, ratio: float = 1.0) -> Profile:
    points = tuple(point(of, n, SHAPE, ratio) for n in loads)
    return Profile(of, GPUS[str(of.gpu)], MODELS[of.model_name], points)


def world(**more: object) -> list[Profile]:
    """Every model on every GPU, on one and on two GPUs: 18 pools."""
    return [profile(pool(m, g, n, **more)) for m in MODELS for g in GPUS for n in (1, 2)]


def noise(*parts: object) -> float:
    """A factor of about 5 % either way that depends on nothing but what it is of."""
    seed = sum(ord(c) * (i + 1) for i, c in enumerate(str(parts)))
    return math.exp(0.05 * math.sin(seed))
