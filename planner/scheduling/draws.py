"""Random whole numbers for online decisions: one multiplication chain per draw, no hidden state.

Notation
    c        counter: how many numbers were drawn so far
    x_c      64 bits: the splitmix64 mix of seed + (c + 1) * 0x9E3779B97F4A7C15 (mod 2^64)
    n        a bound; floor(x_c n / 2^64) is uniform on 0..n-1 up to n / 2^64

A draw depends on the seed and on its number alone, so any of them can be made again. Not for
secrets.

References: G. L. Steele, D. Lea, C. H. Flood, Fast splittable pseudorandom number generators,
OOPSLA 2014 (the mix, with the constants of D. Stafford's variant 13); D. Lemire, Fast random
integer generation in an interval, ACM TOMACS 29(1), 2019 (the bound by multiplication).
"""

from __future__ import annotations

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


class Draws:
    """A sequence of random whole numbers that its seed determines."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        # The seed is mixed first, else seeds one golden step apart would share their sequence.
        self._state = _mixed(seed & MASK)

    def below(self, n: int) -> int:
        """Returns the next number, uniform on 0..n-1."""
        self._state = state = (self._state + GOLDEN) & MASK
        return _mixed(state) * n >> 64


def _mixed(bits: int) -> int:
    """Returns 64 bits of which each depends on all 64 given ones."""
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & MASK
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & MASK
    return bits ^ bits >> 31
