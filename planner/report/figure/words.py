"""Widths, and figures as the words that stand in a picture, with their units."""

from __future__ import annotations

from planner.report.figures import number
from planner.spec.base import FOREVER_MS

WIDE, NARROW = 760.0, 340.0
ROOMY = 560.0  # from this width on, words stand beside their marks, else above and below them

IN_SECONDS_MS = 10_000.0  # a latency axis or limit from here on is read in seconds


def is_roomy(width: float) -> bool:
    """Returns whether words find room beside the marks."""
    return width >= ROOMY


def latency(ms: float, beside_ms: float | None = None) -> str:
    """Returns a latency with its unit: in s where it, or the one beside it, is at least 10 s."""
    if ms >= FOREVER_MS:
        return "no answer"
    if max(ms, beside_ms or 0.0) < IN_SECONDS_MS:
        return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.1f} ms"
    seconds = ms / 1000.0
    return f"{seconds:,.0f} s" if seconds >= 1000 else f"{_digits(seconds)} s"


def rate(rps: float) -> str:
    """Returns requests per second with their unit."""
    return f"{_digits(rps) if 0.995 <= rps < 1000 else number(float(f'{rps:.3g}'))} req/s"


def money(usd_per_h: float) -> str:
    """Returns money per hour with its unit."""
    return f"${usd_per_h:,.0f}/h" if usd_per_h >= 1000 else f"${usd_per_h:,.2f}/h"


def percent(ratio: float) -> str:
    """Returns a ratio in percent: whole, and below 10 % with a decimal; tiny ones not as zero."""
    if 0 < ratio < 0.0005:
        return "<0.1%"
    part = 100.0 * ratio
    return f"{part:.1f}%" if 0 < part < 9.95 else f"{part:,.0f}%"


def _digits(value: float) -> str:
    """Returns a value between 1 and 1000 with three significant digits."""
    return f"{value:.0f}" if value >= 99.95 else f"{value:.{1 if value >= 9.995 else 2}f}"
