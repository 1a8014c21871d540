"""From values to places and back, with ticks at round values."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isclose, log10

ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
MANY_SIZES = 30.0  # largest over smallest tick from which decimals are no longer common to all


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` laid along px from `start` to `end`, which may run backwards."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Returns the place of a value, in px."""
        return self.start + (self.end - self.start) * self._part(value)

    def value(self, place: float) -> float:
        """Returns the value at a place in px: the inverse of `at`."""
        part = (place - self.start) / (self.end - self.start)
        if self.is_log:
            return float(self.low * (self.high / self.low) ** part)
        return self.low + (self.high - self.low) * part

    def clipped(self, value: float) -> float:
        """Returns the place of a value, of the nearer end where it lies beyond, in px."""
        return self.at(min(max(value, self.low), self.high))

    def ticks(self, most: int) -> tuple[float, ...]:
        """Returns at most so many round values within the scale, or one more."""
        if self.is_log:
            return _log_ticks(self.low, self.high, most)
        step = round_step((self.high - self.low) / most)
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return tuple(_exact(k, step) for k in range(first, last + 1))

    def _part(self, value: float) -> float:
        if self.is_log:
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def round_step(least: float) -> float:
    """Returns the smallest of 1, 2, 2.5, 5 times a power of ten that is at least `least`."""
    power = 10.0 ** floor(log10(least))
    return next(r * power for r in ROUND if r * power >= least * (1 - 1e-9))


def linear(low: float, high: float, start: float, end: float, most: int = 6) -> Scale:
    """Returns a linear scale that begins and ends at round values around `low` to `high`."""
    if not high > low:
        spread = abs(high) * 0.1 or 1.0
        low, high = (low - spread if low > 0 else low), high + spread
    step = round_step((high - low) / max(most - 1, 1))
    return Scale(floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step, start, end)


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Returns a logarithmic scale a little wider than the positive values `low` to `high`."""
    wider = (high / low) ** 0.04 if high > low else 1.5
    return Scale(low / wider, high * wider, start, end, is_log=True)


def tick_text(value: float, ticks: tuple[float, ...]) -> str:
    """Returns a tick as text, with as many decimals as its neighbours need to differ."""
    if not ticks or len(ticks) < 2:
        return f"{value:,.4g}"
    least = min(b - a for a, b in pairwise(sorted(ticks)))
    if ticks[0] > 0 and max(ticks) >= MANY_SIZES * min(ticks):  # each has its own size
        return f"{value:,.10g}"
    decimals = next((d for d in range(9) if _is_whole(least * 10**d, ticks, d)), 9)
    return f"{value:,.{decimals}f}"


def _is_whole(scaled: float, ticks: tuple[float, ...], decimals: int) -> bool:
    """Returns whether so many decimals show every tick as it is."""
    if round(scaled) == 0:
        return False
    return all(isclose(round(t, decimals), t, rel_tol=1e-9, abs_tol=1e-12) for t in ticks)


def _exact(k: int, step: float) -> float:
    """Returns k steps without the dust of binary fractions: 0.3, not 0.30000000000000004."""
    return float(f"{k * step:.12g}")


def _log_ticks(low: float, high: float, most: int) -> tuple[float, ...]:
    first, last = floor(log10(low)), ceil(log10(high))
    for parts in ((1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        ticks = [p * 10.0**k for k in range(first, last + 1) for p in parts]
        inside = [float(f"{t:.12g}") for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(inside) <= most:
            return tuple(inside)
    every = ceil(len(inside) / most)
    return tuple(inside[::every])
