"""The largest of many straight lines, step by step: what a barrier waits for while nothing happens.

Notation
    g        line (rank of a group)                        (G,)
    v_g      its value in the first step, a whole number   ps or tokens
    s_g      what it grows by from one step to the next
    j        step, 0 <= j < k
    M(j)     max_g v_g + s_g j

M is convex and piecewise linear: the lines that attain it follow each other in order of slope. A
piece lasts until the first step in which a steeper line is above it, so k steps cost one look at
all lines per piece, and there are at most as many pieces as slopes. All numbers are whole: nothing
is rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from typing import NamedTuple


class Piece(NamedTuple):
    """Steps in which one line is the largest."""

    n_steps: int
    value: int  # in the first of these steps
    slope: int

    def total(self, n_steps: int) -> int:
        """Returns the sum of the line over the first so many steps."""
        return n_steps * self.value + self.slope * (n_steps * (n_steps - 1) // 2)

    def n_within(self, most: int) -> int:
        """Returns how many of the steps, from the first on, add up to at most `most`.

        The largest n with total(n) <= most: the root of slope n^2 + (2 value - slope) n = 2 most,
        rounded down. Values and slopes are not negative.
        """
        if self.total(self.n_steps) <= most:
            return self.n_steps
        if self.slope == 0:
            return most // self.value
        b = 2 * self.value - self.slope
        return (isqrt(b * b + 8 * self.slope * most) - b) // (2 * self.slope)


def largest(values: Sequence[int], slopes: Sequence[int], n_steps: int) -> Iterator[Piece]:
    """Yields the pieces of M over n_steps steps, in order; values and slopes are by line."""
    while True:
        value, slope = max(zip(values, slopes, strict=True))
        n = n_steps
        for v, s in zip(values, slopes, strict=True):
            if s > slope:  # above from the first j with (s - slope) j > value - v on
                n = min(n, (value - v) // (s - slope) + 1)
        yield Piece(n, value, slope)
        n_steps -= n
        if not n_steps:
            return
        values = [v + s * n for v, s in zip(values, slopes, strict=True)]


def total_of_largest(values: Sequence[int], slopes: Sequence[int], n_steps: int) -> int:
    """Returns the sum of M over n_steps steps."""
    if n_steps == 1:
        return max(values)
    return sum(piece.total(piece.n_steps) for piece in largest(values, slopes, n_steps))


def total_of_smallest(values: Sequence[int], slopes: Sequence[int], n_steps: int) -> int:
    """Returns the sum of the smallest line over n_steps steps."""
    if n_steps == 1:
        return min(values)
    return -total_of_largest([-v for v in values], [-s for s in slopes], n_steps)


def total_of_all(values: Sequence[int], slopes: Sequence[int], n_steps: int) -> int:
    """Returns the sum over n_steps steps and all lines."""
    return n_steps * sum(values) + (n_steps * (n_steps - 1) // 2) * sum(slopes)
