"""Columns of points.csv in the words that people read."""

from __future__ import annotations

_METRICS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E"}
_OTHER = {"output_tokens_per_s": "output tokens/s", "achieved_rps": "requests/s"}


def title(column: str) -> str:
    """Returns a column's name with its unit, e.g. 'TPOT mean (ms)'."""
    if column in _OTHER:
        return _OTHER[column]
    metric, statistic, _ = column.split("_")
    return f"{_METRICS[metric]} {statistic} (ms)"


def load_title(mode: str) -> str:
    """Returns what the load of a mode counts."""
    return "requests/s" if mode == "open" else "requests in flight"
