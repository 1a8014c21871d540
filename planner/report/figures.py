"""Figures as text: each with as many digits as it deserves, '-' for what is not there."""

from __future__ import annotations

NONE = "-"


def usd(value: float | None) -> str:
    """Returns an amount in $, with cents up to a thousand."""
    if value is None:
        return NONE
    return f"${value:,.2f}" if abs(value) < 1000 else f"${value:,.0f}"


def signed_usd(value: float) -> str:
    """Returns a difference in $ with its sign."""
    return f"{'-' if value < 0 else '+'}{usd(abs(value))}"


def ms(value: float | None) -> str:
    """Returns a latency in ms: whole from 100 ms on, one decimal below (§6)."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}"


def percent(ratio: float | None, decimals: int = 1) -> str:
    """Returns a ratio in percent."""
    return NONE if ratio is None else f"{100.0 * ratio:.{decimals}f}%"


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


def count(n: float, singular: str, plural: str | None = None) -> str:
    """Returns a number with its noun, e.g. '1 error', '2 errors'."""
    return f"{n:g} {singular if n == 1 else plural or singular + 's'}"
