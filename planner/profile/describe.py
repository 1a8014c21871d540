"""Measured points as a table for people: one column per figure that was measured, with its unit."""

from __future__ import annotations

from collections.abc import Sequence

from planner.spec.base import STATISTICS
from planner.spec.pool import Point

_TITLES = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E"}
_LATENCIES: dict[str, str] = {
    f"{_TITLES[metric]} {statistic} (ms)": f"{metric}_{statistic}_ms"
    for metric in _TITLES
    for statistic in STATISTICS
}
_COLUMNS: dict[str, str] = {
    "input (tokens)": "input_tokens",
    "output (tokens)": "output_tokens",
    "in flight (requests)": "concurrency",
    "offered (requests/s)": "offered_rps",
    "answered (requests/s)": "achieved_rps",
    "output (tokens/s)": "output_tokens_per_s",
    **_LATENCIES,
    "sent (requests)": "n_requests",
    "failed (requests)": "n_failed",
    "duration (s)": "duration_s",
}


def rows(points: Sequence[Point]) -> list[dict[str, str]]:
    """Returns one row per point, all with the same columns (title with unit -> text).

    Columns that no point measured are left out; a blank cell means 'not measured'.
    """
    shown = {
        title: field
        for title, field in _COLUMNS.items()
        if any(getattr(point, field) is not None for point in points)
    }
    return [
        {"mode": point.mode}
        | {title: _number(getattr(point, field)) for title, field in shown.items()}
        | {"origin": point.origin, "source": point.source}
        for point in points
    ]


def _number(value: float | None) -> str:
    """Returns a number with four significant digits, whole ones in full; blank for None."""
    if value is None:
        return ""
    if value >= 1000 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.4g}"
