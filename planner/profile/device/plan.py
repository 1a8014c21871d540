"""What is measured of a device, and how much arithmetic and memory traffic each trial is.

Notation
    m          rows of a matrix product: tokens in one step
    k, n       rows and columns of a weight matrix
    s, h, d    sequences, KV heads, head dimension
    g          queries that share one KV head
    c          context                                                  tokens
    e          bytes per element

Program
    matrix product       2 m k n operations; weights k n e bytes, read cold
    copy, triad          2 and 3 buffers of traffic: a = b and a = b + x c (STREAM, McCalpin 1995)
    decode attention     K and V of every sequence read once: 2 s h c d e bytes
    prefill attention    causal, half of the square: 2 h c^2 d operations
    launch               an operation on one element: all of its time is overhead

Everything here is plain arithmetic; kernels.py makes torch do it, clock.py times it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from planner.spec.hardware import KernelPrecision

ELEMENT_BYTES: dict[KernelPrecision, int] = {"fp32": 4, "fp16": 2, "bfloat16": 2, "fp8": 1}


@dataclass(frozen=True)
class Gemm:
    """One layer of weights applied to `n_rows` tokens."""

    kind: ClassVar[str] = "matrix product"
    precision: KernelPrecision
    n_rows: int
    n_in: int
    n_out: int

    @property
    def n_flop(self) -> float:
        """Returns the operations of one product, a multiplication and an addition each."""
        return 2.0 * self.n_rows * self.n_in * self.n_out

    @property
    def n_bytes(self) -> float:
        """Returns the bytes of weights and activations that one product reads and writes."""
        rows = self.n_rows * (self.n_in + self.n_out)
        return float(ELEMENT_BYTES[self.precision] * (self.n_in * self.n_out + rows))


@dataclass(frozen=True)
class Stream:
    """Memory traffic alone: a copy of one buffer, or the triad of two into a third."""

    triad: bool
    n_buffer_bytes: int

    @property
    def kind(self) -> str:
        """Returns what is measured, in words."""
        return "memory triad" if self.triad else "memory copy"

    @property
    def n_bytes(self) -> float:
        """Returns the bytes read and written."""
        return float((3 if self.triad else 2) * self.n_buffer_bytes)


@dataclass(frozen=True)
class DecodeAttention:
    """Attention of one new token per sequence over its cache."""

    kind: ClassVar[str] = "decode attention"
    precision: KernelPrecision
    n_sequences: int
    n_kv_heads: int
    n_queries_per_head: int
    head_dim: int
    context_tokens: int

    @property
    def n_streams(self) -> int:
        """Returns the caches that are read side by side."""
        return self.n_sequences * self.n_kv_heads

    @property
    def n_bytes(self) -> float:
        """Returns the bytes of K and V."""
        per_token = 2 * self.n_streams * self.head_dim * ELEMENT_BYTES[self.precision]
        return float(per_token * self.context_tokens)


@dataclass(frozen=True)
class PrefillAttention:
    """Causal attention of a whole prompt."""

    kind: ClassVar[str] = "prefill attention"
    precision: KernelPrecision
    n_heads: int
    head_dim: int
    prompt_tokens: int

    @property
    def n_flop(self) -> float:
        """Returns the operations below the diagonal, where a kernel does not skip less."""
        return 2.0 * self.n_heads * self.head_dim * float(self.prompt_tokens) ** 2

    @property
    def n_bytes(self) -> float:
        """Returns the bytes of Q, K, V and the answer."""
        each = self.n_heads * self.head_dim * self.prompt_tokens
        return float(4 * each * ELEMENT_BYTES[self.precision])


@dataclass(frozen=True)
class Launch:
    """One operation on one element; a graph replays it without the host."""

    by_graph: bool

    @property
    def kind(self) -> str:
        """Returns what is measured, in words."""
        return "launch in a graph" if self.by_graph else "launch"


Kernel = Gemm | Stream | DecodeAttention | PrefillAttention
Trial = Kernel | Launch


@dataclass(frozen=True)
class Sizes:
    """The shapes to measure on a kind of device."""

    precisions: tuple[KernelPrecision, ...]
    weights: tuple[int, int]  # rows and columns of the weight matrix
    n_rows: tuple[int, ...]
    n_buffer_bytes: int
    n_kv_heads: int
    n_queries_per_head: int
    head_dim: int
    n_sequences: tuple[int, ...]
    context_tokens: int
    prompt_tokens: tuple[int, ...]


# The up-projection and the attention of a model of 8 billion parameters.
CUDA = Sizes(
    precisions=("bfloat16", "fp16", "fp8"),
    weights=(4096, 14336),
    n_rows=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 2048, 8192),
    n_buffer_bytes=2 * 2**30,
    n_kv_heads=8,
    n_queries_per_head=4,
    head_dim=128,
    n_sequences=(1, 4, 16, 64, 256),
    context_tokens=4096,
    prompt_tokens=(2048, 8192),
)
CUDA_QUICK = Sizes(
    precisions=("bfloat16", "fp8"),
    weights=(4096, 14336),
    n_rows=(1, 8, 64, 512, 4096),
    n_buffer_bytes=512 * 2**20,
    n_kv_heads=8,
    n_queries_per_head=4,
    head_dim=128,
    n_sequences=(1, 16, 64),
    context_tokens=4096,
    prompt_tokens=(4096,),
)
# A processor stands in for an accelerator in tests and on laptops: small, and in seconds.
CPU = Sizes(
    precisions=("fp32", "bfloat16"),
    weights=(1024, 2816),
    n_rows=(1, 2, 4, 8, 16, 32, 64, 256),
    n_buffer_bytes=128 * 2**20,
    n_kv_heads=4,
    n_queries_per_head=2,
    head_dim=64,
    n_sequences=(1, 4, 16),
    context_tokens=1024,
    prompt_tokens=(256, 1024),
)
CPU_QUICK = Sizes(
    precisions=("fp32",),
    weights=(1024, 1024),
    n_rows=(1, 8, 64, 128),
    n_buffer_bytes=32 * 2**20,
    n_kv_heads=4,
    n_queries_per_head=2,
    head_dim=64,
    n_sequences=(1, 4),
    context_tokens=512,
    prompt_tokens=(256,),
)


def sizes_for(on_gpu: bool, quick: bool) -> Sizes:
    """Returns the shapes to measure."""
    if on_gpu:
        return CUDA_QUICK if quick else CUDA
    return CPU_QUICK if quick else CPU


def trials(sizes: Sizes, on_gpu: bool, n_bytes_free: float) -> Iterator[Trial]:
    """Yields what to measure in order; what would not fit into `n_bytes_free` is left out.

    The attention is measured in the first precision, that of most KV caches.
    """
    yield Launch(by_graph=False)
    if on_gpu:
        yield Launch(by_graph=True)
    # A small device gets smaller buffers; its caches are smaller too.
    buffer_bytes = int(min(sizes.n_buffer_bytes, n_bytes_free / 4))
    yield Stream(triad=False, n_buffer_bytes=buffer_bytes)
    yield Stream(triad=True, n_buffer_bytes=buffer_bytes)
    attention: list[DecodeAttention | PrefillAttention] = [
        DecodeAttention(
            sizes.precisions[0],
            n_sequences,
            sizes.n_kv_heads,
            sizes.n_queries_per_head,
            sizes.head_dim,
            sizes.context_tokens,
        )
        for n_sequences in sizes.n_sequences
    ]
    attention += [
        PrefillAttention(
            sizes.precisions[0], sizes.n_kv_heads * sizes.n_queries_per_head, sizes.head_dim, tokens
        )
        for tokens in sizes.prompt_tokens
    ]
    yield from (trial for trial in attention if trial.n_bytes <= n_bytes_free / 2)
    for precision in sizes.precisions:
        yield from (Gemm(precision, n_rows, *sizes.weights) for n_rows in sizes.n_rows)


def n_copies(trial: Kernel, cold_bytes: float, n_bytes_free: float) -> int:
    """Returns how many sets of buffers a kernel goes round to find each one out of cache."""
    wanted = -(-cold_bytes // trial.n_bytes)
    return int(max(1, min(wanted, n_bytes_free / 2 // trial.n_bytes)))
