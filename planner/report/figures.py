"""Figures as text: each with as many digits as it deserves, '-' for what is not there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from planner.spec.plan import PeriodsPlan

NONE = "-"
BINDS = 0.995
"""A limit of which so much is used binds."""


def usd(value: float | None) -> str:
    """Returns an amount in $, with cents up to a thousand."""
    if value is None:
        return NONE
    return f"${value:,.2f}" if abs(value) < 1000 else f"${value:,.0f}"


def fine_usd(value: float | None) -> str:
    """Returns a small amount in $: cents, and below a dollar three significant digits."""
    if value is None or abs(value) >= 1 or value == 0:
        return usd(value)
    decimals = max(2, 2 - math.floor(math.log10(abs(value))))
    return f"{'-' if value < 0 else ''}${abs(value):.{min(decimals, 9)}f}"


def signed_usd(value: float) -> str:
    """Returns a difference in $ with its sign."""
    return f"{'-' if value < 0 else '+'}{usd(abs(value))}"


def money_words(periods: PeriodsPlan) -> str:
    """Returns what the money of one round of periods is paid for, '' where nothing is."""
    parts = (
        ("reserved GPUs", periods.reserved_usd),
        ("GPUs by the hour", periods.by_the_hour_usd),
        ("hosted requests", periods.hosted_usd),
        ("changes", periods.changes_usd),
    )
    return ", ".join(f"{name} {usd(value)}" for name, value in parts if value > 0)


def ms(value: float | None) -> str:
    """Returns a latency in ms: whole from 100 ms on, one decimal below (§6)."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def percent(ratio: float | None, decimals: int = 1) -> str:
    """Returns a ratio in percent."""
    return NONE if ratio is None else f"{100.0 * ratio:.{decimals}f}%"


def is_shown_as_none(ratio: float) -> bool:
    """Returns whether a ratio is 0.0% to the reader."""
    return percent(ratio) == percent(0.0)


def share(ratio: float) -> str:
    """Returns a share in percent; a share that is there but tiny is not shown as zero."""
    if ratio == 0:
        return NONE
    return "<0.1%" if ratio < 0.0005 else percent(ratio)


def quality(value: float | None) -> str:
    """Returns a mean score."""
    return NONE if value is None else f"{value:.4f}"


def number(value: float | None) -> str:
    """Returns a figure with four significant digits, whole ones from a thousand on."""
    if value is None:
        return NONE
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Returns the first few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def count(n: float, singular: str, plural: str | None = None) -> str:
    """Returns a number with its noun, e.g. '1 error', '2 errors'."""
    return f"{n:g} {singular if n == 1 else plural or singular + 's'}"


def letters(index: int) -> str:
    """Returns a short name: A to Z, then AA, AB, ..."""
    before, last = divmod(index, 26)
    return ("" if before == 0 else letters(before - 1)) + chr(ord("A") + last)
