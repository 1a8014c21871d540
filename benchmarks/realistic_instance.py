"""Realistic instances of the joint problem: six models on six kinds of GPU, 64 GPUs, 96 pools.

Synthetic and deterministic, tables made directly (no profile is fitted), so that the engine alone
is measured. Speeds follow a roofline with public GPU figures, qualities a logistic curve.

Notation
    c        class: in_c input, out_c output tokens, rate lambda_c                   (C,)
    p        pool: one model on one kind of GPU with one tensor parallel size        (P,)
    b        requests in a replica's batch
    t_p(b)   time of one decode step: read weights and the batch's KV cache, exchange between GPUs
    X_p      most output tokens per s of a replica, at its largest batch B_p:  B_p / t_p(B_p)
    a_cp     time to read the prompt of one request alone                            s
    s_cp     work of one request: out_c / X_p + a_cp                                 s
    rho      load: work per second and replica
    b(rho)   batch that carries the load:  b / t_p(b) = rho X_p
    h_p(rho) time per work:  X_p t_p(b(rho)) + rho / (1 - rho)
    T_cp     mean e2e at a load:  a_cp + s_cp h_p(rho)                               s

So every mean is a constant of the class plus its work times a curve of the pool: the occupancy form
is exact on these tables. Latencies of a class are Erlang with three stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from planner.exact.solve import Setting
from planner.space import Offer, Space
from planner.spec.question import Limit
from planner.spec.table import PoolTable
from planner.spec.workload import RequestShape, ScopedLimit, Workload

Floats = NDArray[np.float64]
Limited = Literal["all", "class", "both"]

# billions of parameters, KV cache MiB per token, skill on the logistic scale of difficulty
MODELS = {
    "8b": (8.0, 0.125, 0.45),
    "32b": (32.0, 0.25, 0.66),
    "70b": (70.0, 0.3125, 0.80),
    "14b": (14.0, 0.19, 0.55),
    "4b": (4.0, 0.14, 0.34),
    "110b": (110.0, 0.31, 0.87),
    "1.5b": (1.5, 0.03, 0.22),
    "24b": (24.0, 0.16, 0.61),
    "123b": (123.0, 0.34, 0.89),
    "49b": (49.0, 0.20, 0.73),
}
# memory GiB, bandwidth GB/s, dense 16-bit TFLOPS (data sheets), price $/h (assumed)
GPUS = {
    "l40s": (48.0, 864.0, 362.0, 1.1),
    "a100": (80.0, 2039.0, 312.0, 1.9),
    "h100": (80.0, 3350.0, 989.0, 3.0),
    "h200": (141.0, 4800.0, 989.0, 3.8),
    "b200": (180.0, 8000.0, 2250.0, 6.0),
    "mi300x": (192.0, 5300.0, 1307.0, 3.4),
    "rtx6000": (96.0, 1792.0, 500.0, 1.7),
    "a10": (24.0, 600.0, 125.0, 0.7),
}
TENSOR_PARALLEL = 1, 2, 4, 8
LOADS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.86, 0.92, 0.96])
N_TIMES = 48
HEADROOM_RATIO = 0.1
MOST_BATCH = 256.0
MEAN_INPUT_TOKENS, MEAN_OUTPUT_TOKENS = 900.0, 300.0
MEAN_AT_MOST_MS = 9_000.0


@dataclass(frozen=True)
class Size:
    """How many models and kinds of GPU, and how many GPUs in all."""

    n_models: int = 6
    n_gpu_types: int = 6
    n_gpus: int = 64


LARGE = Size(10, 8, 512)


@dataclass(frozen=True)
class _Pool:
    """One model on one kind of GPU, and what one replica does."""

    name: str
    model: int
    gpu: str
    tensor_parallel: int
    tokens_per_s: float  # X_p
    prefill_s_per_token: float
    time_per_work: Floats  # (K,) h_p at LOADS


def realistic_instance(
    n_classes: int = 50,
    seed: int = 0,
    limited: Limited = "all",
    size: Size = Size(),
    demand: float = 1.0,
    statistics: Sequence[str] = ("mean",),
) -> Setting:
    """Returns an instance: workload, tables, box and headroom.

    Args:
        n_classes: classes, with their own lengths, rates, difficulties and qualities.
        seed: of the classes.
        limited: whether latency limits are over all traffic, of every class, or both.
        size: of the fleet.
        demand: rate of all traffic; 1 is what keeps most of the GPUs busy.
        statistics: mean, p95, ...: each is limited; a percentile gets three times the mean's time.
    """
    random = np.random.default_rng(seed)
    pools = _pools(size)
    rates = random.dirichlet(np.full(n_classes, 2.0)) * demand * 1.6 * size.n_gpus
    inputs = MEAN_INPUT_TOKENS * random.lognormal(-0.25, 0.7, n_classes)
    outputs = MEAN_OUTPUT_TOKENS * random.lognormal(-0.2, 0.6, n_classes)
    quality = _quality(random, n_classes, size.n_models)[:, [pool.model for pool in pools]]
    tables = tuple(_table(pool, inputs, outputs, rates) for pool in pools)
    limits = _limits(random, limited, statistics, outputs)
    shapes = [
        RequestShape(np.array([i]), np.array([o])) for i, o in zip(inputs, outputs, strict=True)
    ]
    workload = Workload(
        class_names=tuple(f"c{c}" for c in range(n_classes)),
        pool_names=tuple(pool.name for pool in pools),
        rate_rps=rates,
        mean_rate_rps=rates,
        quality=quality,
        allowed=np.ones(quality.shape, dtype=bool),
        shapes=tuple((shape,) * len(pools) for shape in shapes),
        limits=limits,
        quality_at_least=None,
        class_quality_at_least=np.full(n_classes, np.nan),
        priority=np.ones(n_classes),
        request_usd=np.zeros(quality.shape),
        origin="assumed",
    )
    return Setting(workload, tables, _box(pools, size), HEADROOM_RATIO)


def _quality(random: np.random.Generator, n_classes: int, n_models: int) -> Floats:
    """Returns the mean quality of every model on every class, (C, M)."""
    skill = np.array([skill for *_, skill in list(MODELS.values())[:n_models]])
    difficulty = random.beta(2.0, 2.6, n_classes)[:, None]
    own = random.normal(0.0, 0.05, (n_classes, n_models))
    return np.asarray(1.0 / (1.0 + np.exp(-6.0 * (skill + own - difficulty))))


def _limits(
    random: np.random.Generator, limited: Limited, statistics: Sequence[str], outputs: Floats
) -> tuple[ScopedLimit, ...]:
    """Returns the latency limits; long answers get more time."""

    def limit(name: str | None, statistic: str, at_most_ms: float) -> ScopedLimit:
        more = 1.0 if statistic == "mean" else 3.0
        values = {"metric": "e2e", "statistic": statistic, "at_most_ms": at_most_ms * more}
        return ScopedLimit(name, Limit.model_validate(values))

    found = []
    for statistic in statistics:
        if limited != "class":
            found.append(limit(None, statistic, MEAN_AT_MOST_MS))
        if limited != "all":
            patience = random.uniform(0.7, 1.8, outputs.size)
            for c, tokens in enumerate(outputs.tolist()):
                at_most_ms = patience[c] * MEAN_AT_MOST_MS * tokens / MEAN_OUTPUT_TOKENS
                found.append(limit(f"c{c}", statistic, at_most_ms))
    return tuple(found)


def _pools(size: Size) -> list[_Pool]:
    """Returns every pool whose weights leave a tenth of its memory free."""
    found = []
    for m, (model, (billions, kv_mib, _)) in enumerate(list(MODELS.items())[: size.n_models]):
        for gpu, (memory_gib, *_) in list(GPUS.items())[: size.n_gpu_types]:
            for tensor_parallel in TENSOR_PARALLEL:
                memory = 0.9 * memory_gib * tensor_parallel
                free_gib = memory - 2.0 * billions * 1e9 / 2**30
                wasteful = tensor_parallel > 2 and 2.0 * billions < 0.05 * memory
                if free_gib < 0.1 * memory or wasteful:
                    continue
                tokens = free_gib * 1024 / kv_mib
                batch = min(MOST_BATCH, 0.9 * tokens / (MEAN_INPUT_TOKENS + MEAN_OUTPUT_TOKENS))
                found.append(_pool(model, m, gpu, tensor_parallel, batch))
    return found


def _pool(model: str, m: int, gpu: str, tensor_parallel: int, batch: float) -> _Pool:
    """Returns a pool with its roofline."""
    billions, kv_mib, _ = MODELS[model]
    _, gb_per_s, tflops, _ = GPUS[gpu]
    speed = tensor_parallel**0.9  # what exchange between GPUs leaves
    context_tokens = MEAN_INPUT_TOKENS + MEAN_OUTPUT_TOKENS / 2
    weights_s = 2.0 * billions / (0.8 * gb_per_s * speed)
    cache_s = kv_mib / 1024 * context_tokens / (0.7 * gb_per_s * speed)
    compute_s = 2.0 * billions * 1e-3 / (0.5 * tflops * speed)
    alone_s = weights_s + 0.002 + 0.0005 * np.log2(tensor_parallel)
    per_request_s = cache_s + compute_s
    tokens_per_s = batch / (alone_s + batch * per_request_s)
    asked = LOADS * tokens_per_s
    step_s = alone_s / (1.0 - asked * per_request_s)
    time_per_work = tokens_per_s * step_s + LOADS / (1.0 - LOADS)
    prefill_s = 2.0 * billions * 1e-3 / (0.5 * tflops * speed)
    name = f"{model}-{gpu}-tp{tensor_parallel}"
    return _Pool(name, m, gpu, tensor_parallel, tokens_per_s, prefill_s, time_per_work)


def _table(pool: _Pool, inputs: Floats, outputs: Floats, rates: Floats) -> PoolTable:
    """Returns the table of a pool: means by the notation, Erlang latencies."""
    prefill_s = inputs * pool.prefill_s_per_token
    work_s = outputs / pool.tokens_per_s + prefill_s
    mean_ms = 1000.0 * (prefill_s[:, None] + work_s[:, None] * pool.time_per_work)
    times_ms = np.geomspace(0.02 * mean_ms.min(), 20.0 * mean_ms.max(), N_TIMES)
    ratio = 3.0 * times_ms / mean_ms[..., None]
    survival = np.exp(-ratio) * (1.0 + ratio + ratio**2 / 2.0)
    return PoolTable(
        pool=pool.name,
        work_s=work_s,
        mix=rates / rates.sum(),
        loads=LOADS,
        mean_ms={"e2e": mean_ms},
        times_ms={"e2e": times_ms},
        survival={"e2e": survival},
        band_ratio={"e2e": np.full(LOADS.size, 0.1)},
        extrapolated=np.zeros(LOADS.size, dtype=bool),
        origin={"e2e": "assumed"},
    )


def _box(pools: list[_Pool], size: Size) -> Space:
    """Returns the box: as many GPUs of every kind as go round, the first kinds one more."""
    kinds = list(GPUS)[: size.n_gpu_types]
    each, more = divmod(size.n_gpus // 2, len(kinds))
    count = {gpu: 2 * (each + (k < more)) for k, gpu in enumerate(kinds)}
    on = np.array([[pool.gpu == gpu for pool in pools] for gpu in kinds], dtype=float)
    taken = np.array([float(pool.tensor_parallel) for pool in pools])
    return Space(
        pool_names=tuple(pool.name for pool in pools),
        lower=np.zeros(len(pools), dtype=np.int64),
        upper=np.array([count[pool.gpu] // pool.tensor_parallel for pool in pools]),
        rows=on * taken,
        limits=np.array([float(count[gpu]) for gpu in kinds]),
        row_names=tuple(f"stock:{gpu}" for gpu in kinds),
        gpu_of=tuple(pool.gpu for pool in pools),
        gpus_per_replica=taken,
        offers={gpu: (Offer(float(count[gpu]), GPUS[gpu][3]),) for gpu in kinds},
    )
