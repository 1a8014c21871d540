"""A random model of the Llama form in torch, to time its decode step against the prediction.

Each layer: RMS norm; one product for Q, K and V; K and V into the cache; attention over the cache;
output product; residual; RMS norm; one product for gate and up; SiLU and product; down product;
residual. No rotary embedding and no sampling: engines fuse the one and overlap the other. Of a
model that is spread over several GPUs this is the part of one, without its all-reduces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from planner.profile.device.clock import Clock
from planner.profile.device.kernels import attend, random
from planner.profile.device.plan import ELEMENT_BYTES
from planner.profile.device.predict import StepShape
from planner.spec.hardware import KernelPrecision

if TYPE_CHECKING:
    from torch import Tensor

_GROWTH = 0.02  # scale of random weights: activations neither grow nor die over the layers


@dataclass(frozen=True, eq=False)
class Layer:
    """The weights of one layer, each (outputs, inputs)."""

    qkv: Tensor
    output: Tensor
    gate_up: Tensor
    down: Tensor
    norm: Tensor


@dataclass(frozen=True, eq=False)
class Weights:
    """A random model of some layers."""

    shape: StepShape
    precision: KernelPrecision
    device: str
    layers: tuple[Layer, ...]
    vocabulary: Tensor


def n_layers_that_fit(
    shape: StepShape, precision: KernelPrecision, n_cache_tokens: int, n_bytes: float
) -> int:
    """Returns how many layers, with so many cached tokens each, fit beside the vocabulary."""
    weights = sum(n_in * n_out for n_in, n_out in shape.matrices)
    cache = 2 * shape.n_own_kv_heads * shape.head_dim * n_cache_tokens
    room = n_bytes / ELEMENT_BYTES[precision] - shape.head[0] * shape.head[1]
    return int(min(shape.n_layers, max(room, 0.0) // (weights + cache)))


def make_weights(
    shape: StepShape, precision: KernelPrecision, device: str, n_layers: int
) -> Weights:
    """Returns a random model with `n_layers` of the shape's layers."""
    import torch

    def matrix(size: tuple[int, int]) -> Tensor:
        return random((size[1], size[0]), precision, device).mul_(_GROWTH)

    layers = []
    for _ in range(n_layers):
        qkv, output, gate_up, down = (matrix(size) for size in shape.matrices)
        norm = torch.ones(shape.hidden_size, dtype=qkv.dtype, device=device)
        layers.append(Layer(qkv, output, gate_up, down, norm))
    return Weights(shape, precision, device, tuple(layers), matrix(shape.head))


def step_ms(weights: Weights, n_sequences: int, context_tokens: int, clock: Clock) -> float:
    """Returns the median time (ms) of a decode step of ALL layers of the shape.

    The layers that are there are timed and scaled to the shape's number; the product with the
    vocabulary is timed apart, as it is made once per step.
    """
    import numpy as np
    import torch

    shape = weights.shape
    with torch.inference_mode():
        new = random((n_sequences, shape.hidden_size), weights.precision, weights.device)
        size = (n_sequences, shape.n_own_kv_heads, context_tokens, shape.head_dim)
        caches = [
            tuple(random(size, weights.precision, weights.device) for _ in range(2))
            for _ in weights.layers
        ]
        last = weights.layers[-1]

        def layers() -> Tensor:
            hidden = new
            for layer, (keys, values) in zip(weights.layers, caches, strict=True):
                hidden = _layer(hidden, layer, keys, values, shape)
            return hidden

        def head() -> Tensor:
            normed = torch.nn.functional.rms_norm(new, (shape.hidden_size,), last.norm)
            return torch.nn.functional.linear(normed, weights.vocabulary)

        layers_s = float(np.median(clock.device_s(layers)))
        head_s = float(np.median(clock.device_s(head)))
    return 1e3 * (layers_s * shape.n_layers / len(weights.layers) + head_s)


def _layer(hidden: Tensor, layer: Layer, keys: Tensor, values: Tensor, shape: StepShape) -> Tensor:
    """Returns the hidden state (n, hidden) after one layer; the last cached token is replaced."""
    from torch.nn import functional

    n, heads, kv_heads = hidden.shape[0], shape.n_own_heads, shape.n_own_kv_heads
    width = (shape.hidden_size,)
    qkv = functional.linear(functional.rms_norm(hidden, width, layer.norm), layer.qkv)
    query, key, value = qkv.view(n, -1, shape.head_dim).split([heads, kv_heads, kv_heads], dim=1)
    keys[:, :, -1] = key
    values[:, :, -1] = value
    grouped = query.reshape(n, kv_heads, heads // kv_heads, shape.head_dim)
    seen = attend(grouped, keys, values).reshape(n, heads * shape.head_dim)
    hidden = hidden + functional.linear(seen, layer.output)
    gate, up = functional.linear(
        functional.rms_norm(hidden, width, layer.norm), layer.gate_up
    ).chunk(2, dim=1)
    return hidden + functional.linear(functional.silu(gate) * up, layer.down)
