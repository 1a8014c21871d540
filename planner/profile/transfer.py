"""Step times of a pool that nobody measured, from the pools that somebody did.

Notation
    x_j     time of the j-th part of a row at full efficiency (datasheet)          ms (N, J)
    phi     log effects, 0 on average but for those of the parts themselves        (P,)
    U_kj    the effects that pool k's part j is subject to, 0 or 1                 (K, J, P)
    w       width of the prior of an effect: how far pools of a kind differ        (P,)

Program
    t = sum_j x_j exp(U_kj . phi)
    minimise over phi   sum_i 2 (sqrt(1 + z_i^2) - 1) + sum_p (phi_p / w_p)^2
    z_i = (log t_i - log measured_i) / scale_i

Parts: weights read, KV cache read, arithmetic of decoding and of prefilling, host time per layer,
per sequence and per square root of the sequences, and with several GPUs a synchronisation per
layer and the activations exchanged. Effects: one per part; per GPU type and part; per model; per
parallelism, alone and on a GPU type; mixtures of experts; narrow weights. An effect that no
measurement speaks of stays at its prior: a pool of an unknown model is one of an average model.

Only pools of one engine are fitted together: engines differ more than GPUs do. The form is the
roofline of physics.py with achieved efficiencies in place of assumed ones; effects are shrunk as
in a ridge regression (Hoerl, Kennard 1970, Technometrics 12(1)), the loss is that of regress.py.
A mixture of experts reads the share 1 - (1 - active/all)^n of its weights for n sequences, which
choose their experts independently.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.latency.memory import bytes_per_parameter, kv_bytes_per_token_and_gpu
from planner.latency.observation import Observation, load_groups, observations
from planner.latency.pchip import Pchip
from planner.latency.physics import LARGE_BATCH_EFFICIENCY, MEMORY_EFFICIENCY, REQUEST_MS
from planner.latency.regress import descend
from planner.spec.arrays import FloatArray, IntArray
from planner.spec.hardware import Gpu, ModelFacts
from planner.spec.pool import Pool, Profile

PARTS = (
    "weights",
    "cache",
    "decode",
    "prefill",
    "host",
    "sequence",
    "root",
    "sync",
    "exchange",
    "request",
)
HOST, REQUEST = PARTS.index("host"), PARTS.index("request")
ALL = tuple(range(len(PARTS)))
ENGINE_PARTS = tuple(j for j in ALL if j != REQUEST)
WEIGHT_PARTS = (PARTS.index("weights"), PARTS.index("decode"), PARTS.index("prefill"))

# The middle of what engines reach, and the log width of it.
DECODE_EFFICIENCY = 0.3
LINK_EFFICIENCY = 0.2
LAYER_MS = 0.02  # host time and synchronisation per layer and step
SEQUENCE_MS = 0.02
ROOT_MS = 0.1
PART_WIDTHS = (0.5, 1.0, 1.0, 0.7, 1.0, 1.5, 1.5, 1.0, 1.5, 1.0)
GPU_WIDTH = 0.4
MODEL_WIDTH = 0.3
HOST_OF_MODEL_WIDTH = 0.3
PARALLEL_WIDTH = 0.2
PARALLEL_ON_GPU_WIDTH = 0.1
DATA_PARALLEL_WIDTH = 0.5
EXPERTS_WIDTH = 0.4
NARROW_WIDTH = 0.2

DEFAULT_LINK_GB_PER_S = 32.0  # PCIe Gen4 x16, where a GPU's entry names no interconnect
TOLERANCE = 1e-6  # of the loss; effects move by less than a thousandth then
FASTER_THAN_POSSIBLE = 0.9  # of reading the active weights: such a row is a mistake


@dataclass(frozen=True)
class Effect:
    """One log factor: its name, the parts it multiplies, and the width of its prior."""

    name: str
    parts: tuple[int, ...]
    width: float


@dataclass(frozen=True)
class PoolFacts:
    """A pool whose GPU and model have facts, with what was measured of it."""

    pool: Pool
    gpu: Gpu
    facts: ModelFacts
    rows: tuple[Observation, ...] = ()

    @classmethod
    def of(cls, profile: Profile) -> PoolFacts | None:
        """Returns the measured rows of a profile, None where facts or measurements are missing."""
        if profile.gpu is None or profile.facts is None:
            return None
        bare = cls(profile.pool, profile.gpu, profile.facts)
        measured = [p for p in profile.points if p.origin == "measured"]
        rows, _ = observations(measured, profile.pool.max_num_seqs)
        least = FASTER_THAN_POSSIBLE * bare.roofline_ms
        kept = tuple(r for r in rows if r.kind == "ttft" or r.time_ms >= least)
        return cls(bare.pool, bare.gpu, bare.facts, kept) if any(_steps(kept)) else None

    @property
    def family(self) -> str:
        """Returns the engine, however it is spelled; versions of one engine are one family."""
        return "".join(c for c in (self.pool.engine or "").lower() if c.isalnum())

    @property
    def architecture(self) -> str:
        """Returns what makes two models equally fast: fine-tuned siblings share it."""
        f = self.facts
        return f"{f.n_layers}x{f.hidden_size}x{f.n_kv_heads}x{f.head_dim}x{f.n_parameters:.2g}"

    @property
    def configuration(self) -> tuple[str, str, int, int, int, float]:
        """Returns what two measurements of the same pool have in common."""
        p = self.pool
        width = bytes_per_parameter(p, self.facts)
        shape = (p.tensor_parallel, p.pipeline_parallel, p.data_parallel)
        return (self.architecture, self.gpu.name, *shape, width)

    @property
    def n_parallel(self) -> int:
        """Returns the GPUs of one replica."""
        pool = self.pool
        return pool.tensor_parallel * pool.pipeline_parallel * pool.data_parallel

    @property
    def roofline_ms(self) -> float:
        """Returns the ms in which the active weights can be read: no step is faster."""
        width = bytes_per_parameter(self.pool, self.facts)
        return self.facts.n_active_parameters * width / self._bytes_per_ms

    @property
    def steps(self) -> tuple[Observation, ...]:
        """Returns the rows that are step times; the others are times to the first token."""
        return tuple(_steps(self.rows))

    @property
    def _compute_ratio(self) -> float:
        return self.pool.share.compute_ratio if self.pool.share else 1.0

    @property
    def _bytes_per_ms(self) -> float:
        return self.gpu.memory_gb_per_s * 1e6 * self._compute_ratio * self.pool.tensor_parallel

    def effects(self) -> list[Effect]:
        """Returns the effects that this pool's times are subject to."""
        gpu, model = self.gpu.name, self.architecture
        found = [Effect(f"part {PARTS[j]}", (j,), PART_WIDTHS[j]) for j in ALL]
        found += [Effect(f"gpu {gpu} {PARTS[j]}", (j,), GPU_WIDTH) for j in ENGINE_PARTS]
        found += [
            Effect(f"model {model}", ALL, MODEL_WIDTH),
            Effect(f"model {model} host", (HOST,), HOST_OF_MODEL_WIDTH),
            Effect(f"parallel {self.n_parallel}", ALL, PARALLEL_WIDTH),
            Effect(f"parallel {self.n_parallel} on {gpu}", ALL, PARALLEL_ON_GPU_WIDTH),
        ]
        if self.pool.data_parallel > 1:
            found.append(Effect("data parallel", ALL, DATA_PARALLEL_WIDTH))
        if self.facts.n_active_parameters < 0.9 * self.facts.n_parameters:
            found += [Effect(f"experts {PARTS[j]}", (j,), EXPERTS_WIDTH) for j in WEIGHT_PARTS]
        width = bytes_per_parameter(self.pool, self.facts)
        if width < 2.0:
            found.append(Effect(f"weights of {width:g} bytes", ALL, NARROW_WIDTH))
        return found

    def parts_ms(self, rows: Sequence[Observation]) -> FloatArray:
        """Returns x, the parts of the rows' times at the typical efficiency in ms, (N, J)."""
        weights = np.array([r.weights for r in rows], dtype=np.float64).reshape(len(rows), 6)
        steps, decoded, context, prefilled, _, requests = weights.T
        pool, facts = self.pool, self.facts
        # Stages and data-parallel ranks share the sequences out among themselves.
        ranks = pool.pipeline_parallel * pool.data_parallel
        n = np.maximum([r.n for r in rows], 1.0) / ranks
        parallel = pool.tensor_parallel * ranks
        flop_per_ms = self.gpu.fp16_tflops * 1e9 * self._compute_ratio * parallel
        token_ms = 2.0 * facts.n_active_parameters / flop_per_ms
        active = min(facts.n_active_parameters / facts.n_parameters, 1.0)
        touched = 1.0 - (1.0 - active) ** np.maximum(n, 1.0)
        all_weights = facts.n_parameters * bytes_per_parameter(pool, facts) / self._bytes_per_ms
        cache_bytes = kv_bytes_per_token_and_gpu(pool, facts) / pool.data_parallel
        cache_bytes_per_ms = self.gpu.memory_gb_per_s * 1e6 * self._compute_ratio
        several = 1.0 if parallel > 1 else 0.0
        columns = (
            all_weights * touched * steps / MEMORY_EFFICIENCY,
            cache_bytes / cache_bytes_per_ms * context / MEMORY_EFFICIENCY,
            token_ms * decoded / DECODE_EFFICIENCY,
            token_ms * prefilled / LARGE_BATCH_EFFICIENCY,
            LAYER_MS * facts.n_layers * steps,
            SEQUENCE_MS * decoded,
            ROOT_MS * np.sqrt(n) * steps,
            several * LAYER_MS * facts.n_layers * steps,
            several * self._exchange_ms() * (decoded + prefilled),
            REQUEST_MS * requests,
        )
        return np.stack(columns, axis=1)

    def _exchange_ms(self) -> float:
        """Returns the ms that the activations of one token take: two all-reduces per layer."""
        link = self.gpu.interconnect_gb_per_s or DEFAULT_LINK_GB_PER_S
        sent_bytes = 2.0 * 2.0 * 2.0 * self.facts.n_layers * self.facts.hidden_size
        return sent_bytes / (link * 1e6) / LINK_EFFICIENCY


@dataclass(frozen=True)
class Transfer:
    """The effects fitted to measured pools of one engine, all that an estimate needs."""

    log_effect: Mapping[str, float]

    def time_ms(self, pool: PoolFacts, rows: Sequence[Observation]) -> FloatArray:
        """Returns the estimated times of rows in ms, (N,); their own `time_ms` is not read."""
        log_factor = np.zeros(len(PARTS))
        for effect in pool.effects():
            log_factor[list(effect.parts)] += self.log_effect.get(effect.name, 0.0)
        return np.asarray(pool.parts_ms(rows) @ np.exp(log_factor))

    def knows_gpu(self, pool: PoolFacts) -> bool:
        """Returns whether a pool on the same type of GPU was measured."""
        return f"gpu {pool.gpu.name} {PARTS[0]}" in self.log_effect

    def knows_model(self, pool: PoolFacts) -> bool:
        """Returns whether a pool of a model with the same architecture was measured."""
        return f"model {pool.architecture}" in self.log_effect

    def knows_parallel(self, pool: PoolFacts) -> bool:
        """Returns whether a pool on as many GPUs was measured."""
        return f"parallel {pool.n_parallel}" in self.log_effect


def fit_transfer(measured: Sequence[PoolFacts], start: Transfer | None = None) -> Transfer:
    """Returns the effects that the measured pools of one engine show; the priors where none is.

    Args:
        measured: pools with rows; may be empty.
        start: the effects of nearly the same pools, where they are known: faster.
    """
    problem = _Problem.of(measured)
    first = np.zeros(len(problem.names))
    if start is not None:
        first = np.array([start.log_effect.get(name, 0.0) for name in problem.names])
    log_effect, _ = descend(problem, first, TOLERANCE)
    return Transfer(dict(zip(problem.names, (float(v) for v in log_effect), strict=True)))


@dataclass(frozen=True)
class Estimator:
    """The estimated times of one pool, drawn through what was measured of it, if anything was."""

    transfer: Transfer
    pool: PoolFacts
    step_ratio: Pchip  # log measured/estimated step time over log n
    first_ratio: float  # log measured/estimated TTFT

    @classmethod
    def of(cls, transfer: Transfer, pool: PoolFacts) -> Estimator:
        """Returns the estimator of a pool; its rows are probes that correct the transfer."""
        steps = pool.steps
        log_ratio = _log_ratio(transfer, pool, steps)
        log_n = np.log([max(r.n, 1.0) for r in steps])
        groups = load_groups(steps) if steps else []
        nodes = [(float(log_n[mask].mean()), float(log_ratio[mask].mean())) for mask in groups]
        curve = Pchip.through(np.array([n for n, _ in nodes]), np.array([r for _, r in nodes]))
        first = _log_ratio(transfer, pool, [r for r in pool.rows if r.kind == "ttft"])
        instead = log_ratio if first.size == 0 else first
        return cls(transfer, pool, curve, float(instead.mean()) if instead.size else 0.0)

    def time_ms(self, rows: Sequence[Observation]) -> FloatArray:
        """Returns the estimated times of rows in ms, (N,); their own `time_ms` is not read."""
        log_n = np.log([max(r.n, 1.0) for r in rows])
        is_first = np.array([r.kind == "ttft" for r in rows])
        log_ratio = np.where(is_first, self.first_ratio, self.step_ratio(log_n))
        return np.asarray(self.transfer.time_ms(self.pool, rows) * np.exp(log_ratio))


def _log_ratio(transfer: Transfer, pool: PoolFacts, rows: Sequence[Observation]) -> FloatArray:
    """Returns log measured/estimated of rows, (N,)."""
    measured = np.array([r.time_ms for r in rows], dtype=np.float64)
    return np.asarray(np.log(measured / transfer.time_ms(pool, rows)))


def _steps(rows: Iterable[Observation]) -> list[Observation]:
    return [r for r in rows if r.kind != "ttft"]


@dataclass(frozen=True)
class _Problem:
    """The fit as regress.descend minimises it, over log effects."""

    names: tuple[str, ...]
    width: FloatArray  # (P,)
    subject: FloatArray  # (K, J, P) 1 where an effect multiplies a part of a pool
    pool_of: IntArray  # (N,), ascending
    parts_ms: FloatArray  # (N, J)
    log_time: FloatArray  # (N,)
    scale: FloatArray  # (N,)

    @classmethod
    def of(cls, measured: Sequence[PoolFacts]) -> _Problem:
        effects = [pool.effects() for pool in measured]
        defaults = [Effect(f"part {PARTS[j]}", (j,), PART_WIDTHS[j]) for j in ALL]
        width = {e.name: e.width for each in [defaults, *effects] for e in each}
        place = {name: p for p, name in enumerate(width)}
        subject = np.zeros((len(measured), len(PARTS), len(place)))
        for k, each in enumerate(effects):
            for effect in each:
                subject[k, list(effect.parts), place[effect.name]] = 1.0
        rows = [(k, r) for k, pool in enumerate(measured) for r in pool.rows]
        parts = [pool.parts_ms(pool.rows) for pool in measured]
        return cls(
            names=tuple(place),
            width=np.array(list(width.values())),
            subject=subject,
            pool_of=np.array([k for k, _ in rows], dtype=np.int64),
            parts_ms=np.concatenate([np.zeros((0, len(PARTS))), *parts]),
            log_time=np.log(np.array([r.time_ms for _, r in rows], dtype=np.float64)),
            scale=np.array([r.scale for _, r in rows], dtype=np.float64),
        )

    def _parts(self, log_effect: FloatArray) -> FloatArray:
        """Returns the parts of every row in ms, (N, J)."""
        return np.asarray(self.parts_ms * np.exp(self.subject @ log_effect)[self.pool_of])

    def loss(self, log_effect: FloatArray) -> float:
        """Returns the value to be minimised."""
        z = (np.log(self._parts(log_effect).sum(axis=1)) - self.log_time) / self.scale
        q = log_effect / self.width
        return float(np.sum(2.0 * (np.sqrt(1.0 + z**2) - 1.0)) + np.sum(q**2))

    def normal_equations(self, log_effect: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns half the gradient (P,) and the reweighted Gauss-Newton matrix (P, P)."""
        parts = self._parts(log_effect)
        total = parts.sum(axis=1)
        z = (np.log(total) - self.log_time) / self.scale
        weight = 1.0 / np.sqrt(1.0 + z**2)
        share = parts / total[:, None] / self.scale[:, None]
        bounds = np.searchsorted(self.pool_of, np.arange(len(self.subject) + 1))
        slope = np.empty((total.size, self.width.size))
        for k, uses in enumerate(self.subject):
            slope[bounds[k] : bounds[k + 1]] = share[bounds[k] : bounds[k + 1]] @ uses
        matrix = slope.T @ (weight[:, None] * slope) + np.diag(1.0 / self.width**2)
        prior = log_effect / self.width**2
        return slope.T @ (weight * z) + prior, matrix
