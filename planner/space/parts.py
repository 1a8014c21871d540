"""What one replica takes of a kind of GPU, and what may lie on one GPU together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EPSILON = 1e-9  # parts are decimal numbers: three of 0.3 and one of 0.1 fill a GPU


@dataclass(frozen=True)
class Part:
    """What one replica of a pool takes of a kind of GPU."""

    n_gpus: int
    model_name: str
    compute_ratio: float = 1.0  # of each GPU
    memory_ratio: float = 1.0
    spans_nodes: bool = False

    @property
    def shares(self) -> bool:
        """Returns whether others may be on its GPUs."""
        return self.compute_ratio < 1.0 - EPSILON and self.memory_ratio < 1.0 - EPSILON


Places = tuple[tuple[int, ...], ...]  # GPUs of each replica of one pool


def fit_together(parts: Sequence[Part]) -> bool:
    """Returns whether parts may lie on one GPU together."""
    compute = sum(part.compute_ratio for part in parts)
    memory = sum(part.memory_ratio for part in parts)
    names = [part.model_name for part in parts]
    fits = compute <= 1.0 + EPSILON and memory <= 1.0 + EPSILON
    return fits and len(set(names)) == len(names)
