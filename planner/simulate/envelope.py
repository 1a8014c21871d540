"""The largest of many straight lines, step by step: what a barrier waits for while nothing happens.

Notation
    g        line (rank of a group)                        (G,)
    v_g      its value in the first step, a whole number   ps or tokens
    s_g      what it grows by from one step to the next
    j        step, 0 <= j < k
    M(j)     max_g v_g + s_g j

M is convex and piecewise linear: the lines that attain it follow each other in order of slope. A
piece lasts until the first step in which a steeper line is above it, so k steps cost a few numpy
calls per piece, and there are at most as many pieces as slopes. All numbers are whole: nothing is
rounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt
from typing import NamedTuple

from planner.spec.arrays import IntArray


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


def largest(values: IntArray, slopes: IntArray, n_steps: int) -> Iterator[Piece]:
    """Yields the pieces of M over n_steps steps, in order; values and slopes are (G,)."""
    done = 0
    while done < n_steps:
        now = values + slopes * done
        value = int(now.max())
        slope = int(slopes[now == value].max())
        n = n_steps - done
        steeper = slopes > slope
        if n > 1 and steeper.any():
            # Line g is above from the first j with (s_g - slope) j > value - v_g on.
            first_above = (value - now[steeper]) // (slopes[steeper] - slope) + 1
            n = min(n, int(first_above.min()))
        yield Piece(n, value, slope)
        done += n


def total_of_largest(values: IntArray, slopes: IntArray, n_steps: int) -> int:
    """Returns the sum of M over n_steps steps."""
    if n_steps == 1:
        return int(values.max())
    return sum(piece.total(piece.n_steps) for piece in largest(values, slopes, n_steps))


def total_of_all(values: IntArray, slopes: IntArray, n_steps: int) -> int:
    """Returns the sum over n_steps steps and all lines."""
    if n_steps == 1:
        return int(values.sum())
    return Piece(n_steps, int(values.sum()), int(slopes.sum())).total(n_steps)
