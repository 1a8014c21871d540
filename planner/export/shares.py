"""Shares in whole numbers: for formats whose weights are integers, with the error that is left.

A plan's shares are whole millionths that sum to one million (§6), so a format that takes integers
up to a million gets them as they are. A smaller total is met by largest remainder (Hamilton's
method): every weight is the share's exact multiple, rounded down or up, and the sum is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from planner.export.fleet import MILLION


@dataclass(frozen=True)
class Weights:
    """Integer weights by name, and how far the worst of them is from its share."""

    of: tuple[tuple[str, int], ...]
    error_ratio: float  # largest |weight / total - share|, of all requests of the class

    @property
    def is_exact(self) -> bool:
        """Returns whether every weight is its share."""
        return self.error_ratio == 0.0


def weights(shares: Sequence[tuple[str, int]], total: int = MILLION) -> Weights:
    """Returns integer weights that sum to `total`, as near to the shares (millionths) as can be.

    The same shares make the same weights: of equal remainders the larger share, then the earlier
    entry, gets the unit that is left. Raises ValueError unless the shares sum to more than 0.
    """
    whole = sum(share for _, share in shares)
    if whole <= 0 or total < 1 or any(share < 0 for _, share in shares):
        raise ValueError(f"shares are at least 0 and sum to more, got {list(shares)} for {total}")
    floors = [share * total // whole for _, share in shares]
    by_remainder = sorted(
        range(len(shares)), key=lambda i: (-(shares[i][1] * total % whole), -shares[i][1], i)
    )
    for i in by_remainder[: total - sum(floors)]:
        floors[i] += 1
    of = tuple((name, weight) for (name, _), weight in zip(shares, floors, strict=True))
    off = max(abs(n * whole - s * total) for (_, s), n in zip(shares, floors, strict=True))
    return Weights(of, off / (whole * total))


def split(weight: int, n_parts: int) -> tuple[int, ...]:
    """Returns `n_parts` integers that sum to the weight, none more than one from another."""
    each, left = divmod(weight, n_parts)
    return tuple(each + (i < left) for i in range(n_parts))
