"""Trials as torch operations on buffers of a device.

A work goes round several sets of buffers, so that each call finds its weights or its cache in
memory and not in a cache of the chip: that is how an engine meets them, one layer after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.profile.device.plan import (
    DecodeAttention,
    Gemm,
    Kernel,
    PrefillAttention,
    Stream,
)
from planner.spec.hardware import KernelPrecision

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_N_LAUNCHES = 500
_SEED = 0


@dataclass(frozen=True)
class Work:
    """What to time: one run makes `n_calls` calls of a kernel."""

    run: Callable[[], None]
    n_calls: int


def launches(device: str) -> Work:
    """Returns operations on one element, each waiting for the one before it."""
    import torch

    element = torch.zeros(1, device=device)

    def run() -> None:
        for _ in range(_N_LAUNCHES):
            element.add_(1.0)

    return Work(run, _N_LAUNCHES)


def build(kernel: Kernel, device: str, n_copies: int) -> Work:
    """Returns the work of a kernel on a torch device; its buffers live as long as it does.

    Raises:
        RuntimeError: torch cannot do it on this device, or the memory does not suffice.
        ValueError: torch has no such kernel.
    """
    calls = [_call(kernel, device) for _ in range(n_copies)]

    def run() -> None:
        for call in calls:
            call()

    return Work(run, n_copies)


def dtype_of(precision: KernelPrecision) -> torch.dtype:
    """Returns torch's name of a precision."""
    import torch

    return {
        "fp32": torch.float32,
        "fp16": torch.float16,
        "bfloat16": torch.bfloat16,
        "fp8": torch.float8_e4m3fn,
    }[precision]


def random(shape: tuple[int, ...], precision: KernelPrecision, device: str) -> Tensor:
    """Returns normal numbers, the same every time: zeros would draw less power than weights do."""
    import torch

    generator = torch.Generator(device=device).manual_seed(_SEED)
    # Torch draws no fp8 numbers.
    drawn = dtype_of("bfloat16" if precision == "fp8" else precision)
    numbers = torch.randn(shape, dtype=drawn, device=device, generator=generator)
    return numbers.to(dtype_of(precision))


def _call(kernel: Kernel, device: str) -> Callable[[], object]:
    """Returns one call on buffers of its own."""
    if isinstance(kernel, Stream):
        return _stream(kernel, device)
    if isinstance(kernel, DecodeAttention):
        return _decode_attention(kernel, device)
    if isinstance(kernel, PrefillAttention):
        return _prefill_attention(kernel, device)
    return _fp8_gemm(kernel, device) if kernel.precision == "fp8" else _gemm(kernel, device)


def _stream(kernel: Stream, device: str) -> Callable[[], object]:
    import torch

    n_elements = kernel.n_buffer_bytes // 4
    target, left = (torch.ones(n_elements, device=device) for _ in range(2))
    if not kernel.triad:
        return lambda: target.copy_(left)
    right = torch.ones(n_elements, device=device)
    return lambda: torch.add(left, right, alpha=0.5, out=target)


def _gemm(kernel: Gemm, device: str) -> Callable[[], object]:
    """Weights lie as in torch.nn.Linear, (n_out, n_in)."""
    import torch

    rows = random((kernel.n_rows, kernel.n_in), kernel.precision, device)
    weights = random((kernel.n_out, kernel.n_in), kernel.precision, device).t()
    answer = torch.empty(kernel.n_rows, kernel.n_out, dtype=rows.dtype, device=device)
    return lambda: torch.mm(rows, weights, out=answer)


def _fp8_gemm(kernel: Gemm, device: str) -> Callable[[], object]:
    """One scale per tensor, answers in bfloat16; needs compute capability 8.9 or a processor."""
    import torch

    rows = random((kernel.n_rows, kernel.n_in), "fp8", device)
    weights = random((kernel.n_out, kernel.n_in), "fp8", device).t()
    scale = torch.ones((), device=device)
    return lambda: torch._scaled_mm(
        rows, weights, scale, scale, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def _decode_attention(kernel: DecodeAttention, device: str) -> Callable[[], object]:
    heads = (kernel.n_sequences, kernel.n_kv_heads)
    query = random((*heads, kernel.n_queries_per_head, kernel.head_dim), kernel.precision, device)
    keys, values = (
        random((*heads, kernel.context_tokens, kernel.head_dim), kernel.precision, device)
        for _ in range(2)
    )
    return lambda: attend(query, keys, values)


def attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Returns the attention of new tokens (s, h, g, d) over caches (s, h, c, d).

    The g queries that share a KV head stand as rows of one product, so the cache is read once
    for all of them. No mask: the new token may look at all of its cache.
    """
    import torch

    return torch.nn.functional.scaled_dot_product_attention(query, keys, values)


def _prefill_attention(kernel: PrefillAttention, device: str) -> Callable[[], object]:
    import torch

    shape = (1, kernel.n_heads, kernel.prompt_tokens, kernel.head_dim)
    query, keys, values = (random(shape, kernel.precision, device) for _ in range(3))
    return lambda: torch.nn.functional.scaled_dot_product_attention(
        query, keys, values, is_causal=True
    )
